import { fits, type Resources } from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { TopologyDomain } from '../cluster/topology.ts';
import { freeOf } from './device-fit.ts';
import { type SearchBudget, withAllowance } from './mixed-budget.ts';
import { type HostQuestions, type MixedHosts, surveyMixedHosts } from './mixed-hosts.ts';
import { pack } from './mixed-pack.ts';
import type { HostClass, HostLoad, MemberKind } from './mixed-packing.ts';
import { rosterOf, type SearchMember } from './mixed-roster.ts';
import { type PartLoad, packSlices, type SlicedPacking } from './mixed-slices.ts';
import type { Undecided } from './rejection.ts';

export { type SearchBudget, searchBudget } from './mixed-budget.ts';
export { type SearchMember, weightOf } from './mixed-roster.ts';

export interface SearchOptions extends HostQuestions {
  readonly domain: TopologyDomain;
  /** Ranks to place, with what they ask for. Give the same array for each domain: it is summed up once. */
  readonly members: readonly SearchMember[];
  readonly budget: SearchBudget;
  /** Ranks that are to be together; a member in none of them goes anywhere in the domain. */
  readonly slices?: readonly (readonly number[])[];
  /** Domains inside `domain`, without a node in common, one of which holds each slice whole. */
  readonly sliceDomains?: readonly TopologyDomain[];
  /** No two slices in one of them. */
  readonly apartSlices?: boolean;
}

/** Steps per domain before the search gives up on it. */
const trialsPerDomain = 300_000;
/** Questions to hosts per domain; beyond, the members are of too many sorts to be searched for. */
const questionsPerDomain = 500_000;

/**
 * Places members that differ from one another in one domain: a node index by rank. Undefined when the domain cannot hold
 * them.
 *
 * Members and hosts that are alike are counted, not told apart; packing counts is left to mixed-pack.ts, and slices to
 * mixed-slices.ts. A placement and a refusal are both exact, as far as rules on one host go; a search that is cut off
 * says so. Of the placements one with the fewest hosts is taken, then one that opens the fewest that no pod uses yet,
 * then the hosts that come first; with slices the fewest of their domains come before all that. Where the budget ends
 * after a placement is found, it may use more hosts than need be.
 */
export function searchMixed(options: SearchOptions): ReadonlyMap<number, number> | Undecided | undefined {
  const { domain, members, budget } = options;
  const roster = rosterOf(members);
  if (!hasEnoughInAll(options.snapshot, domain, roster.need)) return undefined;
  // Whether two repel each other is a quicker question than whether one fits.
  const questions = Math.ceil(domain.nodes.length * roster.variants.length * (1 + roster.wary / 4));
  if (questions > Math.min(questionsPerDomain, budget.trials))
    return undecided(
      `members of ${roster.variants.length} sorts are too many to be tried on ${domain.nodes.length} nodes`,
    );
  budget.trials -= questions;
  const hosts = surveyMixedHosts(options, roster, domain.nodes);
  const placed = withAllowance(budget, trialsPerDomain, part =>
    options.slices === undefined ? placeAll(hosts, domain, part) : placeSlices(options, hosts, part),
  );
  if (placed === 'impossible') return undefined;
  if (placed !== 'cut off') return placed;
  return undecided(
    'no placement found within the bounds of the search for members that differ from one another',
  );
}

type Placed = ReadonlyMap<number, number> | 'impossible' | 'cut off';

function placeAll(
  { kinds, classesAmong }: MixedHosts,
  { nodes }: TopologyDomain,
  budget: SearchBudget,
): Placed {
  const classes = classesAmong(nodes);
  const packed = pack({ kinds, counts: kinds.map(({ ranks }) => ranks.length), classes }, budget);
  if (typeof packed === 'string') return packed;
  const nodeByRank = new Map<number, number>();
  dealRanks(
    nodeByRank,
    nodesByKind(classes, packed.loads, kinds),
    kinds.map(({ ranks }) => ranks),
  );
  return nodeByRank;
}

function placeSlices(
  options: SearchOptions,
  { kinds, classesAmong }: MixedHosts,
  budget: SearchBudget,
): Placed {
  const { domain, slices = [], sliceDomains = [], apartSlices = false } = options;
  const inParts = new Set(sliceDomains.flatMap(({ nodes }) => nodes));
  const ranksOf = ranksPerSlice(kinds, slices);
  const sliced: SlicedPacking = {
    kinds,
    slices: slices.map((_, slice) => ranksOf(slice).map(ranks => ranks.length)),
    free: ranksOf(undefined).map(ranks => ranks.length),
    parts: sliceDomains.map(({ nodes }) => classesAmong(nodes)),
    rest: classesAmong(domain.nodes.filter(node => !inParts.has(node))),
    apart: apartSlices,
  };
  const loads = packSlices(sliced, budget);
  return typeof loads === 'string' ? loads : dealSlices(sliced, loads, ranksOf);
}

/** Ranks of a slice by kind, or of the members in none. */
type RanksOf = (slice: number | undefined) => readonly (readonly number[])[];

function ranksPerSlice(kinds: readonly MemberKind[], slices: readonly (readonly number[])[]): RanksOf {
  const sliceOf = new Map(slices.flatMap((ranks, slice) => ranks.map(rank => [rank, slice] as const)));
  const bySlice = kinds.map(({ ranks }) => Map.groupBy(ranks, rank => sliceOf.get(rank)));
  return slice => bySlice.map(ofKind => ofKind.get(slice) ?? []);
}

function dealSlices(
  { kinds, parts, rest }: SlicedPacking,
  loads: readonly PartLoad[],
  ranksOf: RanksOf,
): Placed {
  const nodeByRank = new Map<number, number>();
  const freeRanks = ranksOf(undefined).map(ranks => [...ranks]);
  for (const { part, slices, free, packed } of loads) {
    const nodes = nodesByKind(parts[part] ?? rest, packed.loads, kinds);
    for (const slice of slices) dealRanks(nodeByRank, nodes, ranksOf(slice));
    dealRanks(
      nodeByRank,
      nodes,
      free.map((count, kind) => freeRanks[kind]?.splice(0, count) ?? []),
    );
  }
  return nodeByRank;
}

/** By kind, the node of each place in topology order; of hosts that are alike, the first ones get the first ranks. */
function nodesByKind(
  classes: readonly HostClass[],
  loads: readonly HostLoad[],
  kinds: readonly MemberKind[],
): number[][] {
  const used = classes.map(() => 0);
  const firstRanksFirst = [...kinds.keys()].sort((a, b) => firstRank(kinds[a]) - firstRank(kinds[b]));
  const inOrder = [...loads].sort((a, b) => {
    const kind = firstRanksFirst.find(kind => a.take[kind] !== b.take[kind]) ?? 0;
    return (b.take[kind] ?? 0) - (a.take[kind] ?? 0);
  });
  const places = inOrder.map(({ hostClass, take }) => {
    const node = classes[hostClass]?.nodes[used[hostClass] ?? 0] ?? -1;
    used[hostClass] = (used[hostClass] ?? 0) + 1;
    return { node, take };
  });
  places.sort((a, b) => a.node - b.node);
  const nodes: number[][] = kinds.map(() => []);
  for (const { node, take } of places) {
    take.forEach((members, kind) => {
      for (let i = 0; i < members; i++) nodes[kind]?.push(node);
    });
  }
  return nodes;
}

function firstRank(kind: MemberKind | undefined): number {
  return kind?.ranks[0] ?? 0;
}

/** Gives ranks to places, both in order, and takes the places off the lists. Loads may have more places than ranks. */
function dealRanks(
  nodeByRank: Map<number, number>,
  nodes: readonly number[][],
  ranksByKind: readonly (readonly number[])[],
): void {
  ranksByKind.forEach((ranks, kind) => {
    const places = nodes[kind]?.splice(0, ranks.length) ?? [];
    ranks.forEach((rank, i) => {
      nodeByRank.set(rank, places[i] ?? -1);
    });
  });
}

/** Most refusals are plain want of room, which no host need be asked about. */
function hasEnoughInAll(snapshot: ClusterSnapshot, { nodes }: TopologyDomain, need: Resources): boolean {
  const free = new Map<string, number>();
  for (const node of nodes) {
    const info = snapshot.nodes.at(node);
    if (info === undefined) continue;
    for (const name of need.keys()) free.set(name, (free.get(name) ?? 0) + Math.max(0, freeOf(info, name)));
  }
  return fits(free, need);
}

function undecided(reason: string): Undecided {
  return { kind: 'undecided', reason };
}
