import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import { FitMemo } from './fit.ts';
import { type GroupPlan, type PlanInput, planGroup } from './plan.ts';
import { type Release, type ReleaseCandidate, release } from './release.ts';
import { type DomainView, mayFit, type ReleaseScene, sceneOf, startDomains, viewOf } from './release-view.ts';

export interface ReleaseQuestion {
  /** Refused as it is. */
  readonly input: PlanInput;
  readonly candidates: readonly ReleaseCandidate[];
  /**
   * Smaller is better, element by element; ties go by name. A set must cost more than any part of it: the search relies
   * on that to return none that could be smaller.
   */
  readonly costOf: (set: readonly ReleaseCandidate[]) => readonly number[];
  /** What any set of at least so many of the candidates costs at least, element by element. */
  readonly leastCost: (candidates: readonly ReleaseCandidate[], size: number) => readonly number[];
  /**
   * Candidates that are taken first where not every set can be looked at; among equals those that free most. Smaller is
   * earlier.
   */
  readonly rankOf: (candidate: ReleaseCandidate) => readonly number[];
  /** How often the planner may be asked; see `exact`. */
  readonly maxPlans: number;
}

export interface ReleaseAnswer {
  readonly set: readonly ReleaseCandidate[] | undefined;
  /** The plan once the set is released. */
  readonly plan: GroupPlan | undefined;
  /** No cheaper set would do, and none at all where none was found. */
  readonly exact: boolean;
}

/** Up to so many candidates all sets of a domain are looked at. */
export const exactUpTo = 12;
/** So many sets that have room enough in numbers and do not fit suggest that none of the domain does. */
const doubtAfter = 8;

interface Search {
  readonly question: ReleaseQuestion;
  readonly scene: ReleaseScene;
  plansLeft: number;
  exact: boolean;
  best: Best | undefined;
  /** What the sets cost at least of domains of which not all were looked at. */
  readonly unseen: (readonly number[])[];
}

/** A domain to be searched, with what its sets cost at least. */
interface Job {
  readonly view: DomainView;
  readonly least: readonly number[];
}

interface Best {
  readonly set: readonly ReleaseCandidate[];
  readonly cost: readonly number[];
  readonly plan: GroupPlan;
}

/**
 * The cheapest set of candidates whose release makes the group fit.
 *
 * A group fits when one domain of its required level takes it, so each such domain is looked at by itself, with the
 * candidates that touch it, unless what it needs at least costs more than what is known already: all sets of at most 12
 * candidates, cheapest first. In a domain with more, candidates are taken until the group fits, then given back, the
 * dearest first, as far as it still fits (as kube-scheduler reprieves victims); its sub-domains are looked at, too. What
 * comes out never contains anything that could be given back. Cost: one look at every node of each domain, and planner
 * calls on single domains within `maxPlans`.
 */
export function smallestRelease(question: ReleaseQuestion): ReleaseAnswer {
  // A memo of its own: parts of the cluster must not drive out what is remembered of the whole.
  const input = { ...question.input, memo: new FitMemo() };
  const scene = sceneOf(input, [...question.candidates].sort(byKey));
  const { maxPlans } = question;
  const search: Search = { question, scene, plansLeft: maxPlans, exact: true, best: undefined, unseen: [] };
  let jobs = jobsOf(search, startDomains(input));
  while (jobs.length > 0) {
    const inner: TopologyDomain[] = [];
    for (const { view, least } of jobs) {
      if (!mayBeBetter(search, least)) continue;
      if (view.candidates.length <= exactUpTo) searchAll(search, view);
      else {
        search.unseen.push(least);
        searchGreedily(search, view);
        inner.push(...view.domain.children);
      }
    }
    jobs = jobsOf(search, inner);
  }
  const { best, unseen } = search;
  const exact = search.exact && !unseen.some(least => mayBeBetter(search, least));
  return { set: best?.set, plan: best?.plan, exact };
}

/** Order of two sets by their costs, then by their names. */
export function compareSets(
  a: { readonly cost: readonly number[]; readonly set: readonly { readonly key: string }[] },
  b: { readonly cost: readonly number[]; readonly set: readonly { readonly key: string }[] },
): number {
  const costs = compareCosts(a.cost, b.cost);
  if (costs !== 0) return costs;
  for (let i = 0; i < a.set.length; i++) {
    const order = compareText(a.set[i]?.key ?? '', b.set[i]?.key ?? '');
    if (order !== 0) return order;
  }
  return a.set.length - b.set.length;
}

function compareCosts(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) {
    const order = (a[i] ?? 0) - (b[i] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

/** Domains worth a search, those that may be cheapest first. */
function jobsOf(search: Search, domains: readonly TopologyDomain[]): readonly Job[] {
  const { scene, question } = search;
  const jobs = domains.flatMap(domain => {
    const view = viewOf(scene, domain);
    if (view === undefined) return [];
    return [{ view, least: question.leastCost(view.candidates, view.minSize) }];
  });
  return jobs.sort(
    (a, b) => compareCosts(a.least, b.least) || (a.view.domain.nodes[0] ?? 0) - (b.view.domain.nodes[0] ?? 0),
  );
}

function mayBeBetter({ best }: Search, least: readonly number[]): boolean {
  return best === undefined || compareCosts(least, best.cost) <= 0;
}

/** All sets with room enough in numbers, cheapest first; the first that fits is the cheapest of the domain. */
function searchAll(search: Search, view: DomainView): void {
  const sets = subsets(view.candidates)
    .filter(set => mayFit(view, new Set(set)))
    .map(set => ({ set, cost: search.question.costOf(set) }))
    .filter(set => isBetter(search, set))
    .sort(compareSets);
  let failed = 0;
  for (const candidate of sets) {
    if (!isBetter(search, candidate)) return;
    if (search.plansLeft <= 0) {
      search.exact = false;
      return;
    }
    if (fitsWithout(search, view, candidate.set) && accept(search, candidate.set)) return;
    failed++;
    if (failed === doubtAfter && isHopeless(search, view)) return;
  }
}

function searchGreedily(search: Search, view: DomainView): void {
  const { rankOf } = search.question;
  const order = view.candidates
    .map(candidate => ({ candidate, rank: rankOf(candidate), ...view.gainOf(candidate) }))
    .sort((a, b) => compareCosts(a.rank, b.rank) || b.gain - a.gain || a.firstNode - b.firstNode)
    .map(({ candidate }) => candidate);
  const fits = (set: readonly ReleaseCandidate[]) => fitsWithout(search, view, set);
  if (!fits(order)) return;
  let [low, high] = [1, order.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (fits(order.slice(0, middle))) high = middle;
    else low = middle + 1;
  }
  const taken = order.slice(0, high);
  const set = givenBack(taken, [...taken].reverse(), fits);
  // Without budget everything looks as if it were needed.
  if (search.plansLeft > 0) accept(search, set);
}

/** Takes a set that fits in its domain as the best so far, as far as it holds for the whole cluster. */
function accept(search: Search, found: readonly ReleaseCandidate[]): boolean {
  const { question } = search;
  const planOf = (set: readonly ReleaseCandidate[]) => planWithout(question.input, set);
  if (planOf(found) === undefined) {
    search.exact = false;
    return false;
  }
  const set = irreducible(found, question, candidates => planOf(candidates) !== undefined);
  const plan = planOf(set);
  if (plan === undefined) return false;
  const best = { set: [...set].sort(byKey), cost: question.costOf(set), plan };
  if (isBetter(search, best)) search.best = best;
  return true;
}

/** Gives back, the dearest first, until nothing can be given back any more. */
function irreducible(
  found: readonly ReleaseCandidate[],
  { costOf }: ReleaseQuestion,
  fits: (set: readonly ReleaseCandidate[]) => boolean,
): readonly ReleaseCandidate[] {
  let set = found;
  for (;;) {
    const dearestFirst = set
      .map(candidate => ({ set: [candidate], cost: costOf([candidate]) }))
      .sort((a, b) => compareSets(b, a))
      .flatMap(one => one.set);
    let smaller = set;
    for (const candidate of dearestFirst) smaller = givenBack(smaller, [candidate], fits);
    if (smaller.length === set.length) return set;
    set = smaller;
  }
}

/** The set less what of the part is not needed; halves are tried at once, so a few needed ones among many cost little. */
function givenBack(
  set: readonly ReleaseCandidate[],
  part: readonly ReleaseCandidate[],
  fits: (set: readonly ReleaseCandidate[]) => boolean,
): readonly ReleaseCandidate[] {
  const without = set.filter(candidate => !part.includes(candidate));
  if (without.length > 0 && fits(without)) return without;
  if (part.length === 1) return set;
  const half = Math.ceil(part.length / 2);
  const rest = givenBack(set, part.slice(0, half), fits);
  return givenBack(rest, part.slice(half), fits);
}

function fitsWithout(search: Search, view: DomainView, set: readonly ReleaseCandidate[]): boolean {
  if (!mayFit(view, new Set(set))) return false;
  if (search.plansLeft <= 0) {
    search.exact = false;
    return false;
  }
  search.plansLeft--;
  const result = planGroup(release(view.question(), mergedRelease(set)));
  if (result.kind === 'undecided') search.exact = false;
  return result.kind === 'plan';
}

/** Whether not even all candidates together help. Their own pods may be what the group wants to be near to. */
function isHopeless(search: Search, view: DomainView): boolean {
  search.plansLeft--;
  const all = release(view.question(), mergedRelease(view.candidates));
  return planGroup({ ...all, affinityAssumed: true }).kind === 'rejection';
}

function planWithout(input: PlanInput, set: readonly ReleaseCandidate[]): GroupPlan | undefined {
  const result = planGroup(release(input, mergedRelease(set)));
  return result.kind === 'plan' ? result : undefined;
}

function isBetter(search: Search, set: Pick<Best, 'set' | 'cost'>): boolean {
  return search.best === undefined || compareSets(set, search.best) < 0;
}

function mergedRelease(set: readonly ReleaseCandidate[]): Release {
  return {
    units: set.flatMap(candidate => candidate.release.units),
    nodes: set.flatMap(candidate => candidate.release.nodes),
  };
}

/** Every set but the empty one, its members in the order of the list. */
function subsets<T>(items: readonly T[]): readonly (readonly T[])[] {
  return Array.from({ length: 2 ** items.length - 1 }, (_, at) =>
    items.filter((_item, bit) => ((at + 1) & (1 << bit)) !== 0),
  );
}

function byKey(a: ReleaseCandidate, b: ReleaseCandidate): number {
  return compareText(a.key, b.key);
}
