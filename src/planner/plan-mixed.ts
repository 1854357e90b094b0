import type { TopologyDomain } from '../cluster/topology.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';
import { barsOf, type Part, partsOf } from './bars.ts';
import { candidatesOf, type DomainQuestion, hostsParents } from './candidates.ts';
import { type SlicedMembers, sliceDomainsIn, slicedMembers } from './confined-slices.ts';
import { siblingsOf } from './group-room.ts';
import { isUnruled, keepApartOnHost } from './inter-pod.ts';
import { domainTerms, leastBy, standardObjective } from './objective.ts';
import type { GroupPlan } from './plan.ts';
import { keptNodes, type OpenRanks, type PlanInput } from './plan-input.ts';
import { type Rejection, rejectMixed, type Undecided } from './rejection.ts';
import { offerAt, type Room, roomOf, workersIn } from './room.ts';
import { slotsOf } from './rules.ts';
import { type SearchBudget, searchBudget, searchMixed, weightOf } from './search.ts';
import { type Spreading, spreadingOf } from './spread-over.ts';

/** Members that ask for the same, with the room there is for them alone. */
interface Kind {
  readonly demand: MemberDemand;
  /** Of all its members. */
  readonly alike: readonly MemberDemand[];
  readonly spreading: Spreading;
}

interface MixedQuestion {
  readonly input: PlanInput;
  readonly sliced: SlicedMembers;
  /** The heaviest first; at least one. */
  readonly kinds: readonly [Kind, ...Kind[]];
  readonly budget: SearchBudget;
}

/**
 * Plans a group whose workers differ, or whose slices do: domain by domain in the order of preference, each held against
 * the room there is for every kind alone before it is searched.
 */
export function planMixed(input: PlanInput, open: OpenRanks): GroupPlan | Rejection | Undecided {
  const sliced = slicedMembers(input, open);
  const bars = barsOf(input);
  const kinds = kindsOf(input, sliced?.members ?? [], bars);
  if (sliced === undefined || kinds === undefined) return rejectMixed(input, [], []);
  const question = { input, sliced, kinds, budget: searchBudget() };
  const parts = partsOf(input);
  let undecided: Undecided | undefined;
  const required = input.topology.requiredLevel ?? -1;
  for (let level = input.snapshot.tree.levels.length; level >= required; level--) {
    for (const domain of inOrder(question, level)) {
      for (const part of parts) {
        const found = searchDomain(question, domain, part);
        if (found === undefined) continue;
        if ('kind' in found) undecided ??= found;
        else return planOf(input, domain, found);
      }
    }
  }
  return (
    undecided ??
    rejectMixed(
      input,
      kinds.map(({ spreading }) => spreading.room),
      candidatesOf(heaviest(question), required),
    )
  );
}

function kindsOf(
  input: PlanInput,
  members: readonly { readonly demand: MemberDemand }[],
  bars: ReadonlyMap<number, string>,
): MixedQuestion['kinds'] | undefined {
  const kept = keptNodes(input);
  // The anti-affinity of others may tell members apart, by their labels, that ask for the same.
  const kindOf = isUnruled(input) ? (demand: MemberDemand) => demand.key : interPodKeyOf;
  const kinds = [...Map.groupBy(members, ({ demand }) => kindOf(demand)).values()].flatMap(alike => {
    const demand = alike[0]?.demand;
    if (demand === undefined) return [];
    const room = roomOf(slotsOf(input, { leader: undefined, worker: demand }).index, bars);
    const ask = { room, workers: alike.length, withLeader: false, slices: undefined, kept, warm: noNodes };
    return [{ demand, alike: alike.map(member => member.demand), spreading: spreadingOf(ask) }];
  });
  const [first, ...others] = kinds.sort((a, b) => weightOf(b.demand) - weightOf(a.demand));
  return first === undefined ? undefined : [first, ...others];
}

const noNodes: ReadonlySet<number> = new Set();

/**
 * Domains of a level that have room for each kind alone, in the heaviest one's order of preference. The first does as a
 * rule, so the next is looked for only when it is asked for.
 */
function* inOrder(question: MixedQuestion, level: number): Iterable<TopologyDomain> {
  const { kinds, input } = question;
  if (level === input.snapshot.tree.levels.length) {
    yield* ableHosts(question);
    return;
  }
  const { arrays } = kinds[0].spreading.room;
  const terms = domainTerms(
    kinds[0].spreading,
    level,
    siblingsOf(input),
    input.objective ?? standardObjective,
  );
  const left = new Set(
    candidatesOf(heaviest(question), level).filter(domain => hasRoomForEach(kinds, domain)),
  );
  while (left.size > 0) {
    const next = leastBy([...left], terms) ?? -1;
    left.delete(next);
    const domain = arrays.domains[next];
    if (domain !== undefined) yield domain;
  }
}

/** The question of the heaviest kind. */
function heaviest({ kinds, input }: MixedQuestion): DomainQuestion {
  return {
    spreading: kinds[0].spreading,
    requiredLevel: input.topology.requiredLevel ?? -1,
    siblings: siblingsOf(input),
    objective: input.objective ?? standardObjective,
  };
}

function hasRoomForEach(kinds: MixedQuestion['kinds'], domain: number): boolean {
  return kinds.every(({ spreading }) => workersIn(spreading.room, domain) >= spreading.workers);
}

function* ableHosts(question: MixedQuestion): Iterable<TopologyDomain> {
  const { kinds, input } = question;
  const { tree } = input.snapshot;
  const { arrays } = kinds[0].spreading.room;
  const hosts = tree.domainsByLevel[tree.levels.length] ?? [];
  const { kept } = kinds[0].spreading;
  const takes = ({ spreading: { room, workers } }: Kind, node: number) =>
    !room.bars.has(node) && (room.offers[room.classOf[node] ?? 0]?.workers ?? 0) >= workers;
  for (const lowest of hostsParents(heaviest(question))) {
    if (!hasRoomForEach(kinds, lowest)) continue;
    for (let node = arrays.start[lowest] ?? 0; node < (arrays.end[lowest] ?? 0); node++) {
      const host = hosts[node];
      const holdsKept = kept.size === 0 || (kept.size === 1 && kept.has(node));
      if (host !== undefined && holdsKept && kinds.every(kind => takes(kind, node))) yield host;
    }
  }
}

function searchDomain(
  { input, sliced, kinds, budget }: MixedQuestion,
  domain: TopologyDomain,
  part: Part,
): ReadonlyMap<number, number> | Undecided | undefined {
  const { snapshot, memo, topology } = input;
  const labelsOf = (node: number) => snapshot.nodes.at(node)?.record.labels ?? {};
  const rooms = new Map(
    kinds.flatMap(({ alike, spreading }) => alike.map(demand => [demand, spreading.room])),
  );
  // What keeps a member off a host by itself, the room is told already: bars, other pods, TPU slices.
  const takes = (room: Room | undefined, node: number) =>
    room !== undefined && (offerAt(room, node)?.workers ?? 0) > 0;
  return searchMixed({
    snapshot,
    memo,
    domain,
    members: sliced.members,
    admits: (demand, node) =>
      part?.has(node) !== false &&
      sliced.confined.get(demand)?.nodes.includes(node) !== false &&
      takes(rooms.get(demand), node),
    apart: (a, b, node) => keepApartOnHost(snapshot, a, b)(labelsOf(node)),
    budget,
    together: input.together && ((node, demands) => input.together?.fits(node, demands) ?? true),
    keptNodes: kinds[0].spreading.kept,
    ...(sliced.slices.length > 0 && {
      slices: sliced.slices,
      sliceDomains: sliceDomainsIn(input, sliced, domain),
      apartSlices: topology.slices?.apart ?? false,
    }),
  });
}

function planOf(input: PlanInput, domain: TopologyDomain, found: ReadonlyMap<number, number>): GroupPlan {
  const { tree } = input.snapshot;
  const nodes = input.demands.map((_, rank) => {
    const node = found.get(rank);
    return input.fixed?.get(rank) ?? (node === undefined ? '' : (tree.nodeNames[node] ?? ''));
  });
  return { kind: 'plan', nodes, level: domain.level, domain: domain.path };
}
