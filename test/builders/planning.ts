import type { Pod } from '../../src/api/kubernetes.ts';
import { berth, k8s } from '../../src/api/names.ts';
import type { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { buildGroupInfo, type GroupInfo, isObstacle } from '../../src/group/group-info.ts';
import { isMembershipError } from '../../src/group/membership.ts';
import { decodeLeaderWorkerSet } from '../../src/group/owner.ts';
import { decodePod, type PodInfo, podShare } from '../../src/group/pod-info.ts';
import { FitMemo } from '../../src/planner/fit.ts';
import { type GroupPlan, type PlanInput, planGroup } from '../../src/planner/plan.ts';
import { describeRejection, type Rejection, type Undecided } from '../../src/planner/rejection.ts';
import { cacheOf, type Fleet } from './fleet.ts';
import { LwsGroup, type LwsParts } from './lws-group.ts';
import { type Ask, podOf } from './pods.ts';

export interface PlanQuestion extends LwsParts {
  /** Level that must hold the group. */
  readonly required?: string;
  readonly fixed?: Readonly<Record<number, string>>;
  readonly excluded?: Readonly<Record<string, string>>;
  /** Other pods in the cluster. */
  readonly pods?: readonly Pod[];
}

export type Verdict = GroupPlan | Rejection | Undecided;

export function decode(pod: Pod): PodInfo {
  return decodePod(pod, podShare());
}

/** The input to the planner for a group of which only the leader exists. */
export function questionOf(fleet: Fleet, { required, ...question }: PlanQuestion): PlanInput {
  const annotations = { ...question.annotations, ...(required && { [berth.requiredTopology]: required }) };
  const group = new LwsGroup({ ...question, annotations });
  const leader = group.leader();
  const cache = cacheOf(fleet, [leader, ...(question.pods ?? [])]);
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  return inputOf(cache, groupInfoOf(cache, group.key), question);
}

/** The input for a labelled group whose members all exist, each with its own demand. */
export function labelledQuestion(
  fleet: Fleet,
  members: readonly Ask[],
  { required, pods = [] }: { readonly required?: string; readonly pods?: readonly Pod[] } = {},
): PlanInput {
  const own = members.map((ask, rank) => labelledPod(members.length, rank, ask, required));
  const cache = cacheOf(fleet, [...own, ...pods]);
  return inputOf(cache, groupInfoOf(cache, 'serving/g'), {});
}

export function labelledPod(size: number, rank: number, ask: Ask, required?: string): Pod {
  return podOf({
    name: `g-${rank}`,
    gated: true,
    ...ask,
    labels: {
      [berth.group]: 'g',
      [berth.groupSize]: String(size),
      [k8s.podIndex]: String(rank),
      ...ask.labels,
    },
    annotations: { ...ask.annotations, ...(required && { [berth.requiredTopology]: required }) },
  });
}

export function groupInfoOf(cache: ClusterCache, key: string): GroupInfo {
  const view = cache.group(key);
  if (view?.leader === undefined) throw new Error(`group ${key} has no leader`);
  const { membership, leader, members } = view;
  if (isMembershipError(membership)) throw new Error(membership.message);
  const info = buildGroupInfo({
    membership,
    leader,
    members,
    owner: cache.leaderWorkerSet(membership.namespace, membership.owner),
    seenWorker: cache.largestWorker(membership.namespace, membership.owner, membership.revision),
    claims: cache.claims,
    levels: cache.levels,
    assumeMissingAlike: false,
  });
  if (isObstacle(info)) throw new Error(info.message);
  return info;
}

export function inputOf(
  cache: ClusterCache,
  info: GroupInfo,
  { fixed, excluded }: Pick<PlanQuestion, 'fixed' | 'excluded'>,
): PlanInput {
  return {
    demands: info.demands,
    topology: info.topology,
    snapshot: cache.snapshot(),
    memo: new FitMemo(),
    ...(fixed && { fixed: new Map(Object.entries(fixed).map(([rank, node]) => [Number(rank), node])) }),
    ...(excluded && { excludedNodes: new Map(Object.entries(excluded)) }),
  };
}

/** Plans and says the outcome in one line: node names by rank, or the sentence of the refusal. */
export function outcomeOf(input: PlanInput): string {
  const result = planGroup(input);
  if (result.kind === 'plan') return result.nodes.join(' ');
  if (result.kind === 'undecided') return `undecided: ${result.reason}`;
  return describeRejection(result, input.snapshot.tree.levels);
}

export function planLine(fleet: Fleet, question: PlanQuestion): string {
  return outcomeOf(questionOf(fleet, question));
}
