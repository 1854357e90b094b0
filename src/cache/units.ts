import { k8s } from '../api/names.ts';
import type { NodeUse } from '../cluster/node-info.ts';
import type { ExistingPod } from '../cluster/pod-affinity.ts';
import { noResources } from '../cluster/resources.ts';
import { whyBudgetsForbid } from '../failure/disruption.ts';
import type { DisruptionBudgetRecord } from '../group/disruption-budget.ts';
import { isMembershipError } from '../group/membership.ts';
import { plansGroups } from '../group/owner.ts';
import { type PodInfo, takesAccelerator } from '../group/pod-info.ts';
import type { Unit, UnitUse } from '../planner/release.ts';
import type { ClusterCache } from './cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from './group-source.ts';
import { type GroupView, seatOf } from './group-view.ts';

/**
 * Everything that could leave, for the moment of `cache.snapshot()`: groups with their seats, and pods outside groups.
 *
 * Pods that somebody else puts back at once or places himself (of DaemonSets, mirror pods, other schedulers' and queue
 * systems') are no units. What is terminating, and workers that an older incarnation has left behind, go anyhow. Berth
 * may evict what it would place again: LeaderWorkerSet groups as failure handling does, and pods in namespaces that have
 * opted in. Cost: one look at every pod.
 */
export function unitsOf(cache: ClusterCache): readonly Unit[] {
  const budgetsOf = budgetsByNamespace(cache);
  const units: Unit[] = [];
  for (const key of cache.groupKeys()) {
    const view = cache.group(key);
    if (view !== undefined) units.push(...groupUnits(cache, view, budgetsOf));
  }
  for (const pod of cache.allPods()) {
    if (pod.terminal || isMember(pod)) continue;
    const unit = podUnit(cache, pod, budgetsOf);
    if (unit !== undefined) units.push(unit);
  }
  return units;
}

type BudgetsOf = (namespace: string) => readonly DisruptionBudgetRecord[];

function groupUnits(cache: ClusterCache, view: GroupView, budgetsOf: BudgetsOf): readonly Unit[] {
  const { key, membership, leader, members } = view;
  const common = { key, kind: 'group', owner: `${membership.namespace}/${membership.owner}` } as const;
  const units: Unit[] = [];
  const staying = leader === undefined ? [] : [...members.values()];
  if (staying.length > 0) {
    units.push({
      ...common,
      state: 'stays',
      whole: true,
      priority: highestPriority(staying),
      pods: staying.length,
      uses: [...staying.flatMap(pod => podUses(cache, pod)), ...seatUses(cache, view)],
      existing: staying.flatMap(pod => existingOf(cache, pod)),
      whyKept: whyGroupKept(cache, view),
      budgetsForbid: whyBudgetsForbid(staying, budgetsOf(membership.namespace)),
    });
  }
  const going = goingPods(cache, view);
  if (going.length > 0) units.push({ ...common, ...goingFacts(cache, going), whole: staying.length === 0 });
  return units;
}

/** Undefined for a pod that takes no room, and for those that are nobody's to end. */
function podUnit(cache: ClusterCache, pod: PodInfo, budgetsOf: BudgetsOf): Unit | undefined {
  const key = `${pod.namespace}/${pod.name}`;
  const common = { key, kind: 'pod', owner: key } as const;
  const uses = podUses(cache, pod);
  if (uses.length === 0) return undefined;
  if (pod.terminating && !comesBack(pod)) return { ...common, ...goingFacts(cache, [pod]), whole: true };
  if (pod.foreignOwner !== undefined) return undefined;
  return {
    ...common,
    state: 'stays',
    whole: true,
    priority: pod.priority,
    pods: 1,
    uses,
    existing: existingOf(cache, pod),
    whyKept: whyPodKept(cache, pod),
    budgetsForbid: whyBudgetsForbid([pod], budgetsOf(pod.namespace)),
  };
}

function goingFacts(
  cache: ClusterCache,
  pods: readonly PodInfo[],
): Omit<Unit, 'key' | 'kind' | 'owner' | 'whole'> {
  return {
    state: 'going',
    priority: highestPriority(pods),
    pods: pods.length,
    uses: pods.flatMap(pod => podUses(cache, pod)),
    existing: pods.flatMap(pod => existingOf(cache, pod)),
    whyKept: undefined,
    budgetsForbid: undefined,
  };
}

/** Terminating pods, and workers whose leader is going or has been followed by another. */
function goingPods(cache: ClusterCache, view: GroupView): readonly PodInfo[] {
  const { leader, leaving, others } = view;
  const isLeftBehind = (pod: PodInfo): boolean => {
    const set = cache.statefulSet(pod.controllerUid);
    if (set === undefined) return false;
    const owner = cache.pod(set.controllerUid);
    return owner === undefined ? leader !== undefined : owner.terminating;
  };
  return [...leaving.values(), ...others.filter(pod => pod.terminating || isLeftBehind(pod))];
}

/** What a pod takes: its node once it is bound, else the node that is held for it by itself. */
function podUses(cache: ClusterCache, pod: PodInfo): readonly UnitUse[] {
  const takes = [...cache.claimsOf(pod.uid)].map(({ uid }) => uid);
  if (pod.nodeName !== undefined) return [{ node: pod.nodeName, bound: true, use: pod, takes }];
  const node = cache.plannedNode(pod);
  if (node === undefined || cache.heldFor(pod.uid, node).size === 0) return [];
  return [{ node, bound: false, use: pod, takes }];
}

/**
 * Seats of the plan in force that the cache holds: of members that are not bound, or not there yet. Devices may be held
 * for a member that is bound, until its claim is seen to have them.
 */
function seatUses(cache: ClusterCache, view: GroupView): readonly UnitUse[] {
  const seats = resourceUses(cache, view);
  const heldByNode = cache.heldDevices(view.key);
  return [...seats, ...[...heldByNode].map(([node, takes]) => ({ node, bound: false, use: nothing, takes }))];
}

const nothing: NodeUse = { requests: noResources, hostPorts: [], takesAccelerator: true };

function resourceUses(cache: ClusterCache, view: GroupView): readonly UnitUse[] {
  return (view.plan?.nodes ?? []).flatMap((_, rank) => {
    const node = seatOf(view, rank);
    const requests = node === undefined ? undefined : cache.heldFor(`${view.key}#${rank}`, node);
    if (node === undefined || requests === undefined || requests.size === 0) return [];
    const hostPorts = view.members.get(rank)?.hostPorts ?? [];
    return [
      { node, bound: false, use: { requests, hostPorts, takesAccelerator: takesAccelerator(requests) } },
    ];
  });
}

function existingOf(cache: ClusterCache, pod: PodInfo): readonly ExistingPod[] {
  const name = pod.nodeName ?? cache.plannedNode(pod);
  const node = name === undefined ? undefined : cache.node(name);
  if (node === undefined) return [];
  const { namespace, labels, terminating, affinity } = pod;
  const place = { nodeName: node.name, nodeLabels: node.labels };
  return [{ namespace, labels, ...place, terminating, antiAffinity: affinity }];
}

/** The rule by which failure handling evicts: what Berth would not place again, it does not end. */
function whyGroupKept(cache: ClusterCache, view: GroupView): string | undefined {
  if (view.membership.kind !== 'lws') return 'only groups of a LeaderWorkerSet can be evicted whole';
  if (!plansGroups(modeOf(cache, view))) return 'Berth does not place this group';
  const notPlaceable = whyGroupNotPlaceable(cache, view);
  if (notPlaceable !== undefined) return `Berth does not place this group: ${notPlaceable}`;
  const foreign = [...view.members.values()].find(pod => pod.foreignOwner !== undefined)?.foreignOwner;
  return foreign === undefined ? undefined : `another owns its place: ${foreign}`;
}

function whyPodKept(cache: ClusterCache, pod: PodInfo): string | undefined {
  if (isMembershipError(pod.membership)) return 'it claims to be in a group that cannot be read';
  const mode = cache.namespace(pod.namespace)?.mode ?? 'observe';
  return plansGroups(mode) ? undefined : 'its namespace has not opted in';
}

/** Its successor takes the same room on the same node. */
function comesBack({ foreignOwner }: PodInfo): boolean {
  return foreignOwner === 'DaemonSet' || foreignOwner === 'Node' || foreignOwner === k8s.mirrorPod;
}

function isMember({ membership }: PodInfo): boolean {
  return membership !== undefined && !isMembershipError(membership);
}

function highestPriority(pods: readonly PodInfo[]): number {
  return pods.reduce((highest, pod) => Math.max(highest, pod.priority), Number.NEGATIVE_INFINITY);
}

function budgetsByNamespace(cache: ClusterCache): BudgetsOf {
  const known = new Map<string, readonly DisruptionBudgetRecord[]>();
  return namespace => {
    const budgets = known.get(namespace) ?? cache.disruptionBudgets(namespace);
    known.set(namespace, budgets);
    return budgets;
  };
}
