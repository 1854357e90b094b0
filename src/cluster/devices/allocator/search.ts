import type { DeviceConstraint, DeviceRequestAllocationResult, DeviceToleration } from '../../../api/dra.ts';
import type { Device, DeviceKey, DeviceUse } from '../device.ts';
import type { DevicePool } from '../pools.ts';
import { type Amounts, capacityTaken } from './capacity.ts';
import { type ConstraintState, constraintState } from './constraints.ts';
import { CounterLedger } from './counters.ts';
import { formatQuantity } from './format-quantity.ts';
import {
  AllocationFailure,
  type Candidate,
  mostResults,
  type PreparedClaim,
  type PreparedRequest,
} from './requests.ts';
import { isTolerated } from './taints.ts';

export interface SearchInput {
  readonly pools: readonly DevicePool[];
  readonly used: DeviceUse;
  readonly claims: readonly PreparedClaim[];
  /** By claim. */
  readonly constraints: readonly (readonly DeviceConstraint[])[];
  readonly mostSteps: number;
}

/**
 * `full` says that a claim would get more devices than it may have: no other device changes that, only an alternative
 * with fewer.
 */
type Found = 'found' | 'none' | 'full';

/**
 * Depth first over claims, requests, alternatives and devices. Within a request devices are taken in ascending order, so
 * that every set is tried once; the next request starts with the first device again.
 */
export class AllocationSearch {
  readonly #input: SearchInput;
  readonly #candidates: readonly Candidate[];
  readonly #constraints: readonly (readonly ConstraintState[])[];
  readonly #counters: CounterLedger;
  readonly #results: DeviceRequestAllocationResult[][];
  /** Devices taken as a whole by this attempt, with the claims they are for. */
  readonly #taking = new Map<DeviceKey, number[]>();
  /** Shares of devices that may be allocated several times, taken by this attempt. */
  readonly #shares = new Map<DeviceKey, Amounts[]>();
  #steps = 0;

  constructor(input: SearchInput) {
    this.#input = input;
    this.#candidates = input.pools.flatMap(pool =>
      pool.state === 'complete'
        ? pool.slices.flatMap(({ devices }) => devices.map(device => ({ device, pool })))
        : [],
    );
    this.#constraints = input.constraints.map((constraints, claim) =>
      constraints.map(constraint => {
        const state = constraintState(constraint);
        if (state !== undefined) return state;
        const message = `claim ${input.claims[claim]?.name}: a constraint is of no known kind`;
        throw new AllocationFailure('Unsupported', message);
      }),
    );
    this.#counters = new CounterLedger(input.used);
    this.#results = input.claims.map(() => []);
  }

  /** Results by claim; undefined when there are none. @throws AllocationFailure */
  run(): readonly (readonly DeviceRequestAllocationResult[])[] | undefined {
    return this.#nextRequest(0, 0) === 'found' ? this.#results : undefined;
  }

  #nextRequest(claim: number, request: number): Found {
    const wanted = this.#input.claims[claim];
    if (wanted === undefined) return 'found';
    const alternatives = wanted.requests[request];
    if (alternatives === undefined) {
      // That a later claim has too many devices is no reason to give this one up at once.
      return this.#nextRequest(claim + 1, 0) === 'found' ? 'found' : 'none';
    }
    let allFull = true;
    for (const alternative of alternatives) {
      const found = this.#nextDevice(claim, request, alternative, 0, 0);
      if (found === 'found') return found;
      if (found === 'none') allFull = false;
      // A request without alternatives passes on what it has found.
      if (alternative.alternative === undefined) return found;
    }
    return allFull ? 'full' : 'none';
  }

  #nextDevice(claim: number, request: number, wanted: PreparedRequest, taken: number, from: number): Found {
    if (++this.#steps > this.#input.mostSteps)
      throw new AllocationFailure('Unknown', 'too many combinations of devices to try');
    const { all, count } = wanted;
    if (all?.length === 0) return 'none';
    if (taken >= count) return this.#nextRequest(claim, request + 1);
    if (count - taken > mostResults - (this.#results[claim]?.length ?? 0)) return 'full';
    if (all !== undefined) {
      const candidate = all[taken];
      if (candidate === undefined) return 'none';
      const undo = this.#take(claim, wanted, candidate, true);
      if (undo === undefined) return 'none';
      const found = this.#nextDevice(claim, request, wanted, taken + 1, 0);
      if (found !== 'found') undo();
      return found;
    }
    for (let at = from; at < this.#candidates.length; at++) {
      const candidate = this.#candidates[at];
      if (candidate === undefined || !this.#mayTake(claim, wanted, candidate.device)) continue;
      const undo = this.#take(claim, wanted, candidate, false);
      if (undo === undefined) continue;
      const found = this.#nextDevice(claim, request, wanted, taken + 1, at + 1);
      if (found === 'found') return found;
      undo();
      if (found === 'full') return found;
    }
    return 'none';
  }

  /** In the order of upstream: what is cheap first, and errors of selectors only for devices that are free. */
  #mayTake(claim: number, wanted: PreparedRequest, device: Device): boolean {
    if (wanted.adminAccess ? this.#taking.get(device.key)?.includes(claim) : this.#isInUse(device))
      return false;
    return wanted.selects(device) && this.#capacityFor(wanted, device) !== undefined;
  }

  #isInUse({ key }: Device): boolean {
    return this.#input.used.devices.has(key) || (this.#taking.get(key)?.length ?? 0) > 0;
  }

  #capacityFor({ capacity, request }: PreparedRequest, device: Device): Amounts | undefined {
    const taken = [this.#input.used.capacity.get(device.key), ...(this.#shares.get(device.key) ?? [])];
    const amounts = capacityTaken(device, capacity, taken);
    if (amounts !== undefined && 'message' in amounts)
      throw new AllocationFailure('CapacityInvalid', `request ${request}: ${amounts.message}`);
    return amounts;
  }

  /**
   * Takes a device for a request; answers how to give it back, or undefined where it cannot be had.
   * @param must the request wants this very device: a constraint in its way can never be met
   */
  #take(
    claim: number,
    wanted: PreparedRequest,
    { device, pool }: Candidate,
    must: boolean,
  ): (() => void) | undefined {
    const shared = device.allowMultipleAllocations;
    if (wanted.adminAccess) {
      if (!shared && this.#taking.get(device.key)?.includes(claim)) return undefined;
    } else if (this.#isInUse(device)) return undefined;
    const undo: (() => void)[] = [];
    const giveBack = () => {
      for (const step of undo.reverse()) step();
    };
    const isShareOfUsed =
      shared && (this.#input.used.capacity.has(device.key) || this.#shares.has(device.key));
    if (!isShareOfUsed && device.consumesCounters.size > 0) {
      if (!this.#counters.take(device, pool)) return undefined;
      undo.push(() => this.#counters.giveBack(device, pool));
    }
    if (!isTolerated(device.taints, wanted.tolerations)) {
      giveBack();
      return undefined;
    }
    for (const constraint of this.#constraints[claim] ?? []) {
      if (!constraint.add(wanted.request, wanted.alternative, device)) {
        giveBack();
        if (!must) return undefined;
        const name = `${this.#input.claims[claim]?.name}`;
        const message = `request ${wanted.request} of claim ${name} asks for all devices, which a constraint forbids`;
        throw new AllocationFailure('ConstraintUnmet', message);
      }
      undo.push(() => constraint.remove(wanted.request, wanted.alternative));
    }
    const amounts = this.#capacityFor(wanted, device);
    if (amounts === undefined) {
      giveBack();
      return undefined;
    }
    this.#mark(claim, device, shared ? amounts : undefined, undo);
    const results = this.#results[claim] ?? [];
    results.push(resultOf(wanted, device, shared ? amounts : undefined));
    undo.push(() => results.pop());
    return giveBack;
  }

  #mark(claim: number, { key }: Device, share: Amounts | undefined, undo: (() => void)[]): void {
    if (share === undefined) {
      const claims = this.#taking.get(key) ?? [];
      claims.push(claim);
      this.#taking.set(key, claims);
      undo.push(() => claims.pop());
      return;
    }
    const shares = this.#shares.get(key) ?? [];
    shares.push(share);
    this.#shares.set(key, shares);
    undo.push(() => {
      shares.pop();
      if (shares.length === 0) this.#shares.delete(key);
    });
  }
}

function resultOf(
  { request, alternative, adminAccess, tolerations }: PreparedRequest,
  { id }: Device,
  share: Amounts | undefined,
): DeviceRequestAllocationResult {
  const consumed = share === undefined || share.size === 0 ? undefined : share;
  return {
    request: alternative === undefined ? request : `${request}/${alternative}`,
    ...id,
    ...(adminAccess && { adminAccess }),
    ...(tolerations.length > 0 && { tolerations: tolerations as readonly DeviceToleration[] }),
    ...(consumed && {
      consumedCapacity: Object.fromEntries(
        [...consumed].map(([name, amount]) => [name, formatQuantity(amount)]),
      ),
    }),
  };
}
