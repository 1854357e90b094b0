import type { CapacityRequestPolicy, DeviceTaint } from '../../api/dra.ts';
import type { NodeSelector } from '../../api/kubernetes.ts';
import type { Quantity } from '../quantity.ts';

/** A device as results and plans name it: unique in the cluster. */
export interface DeviceId {
  readonly driver: string;
  readonly pool: string;
  readonly device: string;
}

/** One string for a device, for sets and maps. None of the three parts can hold a `//`. */
export type DeviceKey = string;

export function deviceKey({ driver, pool, device }: DeviceId): DeviceKey {
  return `${driver}//${pool}//${device}`;
}

/** `versions` are kept as written: constraints compare them as text. Integers are 64 bits wide. */
export type AttributeValue =
  | { readonly kind: 'int'; readonly value: bigint }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'version'; readonly value: string }
  | { readonly kind: 'ints'; readonly value: readonly bigint[] }
  | { readonly kind: 'bools'; readonly value: readonly boolean[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'versions'; readonly value: readonly string[] };

export interface Capacity {
  readonly value: Quantity;
  readonly policy: CapacityRequestPolicy | undefined;
}

/** Amounts of counters that a device takes from a counter set of its pool, by counter set and counter. */
export type CounterAmounts = ReadonlyMap<string, ReadonlyMap<string, Quantity>>;

/** Where a device, or all devices of a slice, may be used. */
export type Reach =
  | { readonly kind: 'node'; readonly name: string }
  | { readonly kind: 'selector'; readonly selector: NodeSelector }
  | { readonly kind: 'all' }
  /** Of a slice: each device says for itself. */
  | { readonly kind: 'per-device' };

/** The DeviceTaintRule that a taint comes from. */
export interface RuleOrigin {
  readonly name: string;
  /** It names driver, pool and device, so it can mean one device only. */
  readonly isNarrow: boolean;
  /** An administrator says that it is meant to hit as many groups as it does. */
  readonly isConfirmed: boolean;
}

/** A taint as it stands on a device, published with it or added by a rule. */
export interface AppliedTaint extends DeviceTaint {
  readonly rule?: RuleOrigin;
}

/** One device of a slice. Immutable, and mostly one object as long as nothing in it changes: its slice may change around it. */
export interface Device {
  readonly id: DeviceId;
  readonly key: DeviceKey;
  /** By qualified name `domain/id`; what the slice writes without a domain is in the driver's. */
  readonly attributes: ReadonlyMap<string, AttributeValue>;
  readonly capacity: ReadonlyMap<string, Capacity>;
  /** Those capacities of the driver's own domain that the slice writes with it; requests and results go by that text. */
  readonly spelledOut?: ReadonlySet<string> | undefined;
  readonly consumesCounters: CounterAmounts;
  /** Its own reach where the slice leaves that to its devices, else undefined. */
  readonly reach: Reach | undefined;
  readonly taints: readonly AppliedTaint[];
  readonly bindsToNode: boolean;
  readonly hasBindingConditions: boolean;
  readonly allowMultipleAllocations: boolean;
}

/** What Berth keeps of a ResourceSlice. */
export interface DeviceSlice {
  /** Name of the object: slices of a pool are searched in the order of their names. */
  readonly name: string;
  readonly driver: string;
  readonly pool: string;
  readonly generation: number;
  /** How many slices of this generation make the pool complete. */
  readonly sliceCount: number;
  readonly reach: Reach;
  readonly devices: readonly Device[];
  /** Counters to share, by counter set. A slice has these or devices. */
  readonly sharedCounters: CounterAmounts;
  /** Its devices name compatibility groups: kube-scheduler passes such a slice over unless the gate is on (1.37: off). */
  readonly usesCompatibilityGroups?: boolean | undefined;
  /** An administrator says that it is meant to hurt as many groups as it does (annotation `berth.dev/confirmed`). */
  readonly isConfirmed?: boolean | undefined;
  /** Names of devices that an administrator vouches for (annotation `berth.dev/release`). */
  readonly vouchedFor?: readonly string[] | undefined;
}

/** What is taken of the devices: allocations of claims, or places that plans keep. */
export interface DeviceUse {
  /** Devices that are taken as a whole. */
  readonly devices: ReadonlySet<DeviceKey>;
  /** Capacity taken of devices that may be allocated several times, by device and qualified name. */
  readonly capacity: ReadonlyMap<DeviceKey, ReadonlyMap<string, Quantity>>;
}

export const noDeviceUse: DeviceUse = { devices: new Set(), capacity: new Map() };
