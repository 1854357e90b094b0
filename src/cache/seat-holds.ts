import type { PlannedClaim } from '../cluster/devices/claims.ts';
import type { Resources } from '../cluster/resources.ts';
import { type PodInfo, takesAccelerator } from '../group/pod-info.ts';
import { type GroupView, rankOf, seatKey, seatOf } from './group-view.ts';
import type { Hold } from './node-ledger.ts';

/** Why a place is kept for a group: it is being remade after a failure, or others leave to make room for it. */
export type ReservePurpose = (typeof reservePurposes)[number];
const reservePurposes = ['return', 'preemption'] as const;

/** A place that is kept for a member. */
export interface ReservedSeat {
  readonly node: string;
  readonly requests: Resources;
  /** Devices for its claims. */
  readonly claims?: readonly PlannedClaim[];
}

/** Owner of the holds that are reserved for a group for one purpose. */
export function reservedFor(groupKey: string, purpose: ReservePurpose): string {
  return `${groupKey}#${purpose}`;
}

export function allReservedFor(groupKey: string): readonly string[] {
  return reservePurposes.map(purpose => reservedFor(groupKey, purpose));
}

/** Key of the hold of a reserved seat. */
export function reservedKey(groupKey: string, purpose: ReservePurpose, seat: number): string {
  return seatKey(groupKey, `${purpose}-${seat}`);
}

export function reservedHold({ node, requests, claims = [] }: ReservedSeat, key: string): Hold {
  const takesDevices = claims.length > 0 || takesAccelerator(requests);
  return { key, node, use: { requests, hostPorts: [], takesAccelerator: takesDevices } };
}

/** The seat that the plan in force gives to this very pod. */
export function seatOfPod(view: GroupView, pod: PodInfo): string | undefined {
  const rank = rankOf(pod);
  return rank !== undefined && view.members.get(rank) === pod ? seatOf(view, rank) : undefined;
}

/**
 * Seats of ranks whose pod is not bound yet or not there yet. A pod that is leaving its seat still counts by itself;
 * one that leaves another node does not keep its successor's.
 */
export function seatsToHold(view: GroupView): readonly Hold[] {
  const { plan, members, leaving } = view;
  return (plan?.nodes ?? []).flatMap((node, rank) => {
    const member = members.get(rank);
    const requests = member?.requests ?? plan?.requests[rank];
    if (node === '' || requests === undefined) return [];
    if (member?.nodeName !== undefined || leaving.get(rank)?.nodeName === node) return [];
    const hostPorts = member?.hostPorts ?? [];
    const byClaims = (plan?.devices?.[rank]?.claims.length ?? 0) > 0;
    const use = { requests, hostPorts, takesAccelerator: byClaims || takesAccelerator(requests) };
    return [{ key: seatKey(view.key, rank), node, use }];
  });
}

/** A pod that is not bound yet and that Berth holds back, or that can go to one node only. */
export function isOnItsWay(pod: PodInfo): boolean {
  return pod.gates.length > 0 || (pod.pinnedTo !== undefined && pod.nodeName === undefined);
}
