import type { Device, DeviceUse } from '../device.ts';
import { isTainted } from '../device-taints.ts';
import type { Candidate } from '../pools.ts';
import { type CapacityAmounts, type Consumption, consumptionOf } from './capacity.ts';
import { type ClaimConstraint, concerns } from './constraints.ts';
import { CounterBook } from './counters.ts';
import { type AllocationFault, fault } from './question.ts';
import type { TakenDevice } from './result.ts';
import { maxResults, type WantedRequest, type WantedRequests } from './wanted-request.ts';

/**
 * `too-many`: the claim would get more devices than a claim can, whatever devices its earlier requests take, so only
 * another alternative with fewer devices can help. `stopped`: see {@link Search.stop}.
 */
export type Outcome = 'done' | 'none' | 'too-many' | 'stopped';

type Stop = AllocationFault | { readonly kind: 'unknown'; readonly message: string };

/** What a device that was taken has changed, so that it can be given back. */
interface Taken extends TakenDevice {
  readonly drewCounters: boolean;
  readonly sharesBefore: CapacityAmounts | undefined;
}

/**
 * The search of kube-scheduler's structured allocator: claims, requests, alternatives and devices in their order, depth
 * first, the first whole solution wins. Within a request only ascending combinations of devices are tried, for their
 * order means nothing there; every request starts from the first device again.
 *
 * Exhaustive, so its cost may be exponential where constraints leave no solution; a budget bounds it. Two cuts change
 * no result: a request is given up when fewer devices are left than it still needs, and what the claims ask of a device
 * alone is worked out once.
 */
export class Search {
  /** Why the search was stopped. */
  stop: Stop | undefined;
  /** A device that was passed over because a selector could not be evaluated. */
  doubt: string | undefined;
  /** The furthest request that found no devices. */
  furthest: WantedRequest | undefined;

  readonly #requests: WantedRequests;
  readonly #constraints: readonly (readonly ClaimConstraint[])[];
  readonly #used: DeviceUse;
  readonly #counters: CounterBook;
  readonly #taken: Taken[][];
  /** By candidate: the claims that have taken it whole. More than one only by admin access. */
  readonly #holders: (Set<number> | undefined)[] = [];
  /** By candidate: what the search has taken of its capacity by shares. */
  readonly #shares = new Map<number, CapacityAmounts>();
  readonly #consumptions = new Map<WantedRequest, (Consumption | undefined)[]>();
  readonly #leftFrom = new Map<WantedRequest, Float64Array>();
  #budget: number;

  constructor(
    requests: WantedRequests,
    constraints: readonly (readonly ClaimConstraint[])[],
    used: DeviceUse,
    budget: number,
  ) {
    this.#requests = requests;
    this.#constraints = constraints;
    this.#used = used;
    this.#counters = new CounterBook(used);
    this.#taken = requests.map(() => []);
    this.#budget = budget;
  }

  run(): Outcome {
    return this.#claim(0);
  }

  takenFor(claimIndex: number): readonly TakenDevice[] {
    return this.#taken[claimIndex] ?? [];
  }

  #claim(claimIndex: number): Outcome {
    return claimIndex >= this.#requests.length ? 'done' : this.#request(claimIndex, 0);
  }

  #request(claimIndex: number, requestIndex: number): Outcome {
    const alternatives = this.#requests[claimIndex]?.[requestIndex];
    if (alternatives === undefined) {
      const rest = this.#claim(claimIndex + 1);
      // Other devices for this claim may let an alternative of the next one be tried that needs fewer.
      return rest === 'too-many' ? 'none' : rest;
    }
    let outcome: Outcome = 'too-many';
    for (const wanted of alternatives) {
      const attempt = this.#devices(wanted, 0, 0);
      if (attempt === 'done' || attempt === 'stopped') return attempt;
      if (attempt === 'none') outcome = 'none';
    }
    return outcome;
  }

  /** @param taken how many devices the request has already; `from` is where to look for the next */
  #devices(wanted: WantedRequest, taken: number, from: number): Outcome {
    if (wanted.all?.length === 0) return this.#failed(wanted);
    if (taken >= wanted.count) return this.#request(wanted.claimIndex, wanted.requestIndex + 1);
    const missing = wanted.count - taken;
    if (missing > maxResults - (this.#taken[wanted.claimIndex]?.length ?? 0)) return 'too-many';
    if (wanted.all !== undefined) return this.#nextOfAll(wanted, wanted.all, taken);
    if (wanted.count > 1 && this.#countLeft(wanted, from) < missing) return this.#failed(wanted);
    const { candidates } = wanted;
    for (let place = from; place < candidates.length; place++) {
      const candidate = candidates[place];
      if (candidate === undefined) break;
      const isTaken = this.#mayTry(wanted, candidate) && this.#take(wanted, candidate);
      if (this.stop !== undefined) return 'stopped';
      if (!isTaken) continue;
      const rest = this.#devices(wanted, taken + 1, place + 1);
      if (rest === 'done') return rest;
      this.#giveBack(wanted);
      if (rest !== 'none') return rest;
    }
    return this.#failed(wanted);
  }

  #nextOfAll(wanted: WantedRequest, all: readonly Candidate[], taken: number): Outcome {
    const candidate = all[taken];
    if (candidate === undefined || !this.#take(wanted, candidate))
      return this.stop === undefined ? this.#failed(wanted) : 'stopped';
    const rest = this.#devices(wanted, taken + 1, 0);
    if (rest !== 'done') this.#giveBack(wanted);
    return rest;
  }

  #failed(wanted: WantedRequest): Outcome {
    const { claimIndex = 0, requestIndex = -1 } = this.furthest ?? {};
    const isFurther = wanted.claimIndex - claimIndex || wanted.requestIndex - requestIndex;
    if (isFurther > 0) this.furthest = wanted;
    return 'none';
  }

  /** Whether a device that is free is one that the request wants. */
  #mayTry(wanted: WantedRequest, candidate: Candidate): boolean {
    if (--this.#budget < 0) {
      this.stop = { kind: 'unknown', message: 'the search for devices took too long and was given up' };
      return false;
    }
    if (wanted.adminAccess) {
      if (this.#holders[candidate.index]?.has(wanted.claimIndex)) return false;
    } else if (this.#isInUse(candidate)) return false;
    const verdict = wanted.selection.of(candidate);
    switch (verdict.kind) {
      case 'true':
        return true;
      case 'false':
        return false;
      case 'unknown':
        this.doubt ??= verdict.message;
        return false;
      case 'error':
        this.stop = fault('selector-error', verdict.message);
        return false;
    }
  }

  #isInUse({ index, device }: Candidate): boolean {
    return this.#used.devices.has(device.key) || (this.#holders[index]?.size ?? 0) > 0;
  }

  /** Takes a device unless something forbids it; then everything is as before. */
  #take(wanted: WantedRequest, candidate: Candidate): boolean {
    const { device, pool, index } = candidate;
    const { claimIndex } = wanted;
    const isShare = device.allowMultipleAllocations;
    if (wanted.adminAccess) {
      if (!isShare && this.#holders[index]?.has(claimIndex)) return false;
    } else if (this.#isInUse(candidate)) return false;
    const consumed = this.#affordable(wanted, candidate);
    // For one of All capacity comes last, so that a constraint is reported before it.
    if (consumed === undefined && (wanted.all === undefined || this.stop !== undefined)) return false;
    const sharesBefore = this.#shares.get(index);
    // The counters of a device are drawn once, by the first of its shares.
    const isSharedAlready = isShare && (sharesBefore !== undefined || this.#used.capacity.has(device.key));
    const drewCounters = !isSharedAlready && device.consumesCounters.size > 0;
    if (drewCounters && !this.#counters.take(device, pool)) return false;
    const mayStay = !isTainted(device, wanted) && this.#addToConstraints(wanted, device);
    if (!mayStay || consumed === undefined) {
      if (mayStay) this.#removeFromConstraints(wanted);
      if (drewCounters) this.#counters.giveBack(device, pool);
      return false;
    }
    if (isShare) this.#shares.set(index, sum(sharesBefore, consumed));
    else this.#hold(index, claimIndex);
    this.#taken[claimIndex]?.push({
      request: wanted,
      candidate,
      consumed: isShare ? consumed : undefined,
      drewCounters,
      sharesBefore,
    });
    return true;
  }

  #giveBack({ claimIndex }: WantedRequest): void {
    const last = this.#taken[claimIndex]?.pop();
    if (last === undefined) return;
    const { request, candidate, drewCounters, sharesBefore } = last;
    const { device, pool, index } = candidate;
    if (!device.allowMultipleAllocations) this.#holders[index]?.delete(claimIndex);
    else if (sharesBefore === undefined) this.#shares.delete(index);
    else this.#shares.set(index, sharesBefore);
    this.#removeFromConstraints(request);
    if (drewCounters) this.#counters.giveBack(device, pool);
  }

  #hold(index: number, claimIndex: number): void {
    const holders = this.#holders[index];
    if (holders === undefined) this.#holders[index] = new Set([claimIndex]);
    else holders.add(claimIndex);
  }

  #addToConstraints(wanted: WantedRequest, device: Device): boolean {
    const constraints = this.#constraints[wanted.claimIndex] ?? [];
    for (const [added, constraint] of constraints.entries()) {
      if (!concerns(constraint, wanted) || constraint.rule.add(device)) continue;
      this.#removeFromConstraints(wanted, added);
      if (wanted.all !== undefined && !constraint.isExtra) {
        const where = `request ${wanted.name}: cannot add device ${device.id.driver}/${device.id.pool}/${device.id.device}`;
        this.stop = fault('constraint-on-all', `${where} because a claim constraint would not be satisfied`);
      }
      return false;
    }
    return true;
  }

  /** @param before only constraints before this one, where the device did not get into all of them */
  #removeFromConstraints(wanted: WantedRequest, before = Number.POSITIVE_INFINITY): void {
    const constraints = this.#constraints[wanted.claimIndex] ?? [];
    for (const constraint of constraints.slice(0, before)) {
      if (concerns(constraint, wanted)) constraint.rule.remove();
    }
  }

  /** What the request takes of the device's capacity; undefined when it has not that much left. */
  #affordable(wanted: WantedRequest, { device, index }: Candidate): CapacityAmounts | undefined {
    const consumption = this.#consumption(wanted, device, index);
    if (consumption.kind === 'refused') return undefined;
    if (consumption.kind === 'error') {
      this.stop = fault('capacity', `request ${wanted.name}: ${consumption.message}`);
      return undefined;
    }
    const used = this.#used.capacity.get(device.key);
    const shares = this.#shares.get(index);
    for (const [name, amount] of consumption.amounts) {
      const total = amount + (used?.get(name) ?? 0n) + (shares?.get(name) ?? 0n);
      if (total > (device.capacity.get(name)?.value ?? 0n)) return undefined;
    }
    return consumption.amounts;
  }

  #consumption(wanted: WantedRequest, device: Device, index: number): Consumption {
    let known = this.#consumptions.get(wanted);
    if (known === undefined) {
      known = [];
      this.#consumptions.set(wanted, known);
    }
    const before = known[index];
    if (before !== undefined) return before;
    const consumption = consumptionOf(device, wanted.capacity);
    known[index] = consumption;
    return consumption;
  }

  /**
   * How many devices from a place on the request could have if nothing else of the pod took them. No bound where the
   * search would come upon something that stops it, or that it cannot judge.
   */
  #countLeft(wanted: WantedRequest, from: number): number {
    let left = this.#leftFrom.get(wanted);
    if (left === undefined) {
      left = new Float64Array(wanted.candidates.length + 1);
      for (let place = wanted.candidates.length - 1; place >= 0; place--) {
        const candidate = wanted.candidates[place];
        left[place] =
          (left[place + 1] ?? 0) + (candidate === undefined ? 0 : this.#weight(wanted, candidate));
      }
      this.#leftFrom.set(wanted, left);
    }
    return left[from] ?? 0;
  }

  #weight(wanted: WantedRequest, candidate: Candidate): number {
    const { device, index } = candidate;
    if (!wanted.adminAccess && this.#used.devices.has(device.key)) return 0;
    const { kind } = wanted.selection.of(candidate);
    if (kind === 'false') return 0;
    if (kind !== 'true') return Number.POSITIVE_INFINITY;
    const consumption = this.#consumption(wanted, device, index);
    if (consumption.kind === 'refused') return 0;
    return consumption.kind === 'error' ? Number.POSITIVE_INFINITY : 1;
  }
}

function sum(before: CapacityAmounts | undefined, amounts: CapacityAmounts): CapacityAmounts {
  const total = new Map(before);
  for (const [name, amount] of amounts) total.set(name, (total.get(name) ?? 0n) + amount);
  return total;
}
