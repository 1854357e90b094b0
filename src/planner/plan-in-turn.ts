import { fits, subtractResources } from '../cluster/resources.ts';
import type { TopologyDomain } from '../cluster/topology.ts';
import type { SpreadCheck } from '../cluster/topology-spread.ts';
import type { MemberDemand } from '../group/demand.ts';
import { barsOf, type Part, partsOf } from './bars.ts';
import { demandOn } from './device-fit.ts';
import { admitsEachInTurn, keepApartOver } from './inter-pod.ts';
import { portsClash } from './node-fit.ts';
import type { GroupPlan } from './plan.ts';
import { keptNodes, openRanks, type PlanInput } from './plan-input.ts';
import { spreadCheckOf } from './pod-spread.ts';
import { type Rejection, rejectMixed, type Undecided } from './rejection.ts';
import { offerAt, type Room, roomOf } from './room.ts';
import { slotsOf } from './rules.ts';

/** Hosts that are tried at most; a full assignment counts for as many as it takes to hold its members against each other. */
const mostTrials = 60_000;

interface Walk {
  readonly input: PlanInput;
  readonly ranks: readonly number[];
  /** By key of a demand the hosts that take it as far as everybody else goes. */
  readonly rooms: ReadonlyMap<string, Room>;
  readonly spreads: ReadonlyMap<string, SpreadCheck | undefined>;
  /** Node index by rank; -1 while it has none. */
  readonly placed: number[];
  trials: number;
}

/**
 * Plans a group whose members have terms about each other that counting could not satisfy: tries one assignment after the
 * other, on the finest level first. Exact where it comes to an end, which it does for small groups; else undecided.
 */
export function planInTurn(input: PlanInput): GroupPlan | Rejection | Undecided {
  const assumed = { ...input, affinityAssumed: true };
  const bars = barsOf(input);
  const { ranks } = openRanks(input);
  const kinds = new Map(ranks.flatMap(rank => input.demands[rank] ?? []).map(demand => [demand.key, demand]));
  const roomFor = (worker: MemberDemand) =>
    roomOf(slotsOf(assumed, { leader: undefined, worker }).index, bars);
  const rooms = new Map([...kinds].map(([key, demand]) => [key, roomFor(demand)]));
  const spreads = new Map([...kinds].map(([key, demand]) => [key, spreadCheckOf(input.snapshot, demand)]));
  const { indexByNodeName } = input.snapshot.tree;
  const placed = input.demands.map((_, rank) => indexByNodeName.get(input.fixed?.get(rank) ?? '') ?? -1);
  const walk: Walk = { input, ranks, rooms, spreads, placed, trials: mostTrials };
  for (const domain of domainsOf(input)) {
    for (const part of partsOf(input)) {
      if (!place(walk, domain, part, 0)) continue;
      const nodes = placed.map(node => input.snapshot.tree.nodeNames[node] ?? '');
      return { kind: 'plan', nodes, level: domain.level, domain: domain.path };
    }
  }
  if (walk.trials > 0) return rejectMixed(input, [...rooms.values()], requiredDomains(input));
  return {
    kind: 'undecided',
    reason: 'the inter-pod affinity between its own members could not be satisfied',
  };
}

/** Domains with all members that stay, inside a named one of the required level: the finest level first. */
function* domainsOf(input: PlanInput): Iterable<TopologyDomain> {
  const { tree } = input.snapshot;
  const required = input.topology.requiredLevel ?? -1;
  const kept = [...keptNodes(input)];
  for (let level = tree.levels.length; level >= required; level--)
    for (const domain of level < 0 ? [tree.root] : (tree.domainsByLevel[level] ?? []))
      if (kept.every(node => domain.nodes.includes(node)) && isInNamed(domain, required)) yield domain;
}

function requiredDomains(input: PlanInput): readonly number[] {
  const required = input.topology.requiredLevel ?? -1;
  return [...domainsOf(input)].filter(({ level }) => level === required).map(({ index }) => index);
}

function isInNamed(domain: TopologyDomain, level: number): boolean {
  let at: TopologyDomain | undefined = domain;
  while (at !== undefined && at.level > level) at = at.parent;
  return at?.path.at(-1) !== '';
}

function place(walk: Walk, domain: TopologyDomain, part: Part, at: number): boolean {
  const { input, ranks, placed } = walk;
  const rank = ranks[at];
  if (rank === undefined) {
    walk.trials -= ranks.length ** 2;
    return admitsEachInTurn(
      input,
      placed.map(node => input.snapshot.tree.nodeNames[node] ?? ''),
    );
  }
  // Members that are alike could change places, so only one order of them is tried.
  const first = placed[twinOf(walk, at) ?? -1] ?? 0;
  for (const node of domain.nodes) {
    if (node < first) continue;
    if (walk.trials-- <= 0) return false;
    if (part?.has(node) === false || !takes(walk, rank, node)) continue;
    placed[rank] = node;
    if (place(walk, domain, part, at + 1)) return true;
    placed[rank] = -1;
  }
  return false;
}

/** The last rank before that asks for the same and is in the same slice. */
function twinOf({ input, ranks }: Walk, at: number): number | undefined {
  const { demands, topology } = input;
  const rank = ranks[at] ?? -1;
  const sliceOf = (of: number) => topology.slices?.ranks.findIndex(slice => slice.includes(of));
  const isTwin = (other: number) =>
    demands[other]?.key === demands[rank]?.key && sliceOf(other) === sliceOf(rank);
  return ranks.slice(0, at).findLast(isTwin);
}

/** Whether a host takes one more member beside those that it was given, and the member's slice allows it. */
function takes(walk: Walk, rank: number, node: number): boolean {
  const { input, ranks, rooms, placed } = walk;
  const demand = input.demands[rank];
  const room = rooms.get(demand?.key ?? '');
  if (demand === undefined || room === undefined || (offerAt(room, node)?.workers ?? 0) === 0) return false;
  const beside = ranks.flatMap(other => (placed[other] === node ? (input.demands[other] ?? []) : []));
  if (beside.some(({ hostPorts }) => portsClash(demand.hostPorts, hostPorts))) return false;
  const info = input.snapshot.nodes.at(node);
  if (info === undefined) return false;
  const left = beside.reduce(
    (rest, other) => subtractResources(rest, demandOn(info, other).requests),
    info.free,
  );
  if (!fits(left, demandOn(info, demand).requests) || isRepelled(walk, demand, node)) return false;
  if (input.together?.fits(info, [...beside, demand]) === false) return false;
  return isAllowedBySlices(walk, rank, node) && maySpread(walk, rank, node);
}

/**
 * Whether spread constraints leave one more member of its kind to the node's domain, wherever the others go: the last of
 * the kind to come there finds all the others of it.
 */
function maySpread({ input, ranks, spreads, placed }: Walk, rank: number, node: number): boolean {
  const { demands, snapshot } = input;
  const key = demands[rank]?.key ?? '';
  const check = spreads.get(key);
  const labels = snapshot.nodes.at(node)?.record.labels;
  if (check === undefined || labels === undefined) return true;
  const isBeside = (other: number) => demands[other]?.key === key && (placed[other] ?? -1) >= 0;
  const alike = ranks.filter(isBeside).map(other => {
    const nodeName = snapshot.tree.nodeNames[placed[other] ?? -1] ?? '';
    return { ...podOf(demands[other]), nodeName, terminating: false };
  });
  const others = ranks
    .filter(other => other !== rank && !isBeside(other))
    .map(other => podOf(demands[other]));
  return check.withPlaced(alike).withCompanions(others).admits(labels) === true;
}

function podOf(demand: MemberDemand | undefined): Pick<MemberDemand, 'namespace' | 'labels'> {
  return { namespace: demand?.namespace ?? '', labels: demand?.labels ?? {} };
}

/** Anti-affinity between members holds in whatever order they come, so it is asked about at once. */
function isRepelled(
  { input: { snapshot, demands }, ranks, placed }: Walk,
  demand: MemberDemand,
  node: number,
): boolean {
  const labelsOf = (at: number) => snapshot.nodes.at(at)?.record.labels ?? {};
  const newcomer = { demand, nodeLabels: labelsOf(node) };
  return ranks.some(rank => {
    const [other, at] = [demands[rank], placed[rank] ?? -1];
    if (other === undefined || at < 0) return false;
    return keepApartOver(snapshot, newcomer, { demand: other, nodeLabels: labelsOf(at) });
  });
}

function isAllowedBySlices({ input, placed }: Walk, rank: number, node: number): boolean {
  const { slices } = input.topology;
  if (slices === undefined || placed.length === 1) return true;
  const own = slices.ranks.find(slice => slice.includes(rank));
  if (own === undefined) return true;
  const domains = input.snapshot.tree.domainsByLevel[slices.level] ?? [];
  const domain = domains.find(({ nodes }) => nodes.includes(node));
  if (domain === undefined) return false;
  const isInside = (other: number) => domain.nodes.includes(placed[other] ?? -1);
  const isPlaced = (other: number) => (placed[other] ?? -1) >= 0;
  if (!own.filter(isPlaced).every(isInside)) return false;
  return !slices.apart || !slices.ranks.some(slice => slice !== own && slice.some(isInside));
}
