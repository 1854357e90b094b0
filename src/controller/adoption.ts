import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeGroup, inLeadersDomain } from '../cache/group-source.ts';
import { type GroupView, seatOf } from '../cache/group-view.ts';
import { noResources, type Resources } from '../cluster/resources.ts';
import { isObstacle } from '../group/group-info.ts';
import type { PlacementMode } from '../group/owner.ts';
import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { isGated, type PodInfo } from '../group/pod-info.ts';
import { planFromSeats, seatsOf } from './seats.ts';
import type { Seat, WaitingList } from './waiting-list.ts';

export interface Adoption {
  readonly plan: PlanAnnotation;
  /** Members that wait behind the gate and for which there is no room in the domain of those that run. */
  readonly unseated: readonly PodInfo[];
}

/**
 * Where a running group is, so that a member that returns finds its seat. No UID changes. Undefined when that is what its
 * plan says already.
 */
export function adoptionOf(
  { cache, waiting }: { readonly cache: ClusterCache; readonly waiting: WaitingList },
  view: GroupView,
  leader: PodInfo,
  mode: PlacementMode,
): Adoption | undefined {
  const info = describeGroup(cache, view, leader, true);
  const leaderNode = leader.nodeName ?? '';
  const bound = new Map<number, string>();
  const stays = new Map<number, string>();
  for (const [rank, pod] of [...view.members, ...view.leaving]) {
    if (pod.nodeName === undefined || bound.has(rank)) continue;
    bound.set(rank, pod.nodeName);
    if (isObstacle(info) || inLeadersDomain(cache, info, leaderNode, pod.nodeName))
      stays.set(rank, pod.nodeName);
  }
  // Members on their way through kube-scheduler will be written down when they are bound.
  // In mode extender they are refused until a plan says where, so they are on no way.
  const onTheirWay =
    mode !== 'extender' &&
    [...view.members.values()].some(pod => pod.nodeName === undefined && !isGated(pod));
  const ranks = Array.from({ length: view.membership.size }, (_, rank) => rank);
  // An adopted plan is written again when strays are found bound: whoever is away meanwhile keeps the seat it has.
  for (const rank of ranks) {
    const seat = seatOf(view, rank);
    if (!bound.has(rank) && seat !== undefined && cache.node(seat) !== undefined) stays.set(rank, seat);
  }
  const missing = ranks.filter(rank => !bound.has(rank) && !stays.has(rank));
  let seats: ReadonlyMap<number, Seat> = seatsOf(stays);
  let requests: readonly Resources[] = ranks.map(rank => view.members.get(rank)?.requests ?? noResources);
  if (!isObstacle(info)) {
    requests = info.demands.map(demand => demand.requests);
    const excluded = waiting.excludedNodes(view.key);
    if (missing.length > 0 && !onTheirWay)
      seats = waiting.planRanks(info, [...stays.keys(), ...missing], stays, excluded) ?? seats;
  }
  const plan = planFromSeats({ leader, before: view.plan, seats, requests });
  if (view.plan?.nodes.every((node, rank) => node === plan.nodes[rank])) return undefined;
  const unseated = [...view.members].flatMap(([rank, pod]) =>
    isGated(pod) && plan.nodes[rank] === '' && !isObstacle(info) ? [pod] : [],
  );
  return { plan, unseated };
}
