import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeGroup } from '../cache/group-source.ts';
import { ImpossibleDemands } from '../cache/impossible-demands.ts';
import { PlacedGroups } from '../cache/placed-groups.ts';
import { unitsOf } from '../cache/units.ts';
import { type ClaimRecord, type PlannedClaim, resultsOfPlan } from '../cluster/devices/claims.ts';
import { demandOfPod, type MemberDemand } from '../group/demand.ts';
import { type GroupInfo, isObstacle } from '../group/group-info.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { TopologyRequest } from '../group/topology-request.ts';
import { FitMemo } from '../planner/fit.ts';
import type { Objective } from '../planner/objective.ts';
import { type GroupPlan, type PlanInput, planGroup } from '../planner/plan.ts';
import { describeRejection, type Rejection, type Undecided } from '../planner/rejection.ts';
import { findUnblock, type Unblock } from '../planner/unblock.ts';

/** A cluster that nobody runs: plans are taken into it at once, as if all of them came true. */
export interface WhatIf {
  readonly cache: ClusterCache;
  readonly memo: FitMemo;
  readonly placed: PlacedGroups;
  readonly objective: Objective;
  /** By UID of a single pod, what kube-scheduler would have made of its plan: an allocated claim. */
  readonly claimsOfSingles: Map<string, readonly ClaimRecord[]>;
  /** What no node of the fleet could ever give. */
  readonly impossible: ImpossibleDemands;
}

/** What became of a group or a single pod. */
export type Verdict =
  /** Node by rank; the level and domain that hold all of them. */
  | { readonly kind: 'fits'; readonly nodes: readonly string[]; readonly plan: GroupPlan }
  | { readonly kind: 'refused'; readonly rejection: Rejection; readonly message: string }
  | { readonly kind: 'undecided'; readonly message: string }
  /** A mistake in the request. */
  | {
      readonly kind: 'invalid';
      readonly code: string;
      readonly message: string;
      readonly field?: string | undefined;
    }
  /** Berth leaves it to others. */
  | { readonly kind: 'left'; readonly code: string; readonly message: string };

/** One request as the planner was asked. */
export interface Question {
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
  /** `namespace/name` of the group; undefined for a single pod. */
  readonly group: string | undefined;
}

const anywhere: TopologyRequest = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };

export function newWhatIf(cache: ClusterCache, objective: Objective): WhatIf {
  return {
    cache,
    memo: new FitMemo(),
    placed: new PlacedGroups(cache),
    objective,
    claimsOfSingles: new Map(),
    impossible: new ImpossibleDemands(cache),
  };
}

/** Plans a group whose leader waits in the cache, and takes the plan into it. */
export function planWaitingGroup(whatIf: WhatIf, key: string): Verdict {
  const group = describeWaiting(whatIf, key);
  if ('kind' in group) return group;
  const verdict = ask(whatIf, { ...group, group: key });
  if (verdict.kind === 'fits') {
    const requests = group.demands.map(demand => demand.requests);
    const { leader } = group;
    const { devices } = verdict.plan;
    const plan = { leaderUid: leader.uid, generation: 1, nodes: verdict.nodes, requests };
    whatIf.cache.assumePlan(leader, devices === undefined ? plan : { ...plan, devices });
  }
  return verdict;
}

/**
 * The same for a pod outside any group: a group of one that asks for no topology. Devices behind its extended resources
 * are taken to be allocated, for no plan keeps them.
 */
export function planWaitingSingle(whatIf: WhatIf, pod: PodInfo): Verdict {
  const verdict = ask(whatIf, questionOfSingle(pod));
  if (verdict.kind !== 'fits') return verdict;
  const { cache, claimsOfSingles } = whatIf;
  cache.assumePin(pod, verdict.nodes[0] ?? '');
  const claims = allocatedClaims(pod, verdict.plan.devices?.[0]?.claims ?? []);
  for (const claim of claims) cache.resourceClaims.upsert(claim);
  claimsOfSingles.set(pod.uid, claims);
  return verdict;
}

/** A pod ends, and the claims that {@link planWaitingSingle} has made for it. */
export function removePod({ cache, claimsOfSingles }: WhatIf, pod: PodInfo): void {
  for (const claim of claimsOfSingles.get(pod.uid) ?? []) cache.resourceClaims.remove(claim);
  claimsOfSingles.delete(pod.uid);
  cache.pods.remove(pod);
}

function allocatedClaims(
  { uid, namespace, name }: PodInfo,
  planned: readonly PlannedClaim[],
): readonly ClaimRecord[] {
  return planned.map(claim => ({
    uid: `planned:${uid}/${claim.claim}`,
    namespace,
    name: `${name}-${claim.claim}`,
    podUid: uid,
    podClaimName: claim.claim,
    spec: {},
    allocation: { results: resultsOfPlan(claim), nodeSelector: undefined },
    reservedFor: [uid],
    steeringOff: false,
    terminating: false,
  }));
}

export function questionOfSingle(pod: PodInfo): Question {
  return { demands: [demandOfPod(pod)], topology: anywhere, group: undefined };
}

/** The group as it will be asked about, or why it is not. Members that are late are taken to be like the others. */
export function describeWaiting({ cache }: WhatIf, key: string): GroupInfo | Verdict {
  const view = cache.group(key);
  if (view?.leader === undefined)
    return { kind: 'invalid', code: 'LeaderMissing', message: 'the group has no member of rank 0' };
  const group = describeGroup(cache, view, view.leader, true);
  return isObstacle(group) ? { kind: 'invalid', ...group } : group;
}

/** The devices of a single's claims stand in no plan, so they could not be kept for it. */
export const leftForClaims: Verdict = {
  kind: 'left',
  code: 'ResourceClaims',
  message: 'it is in no group and asks for devices by ResourceClaim: kube-scheduler places it',
};

/** Asks the planner and changes nothing. */
function ask(whatIf: WhatIf, question: Question): Verdict {
  const result = planGroup(inputOf(whatIf, question));
  return verdictOf(whatIf, question, result);
}

/** Whether it would fit if it asked for no topology: then only how the free room lies keeps it out. */
export function fitsAnywhere(whatIf: WhatIf, question: Question): boolean {
  return planGroup(inputOf(whatIf, { ...question, topology: anywhere })).kind === 'plan';
}

/** What would have to leave, or come back, for a refused one to fit; `key` is its own, as units have it. */
export function unblockOf(whatIf: WhatIf, question: Question, key: string): Unblock {
  return findUnblock({ input: inputOf(whatIf, question), key, units: unitsOf(whatIf.cache) });
}

function inputOf(whatIf: WhatIf, { demands, topology, group }: Question): PlanInput {
  const { cache, memo, placed, objective } = whatIf;
  const neighbours = placed.neighboursOf(group, topology);
  return { demands, topology, memo, snapshot: cache.snapshot(), neighbours, objective };
}

function verdictOf(
  { cache, impossible }: WhatIf,
  { demands }: Question,
  result: GroupPlan | Rejection | Undecided,
): Verdict {
  switch (result.kind) {
    case 'plan':
      return { kind: 'fits', nodes: result.nodes, plan: result };
    case 'rejection': {
      const never = impossible.why(demands)?.message;
      const refusal = describeRejection(result, cache.levels);
      const message = never === undefined ? refusal : `${refusal}; ${never}`;
      return { kind: 'refused', rejection: result, message };
    }
    case 'undecided':
      return { kind: 'undecided', message: result.reason };
  }
}
