import type { Quantity } from '../../quantity.ts';
import type { CounterAmounts, Device, DeviceUse } from '../device.ts';
import type { DevicePool } from '../pools.ts';

type Counters = Map<string, Map<string, Quantity>>;

/** What is left of the counters that devices of a pool share, while devices are being chosen. */
export class CounterLedger {
  readonly #used: DeviceUse;
  readonly #left = new Map<DevicePool, Counters>();

  constructor(used: DeviceUse) {
    this.#used = used;
  }

  /** False, with nothing taken, where the device would leave any counter of its pool below zero. */
  take({ consumesCounters }: Device, pool: DevicePool): boolean {
    const left = this.#leftOf(pool);
    add(left, consumesCounters, -1n);
    for (const counters of left.values()) {
      for (const amount of counters.values()) {
        if (amount >= 0n) continue;
        add(left, consumesCounters, 1n);
        return false;
      }
    }
    return true;
  }

  giveBack({ consumesCounters }: Device, pool: DevicePool): void {
    add(this.#leftOf(pool), consumesCounters, 1n);
  }

  #leftOf(pool: DevicePool): Counters {
    const known = this.#left.get(pool);
    if (known !== undefined) return known;
    const left: Counters = new Map([...pool.counters].map(([set, counters]) => [set, new Map(counters)]));
    for (const { devices } of [...pool.slices, ...pool.elsewhere])
      for (const device of devices)
        if (this.#used.devices.has(device.key) || this.#used.capacity.has(device.key))
          add(left, device.consumesCounters, -1n);
    this.#left.set(pool, left);
    return left;
  }
}

function add(left: Counters, amounts: CounterAmounts, sign: 1n | -1n): void {
  for (const [set, counters] of amounts) {
    const own = left.get(set);
    for (const [counter, amount] of counters) own?.set(counter, (own.get(counter) ?? 0n) + sign * amount);
  }
}
