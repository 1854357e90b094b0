import type { CapacityRequestPolicy, DeviceTaint, ResourceSlice } from '../../api/dra.ts';
import type { NodeSelector } from '../../api/kubernetes.ts';
import { berth } from '../../api/names.ts';
import type { Quantity } from '../quantity.ts';
import { attributesFrom, qualifiedName } from './decode-attributes.ts';
import {
  type Capacity,
  type CounterAmounts,
  type Device,
  type DeviceSlice,
  deviceKey,
  type Reach,
} from './device.ts';
import {
  DeviceFormatError,
  flagAt,
  integerAt,
  listAt,
  optionalTextAt,
  quantityAt,
  recordAt,
  textAt,
} from './format-error.ts';
import { SharedParts } from './shared-parts.ts';

const noCounters: CounterAmounts = new Map();
const noCapacity: ReadonlyMap<string, Capacity> = new Map();
const noTaints: readonly DeviceTaint[] = [];
/** A slice or device that says nowhere where it may be used is of no use to any node (GatherPools passes it over). */
const nowhere: Reach = { kind: 'selector', selector: { nodeSelectorTerms: [] } };

const capacities = new SharedParts<ReadonlyMap<string, Capacity>>(1024);
const counters = new SharedParts<CounterAmounts>(4096);
const taintLists = new SharedParts<readonly DeviceTaint[]>(256);

/**
 * What Berth keeps of a ResourceSlice.
 * @throws DeviceFormatError or QuantityError, which name the field
 */
export function decodeResourceSlice(raw: ResourceSlice): DeviceSlice {
  return decodeSliceAgain(raw, undefined);
}

/**
 * The same of a slice that was read before. It comes whole whatever has changed of it: those of its devices that are as
 * they were are the same objects as before, and so is the slice itself where nothing in it has changed. Where it would
 * take long to tell, new objects are made.
 *
 * @throws DeviceFormatError or QuantityError, which name the field
 */
export function decodeSliceAgain(raw: ResourceSlice, before: DeviceSlice | undefined): DeviceSlice {
  const spec = recordAt(raw.spec, 'spec');
  const pool = recordAt(spec['pool'], 'spec.pool');
  const driver = textAt(spec['driver'], 'spec.driver');
  const poolName = textAt(pool['name'], 'spec.pool.name');
  const reach = reachAsBefore(sliceReach(spec), before?.reach);
  const reachesForItself = reach.kind === 'per-device';
  const devices = listAt(spec['devices'], 'spec.devices').map((device, index) => {
    const at = { field: `spec.devices[${index}]`, driver, pool: poolName, reachesForItself };
    return decodeDevice(device, at, before?.devices[index]);
  });
  const slice: DeviceSlice = {
    name: textAt(raw.metadata?.name, 'metadata.name'),
    driver,
    pool: poolName,
    generation: integerAt(pool['generation'] ?? 0, 'spec.pool.generation'),
    sliceCount: integerAt(pool['resourceSliceCount'], 'spec.pool.resourceSliceCount'),
    reach,
    devices: asBefore(devices, before?.devices),
    sharedCounters: counterAmounts(spec['sharedCounters'], 'spec.sharedCounters', 'name'),
    ...(usesCompatibilityGroups(spec['devices']) && { usesCompatibilityGroups: true }),
    ...(raw.metadata.annotations?.[berth.confirmed] !== undefined && { isConfirmed: true }),
    ...vouchedFor(raw.metadata.annotations?.[berth.release]),
  };
  return asBefore(slice, before);
}

/** What was there before where that has the very same parts. */
function asBefore<T extends object>(made: T, before: T | undefined): T {
  if (before === undefined) return made;
  const names = Object.keys(made) as (keyof T)[];
  const isSame = names.every(name => made[name] === before[name] && Object.hasOwn(before, name));
  return isSame && names.length === Object.keys(before).length ? before : made;
}

function reachAsBefore(reach: Reach, before: Reach | undefined): Reach {
  if (before === undefined || before.kind !== reach.kind || reach.kind === 'selector') return reach;
  return reach.kind === 'node' ? asBefore(reach, before) : before;
}

function vouchedFor(text: string | undefined): Pick<DeviceSlice, 'vouchedFor'> {
  return text === undefined ? {} : { vouchedFor: text.split(',').map(name => name.trim()) };
}

function sliceReach(spec: Readonly<Record<string, unknown>>): Reach {
  if (flagAt(spec['perDeviceNodeSelection'], 'spec.perDeviceNodeSelection')) return { kind: 'per-device' };
  return reachFrom(spec, 'spec');
}

function reachFrom(holder: Readonly<Record<string, unknown>>, field: string): Reach {
  const name = optionalTextAt(holder['nodeName'], `${field}.nodeName`);
  if (name !== undefined) return { kind: 'node', name };
  if (flagAt(holder['allNodes'], `${field}.allNodes`)) return { kind: 'all' };
  if (holder['nodeSelector'] === undefined || holder['nodeSelector'] === null) return nowhere;
  const selector = recordAt(holder['nodeSelector'], `${field}.nodeSelector`);
  listAt(selector['nodeSelectorTerms'], `${field}.nodeSelector.nodeSelectorTerms`).forEach((term, index) => {
    recordAt(term, `${field}.nodeSelector.nodeSelectorTerms[${index}]`);
  });
  return { kind: 'selector', selector: { nodeSelectorTerms: [], ...selector } as NodeSelector };
}

/** Where a device stands that is read. */
interface DeviceAt {
  readonly field: string;
  readonly driver: string;
  readonly pool: string;
  readonly reachesForItself: boolean;
}

function decodeDevice(
  raw: unknown,
  { field, driver, pool, reachesForItself }: DeviceAt,
  before: Device | undefined,
): Device {
  const device = recordAt(raw, field);
  const name = textAt(device['name'], `${field}.name`);
  const id = asBefore({ driver, pool, device: name }, before?.id);
  const spelledOut = namesSpelledOut(device['capacity'], driver);
  const made: Device = {
    id,
    key: id === before?.id ? before.key : deviceKey(id),
    attributes: attributesFrom(device['attributes'], `${field}.attributes`, driver, before?.attributes),
    capacity: capacityFrom(device['capacity'], `${field}.capacity`, driver),
    ...(spelledOut !== undefined && { spelledOut }),
    consumesCounters: counterAmounts(device['consumesCounters'], `${field}.consumesCounters`, 'counterSet'),
    reach: reachesForItself ? reachFrom(device, field) : undefined,
    taints: taintsFrom(device['taints'], `${field}.taints`),
    bindsToNode: flagAt(device['bindsToNode'], `${field}.bindsToNode`),
    hasBindingConditions: listAt(device['bindingConditions'], `${field}.bindingConditions`).length > 0,
    allowMultipleAllocations: flagAt(device['allowMultipleAllocations'], `${field}.allowMultipleAllocations`),
  };
  return asBefore(made, before);
}

function capacityFrom(raw: unknown, field: string, driver: string): ReadonlyMap<string, Capacity> {
  const entries = Object.entries(recordAt(raw, field));
  if (entries.length === 0) return noCapacity;
  return capacities.get(`${driver} ${JSON.stringify(raw)}`, () => {
    const capacity = new Map<string, Capacity>();
    for (const [name, value] of bareNamesFirst(entries)) {
      const entry = recordAt(value, `${field}[${name}]`);
      capacity.set(qualifiedName(name, driver), {
        value: quantityAt(entry['value'], `${field}[${name}].value`),
        policy: policyFrom(entry['requestPolicy'], `${field}[${name}].requestPolicy`),
      });
    }
    return capacity;
  });
}

/** A name with a domain goes before the same name without (lookupAttribute of the structured allocator). */
function bareNamesFirst(entries: [string, unknown][]): [string, unknown][] {
  return entries.sort(([a], [b]) => Number(a.includes('/')) - Number(b.includes('/')));
}

/** Kept as written, for it is compared by amounts; read once here so that nobody need expect bad quantities later. */
function policyFrom(raw: unknown, field: string): CapacityRequestPolicy | undefined {
  if (raw === undefined || raw === null) return undefined;
  const policy = recordAt(raw, field);
  if (policy['default'] !== undefined) quantityAt(policy['default'], `${field}.default`);
  listAt(policy['validValues'], `${field}.validValues`).forEach((value, index) => {
    quantityAt(value, `${field}.validValues[${index}]`);
  });
  for (const [bound, value] of Object.entries(recordAt(policy['validRange'], `${field}.validRange`))) {
    quantityAt(value, `${field}.validRange.${bound}`);
  }
  return policy as CapacityRequestPolicy;
}

function namesSpelledOut(raw: unknown, driver: string): ReadonlySet<string> | undefined {
  if (raw === undefined || raw === null) return undefined;
  const names = Object.keys(raw).filter(name => name.startsWith(`${driver}/`));
  return names.length === 0 ? undefined : new Set(names);
}

function counterAmounts(raw: unknown, field: string, nameField: 'name' | 'counterSet'): CounterAmounts {
  const sets = listAt(raw, field);
  if (sets.length === 0) return noCounters;
  return counters.get(`${nameField} ${JSON.stringify(raw)}`, () => {
    const amounts = new Map<string, ReadonlyMap<string, Quantity>>();
    for (const [index, value] of sets.entries()) {
      const set = recordAt(value, `${field}[${index}]`);
      const name = textAt(set[nameField], `${field}[${index}].${nameField}`);
      if (amounts.has(name)) throw new DeviceFormatError(`${field}[${index}]`, `names ${name} a second time`);
      amounts.set(name, amountsOf(set['counters'], `${field}[${index}].counters`));
    }
    return amounts;
  });
}

function amountsOf(raw: unknown, field: string): ReadonlyMap<string, Quantity> {
  return new Map(
    Object.entries(recordAt(raw, field)).map(([name, counter]) => [
      name,
      quantityAt(recordAt(counter, `${field}[${name}]`)['value'], `${field}[${name}].value`),
    ]),
  );
}

/** Without the time that others say they were added at: what is told again is no other taint. */
function taintsFrom(raw: unknown, field: string): readonly DeviceTaint[] {
  const taints = listAt(raw, field);
  if (taints.length === 0) return noTaints;
  const read = taints.map((value, index) => {
    const { timeAdded: _, ...taint } = recordAt(value, `${field}[${index}]`);
    textAt(taint['key'], `${field}[${index}].key`);
    textAt(taint['effect'], `${field}[${index}].effect`);
    return taint as unknown as DeviceTaint;
  });
  return taintLists.get(JSON.stringify(read), () => read);
}

function usesCompatibilityGroups(devices: unknown): boolean {
  return listAt(devices, 'spec.devices').some(device =>
    listAt(recordAt(device, 'spec.devices[]')['consumesCounters'], 'spec.devices[].consumesCounters').some(
      consumption =>
        listAt(
          recordAt(consumption, 'spec.devices[].consumesCounters[]')['compatibilityGroups'],
          'spec.devices[].consumesCounters[].compatibilityGroups',
        ).length > 0,
    ),
  );
}
