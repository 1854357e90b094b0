import type { NodeInfo } from '../cluster/node-info.ts';
import { compareText, type TopologyDomain, type TopologyTree } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import { assignWithin, compareDomains, type HostShare } from './assign.ts';
import { type Capacity, holds, rollUp, rollUpPart, roomFor } from './capacity.ts';
import { admitsEachInTurn, keepApartOnHost, ownAffinityKeys } from './inter-pod.ts';
import { type Rejection, reject, type Shortfall, type Undecided } from './rejection.ts';
import { type SearchBudget, searchBudget, searchMixed, weightOf } from './search.ts';
import {
  admittersOf,
  candidateDomains,
  fixedNodes,
  type HostSurvey,
  type OpenRanks,
  openRanks,
  type Part,
  type PlanInput,
  partitionNodes,
  surveyHosts,
} from './survey.ts';

export type { PlanInput } from './survey.ts';

export interface GroupPlan {
  readonly kind: 'plan';
  /** Node name by rank. */
  readonly nodes: readonly string[];
  /** The level of the smallest domain that holds the whole group; the number of levels for a single host. */
  readonly level: number;
  readonly domain: readonly string[];
}

interface Candidate {
  readonly kind: 'candidate';
  readonly domain: TopologyDomain;
  readonly shares: readonly HostShare[];
  /** Smaller is better, element by element. */
  readonly score: readonly number[];
  /** Node index by rank, where members differ and counts per host say too little. */
  readonly nodeByRank?: ReadonlyMap<number, number>;
}

type Miss = Shortfall & { readonly kind: 'miss' };

/** What is worked out once and asked by every part. */
interface Question {
  readonly input: PlanInput;
  readonly open: OpenRanks;
  readonly survey: HostSurvey;
  /** Room without regard to parts. */
  readonly all: Capacity;
  readonly budget: SearchBudget;
}

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
  const first = planOnce(input);
  if (first.kind !== 'rejection') return first;
  const keys = ownAffinityKeys(input);
  if (keys.length === 0) return first;
  // Hosts were asked about each member alone, which refused those that want to be near other members. Members that
  // agree on the label are near each other by all means; without that wish a refusal is sure, and only then.
  const assumed = { ...input, affinityAssumed: true };
  const sameLabels = [...new Set([...input.topology.sameLabels, ...keys])];
  const together = planOnce({ ...assumed, topology: { ...input.topology, sameLabels } });
  if (together.kind === 'plan') return together;
  const relaxed = planOnce(assumed);
  return relaxed.kind === 'rejection' ? first : relaxed;
}

function planOnce(input: PlanInput): GroupPlan | Rejection | Undecided {
  const open = openRanks(input);
  const survey = surveyHosts(input, open);
  const all = rollUp(input.snapshot.tree, survey.room, open.workerRanks.length, fixedNodes(input));
  const question = { input, open, survey, all, budget: searchBudget() };
  let chosen: Candidate | undefined;
  let undecided: Undecided | undefined;
  let shortfall: Shortfall = { domains: 0, bestRoom: open.mixed ? undefined : 0 };
  for (const part of partitionNodes(input)) {
    const found = planPart(question, part);
    if (found.kind === 'undecided') undecided ??= found;
    else if (found.kind === 'miss') shortfall = worse(shortfall, found);
    else if (chosen === undefined || compareCandidates(found, chosen) < 0) chosen = found;
  }
  if (chosen === undefined) return undecided ?? reject(input, open, survey, shortfall);
  const nodes = nodesByRank(input, open, chosen);
  if (admitsEachInTurn(input, nodes))
    return { kind: 'plan', nodes, level: chosen.domain.level, domain: chosen.domain.path };
  return {
    kind: 'undecided',
    reason: 'the inter-pod affinity between its own members could not be satisfied',
  };
}

function planPart(question: Question, part: Part): Candidate | Miss | Undecided {
  const { input, open, survey, all } = question;
  const workers = open.workerRanks.length;
  const { tree } = input.snapshot;
  const capacity = part === undefined ? all : rollUpPart(all, tree, survey.room, workers, part);
  const mixed = open.mixed ? mixedMembers(question, part) : undefined;
  const required = input.topology.requiredLevel ?? -1;
  let undecided: Undecided | undefined;
  for (let level = tree.levels.length; level >= required; level--) {
    const domains = candidateDomains(input, level);
    const found =
      mixed === undefined ? bestCandidate(capacity, domains, open) : firstMixed(question, domains, mixed);
    if (found?.kind === 'candidate') return found;
    undecided ??= found;
  }
  if (undecided !== undefined) return undecided;
  const touched = part === undefined ? undefined : domainsOf(tree, part, required);
  const domains = candidateDomains(input, required).filter(domain => touched?.has(domain) ?? true);
  const rooms = domains.map(domain => roomFor(capacity, domain, workers, open.leader !== undefined));
  return { kind: 'miss', domains: domains.length, bestRoom: open.mixed ? undefined : Math.max(0, ...rooms) };
}

function worse(a: Shortfall, b: Shortfall): Shortfall {
  const bestRoom =
    a.bestRoom === undefined || b.bestRoom === undefined ? undefined : Math.max(a.bestRoom, b.bestRoom);
  return { domains: a.domains + b.domains, bestRoom };
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
    const score = scoreCandidate(capacity, domain, shares);
    const candidate: Candidate = { kind: 'candidate', domain, shares, score };
    if (chosen === undefined || compareCandidates(candidate, chosen) < 0) chosen = candidate;
  }
  return chosen;
}

/** Members that differ, and per kind the room a domain has for that kind alone; the heaviest kind first. */
interface MixedMembers {
  readonly members: readonly { readonly rank: number; readonly demand: MemberDemand }[];
  readonly kinds: readonly { readonly count: number; readonly capacity: Capacity }[];
  readonly admits: (demand: MemberDemand, node: number) => boolean;
}

function mixedMembers({ input, open, survey }: Question, part: Part): MixedMembers {
  const { snapshot, memo, demands } = input;
  const admitters = admittersOf(input, open);
  function admits(demand: MemberDemand, node: number): boolean {
    const labels = snapshot.nodes[node]?.record.labels;
    if (labels === undefined || survey.usable[node] !== 1 || part?.has(node) === false) return false;
    return admitters.get(demand)?.(labels) === '';
  }
  const members = open.ranks.flatMap(rank => {
    const demand = demands[rank];
    return demand === undefined ? [] : [{ rank, demand }];
  });
  const byKey = Map.groupBy(members, ({ demand }) => demand.key);
  const kinds = [...byKey.values()].map(ofKind => {
    const slotsOn = (node: NodeInfo, index: number) =>
      Math.max(0, ...ofKind.map(m => (admits(m.demand, index) ? memo.fit(node, m.demand).slots : 0)));
    const room = { ...survey.room, workerSlots: Int32Array.from(snapshot.nodes, slotsOn) };
    const weight = Math.max(0, ...ofKind.map(({ demand }) => weightOf(demand)));
    const capacity = rollUp(snapshot.tree, room, ofKind.length, fixedNodes(input));
    return { count: ofKind.length, capacity, weight };
  });
  return { members, kinds: kinds.sort((a, b) => b.weight - a.weight), admits };
}

/** The domains in order of preference, the first that holds all members. */
function firstMixed(
  { input, budget }: Question,
  domains: readonly TopologyDomain[],
  { members, kinds, admits }: MixedMembers,
): Candidate | Undecided | undefined {
  const { snapshot, memo } = input;
  const [heaviest] = kinds;
  if (heaviest === undefined) return undefined;
  const apart = (a: MemberDemand, b: MemberDemand, node: number) =>
    keepApartOnHost(snapshot, a, b)(snapshot.nodes[node]?.record.labels ?? {});
  let undecided: Undecided | undefined;
  const able = domains.filter(domain =>
    kinds.every(({ count, capacity }) => holds(capacity, domain, count, false)),
  );
  for (const domain of able.sort((a, b) => compareDomains(heaviest.capacity, a, b))) {
    const found = searchMixed({ snapshot, memo, domain, members, admits, apart, budget });
    if (found === undefined) continue;
    if ('kind' in found) undecided ??= found;
    else return { kind: 'candidate', domain, shares: [], score: [], nodeByRank: found };
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

function domainsOf(tree: TopologyTree, nodes: Iterable<number>, level: number): ReadonlySet<TopologyDomain> {
  const hosts = tree.domainsByLevel[tree.levels.length] ?? [];
  return new Set([...nodes].map(node => ancestorAt(hosts[node] ?? tree.root, level)));
}

function ancestorAt(domain: TopologyDomain, level: number): TopologyDomain {
  let at = domain;
  while (at.level > level && at.parent !== undefined) at = at.parent;
  return at;
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
