import { isAcceleratorResource, type Resources } from '../cluster/resources.ts';
import { compareText } from '../cluster/topology.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';

export interface SearchMember {
  readonly rank: number;
  readonly demand: MemberDemand;
}

/** Members that look alike to nodes and to other pods. */
export interface Variant {
  readonly demand: MemberDemand;
  /** Ascending. */
  readonly ranks: readonly number[];
}

/** Who is to be placed, in the order of the search. */
export interface Roster {
  /** The heaviest first. */
  readonly variants: readonly Variant[];
  /** What all of them ask for together. */
  readonly need: Resources;
  /** How many of the variants have anti-affinity, and so an opinion on who stands beside them. */
  readonly wary: number;
}

/** The same members are asked about in one domain after the other. */
const known = new WeakMap<readonly SearchMember[], Roster>();

/** Sums members up by what they look like; whatever their order, the roster is the same. O(members). */
export function rosterOf(members: readonly SearchMember[]): Roster {
  const before = known.get(members);
  if (before !== undefined) return before;
  const roster = buildRoster(members);
  known.set(members, roster);
  return roster;
}

/** Devices weigh most, then CPU; the order only decides what is tried first. */
export function weightOf(demand: MemberDemand): number {
  let devices = 0;
  for (const [name, amount] of demand.requests) if (isAcceleratorResource(name)) devices += amount;
  return devices * 1e9 + (demand.requests.get('cpu') ?? 0);
}

export function hasAntiAffinity(demand: MemberDemand): boolean {
  return (demand.affinity?.antiAffinity.length ?? 0) > 0;
}

function buildRoster(members: readonly SearchMember[]): Roster {
  // Members made from one template share one demand: its key is put together once.
  const keys = new Map<MemberDemand, string>();
  const keyOf = (demand: MemberDemand): string => {
    const key = keys.get(demand) ?? interPodKeyOf(demand);
    keys.set(demand, key);
    return key;
  };
  const variants: Variant[] = [];
  const need = new Map<string, number>();
  for (const alike of Map.groupBy(members, ({ demand }) => keyOf(demand)).values()) {
    const [first] = alike;
    if (first === undefined) continue;
    variants.push({ demand: first.demand, ranks: alike.map(({ rank }) => rank).sort((a, b) => a - b) });
    for (const [name, amount] of first.demand.requests)
      need.set(name, (need.get(name) ?? 0) + amount * alike.length);
  }
  const wary = variants.filter(({ demand }) => hasAntiAffinity(demand)).length;
  return { variants: variants.sort(byWeight), need, wary };
}

function byWeight(a: Variant, b: Variant): number {
  return (
    weightOf(b.demand) - weightOf(a.demand) ||
    compareText(a.demand.key, b.demand.key) ||
    (a.ranks[0] ?? 0) - (b.ranks[0] ?? 0)
  );
}
