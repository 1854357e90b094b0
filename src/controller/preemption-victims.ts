import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import { unitsOf } from '../cache/units.ts';
import { incarnationsOf } from '../failure/incarnation.ts';
import type { Preemption, PreemptionVictim } from '../failure/preemption.ts';
import { optsOut } from '../failure/settings.ts';
import { pinsPods } from '../group/owner.ts';
import { believedPlan, type PodInfo } from '../group/pod-info.ts';
import { type PlanInput, planGroup } from '../planner/plan.ts';
import { release, type Unit } from '../planner/release.ts';

/** What preemption reads of the cache. Nothing here remembers or writes anything. */

/** `planned`: it has a plan that is on its way to the API server. */
export type Need = 'waits' | 'planned' | 'placed' | 'gone';

/** Whether the group of a preemption needs the place still. */
export function needOf(cache: ClusterCache, { group, leaderUid }: Preemption): Need {
  const view = cache.group(group);
  if (view?.leader === undefined || view.leader.uid !== leaderUid) return 'gone';
  if (believedPlan(view.leader) !== undefined || view.leader.nodeName !== undefined) return 'placed';
  return view.plan === undefined ? 'waits' : 'planned';
}

export type Whereabouts = 'stays' | 'going' | 'gone';

export function whereIs(cache: ClusterCache, { key, kind, uid }: PreemptionVictim): Whereabouts {
  const pod = cache.pod(uid);
  const stays = pod !== undefined && !pod.terminating && !pod.terminal;
  if (kind === 'pod') return pod === undefined || pod.terminal ? 'gone' : stays ? 'stays' : 'going';
  if (stays) return 'stays';
  const left = incarnationsOf(cache.podsOfGroup(key), set => cache.statefulSet(set)).find(
    ({ leaderUid }) => leaderUid === uid,
  );
  return left === undefined ? 'gone' : 'going';
}

export interface CandidateQuestion {
  readonly cache: ClusterCache;
  /** Priority of the group that needs a place: nothing of that priority or above is looked at. */
  readonly priority: number;
  /** Preemptions that are under way for others: their victims are taken already. */
  readonly others: readonly Preemption[];
  readonly whyGroupKept: (view: GroupView) => string | undefined;
}

/** All units of the moment, those that may not be preempted with the cause. */
export function candidateUnits(question: CandidateQuestion): readonly Unit[] {
  const { cache, priority, others, whyGroupKept } = question;
  const taken = new Set(others.flatMap(({ victims }) => victims.map(nameOf)));
  const pods = new Map([...cache.allPods()].map(pod => [`${pod.namespace}/${pod.name}`, pod]));
  return unitsOf(cache).map(unit => {
    if (unit.state === 'going' || unit.whyKept !== undefined || unit.priority >= priority) return unit;
    if (taken.has(nameOf(unit))) return { ...unit, state: 'going' };
    const view = unit.kind === 'group' ? cache.group(unit.key) : undefined;
    const whyKept = view === undefined ? whySingleKept(cache, pods.get(unit.key)) : whyGroupKept(view);
    return whyKept === undefined ? unit : { ...unit, whyKept };
  });
}

/** The record of a unit that is to make room; undefined when it has changed meanwhile. */
export function victimOf(cache: ClusterCache, { key, kind, priority }: Unit): PreemptionVictim | undefined {
  const uid = kind === 'group' ? cache.group(key)?.leader?.uid : singleOf(cache, key)?.uid;
  return uid === undefined ? undefined : { key, kind, uid, priority, wentMs: undefined };
}

/**
 * What the group still needs. `enough`: it fits without anybody else, at the latest when those are gone that are going
 * already. `in-vain`: it would not fit even when all its victims were gone.
 */
export type Outlook =
  | { readonly kind: 'enough' | 'in-vain' }
  | { readonly kind: 'needs'; readonly uids: ReadonlySet<string> };

/** Asked before each eviction, for the cluster has changed since the decision. */
export function outlookOf(
  cache: ClusterCache,
  preemption: Preemption,
  input: PlanInput,
  units: readonly Unit[],
): Outlook {
  const byName = new Map(units.flatMap(unit => (unit.state === 'stays' ? [[nameOf(unit), unit]] : [])));
  const going = units.filter(unit => unit.state === 'going');
  const fits = (more: readonly Unit[]) =>
    planGroup(release(input, { units: [...going, ...more], nodes: [] })).kind === 'plan';
  if (fits([])) return { kind: 'enough' };
  const staying = preemption.victims.flatMap(victim => {
    const unit = byName.get(nameOf(victim));
    const mayGo = unit !== undefined && unit.whyKept === undefined && unit.priority < preemption.priority;
    return mayGo && victimOf(cache, unit)?.uid === victim.uid ? [{ unit, uid: victim.uid }] : [];
  });
  if (!fits(staying.map(({ unit }) => unit))) return { kind: 'in-vain' };
  let needed = staying;
  for (const spared of [...staying].sort((a, b) => b.unit.priority - a.unit.priority)) {
    const rest = needed.filter(one => one !== spared);
    if (fits(rest.map(({ unit }) => unit))) needed = rest;
  }
  return { kind: 'needs', uids: new Set(needed.map(({ uid }) => uid)) };
}

/**
 * The priority with which a whole group may preempt: the lowest of its members. Undefined while members are missing
 * whose PriorityClass is not the leader's.
 */
export function preemptorPriority(
  cache: ClusterCache,
  { leader, members, membership }: GroupView,
): number | undefined {
  if (leader === undefined) return undefined;
  const { leaderTemplate, workerTemplate } =
    cache.leaderWorkerSet(membership.namespace, membership.owner)?.spec.leaderWorkerTemplate ?? {};
  const differs =
    leaderTemplate !== undefined &&
    leaderTemplate.spec.priorityClassName !== workerTemplate?.spec.priorityClassName;
  if (differs && members.size < membership.size) return undefined;
  return Math.min(leader.priority, ...[...members.values()].map(pod => pod.priority));
}

/** What pods outside groups may do about evictions, as their namespace and they themselves ask. */
export function podOptsOut(cache: ClusterCache, pod: PodInfo): boolean {
  return optsOut([cache.namespace(pod.namespace)?.labels[berth.failure], pod.annotations[berth.failure]]);
}

function whySingleKept(cache: ClusterCache, pod: PodInfo | undefined): string | undefined {
  if (pod === undefined || podOptsOut(cache, pod)) return 'it has opted out of evictions';
  return keepsOffReservedPlaces(cache, pod) ? undefined : 'whoever makes it anew would have its place again';
}

/**
 * A pod that a controller makes anew is pending at once, and kube-scheduler gives it the first free place: only where
 * Berth gates it or answers for its devices does it leave that to the group which waits.
 */
function keepsOffReservedPlaces(cache: ClusterCache, pod: PodInfo): boolean {
  if (pod.controllerUid === '') return true;
  const namespace = cache.namespace(pod.namespace);
  if (namespace === undefined || !pod.takesAccelerator) return false;
  const { mode, pinsSingles } = namespace;
  return mode === 'extender' || mode === 'pin-extender' || (pinsSingles && pinsPods(mode));
}

function singleOf(cache: ClusterCache, key: string): PodInfo | undefined {
  for (const pod of cache.allPods())
    if (`${pod.namespace}/${pod.name}` === key && !pod.terminating) return pod;
  return undefined;
}

/** A group and a pod may have one name. */
function nameOf({ key, kind }: Pick<Unit, 'key' | 'kind'>): string {
  return `${kind} ${key}`;
}
