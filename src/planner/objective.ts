import type { Choice } from './choose-parts.ts';
import { fewestHosts, isWhole, workersIn } from './room.ts';
import { choiceIn, type Spreading } from './spread-over.ts';

/** What operators may choose, for fleets differ in it. */
export interface Objective {
  /**
   * `pack` fills domains that are in use and leaves whole ones to large groups; `spread` takes the emptiest, where load
   * or heat is to be levelled and groups are small.
   */
  readonly prefer: 'pack' | 'spread';
  /** Among equals, hosts that have had the group before. */
  readonly warmHosts: boolean;
}

export const standardObjective: Objective = { prefer: 'pack', warmHosts: true };

/**
 * One term of the objective, which is a list of them: of the domains that hold the group, those with the least value of
 * the first term stay, of these those with the least of the second, and so on; then the first in topology order.
 */
export interface Term {
  readonly name: string;
  readonly of: (domain: number) => number;
}

/** Other groups of the same owner in the domain's surroundings; undefined where they do not matter. */
export type Siblings = ((domain: number) => number) | undefined;

/**
 * The objective for domains of an inner level (-1: the cluster), each holding the whole group. That the finest level goes
 * first, so that the group spans as little as it can, is decided before.
 */
export function domainTerms(
  spreading: Spreading,
  level: number,
  siblings: Siblings,
  objective: Objective,
): readonly Term[] {
  const isLowest = level === spreading.room.arrays.tree.levels.length - 1;
  const choiceOf = remembered(domain => choiceIn(spreading, domain));
  const opened: Term['of'] = domain => choiceOf(domain)?.opened ?? 0;
  const sign = objective.prefer === 'pack' ? 1 : -1;
  const below: Term = {
    name: 'leaves whole sub-domains alone',
    of: domain => sign * (choiceOf(domain)?.openedWhole ?? 0),
  };
  return [
    ...(isLowest ? [] : [{ name: 'fewest domains of the next level', of: opened }]),
    ...siblingTerm(siblings),
    ...wholeTerms(spreading, level, sign),
    ...(isLowest ? hostCountTerm(spreading, opened) : [below]),
    ...roomTerms(spreading, level, sign),
    ...warmTerm(spreading, objective),
  ];
}

/** The same for lowest domains of which one host takes the whole group: `host` is the best one's offer. */
export function hostTerms(
  spreading: Spreading,
  host: (domain: number) => { readonly whole: boolean; readonly workers: number },
  siblings: Siblings,
  objective: Objective,
): readonly Term[] {
  const level = spreading.room.arrays.tree.levels.length - 1;
  const sign = objective.prefer === 'pack' ? 1 : -1;
  return [
    ...siblingTerm(siblings),
    ...wholeTerms(spreading, level, sign),
    { name: 'leaves whole hosts alone', of: domain => sign * Number(host(domain).whole) },
    { name: 'leaves room on roomy hosts alone', of: domain => sign * host(domain).workers },
    ...roomTerms(spreading, level, sign),
    ...warmTerm(spreading, objective),
  ];
}

/** The first in order of those with the least values, term by term. */
export function leastBy(domains: readonly number[], terms: readonly Term[]): number | undefined {
  const left = Int32Array.from(domains);
  let count = left.length;
  for (const { of } of terms) {
    if (count < 2) break;
    let least = Number.POSITIVE_INFINITY;
    let kept = 0;
    // Those that stay are moved to the front; where one is better than all before, it begins anew.
    for (let at = 0; at < count; at++) {
      const domain = left[at] ?? 0;
      const value = of(domain);
      if (value > least) continue;
      if (value < least) kept = 0;
      least = value;
      left[kept++] = domain;
    }
    count = kept;
  }
  return left[0];
}

/** For comparing the best of several questions, e.g. about disjoint sets of nodes. */
export function compareScores(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < a.length; at++) {
    const order = (a[at] ?? 0) - (b[at] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

/** Counts tell the number of hosts without looking at any; not so for slices, nor where members stay. */
function hostCountTerm(spreading: Spreading, opened: Term['of']): readonly Term[] {
  const { room, workers, withLeader, slices, kept } = spreading;
  const name = 'fewest hosts';
  if (slices !== undefined || kept.size > 0) return [{ name, of: opened }];
  const slotsOf = (hostClass: number | undefined) => room.offers[hostClass ?? -1]?.workers;
  // Where every host takes equally many, as for workers of a whole host, it takes equally many hosts anywhere.
  const steady = !withLeader && room.byRoom.every(at => slotsOf(at) === slotsOf(room.byRoom[0]));
  return steady ? [] : [{ name, of: domain => fewestHosts(room, domain, workers, withLeader) }];
}

function siblingTerm(siblings: Siblings): readonly Term[] {
  return siblings === undefined ? [] : [{ name: 'keeps away from groups of the same owner', of: siblings }];
}

/** Coarsest first: a whole block is worth more than a whole rack. */
function wholeTerms({ room }: Spreading, level: number, sign: 1 | -1): readonly Term[] {
  return around(room, level).map(({ name, of }) => ({
    name: `leaves whole ${name}s alone`,
    of: domain => (isWhole(room, of[domain] ?? 0) ? sign : 0),
  }));
}

/** Tightest first, from the domain itself outwards. */
function roomTerms({ room }: Spreading, level: number, sign: 1 | -1): readonly Term[] {
  return around(room, level)
    .reverse()
    .map(({ name, of }) => ({
      name: `leaves room in roomy ${name}s alone`,
      of: domain => sign * workersIn(room, of[domain] ?? 0),
    }));
}

/** The levels down to `level`, each with the domain of it by the domain inside. */
function around(
  { arrays }: Spreading['room'],
  level: number,
): { readonly name: string; readonly of: Int32Array }[] {
  return arrays.tree.levels
    .slice(0, level + 1)
    .map(({ name }, at) => ({ name, of: arrays.ancestors[at] ?? new Int32Array(0) }));
}

function warmTerm({ warm, room }: Spreading, { warmHosts }: Objective): readonly Term[] {
  if (!warmHosts || warm.size === 0) return [];
  const { start, end } = room.arrays;
  const isIn = (node: number, domain: number) => node >= (start[domain] ?? 0) && node < (end[domain] ?? 0);
  const warmIn: Term['of'] = domain => -[...warm].filter(node => isIn(node, domain)).length;
  return [{ name: 'prefers warm hosts', of: warmIn }];
}

function remembered(of: (domain: number) => Choice | undefined): (domain: number) => Choice | undefined {
  const known = new Map<number, Choice | undefined>();
  return domain => {
    if (!known.has(domain)) known.set(domain, of(domain));
    return known.get(domain);
  };
}
