import { isAlignable } from './alignment.ts';
import type { Sort } from './choice-model.ts';
import { type Device, type DeviceKey, deviceKey } from './device.ts';
import { familyOf, withoutRdma } from './device-family.ts';
import { type Localities, localityOf, nowhere, valuesOf } from './locality.ts';

/** What devices of a node are told apart by. */
export interface SortBy {
  /** The sets of devices that requests may get. */
  readonly matching: readonly ReadonlySet<DeviceKey>[];
  /** Names of the attributes that rules name. */
  readonly attributes: readonly string[];
  readonly takes: ReadonlyMap<DeviceKey, Sort['takes']>;
  /** Undefined where it is all one where devices are. */
  readonly places: ((device: Device) => SortPlace) | undefined;
  /** Whether devices that no request may get count, for what they are good for beside others. */
  readonly keepsUnasked: boolean;
}

type SortPlace = Pick<Sort, 'locality' | 'driver' | 'family' | 'isSecondRate' | 'alignable'>;

const noPlace: SortPlace = {
  locality: nowhere,
  driver: '',
  family: '',
  isSecondRate: false,
  alignable: false,
};

/** Devices by sort, and for each set of devices the indexes of its sorts; both in the order of the devices. */
export function sortDevices(
  devices: readonly Device[],
  { matching, attributes, takes, places, keepsUnasked }: SortBy,
): { readonly sorts: readonly Sort[]; readonly sortsOf: readonly (readonly number[])[] } {
  const indexBySignature = new Map<string, number>();
  const sorts: (Sort & { readonly devices: Device[] })[] = [];
  const sortsOf: number[][] = matching.map(() => []);
  for (const device of devices) {
    const matched = [...matching.keys()].filter(index => matching[index]?.has(device.key));
    const place = places?.(device) ?? noPlace;
    if (matched.length === 0 && !(keepsUnasked && place.alignable)) continue;
    const told = {
      ...place,
      values: attributes.map(name => ruleValue(device, name)),
      takes: takes.get(device.key) ?? [],
      counterSet: counterSetOf(device),
    };
    const signature = signatureOf(matched, place, told);
    const known = indexBySignature.get(signature);
    if (known !== undefined) {
      sorts[known]?.devices.push(device);
      continue;
    }
    indexBySignature.set(signature, sorts.length);
    for (const index of matched) sortsOf[index]?.push(sorts.length);
    sorts.push({ ...told, devices: [device] });
  }
  return { sorts, sortsOf };
}

/** Equal for devices of one sort. As a rule only the requests tell them apart, and many nodes are asked. */
function signatureOf(
  matched: readonly number[],
  place: SortPlace,
  { values, takes, counterSet }: Pick<Sort, 'values' | 'takes' | 'counterSet'>,
): string {
  const isBare = place === noPlace && values.length === 0 && takes.length === 0 && counterSet === undefined;
  return isBare ? matched.join() : JSON.stringify([matched, Object.values(place), values, takes, counterSet]);
}

/** Where devices of a node are and, if that is asked for, what tells how useful they are there. */
export function placesOn(
  devices: readonly Device[],
  localities: Localities,
  withUsefulness: boolean,
): (device: Device) => SortPlace {
  const secondRate = withUsefulness ? withoutRdma(devices) : undefined;
  return device => ({
    locality: localityOf(localities, device),
    driver: device.id.driver,
    family: withUsefulness ? familyOf(device) : '',
    isSecondRate: secondRate?.has(device.key) === true,
    alignable: isAlignable(device),
  });
}

/** A list equals nothing but itself, for gate DRAListTypeAttributes is off by default. */
function ruleValue({ key, attributes }: Device, name: string): string | undefined {
  const attribute = attributes.get(name);
  const [value, ...more] = valuesOf(attribute);
  return more.length > 0 || Array.isArray(attribute?.value) ? `list of ${key}` : value;
}

function counterSetOf({ id, consumesCounters }: Device): string | undefined {
  const [name] = consumesCounters.keys();
  return name === undefined || consumesCounters.size > 1 ? undefined : deviceKey({ ...id, device: name });
}
