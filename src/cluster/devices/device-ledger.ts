import type { DeviceRequestAllocationResult } from '../../api/dra.ts';
import { parseQuantity, type Quantity, QuantityError } from '../quantity.ts';
import { qualifiedName } from './decode-attributes.ts';
import { type DeviceKey, type DeviceUse, deviceKey } from './device.ts';

type Amounts = Map<string, Quantity>;

/**
 * What allocations take of devices, kept up allocation by allocation. Admin access takes nothing. A device that is
 * shared out stays in {@link capacity} as long as it has a share, even one that takes no capacity: its counters are
 * drawn by then (k8s.io/kubernetes plugins/dynamicresources allocateddevices.go, v1.37.2).
 */
export class DeviceLedger implements DeviceUse {
  readonly #devices = new Set<DeviceKey>();
  readonly #capacity = new Map<DeviceKey, Amounts>();
  /** How often a device is taken whole, or shared: plans and allocations may name one twice. */
  readonly #counts = new Map<DeviceKey, number>();
  readonly #shareCounts = new Map<DeviceKey, number>();

  get devices(): ReadonlySet<DeviceKey> {
    return this.#devices;
  }

  get capacity(): ReadonlyMap<DeviceKey, ReadonlyMap<string, Quantity>> {
    return this.#capacity;
  }

  add(results: readonly DeviceRequestAllocationResult[]): void {
    for (const result of results) {
      if (result.adminAccess === true) continue;
      const key = deviceKey(result);
      if (isShare(result)) this.#share(key, result, 1);
      else if (count(this.#counts, key, 1) > 0) this.#devices.add(key);
    }
  }

  /** Takes back what was added by the same results. */
  remove(results: readonly DeviceRequestAllocationResult[]): void {
    for (const result of results) {
      if (result.adminAccess === true) continue;
      const key = deviceKey(result);
      if (isShare(result)) this.#share(key, result, -1);
      else if (count(this.#counts, key, -1) === 0) this.#devices.delete(key);
    }
  }

  #share(
    key: DeviceKey,
    { driver, consumedCapacity = {} }: DeviceRequestAllocationResult,
    sign: 1 | -1,
  ): void {
    if (count(this.#shareCounts, key, sign) === 0) {
      this.#capacity.delete(key);
      return;
    }
    const amounts = new Map(this.#capacity.get(key));
    for (const [name, text] of Object.entries(consumedCapacity)) {
      const qualified = qualifiedName(name, driver);
      amounts.set(qualified, (amounts.get(qualified) ?? 0n) + BigInt(sign) * amountOf(text));
    }
    this.#capacity.set(key, amounts);
  }
}

/** kube-scheduler names every share; Berth, which does not, always says what a share consumes. */
function isShare({ shareID, consumedCapacity }: DeviceRequestAllocationResult): boolean {
  return shareID !== undefined || consumedCapacity !== undefined;
}

/** The API server lets no other text pass; one that is no quantity cannot be added to anything. */
function amountOf(text: string): Quantity {
  try {
    return parseQuantity(text);
  } catch (error) {
    if (error instanceof QuantityError) return 0n;
    throw error;
  }
}

/** The new count, never below zero. */
function count(counts: Map<DeviceKey, number>, key: DeviceKey, change: number): number {
  const next = Math.max(0, (counts.get(key) ?? 0) + change);
  if (next === 0) counts.delete(key);
  else counts.set(key, next);
  return next;
}
