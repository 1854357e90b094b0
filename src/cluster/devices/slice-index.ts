import type { DeviceSlice } from './device.ts';

export interface SliceSource {
  /** Slices whose devices are local to the node. */
  ofNode(nodeName: string): Iterable<DeviceSlice>;
  /** Slices that several nodes may reach: by selector, all nodes, or each device for itself. */
  shared(): Iterable<DeviceSlice>;
  /** All slices of a pool, of whatever generation, wherever they may be used. */
  ofPool(driver: string, pool: string): Iterable<DeviceSlice>;
}

/** The slices of a cluster, found without looking at those of other nodes. Kept up slice by slice as they change. */
export class SliceIndex implements SliceSource {
  readonly #byName = new Map<string, DeviceSlice>();
  readonly #byNode = new Map<string, Map<string, DeviceSlice>>();
  readonly #byPool = new Map<string, Map<string, DeviceSlice>>();
  readonly #shared = new Map<string, DeviceSlice>();

  constructor(slices: Iterable<DeviceSlice> = []) {
    for (const slice of slices) this.put(slice);
  }

  /** Takes a slice in, in place of the one of the same name if there is one. */
  put(slice: DeviceSlice): void {
    this.remove(slice.name);
    this.#byName.set(slice.name, slice);
    if (slice.reach.kind === 'node') addTo(this.#byNode, slice.reach.name, slice);
    else this.#shared.set(slice.name, slice);
    addTo(this.#byPool, poolKey(slice.driver, slice.pool), slice);
  }

  remove(name: string): void {
    const slice = this.#byName.get(name);
    if (slice === undefined) return;
    this.#byName.delete(name);
    this.#shared.delete(name);
    if (slice.reach.kind === 'node') removeFrom(this.#byNode, slice.reach.name, name);
    removeFrom(this.#byPool, poolKey(slice.driver, slice.pool), name);
  }

  get(name: string): DeviceSlice | undefined {
    return this.#byName.get(name);
  }

  get size(): number {
    return this.#byName.size;
  }

  all(): Iterable<DeviceSlice> {
    return this.#byName.values();
  }

  ofNode(nodeName: string): Iterable<DeviceSlice> {
    return this.#byNode.get(nodeName)?.values() ?? [];
  }

  shared(): Iterable<DeviceSlice> {
    return this.#shared.values();
  }

  ofPool(driver: string, pool: string): Iterable<DeviceSlice> {
    return this.#byPool.get(poolKey(driver, pool))?.values() ?? [];
  }
}

/** Neither part can hold a `//`. */
export function poolKey(driver: string, pool: string): string {
  return `${driver}//${pool}`;
}

function addTo(index: Map<string, Map<string, DeviceSlice>>, key: string, slice: DeviceSlice): void {
  const known = index.get(key);
  if (known === undefined) index.set(key, new Map([[slice.name, slice]]));
  else known.set(slice.name, slice);
}

function removeFrom(index: Map<string, Map<string, DeviceSlice>>, key: string, name: string): void {
  const known = index.get(key);
  known?.delete(name);
  if (known?.size === 0) index.delete(key);
}
