import { compareText } from '../cluster/topology.ts';
import { groupKeyOf, isMembershipError, type Membership } from '../group/membership.ts';
import type { StatefulSetRecord } from '../group/owner.ts';
import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { believedPlan, type PodInfo } from '../group/pod-info.ts';

/** One group as its pods show it now, sorted into incarnations. */
export interface GroupView {
  readonly key: string;
  /** As the live leader says it, or any other member while there is none. */
  readonly membership: Membership;
  readonly leader: PodInfo | undefined;
  /** Pods of the live leader's incarnation by rank, not terminating, the leader included. */
  readonly members: ReadonlyMap<number, PodInfo>;
  /** Terminating pods of the live leader's incarnation by rank. */
  readonly leaving: ReadonlyMap<number, PodInfo>;
  /** Pods of an incarnation that is going, and workers of which it cannot be told yet. Never pinned. */
  readonly others: readonly PodInfo[];
  /** The plan in force: the one just written, or the one that the leader carries. */
  readonly plan: PlanAnnotation | undefined;
  /**
   * The API server has the plan in force. Until then it may be lost with the process, and another would be made: nobody
   * may be sent to its seats.
   */
  readonly planWritten: boolean;
}

/** A plan that the cache was told of before the watch has shown it. */
export interface AssumedPlan {
  readonly plan: PlanAnnotation;
  /** The API server has answered that it has it. */
  readonly written: boolean;
}

/**
 * Sorts a group's pods. LWS keeps group key and pod names over recreations, so the only thing that ties a worker to an
 * incarnation is its StatefulSet, which belongs to the leader's UID. After a background delete the new leader is there
 * while the old workers still look alive: those must not be taken for its own.
 */
export function buildGroupView(
  pods: Iterable<PodInfo>,
  statefulSets: ReadonlyMap<string, StatefulSetRecord>,
  assumedPlan: (leader: PodInfo) => AssumedPlan | undefined,
): GroupView | undefined {
  // By rank, so that the view does not depend on the order in which pods were seen.
  const present = [...pods].filter(pod => !pod.terminal).sort(byRankAndUid);
  const leader = newest(present.filter(pod => rankOf(pod) === 0 && !pod.terminating));
  const some = leader ?? present[0];
  const membership = some?.membership;
  if (membership === undefined || isMembershipError(membership)) return undefined;

  const members = new Map<number, PodInfo>();
  const leaving = new Map<number, PodInfo>();
  const others: PodInfo[] = [];
  for (const pod of present) {
    const rank = rankOf(pod);
    if (leader === undefined || rank === undefined || !isOfIncarnation(pod, leader, statefulSets)) {
      others.push(pod);
      continue;
    }
    const place = pod.terminating ? leaving : members;
    const known = place.get(rank);
    const younger = known === undefined ? pod : (newest([known, pod]) ?? pod);
    if (known !== undefined) others.push(younger === pod ? known : pod);
    place.set(rank, younger);
  }
  const { plan, written } = leader === undefined ? noPlan : planOf(leader, assumedPlan(leader));
  const key = groupKeyOf(membership);
  return { key, membership, leader, members, leaving, others, plan, planWritten: written };
}

/** Where the plan in force puts a rank; undefined without a plan, or when the rank was released. */
export function seatOf(view: GroupView, rank: number): string | undefined {
  const node = view.plan?.nodes[rank];
  return node === '' ? undefined : node;
}

/** Key of what is held for a rank, or for a place reserved for the group. */
export function seatKey(groupKey: string, seat: number | string): string {
  return `${groupKey}#${seat}`;
}

export function rankOf(pod: PodInfo): number | undefined {
  const membership = pod.membership;
  return membership === undefined || isMembershipError(membership) ? undefined : membership.rank;
}

function isOfIncarnation(
  pod: PodInfo,
  leader: PodInfo,
  statefulSets: ReadonlyMap<string, StatefulSetRecord>,
): boolean {
  if (pod === leader) return true;
  const membership = pod.membership;
  if (membership === undefined || isMembershipError(membership) || membership.rank === 0) return false;
  // A labelled group may have the name of an LWS leader.
  if (membership.kind !== kindOf(leader)) return false;
  if (membership.kind === 'labelled') return true;
  return statefulSets.get(pod.controllerUid)?.controllerUid === leader.uid;
}

function byRankAndUid(a: PodInfo, b: PodInfo): number {
  return (rankOf(a) ?? -1) - (rankOf(b) ?? -1) || compareText(a.uid, b.uid);
}

function kindOf(pod: PodInfo): Membership['kind'] | undefined {
  const membership = pod.membership;
  return membership === undefined || isMembershipError(membership) ? undefined : membership.kind;
}

const noPlan = { plan: undefined, written: false };

function planOf(
  leader: PodInfo,
  assumed: AssumedPlan | undefined,
): { readonly plan: PlanAnnotation | undefined; readonly written: boolean } {
  const seen = believedPlan(leader);
  if (assumed === undefined || (seen !== undefined && seen.generation >= assumed.plan.generation))
    return { plan: seen, written: seen !== undefined };
  return assumed;
}

function newest(pods: readonly PodInfo[]): PodInfo | undefined {
  return pods.reduce<PodInfo | undefined>((latest, pod) => {
    if (latest === undefined || pod.createdAtMs > latest.createdAtMs) return pod;
    return pod.createdAtMs === latest.createdAtMs && pod.uid > latest.uid ? pod : latest;
  }, undefined);
}
