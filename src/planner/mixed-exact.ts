import { type Measure, promiseFrom } from './mixed-bounds.ts';
import type { SearchBudget } from './mixed-budget.ts';
import { type HostLoad, type Packed, type Packing, packedOf } from './mixed-packing.ts';

export interface ExactQuestion {
  readonly packing: Packing;
  /** All full loads of each class. */
  readonly loads: readonly (readonly (readonly number[])[])[];
  readonly measures: readonly Measure[];
  /** Only packings that cost less are of interest. */
  readonly below: number;
  /** No more states than this are kept from class to class: a place is found sooner, but nothing is proven. */
  readonly beam: number;
}

/** What is left to place, after some hosts have got their loads. */
interface Step {
  readonly code: number;
  readonly price: number;
  readonly before: Step | undefined;
  readonly load: HostLoad | undefined;
}

/** States are compared with the cheapest and emptiest ones; of few with all, of many with a few. */
const mostComparisons = 100_000;

/**
 * The cheapest packing, by dynamic programming over what is left.
 *
 * Idea: hosts get their loads in a fixed order, class after class. How the members placed so far stand does not matter to
 * the hosts that follow, only how many of each kind are left and what the hosts in use cost: of all ways to leave the
 * same, the cheapest is kept. A host gets a full load or none; a load with more of a kind than is left counts for what
 * is left. States that can no longer end well by the measures are dropped, and so are those that leave more than
 * another one at no lower price.
 *
 * Cost: at most (states) x (full loads) steps for each host, where the states are the products of counts + 1; hosts of
 * one class share their steps, for a state is passed on only when it is new or has become cheaper.
 *
 * `impossible` is proven; `cut off` says that the budget ended first.
 */
export function packExactly(
  { packing, loads, measures, below, beam }: ExactQuestion,
  budget: SearchBudget,
): Packed | 'impossible' | 'cut off' {
  const { counts, classes } = packing;
  const codes = codesFor(counts);
  const isPromising = promiseFrom(packing, measures);
  const left = counts.map(() => 0);
  const after = counts.map(() => 0);
  const start: Step = { code: codes.encode(counts), price: 0, before: undefined, load: undefined };
  let states: Map<number, Step> = new Map([[start.code, start]]);
  let limit = below;
  let isCertain = true;

  const isWorthwhile = ({ code, price }: Step, hostClass: number): boolean => {
    codes.decode(code, after);
    return isPromising(after, hostClass, limit - price);
  };

  /** Gives one more host of the class to each state; what comes of it is in `states` and, if new, in the result. */
  const passOn = (steps: readonly Step[], hostClass: number): readonly Step[] => {
    const reached = new Map<number, Step>();
    for (const step of steps) {
      codes.decode(step.code, left);
      for (const take of loads[hostClass] ?? []) {
        if (budget.trials-- <= 0) return [];
        const code = codes.encodeRest(left, take);
        const price = step.price + (classes[hostClass]?.price ?? 0);
        if (code === step.code || price >= (states.get(code)?.price ?? limit)) continue;
        const next = { code, price, before: step, load: { hostClass, take } };
        if (!isWorthwhile(next, hostClass)) continue;
        if (code === 0) limit = price;
        states.set(code, next);
        reached.set(code, next);
      }
    }
    reached.delete(0);
    return [...reached.values()];
  };

  for (const [hostClass, { nodes }] of classes.entries()) {
    const worthwhile = [...states.values()].filter(step => step.code !== 0 && isWorthwhile(step, hostClass));
    const kept = undominated(worthwhile, codes);
    if (kept.length > beam) isCertain = false;
    let fresh: readonly Step[] = kept.slice(0, beam);
    const end = states.get(0);
    states = new Map([...(end === undefined ? [] : [end]), ...fresh].map(step => [step.code, step]));
    for (let host = 0; host < nodes.length && fresh.length > 0; host++) fresh = passOn(fresh, hostClass);
    if (budget.trials < 0) break;
  }
  const end = states.get(0);
  if (end !== undefined) return packedOf(packing, loadsUpTo(end));
  return budget.trials < 0 || !isCertain ? 'cut off' : 'impossible';
}

function loadsUpTo(end: Step): readonly HostLoad[] {
  const loads: HostLoad[] = [];
  for (let step: Step | undefined = end; step !== undefined; step = step.before)
    if (step.load !== undefined) loads.push(step.load);
  return loads.reverse();
}

/** Drops states that leave as many of every kind as another one that is no dearer. The cheapest and emptiest go first. */
function undominated(states: readonly Step[], codes: Codes): readonly Step[] {
  const rated = states.map(step => {
    const left = codes.decode(step.code, []);
    return { step, left, members: left.reduce((sum, count) => sum + count, 0) };
  });
  // Whatever dominates a state comes before it.
  rated.sort((a, b) => a.step.price - b.step.price || a.members - b.members || a.step.code - b.step.code);
  const compared = Math.ceil(mostComparisons / Math.max(1, rated.length));
  const kept: typeof rated = [];
  for (const state of rated) if (!someWithin(kept, compared, state.left)) kept.push(state);
  return kept.map(({ step }) => step);
}

/** Whether one of the first few leaves no more of any kind. */
function someWithin(
  states: readonly { readonly left: readonly number[] }[],
  compared: number,
  left: readonly number[],
): boolean {
  for (let at = 0; at < states.length && at < compared; at++)
    if (isWithin(states[at]?.left ?? [], left)) return true;
  return false;
}

function isWithin(a: readonly number[], b: readonly number[]): boolean {
  for (let kind = 0; kind < a.length; kind++) if ((a[kind] ?? 0) > (b[kind] ?? 0)) return false;
  return true;
}

/** Counts by kind as one number: mixed radix, zero when nothing is left. */
interface Codes {
  readonly encode: (counts: readonly number[]) => number;
  /** The code of what is left after some are taken, as far as there are any. */
  readonly encodeRest: (left: readonly number[], take: readonly number[]) => number;
  /** Writes the counts into `into` and gives it back. */
  readonly decode: (code: number, into: number[]) => number[];
}

function codesFor(counts: readonly number[]): Codes {
  const strides: number[] = [];
  let states = 1;
  for (const count of counts) {
    strides.push(states);
    states *= count + 1;
  }
  const encodeRest = (left: readonly number[], take: readonly number[]): number => {
    let code = 0;
    for (let kind = 0; kind < strides.length; kind++) {
      const rest = (left[kind] ?? 0) - (take[kind] ?? 0);
      if (rest > 0) code += rest * (strides[kind] ?? 0);
    }
    return code;
  };
  const decode = (code: number, into: number[]): number[] => {
    let rest = code;
    for (let kind = 0; kind < counts.length; kind++) {
      const base = (counts[kind] ?? 0) + 1;
      into[kind] = rest % base;
      rest = Math.floor(rest / base);
    }
    return into;
  };
  return { encode: full => encodeRest(full, []), encodeRest, decode };
}
