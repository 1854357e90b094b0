import type { Device, DeviceSlice, Reach } from './device.ts';

/** A pool as it is published now, whoever may use it. */
export interface PoolState {
  readonly driver: string;
  readonly pool: string;
  /** All slices of the newest generation are there. What is not among `devices` then is gone; else it may still come. */
  readonly isComplete: boolean;
  /** Those of the newest generation, by name. */
  readonly devices: ReadonlyMap<string, Device>;
  /** The node that all of them are local to; undefined where several nodes may reach some. */
  readonly nodeName: string | undefined;
  /** Any of its slices is confirmed. */
  readonly isConfirmed: boolean;
}

/**
 * What the slices of a pool say together; undefined without any. Taints count whether or not the newest generation is
 * complete (k8s.io/kubernetes pkg/controller/devicetainteviction, v1.37.2). A driver that was installed anew may count
 * generations from 1 again: that is the newest as soon as the old slices are gone.
 */
export function poolStateOf(slices: Iterable<DeviceSlice>): PoolState | undefined {
  let newest: DeviceSlice[] = [];
  for (const slice of slices) {
    const generation = newest[0]?.generation ?? Number.NEGATIVE_INFINITY;
    if (slice.generation > generation) newest = [slice];
    else if (slice.generation === generation) newest.push(slice);
  }
  const [first] = newest;
  if (first === undefined) return undefined;
  const nodes = new Set(newest.map(({ reach }) => localTo(reach)));
  const [nodeName] = nodes;
  return {
    driver: first.driver,
    pool: first.pool,
    isComplete: newest.length === first.sliceCount,
    devices: new Map(newest.flatMap(({ devices }) => devices.map(device => [device.id.device, device]))),
    nodeName: nodes.size === 1 ? nodeName : undefined,
    isConfirmed: newest.some(slice => slice.isConfirmed),
  };
}

function localTo(reach: Reach): string | undefined {
  return reach.kind === 'node' ? reach.name : undefined;
}
