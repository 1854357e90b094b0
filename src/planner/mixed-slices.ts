import type { SearchBudget } from './mixed-budget.ts';
import { type PackVerdict, pack } from './mixed-pack.ts';
import { type HostClass, isNothing, type MemberKind, type Packing } from './mixed-packing.ts';

/** Members of a group that are to be cut into slices, and where slices may go. */
export interface SlicedPacking {
  readonly kinds: readonly MemberKind[];
  /** By slice, how many members of each kind it has. */
  readonly slices: readonly (readonly number[])[];
  /** How many members of each kind are in no slice. */
  readonly free: readonly number[];
  /** One for each domain that a slice may be in. */
  readonly parts: readonly (readonly HostClass[])[];
  /** Hosts outside of all of them, for members in no slice. */
  readonly rest: readonly HostClass[];
  readonly apart: boolean;
}

/** What one part gets. */
export interface PartLoad {
  /** Index of the part; `parts.length` for the hosts outside. */
  readonly part: number;
  /** Indices of slices. */
  readonly slices: readonly number[];
  /** By kind, members in no slice. */
  readonly free: readonly number[];
  readonly packed: Exclude<PackVerdict, string>;
}

/** Domains in use count before hosts. */
const partPrice = 2 ** 41;
/** One look at a choice for a part, in steps of the exact search. */
const trialsPerChoice = 20;
/** With more sorts of slices the choices for one part alone would be too many. */
const mostSorts = 40;
/** Choices tried for one part where the first that will do is taken. */
const choicesTried = 100;

/** Slices that are interchangeable; members in no slice are slices of one that may also go outside. */
interface SliceSort {
  readonly counts: readonly number[];
  /** Their indices. */
  readonly slices: readonly number[];
  /** The kind of the members in no slice; undefined for slices. */
  readonly freeKind: number | undefined;
  readonly amount: number;
}

interface Step {
  /** By sort, how many are left. */
  readonly left: readonly number[];
  readonly price: number;
  readonly before: Step | undefined;
  readonly choice: readonly number[];
  readonly part: number;
  readonly packed: PartLoad['packed'];
}

/** Packs slices, each whole into one part, with as few parts and then hosts as can be found. */
export function packSlices(
  sliced: SlicedPacking,
  budget: SearchBudget,
): readonly PartLoad[] | 'impossible' | 'cut off' {
  const sorts = sortsOf(sliced);
  if (sorts.length > mostSorts) return 'cut off';
  const question = { sliced, sorts, parts: partsOf(sliced), verdictOn: verdicts(sliced, sorts, budget) };
  const end = chooseBest(question, budget);
  if (end === 'impossible') return end;
  const found = end === 'cut off' ? chooseFirst(question) : end;
  return found === undefined ? 'cut off' : loadsUpTo(found, sorts);
}

interface SliceQuestion {
  readonly sliced: SlicedPacking;
  readonly sorts: readonly SliceSort[];
  readonly parts: readonly Part[];
  /** Whether a part holds so many of each sort. */
  readonly verdictOn: (part: Part, choice: readonly number[]) => PackVerdict;
}

/** Each question is a packing problem of its own, answered once for parts that are alike. */
function verdicts(
  sliced: SlicedPacking,
  sorts: readonly SliceSort[],
  budget: SearchBudget,
): SliceQuestion['verdictOn'] {
  const known = new Map<string, PackVerdict>();
  return (part, choice) => {
    const key = `${part.likeness}|${choice.join()}`;
    const verdict = known.get(key) ?? pack(packingOf(sliced, sorts, part, choice), budget);
    known.set(key, verdict);
    return verdict;
  };
}

/**
 * Dynamic programming over the parts in order: all that the parts passed over tell those that follow is how many slices
 * of each sort are left, and of all ways to leave the same the cheapest is kept.
 */
function chooseBest(question: SliceQuestion, budget: SearchBudget): Step | 'impossible' | 'cut off' {
  const { sorts, parts, verdictOn } = question;
  const none = sorts.map(() => 0).join();
  let isCertain = true;
  const start = startOf(sorts);
  let states = new Map([[start.left.join(), start]]);
  for (const part of parts) {
    const next = new Map(states);
    for (const step of states.values()) {
      for (const choice of choicesFor(question, part, step.left)) {
        budget.trials -= trialsPerChoice;
        if (budget.trials < 0) return next.get(none) ?? 'cut off';
        const packed = verdictOn(part, choice);
        if (packed === 'cut off') isCertain = false;
        if (typeof packed === 'string') continue;
        const after = stepTo(step, part, choice, packed);
        const key = after.left.join();
        if (after.price < (next.get(key)?.price ?? Number.POSITIVE_INFINITY)) next.set(key, after);
      }
    }
    states = next;
  }
  return states.get(none) ?? (isCertain ? 'impossible' : 'cut off');
}

/** Part after part, each with the first choice that it holds, the largest choices first. Proves nothing where it fails. */
function chooseFirst(question: SliceQuestion): Step | undefined {
  let step = startOf(question.sorts);
  for (const part of question.parts) {
    let tried = 0;
    for (const choice of choicesFor(question, part, step.left)) {
      if (tried++ >= choicesTried) break;
      const packed = question.verdictOn(part, choice);
      if (typeof packed === 'string') continue;
      step = stepTo(step, part, choice, packed);
      break;
    }
    if (isNothing(step.left)) return step;
  }
  return undefined;
}

function startOf(sorts: readonly SliceSort[]): Step {
  const left = sorts.map(({ amount }) => amount);
  return { left, price: 0, before: undefined, choice: [], part: -1, packed: { loads: [], price: 0 } };
}

function stepTo(before: Step, part: Part, choice: readonly number[], packed: PartLoad['packed']): Step {
  const left = before.left.map((count, sort) => count - (choice[sort] ?? 0));
  return { left, price: before.price + partPrice + packed.price, before, choice, part: part.index, packed };
}

interface Part {
  readonly index: number;
  readonly classes: readonly HostClass[];
  /** Equal for parts that are alike but for the names of their nodes. */
  readonly likeness: string;
}

function partsOf({ parts, rest }: SlicedPacking): readonly Part[] {
  const withNumbers = new Map<string, number>();
  return [...parts, rest].map((classes, index) => {
    const alike = JSON.stringify(classes.map(host => ({ ...host, nodes: host.nodes.length })));
    const likeness = withNumbers.get(alike) ?? withNumbers.size;
    withNumbers.set(alike, likeness);
    return { index, classes, likeness: String(likeness) };
  });
}

function sortsOf({ slices, free }: SlicedPacking): readonly SliceSort[] {
  const alike = Map.groupBy(slices.keys(), slice => slices[slice]?.join());
  const ofSlices = [...alike.values()].map(ofSort => {
    const counts = slices[ofSort[0] ?? 0] ?? [];
    return { counts, slices: ofSort, freeKind: undefined, amount: ofSort.length };
  });
  const ofFree = free.flatMap((amount, freeKind) => {
    const counts = free.map((_, kind) => (kind === freeKind ? 1 : 0));
    return amount === 0 ? [] : [{ counts, slices: [], freeKind, amount }];
  });
  return [...ofSlices, ...ofFree];
}

/** How many of each sort a part might take of what is left, by the room for each kind alone. */
function* choicesFor(
  { sliced, sorts }: SliceQuestion,
  { index, classes }: Part,
  left: readonly number[],
): Iterable<readonly number[]> {
  const isOutside = index === sliced.parts.length;
  const room = sliced.kinds.map((_, kind) =>
    classes.reduce((sum, { most, nodes }) => sum + (most[kind] ?? 0) * nodes.length, 0),
  );
  const choice = sorts.map(() => 0);
  const mostOf = (sort: SliceSort, at: number, slicesSoFar: number): number => {
    if (isOutside && sort.freeKind === undefined) return 0;
    let most = left[at] ?? 0;
    if (sliced.apart && sort.freeKind === undefined) most = Math.min(most, 1 - slicesSoFar);
    sort.counts.forEach((count, kind) => {
      if (count > 0) most = Math.min(most, Math.floor((room[kind] ?? 0) / count));
    });
    return most;
  };

  function* choose(at: number, slicesSoFar: number): Iterable<readonly number[]> {
    const sort = sorts[at];
    if (sort === undefined) {
      if (!isNothing(choice)) yield [...choice];
      return;
    }
    const most = mostOf(sort, at, slicesSoFar);
    for (let amount = most; amount >= 0; amount--) {
      choice[at] = amount;
      take(room, sort.counts, amount);
      yield* choose(at + 1, slicesSoFar + (sort.freeKind === undefined ? amount : 0));
      take(room, sort.counts, -amount);
    }
  }
  yield* choose(0, 0);
}

function take(room: number[], counts: readonly number[], times: number): void {
  counts.forEach((count, kind) => {
    room[kind] = (room[kind] ?? 0) - count * times;
  });
}

function packingOf(
  { kinds }: SlicedPacking,
  sorts: readonly SliceSort[],
  { classes }: Part,
  choice: readonly number[],
): Packing {
  const counts = kinds.map((_, kind) =>
    sorts.reduce((sum, sort, at) => sum + (sort.counts[kind] ?? 0) * (choice[at] ?? 0), 0),
  );
  return { kinds, counts, classes };
}

function loadsUpTo(end: Step, sorts: readonly SliceSort[]): readonly PartLoad[] {
  const steps: Step[] = [];
  for (let step = end; step.before !== undefined; step = step.before) steps.push(step);
  const given = sorts.map(() => 0);
  return steps.reverse().map(({ choice, part, packed }) => {
    const slices = sorts.flatMap((sort, at) => {
      const first = given[at] ?? 0;
      given[at] = first + (choice[at] ?? 0);
      return sort.slices.slice(first, given[at]);
    });
    const free = (sorts[0]?.counts ?? []).map((_, kind) => {
      const at = sorts.findIndex(({ freeKind }) => freeKind === kind);
      return choice[at] ?? 0;
    });
    return { part, slices, free, packed };
  });
}
