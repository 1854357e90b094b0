import type { Quantity } from '../../quantity.ts';
import type { Device, DeviceUse } from '../device.ts';
import type { NodePool } from '../pools.ts';

/** Counters of a pool: what allocated devices leave of them, less what the search has taken. */
interface PoolCounters {
  readonly left: ReadonlyMap<string, Map<string, Quantity>>;
  /** Devices in use draw more than there is: nothing that draws on the pool's counters can be had. */
  readonly isOverdrawn: boolean;
}

/** Shared counters of partitionable devices, as far as a search has come. */
export class CounterBook {
  readonly #used: DeviceUse;
  readonly #byPool = new Map<NodePool, PoolCounters>();

  constructor(used: DeviceUse) {
    this.#used = used;
  }

  /** Takes what a device consumes, if all of it is left. */
  take(device: Device, pool: NodePool): boolean {
    const { left, isOverdrawn } = this.#countersOf(pool);
    if (isOverdrawn) return false;
    for (const [set, amounts] of device.consumesCounters) {
      for (const [counter, amount] of amounts) {
        if ((left.get(set)?.get(counter) ?? 0n) < amount) return false;
      }
    }
    this.#add(device, pool, -1n);
    return true;
  }

  giveBack(device: Device, pool: NodePool): void {
    this.#add(device, pool, 1n);
  }

  #add(device: Device, pool: NodePool, sign: bigint): void {
    const { left } = this.#countersOf(pool);
    for (const [set, amounts] of device.consumesCounters) {
      const ofSet = left.get(set);
      for (const [counter, amount] of amounts)
        ofSet?.set(counter, (ofSet.get(counter) ?? 0n) + sign * amount);
    }
  }

  #countersOf(pool: NodePool): PoolCounters {
    const known = this.#byPool.get(pool);
    if (known !== undefined) return known;
    const left = new Map([...pool.counters].map(([set, amounts]) => [set, new Map(amounts)]));
    for (const slices of [pool.slices, pool.otherSlices]) {
      for (const { devices } of slices) {
        for (const device of devices) if (isAllocated(device, this.#used)) subtract(left, device);
      }
    }
    const isOverdrawn = [...left.values()].some(amounts => [...amounts.values()].some(amount => amount < 0n));
    const counters = { left, isOverdrawn };
    this.#byPool.set(pool, counters);
    return counters;
  }
}

function isAllocated({ key }: Device, used: DeviceUse): boolean {
  return used.devices.has(key) || used.capacity.has(key);
}

function subtract(left: ReadonlyMap<string, Map<string, Quantity>>, device: Device): void {
  for (const [set, amounts] of device.consumesCounters) {
    const ofSet = left.get(set);
    for (const [counter, amount] of amounts) {
      const before = ofSet?.get(counter);
      if (before !== undefined) ofSet?.set(counter, before - amount);
    }
  }
}
