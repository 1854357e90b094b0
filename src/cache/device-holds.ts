import { type PlannedClaim, resultsOfPlan } from '../cluster/devices/claims.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { DeviceHold, DeviceState } from './device-state.ts';
import { type GroupView, seatKey } from './group-view.ts';

/** Devices that are kept on one node. */
interface Kept {
  readonly node: string;
  readonly claims: readonly PlannedClaim[];
}

/**
 * Holds the devices that plans and pins give to claims which are not allocated yet. kube-scheduler allocates before it
 * binds, but which of the two is seen first is chance, so a bound pod does not end its hold: the allocation does.
 */
export class DeviceHolds {
  readonly #devices: DeviceState;
  /** Of single pods that were pinned, by UID. No annotation keeps them: after a restart they are not held. */
  readonly #ofSingles = new Map<string, Kept>();

  constructor(devices: DeviceState) {
    this.#devices = devices;
  }

  /** Holds what the plan in force gives to a group; nothing for a group that is gone. */
  holdSeats(group: string, view: GroupView | undefined): void {
    const { plan, members } = view ?? {};
    const holds = (plan?.devices ?? []).flatMap(({ claims }, rank) => {
      const node = plan?.nodes[rank] ?? '';
      if (view === undefined || node === '' || claims.length === 0) return [];
      const allocated = this.#allocatedIn(view, members?.get(rank));
      const open = claims.filter(({ claim }) => !allocated.has(claim));
      return holdsOf(seatKey(group, rank), { node, claims: open });
    });
    this.#devices.setHolds(group, holds);
  }

  /** Keeps devices for places that are reserved; see ClusterCache.reservePlace. */
  reserve(owner: string, seats: readonly (Kept & { readonly key: string })[]): void {
    this.#devices.setHolds(
      owner,
      seats.flatMap(seat => holdsOf(seat.key, seat)),
    );
  }

  holdSingle(pod: PodInfo, node: string, claims: readonly PlannedClaim[]): void {
    if (claims.length === 0) return;
    this.#ofSingles.set(pod.uid, { node, claims });
    this.lookAtSingle(pod);
  }

  /** The pod, or one of its claims, has changed. */
  lookAtSingle(pod: PodInfo): void {
    const kept = this.#ofSingles.get(pod.uid);
    if (kept === undefined) return;
    const allocated = this.#allocatedOf(pod);
    const claims = pod.terminal ? [] : kept.claims.filter(({ claim }) => !allocated.has(claim));
    if (claims.length === 0) this.forgetSingle(pod.uid);
    else this.#devices.setHolds(pod.uid, holdsOf(pod.uid, { ...kept, claims }));
  }

  forgetSingle(uid: string): void {
    if (this.#ofSingles.delete(uid)) this.#devices.setHolds(uid, []);
  }

  /** What a member calls those of its claims that are allocated; a claim that the group shares is for all members. */
  #allocatedIn({ members }: GroupView, member: PodInfo | undefined): ReadonlySet<string> {
    const allocated = member === undefined ? new Set<string>() : this.#allocatedOf(member);
    for (const { namespace, claims } of members.values()) {
      for (const { name, claim } of claims) {
        if (claim === undefined || allocated.has(name)) continue;
        if (this.#devices.claim(namespace, claim)?.allocation !== undefined) allocated.add(name);
      }
    }
    return allocated;
  }

  #allocatedOf(pod: PodInfo): Set<string> {
    const allocated = new Set<string>();
    for (const { allocation, podClaimName } of this.#devices.claimsOf(pod.uid))
      if (allocation !== undefined && podClaimName !== undefined) allocated.add(podClaimName);
    return allocated;
  }
}

function holdsOf(key: string, { node, claims }: Kept): readonly DeviceHold[] {
  return claims.map(planned => ({
    key: `${key}/${planned.claim}`,
    node,
    results: resultsOfPlan(planned),
  }));
}
