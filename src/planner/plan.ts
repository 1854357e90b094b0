import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { compareText, type TopologyDomain, type TopologyTree } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { TopologyRequest } from '../group/topology-request.ts';
import { assignWithin, compareDomains, type HostShare } from './assign.ts';
import { type Capacity, type HostRoom, holds, rollUp, roomFor } from './capacity.ts';
import type { FitMemo } from './fit.ts';
import { admitsEachInTurn, admitterFor } from './inter-pod.ts';
import { countCauses, type Rejection, type Undecided } from './rejection.ts';
import { searchMixed } from './search.ts';

/**
 * Plans a whole group: a node for every rank, all or none.
 *
 * Input: the demands by rank, the topology request, ranks that stay where they are, nodes that may not be used.
 * Idea: per host, how many workers fit, alone and beside the leader; rolled up the tree that tells exactly which
 * domains hold the group (see capacity.ts). The finest level with such a domain wins, so a group never spans more than
 * it must; among its domains the objective decides, and inside the chosen one the fewest sub-domains and hosts are
 * taken. Cost: one pass over hosts and domains, plus a trial assignment for each domain that would do.
 *
 * Exact for groups with at most two distinct demands (a leader's and the workers'). Groups of more kinds, or with terms
 * between their own members, are searched for with a bound and may come back undecided.
 */
export function planGroup(input: PlanInput): GroupPlan | Rejection | Undecided {
  const open = openRanks(input);
  const parts = partitionNodes(input);
  let refusal: Rejection | Undecided | undefined;
  let chosen: Candidate | undefined;
  for (const part of parts) {
    const found = planPart(input, open, part);
    if ('kind' in found) refusal ??= found;
    else if (chosen === undefined || compareCandidates(found, chosen) < 0) chosen = found;
  }
  if (chosen === undefined) return refusal ?? rejectUnlabelled(input);
  const nodes = nodesByRank(input, open, chosen);
  if (!admitsEachInTurn(input, nodes)) {
    return {
      kind: 'undecided',
      reason: 'the inter-pod affinity between its own members could not be satisfied',
    };
  }
  return { kind: 'plan', nodes, level: chosen.domain.level, domain: chosen.domain.path };
}

export interface PlanInput {
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
  readonly snapshot: ClusterSnapshot;
  readonly memo: FitMemo;
  /** Ranks that already have a node and keep it. Their use is part of the snapshot. */
  readonly fixed?: ReadonlyMap<number, string>;
  /** Node name to the reason why this group may not use it. */
  readonly excludedNodes?: ReadonlyMap<string, string>;
}

export interface GroupPlan {
  readonly kind: 'plan';
  /** Node name by rank. */
  readonly nodes: readonly string[];
  /** The level of the smallest domain that holds the whole group; the number of levels for a single host. */
  readonly level: number;
  readonly domain: readonly string[];
}

export interface OpenRanks {
  readonly leader: MemberDemand | undefined;
  /** Ranks of workers to place, ascending. */
  readonly workerRanks: readonly number[];
  /** The one demand all of them share; undefined when there are none or when they differ. */
  readonly worker: MemberDemand | undefined;
  readonly mixed: boolean;
}

interface Candidate {
  readonly domain: TopologyDomain;
  readonly shares: readonly HostShare[];
  /** Smaller is better, element by element. */
  readonly score: readonly number[];
  /** Node index by rank, where members differ and counts per host say too little. */
  readonly nodeByRank?: ReadonlyMap<number, number>;
}

/** Node indices that may be used together; undefined stands for all of them. */
export type Part = ReadonlySet<number> | undefined;

export function openRanks(input: PlanInput): OpenRanks {
  const fixed = input.fixed ?? new Map<number, string>();
  const leader = fixed.has(0) ? undefined : input.demands[0];
  const workerRanks: number[] = [];
  const kinds = new Map<string, MemberDemand>();
  input.demands.forEach((demand, rank) => {
    if (rank === 0 || fixed.has(rank)) return;
    workerRanks.push(rank);
    kinds.set(demand.key, demand);
  });
  const worker = kinds.size === 1 ? [...kinds.values()][0] : undefined;
  return { leader, workerRanks, worker, mixed: kinds.size > 1 };
}

/**
 * Splits the nodes by the labels on which all members must agree. Nodes without such a label are in no part, and with
 * members that stay only their part counts.
 */
export function partitionNodes(input: PlanInput): readonly Part[] {
  const { topology, snapshot, fixed } = input;
  if (topology.sameLabels.length === 0) return [undefined];
  const parts = new Map<string, Set<number>>();
  snapshot.nodes.forEach((node, index) => {
    const values = topology.sameLabels.map(label => node.record.labels[label]);
    if (values.includes(undefined)) return;
    const key = JSON.stringify(values);
    const part = parts.get(key) ?? new Set();
    parts.set(key, part.add(index));
  });
  const kept = [...(fixed?.values() ?? [])].map(name => snapshot.tree.indexByNodeName.get(name) ?? -1);
  return [...parts]
    .sort(([a], [b]) => compareText(a, b))
    .map(([, part]) => part)
    .filter(part => kept.every(index => part.has(index)));
}

function planPart(input: PlanInput, open: OpenRanks, part: Part): Candidate | Rejection | Undecided {
  const { tree } = input.snapshot;
  const survey = surveyHosts(input, open, part);
  const capacity = rollUp(tree, survey.room, open.workerRanks.length);
  const required = input.topology.requiredLevel ?? -1;
  let undecided: Undecided | undefined;
  for (let level = tree.levels.length; level >= required; level--) {
    const domains = candidateDomains(input, level);
    const found = open.mixed
      ? firstMixed(input, domains, capacity, survey.usable)
      : bestCandidate(capacity, domains, open);
    if (found === undefined) continue;
    if (!('kind' in found)) return found;
    undecided ??= found;
  }
  return undecided ?? reject(input, open, capacity, survey.causes);
}

/** Domains of a level (the whole cluster above the coarsest) that contain every member that stays. */
export function candidateDomains(input: PlanInput, level: number): readonly TopologyDomain[] {
  const { tree } = input.snapshot;
  const domains = level < 0 ? [tree.root] : (tree.domainsByLevel[level] ?? []);
  if (input.fixed === undefined || input.fixed.size === 0) return domains;
  const kept = [...input.fixed.values()].map(name => tree.indexByNodeName.get(name));
  return domains.filter(domain => kept.every(index => index !== undefined && contains(domain, index)));
}

/** A domain's nodes are a run of consecutive indices, for the tree is built in topology order. */
function contains(domain: TopologyDomain, node: number): boolean {
  return node >= (domain.nodes[0] ?? 0) && node <= (domain.nodes.at(-1) ?? -1);
}

function bestCandidate(
  capacity: Capacity,
  domains: readonly TopologyDomain[],
  open: OpenRanks,
): Candidate | undefined {
  let chosen: Candidate | undefined;
  for (const domain of domains) {
    if (!holds(capacity, domain, open.workerRanks.length, open.leader !== undefined)) continue;
    const shares = assignWithin(capacity, domain, open.workerRanks.length, open.leader !== undefined);
    const candidate = { domain, shares, score: scoreCandidate(capacity, domain, shares) };
    if (chosen === undefined || compareCandidates(candidate, chosen) < 0) chosen = candidate;
  }
  return chosen;
}

/** Members of several kinds: the domains in order of preference, the first that holds them. */
function firstMixed(
  input: PlanInput,
  domains: readonly TopologyDomain[],
  capacity: Capacity,
  usable: Uint8Array,
): Candidate | Undecided | undefined {
  const { snapshot, memo, fixed } = input;
  const members = input.demands.flatMap((demand, rank) => (fixed?.has(rank) ? [] : [{ rank, demand }]));
  const admitters = new Map(members.map(({ demand }) => [demand.key, admitterFor(input, demand)]));
  function admits(demand: MemberDemand, node: number): boolean {
    const labels = snapshot.nodes[node]?.record.labels;
    return usable[node] === 1 && labels !== undefined && admitters.get(demand.key)?.(labels) === '';
  }
  let undecided: Undecided | undefined;
  for (const domain of [...domains].sort((a, b) => compareDomains(capacity, a, b))) {
    const found = searchMixed({ snapshot, memo, domain, members, admits });
    if (found === undefined) continue;
    if ('kind' in found) undecided ??= found;
    else return { domain, shares: [], score: [], nodeByRank: found };
  }
  return undecided;
}

/**
 * The objective, in order: fewest domains on each level below the candidate's; least damage (do not open a whole
 * domain of any level while an opened one does, and leave the roomier ones alone); fewest hosts. Ties go by name.
 */
function scoreCandidate(
  capacity: Capacity,
  domain: TopologyDomain,
  shares: readonly HostShare[],
): readonly number[] {
  const spans: number[] = [];
  const hostLevel = shares[0]?.host.level ?? domain.level;
  for (let level = domain.level + 1; level < hostLevel; level++) {
    spans.push(new Set(shares.map(share => ancestorAt(share.host, level))).size);
  }
  const damage: number[] = [];
  for (let at: TopologyDomain | undefined = domain; at !== undefined; at = at.parent) {
    damage.push(capacity.whole[at.index] ?? 0);
  }
  for (let at: TopologyDomain | undefined = domain; at !== undefined; at = at.parent) {
    damage.push(capacity.slots[at.index] ?? 0);
  }
  return [...spans, ...damage, shares.length];
}

function compareCandidates(a: Candidate, b: Candidate): number {
  const levels = b.domain.level - a.domain.level;
  if (levels !== 0) return levels;
  for (let i = 0; i < a.score.length; i++) {
    const order = (a.score[i] ?? 0) - (b.score[i] ?? 0);
    if (order !== 0) return order;
  }
  return compareText(a.domain.id, b.domain.id);
}

function ancestorAt(domain: TopologyDomain, level: number): TopologyDomain {
  let at = domain;
  while (at.level > level && at.parent !== undefined) at = at.parent;
  return at;
}

export interface HostSurvey {
  readonly room: HostRoom;
  /** 1 where the group may use the node at all. */
  readonly usable: Uint8Array;
  readonly causes: { readonly leader: readonly string[]; readonly workers: readonly string[] };
}

/** Asks every host what it takes. Nodes outside the part count as not there. */
export function surveyHosts(input: PlanInput, open: OpenRanks, part: Part): HostSurvey {
  const { snapshot, memo, excludedNodes } = input;
  const count = snapshot.nodes.length;
  const room: HostRoom = {
    workerSlots: new Int32Array(count),
    slotsBesideLeader: new Int32Array(count).fill(-1),
    untouched: new Uint8Array(count),
  };
  const usable = new Uint8Array(count);
  const causes = { leader: [] as string[], workers: [] as string[] };
  const admitsLeader = admitterFor(input, open.leader);
  const admitsWorker = admitterFor(input, open.worker);
  snapshot.nodes.forEach((node, index) => {
    room.untouched[index] = node.untouched ? 1 : 0;
    if (part !== undefined && !part.has(index)) return;
    const excluded = excludedNodes?.get(node.record.name);
    if (excluded !== undefined) {
      causes.leader.push(excluded);
      causes.workers.push(excluded);
      return;
    }
    usable[index] = 1;
    const worker = open.worker && memo.fit(node, open.worker);
    const workerCause = worker?.cause || (worker && admitsWorker(node.record.labels));
    if (worker !== undefined && workerCause === '') room.workerSlots[index] = worker.slots;
    if (workerCause) causes.workers.push(workerCause);
    if (open.leader === undefined) return;
    const leaderCause = memo.fit(node, open.leader).cause || admitsLeader(node.record.labels);
    if (leaderCause !== '') {
      causes.leader.push(leaderCause);
      return;
    }
    const beside = open.worker && workerCause === '' ? memo.slotsBeside(node, open.leader, open.worker) : 0;
    room.slotsBesideLeader[index] = Math.max(beside, 0);
  });
  return { room, usable, causes };
}

function reject(
  input: PlanInput,
  open: OpenRanks,
  capacity: Capacity,
  causes: HostSurvey['causes'],
): Rejection {
  const { tree } = input.snapshot;
  const level = input.topology.requiredLevel ?? -1;
  const withLeader = open.leader !== undefined;
  const workers = open.workerRanks.length;
  const domains = candidateDomains(input, level);
  const kept = input.fixed?.size ?? 0;
  const room = domains.map(domain => roomFor(capacity, domain, workers, withLeader));
  const leaderHasNoHost = withLeader && capacity.leaderLoss[tree.root.index] === Number.POSITIVE_INFINITY;
  const leaderAlike = open.leader?.key === open.worker?.key;
  const about =
    leaderHasNoHost && !leaderAlike
      ? 'leader'
      : open.worker === undefined || leaderAlike
        ? 'members'
        : 'workers';
  const counted = countCauses(
    about === 'leader' || open.worker === undefined ? causes.leader : causes.workers,
  );
  const lasting = counted.filter(c => !isPassing(c.cause)).reduce((sum, c) => sum + c.nodes, 0);
  return {
    kind: 'rejection',
    code: lasting === input.snapshot.nodes.length || domains.length === 0 ? 'NoNodeMatches' : 'NoRoom',
    level,
    domains: domains.length,
    bestRoom: kept + Math.max(0, ...room),
    size: input.demands.length,
    nodes: input.snapshot.nodes.length,
    causes: counted,
    about,
  };
}

/** Causes that end by themselves when others end. */
function isPassing(cause: string): boolean {
  return !cause.startsWith('taint') && !cause.startsWith('node selector');
}

/** No node carries the labels on which all members must agree. */
function rejectUnlabelled(input: PlanInput): Rejection {
  const labels = input.topology.sameLabels.join(', ');
  return {
    kind: 'rejection',
    code: 'NoNodeMatches',
    level: input.topology.requiredLevel ?? -1,
    domains: 0,
    bestRoom: 0,
    size: input.demands.length,
    nodes: input.snapshot.nodes.length,
    causes: [{ cause: `without node label ${labels}`, nodes: input.snapshot.nodes.length }],
    about: 'members',
  };
}

/**
 * Gives ranks to hosts. The leader's host comes first, then the others in topology order starting from the leader's
 * neighbours, so that ranks that talk most sit closest.
 */
function nodesByRank(input: PlanInput, open: OpenRanks, chosen: Candidate): readonly string[] {
  const { tree } = input.snapshot;
  const nodes = input.demands.map((_, rank) => input.fixed?.get(rank) ?? '');
  for (const [rank, node] of chosen.nodeByRank ?? []) nodes[rank] = tree.nodeNames[node] ?? '';
  if (chosen.nodeByRank !== undefined) return nodes;
  const leaderShare = chosen.shares.find(share => share.leader);
  const leaderHost = leaderShare?.host ?? hostOf(tree, input.fixed?.get(0));
  if (leaderShare !== undefined) nodes[0] = nameOf(tree, leaderShare.host);
  const ordered = [...chosen.shares].sort(
    (a, b) =>
      commonLevels(b.host, leaderHost) - commonLevels(a.host, leaderHost) || compareNodes(a.host, b.host),
  );
  const places = ordered.flatMap(share =>
    Array.from({ length: share.workers }, () => nameOf(tree, share.host)),
  );
  open.workerRanks.forEach((rank, i) => {
    nodes[rank] = places[i] ?? '';
  });
  return nodes;
}

function hostOf(tree: TopologyTree, name: string | undefined): TopologyDomain | undefined {
  const index = name === undefined ? undefined : tree.indexByNodeName.get(name);
  return tree.domainsByLevel[tree.levels.length]?.find(host => host.nodes[0] === index);
}

/** How many elements of the path two hosts share; all of them when they are one. */
function commonLevels(host: TopologyDomain, other: TopologyDomain | undefined): number {
  if (other === undefined) return 0;
  let common = 0;
  while (common < host.path.length && host.path[common] === other.path[common]) common++;
  return common;
}

function compareNodes(a: TopologyDomain, b: TopologyDomain): number {
  return (a.nodes[0] ?? 0) - (b.nodes[0] ?? 0);
}

function nameOf(tree: TopologyTree, host: TopologyDomain): string {
  return tree.nodeNames[host.nodes[0] ?? 0] ?? '';
}
