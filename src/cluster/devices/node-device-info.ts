import type { DeviceRequestAllocationResult } from '../../api/dra.ts';
import type { DeviceClassRecord } from './claims.ts';
import type { DeviceUse } from './device.ts';
import { DeviceLedger } from './device-ledger.ts';
import type { ExtendedResourceClasses } from './extended-resources.ts';
import type { NodePools } from './pools.ts';
import type { SelectorEngine } from './selectors.ts';

/** What is the same on all nodes. Another object whenever a DeviceClass changes. */
export interface DeviceCatalog {
  readonly classes: (name: string) => DeviceClassRecord | undefined;
  /** The class behind each extended resource that a node may have by DRA. */
  readonly extended: ExtendedResourceClasses;
  readonly selectors: SelectorEngine;
}

/** Something that takes devices: the allocation of a claim, or a place that a plan keeps for one. */
export interface DevicesTaken {
  /** UID of the claim, or key of the place: unique in the cluster. */
  readonly key: string;
  readonly results: readonly DeviceRequestAllocationResult[];
  /** Kept by a plan, not allocated yet. */
  readonly held: boolean;
}

/** The devices that a node may use, and who has them. Immutable, as NodeInfo is. */
export interface NodeDeviceInfo {
  readonly catalog: DeviceCatalog;
  readonly pools: NodePools;
  readonly taken: readonly DevicesTaken[];
  /** All that is taken, allocated and held. */
  readonly used: DeviceUse;
}

export function nodeDeviceInfo(
  catalog: DeviceCatalog,
  pools: NodePools,
  taken: readonly DevicesTaken[],
): NodeDeviceInfo {
  const used = new DeviceLedger();
  for (const { results } of taken) used.add(results);
  return { catalog, pools, taken, used };
}

/** The same devices as if some takers were not there. */
export function withoutTakers(
  devices: NodeDeviceInfo,
  gone: (taken: DevicesTaken) => boolean,
): NodeDeviceInfo {
  const { catalog, pools, taken } = devices;
  const left = taken.filter(each => !gone(each));
  return left.length === taken.length ? devices : nodeDeviceInfo(catalog, pools, left);
}

/** The same devices with more of them taken. */
export function withTakers(devices: NodeDeviceInfo, more: readonly DevicesTaken[]): NodeDeviceInfo {
  const { catalog, pools, taken } = devices;
  return more.length === 0 ? devices : nodeDeviceInfo(catalog, pools, [...taken, ...more]);
}
