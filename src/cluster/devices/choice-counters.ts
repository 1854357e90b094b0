import type { Device, DeviceKey, DeviceUse } from './device.ts';
import type { NodePools } from './pools.ts';

/** Shared counters of the pools of a node, in numbers. */
export interface CounterTable {
  readonly totals: readonly number[];
  /** What is left of each. */
  readonly left: readonly number[];
  /** What each device takes of which, for devices that take any. */
  readonly takes: ReadonlyMap<DeviceKey, readonly (readonly [counter: number, amount: number])[]>;
}

/** Reads what the used devices leave of the counters. Amounts are divided by what all of a counter have in common. */
export function readCounters(
  { pools }: NodePools,
  devices: readonly Device[],
  used: DeviceUse,
): CounterTable | { readonly opaque: string } {
  const indexByName = new Map<string, number>();
  const totals: bigint[] = [];
  for (const { driver, pool, usable, counters } of pools) {
    if (!usable) continue;
    for (const [set, amounts] of counters) {
      for (const [counter, total] of amounts) {
        indexByName.set([driver, pool, set, counter].join('//'), totals.length);
        totals.push(total);
      }
    }
  }
  if (totals.length === 0) return { totals: [], left: [], takes: new Map() };
  const takes = new Map<DeviceKey, (readonly [number, bigint])[]>();
  const others = pools.flatMap(({ otherSlices }) => otherSlices.flatMap(slice => slice.devices));
  for (const { key, id, consumesCounters } of [...devices, ...others]) {
    const ofDevice: (readonly [number, bigint])[] = [];
    for (const [set, counters] of consumesCounters) {
      for (const [counter, amount] of counters) {
        const index = indexByName.get([id.driver, id.pool, set, counter].join('//'));
        // The pool is invalid then, and should not have been called usable.
        if (index === undefined) return { opaque: 'a counter that does not exist' };
        if (amount > 0n) ofDevice.push([index, amount]);
      }
    }
    if (ofDevice.length > 0) takes.set(key, ofDevice);
  }
  const left = [...totals];
  const units = [...totals];
  for (const [key, ofDevice] of takes) {
    for (const [index, amount] of ofDevice) {
      units[index] = commonDivisor(units[index] ?? 0n, amount);
      if (used.devices.has(key) || used.capacity.has(key)) left[index] = (left[index] ?? 0n) - amount;
    }
  }
  // The allocator then gives nothing that draws on the pool.
  if (left.some(amount => amount < 0n)) return { opaque: 'counters that are overdrawn' };
  const inUnits = (index: number, amount: bigint) => Number(amount / (units[index] || 1n));
  if (totals.some((total, index) => !Number.isSafeInteger(inUnits(index, total))))
    return { opaque: 'counters beyond what can be counted exactly' };
  return {
    totals: totals.map((amount, index) => inUnits(index, amount)),
    left: left.map((amount, index) => inUnits(index, amount)),
    takes: new Map(
      [...takes].map(([key, ofDevice]) => [
        key,
        ofDevice.map(([index, amount]) => [index, inUnits(index, amount)] as const),
      ]),
    ),
  };
}

function commonDivisor(left: bigint, right: bigint): bigint {
  return right === 0n ? left : commonDivisor(right, left % right);
}
