import type {
  CounterSet,
  DeviceAttribute,
  DeviceCounterConsumption,
  ResourceSlice,
  SliceDevice,
} from '../../api/dra.ts';
import type { NodeSelector } from '../../api/kubernetes.ts';
import { parseQuantity } from '../quantity.ts';
import {
  type AttributeValue,
  type Capacity,
  type CounterAmounts,
  type Device,
  type DeviceSlice,
  deviceKey,
  type Reach,
} from './device.ts';

/**
 * Trims a ResourceSlice. What a device's reach leaves open (no node, no selector, not all) is told as an empty selector,
 * which matches no node, as in Kubernetes.
 * @throws QuantityError for a capacity or counter that is no quantity; nothing else is checked that the API server checks
 */
export function decodeResourceSlice(slice: ResourceSlice): DeviceSlice {
  const { driver, pool, devices = [], sharedCounters = [], perDeviceNodeSelection } = slice.spec;
  return {
    name: slice.metadata.name ?? '',
    driver,
    pool: pool.name,
    generation: pool.generation,
    sliceCount: pool.resourceSliceCount,
    reach: perDeviceNodeSelection === true ? { kind: 'per-device' } : reachOf(slice.spec),
    devices: devices.map(device =>
      decodeDevice(device, { driver, pool: pool.name, ownReach: perDeviceNodeSelection === true }),
    ),
    sharedCounters: countersOf(sharedCounters.map(set => [set.name, set.counters])),
  };
}

function decodeDevice(
  device: SliceDevice,
  { driver, pool, ownReach }: { readonly driver: string; readonly pool: string; readonly ownReach: boolean },
): Device {
  const id = { driver, pool, device: device.name };
  const qualified = (name: string) => (name.includes('/') ? name : `${driver}/${name}`);
  const attributes = new Map<string, AttributeValue>();
  for (const [name, attribute] of Object.entries(device.attributes ?? {})) {
    const value = attributeValue(attribute);
    if (value !== undefined) attributes.set(qualified(name), value);
  }
  const capacity = new Map<string, Capacity>();
  for (const [name, { value, requestPolicy }] of Object.entries(device.capacity ?? {}))
    capacity.set(qualified(name), { value: parseQuantity(value), policy: requestPolicy });
  return {
    id,
    key: deviceKey(id),
    attributes,
    capacity,
    consumesCounters: countersOf((device.consumesCounters ?? []).map(set => [set.counterSet, set.counters])),
    reach: ownReach ? reachOf(device) : undefined,
    taints: device.taints ?? [],
    bindsToNode: device.bindsToNode === true,
    hasBindingConditions: (device.bindingConditions ?? []).length > 0,
    allowMultipleAllocations: device.allowMultipleAllocations === true,
  };
}

/** Undefined for a kind of value that is newer than this. */
function attributeValue(attribute: DeviceAttribute): AttributeValue | undefined {
  const { int, bool, string, version, ints, bools, strings, versions } = attribute;
  if (int !== undefined) return { kind: 'int', value: BigInt(int) };
  if (bool !== undefined) return { kind: 'bool', value: bool };
  if (string !== undefined) return { kind: 'string', value: string };
  if (version !== undefined) return { kind: 'version', value: version };
  if (ints !== undefined) return { kind: 'ints', value: ints.map(BigInt) };
  if (bools !== undefined) return { kind: 'bools', value: bools };
  if (strings !== undefined) return { kind: 'strings', value: strings };
  return versions === undefined ? undefined : { kind: 'versions', value: versions };
}

function reachOf({
  nodeName,
  nodeSelector,
  allNodes,
}: {
  readonly nodeName?: string;
  readonly nodeSelector?: NodeSelector;
  readonly allNodes?: boolean;
}): Reach {
  if (nodeName !== undefined && nodeName !== '') return { kind: 'node', name: nodeName };
  if (allNodes === true) return { kind: 'all' };
  return { kind: 'selector', selector: nodeSelector ?? { nodeSelectorTerms: [] } };
}

type Counters = CounterSet['counters'] | DeviceCounterConsumption['counters'];

function countersOf(sets: readonly (readonly [string, Counters])[]): CounterAmounts {
  return new Map(
    sets.map(([name, counters]) => [
      name,
      new Map(Object.entries(counters).map(([counter, { value }]) => [counter, parseQuantity(value)])),
    ]),
  );
}
