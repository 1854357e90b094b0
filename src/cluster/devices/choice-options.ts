import { kindOf, type Rung, rungOfKinds } from './alignment.ts';
import type { ChoiceModel, ChoiceState, Recipe, Sort } from './choice-model.ts';
import type { Locality } from './locality.ts';

/** One way to give a member its devices: how many of which sort each ask takes. */
export interface ChoiceOption {
  readonly rung: Rung | undefined;
  /** How many NUMA nodes its devices are on. */
  readonly spread: number;
  readonly takes: readonly Take[];
  readonly after: ChoiceState;
}

export interface Take {
  readonly ask: number;
  readonly sort: number;
  readonly count: number;
}

/** Steps that a search may still take, over all that share it. */
export interface Budget {
  steps: number;
}

/** Which options to list: those aligned at a rung by their shares at each value, or all. */
export type Aim = 'pcie' | 'numa' | 'any';

/**
 * Lists options of a recipe until `visit` says false or the budget is used up. Aimed at a rung, a plain recipe's devices
 * are looked for value by value, so that the aligned options are found without the far more others. The order is that
 * of the sorts, which is that of the devices.
 */
export function listOptions(
  model: ChoiceModel,
  recipe: Recipe,
  state: ChoiceState,
  aim: Aim,
  budget: Budget,
  visit: (option: ChoiceOption) => boolean,
): void {
  const lister = new Lister(model, recipe, state, budget, visit);
  if (aim === 'any') lister.list(undefined);
  else if (isAimable(recipe)) lister.listAligned(aim);
}

/** Whether options that are aligned at a rung can be listed by themselves. */
export function isAimable({ isPlain, kinds }: Recipe): boolean {
  return isPlain && kinds.length > 0;
}

/**
 * The aims by which all options that may do are listed, the finest rung first.
 * @param hasAlternatives then it matters whether the recipe can be had at all
 */
export function aimsOf(recipe: Recipe, minRung: Rung | undefined, hasAlternatives: boolean): readonly Aim[] {
  if (!isAimable(recipe)) return ['any'];
  if (minRung === undefined || minRung === 'host' || hasAlternatives) return ['pcie', 'numa', 'any'];
  return minRung === 'pcie' ? ['pcie'] : ['pcie', 'numa'];
}

/** Whether an option belongs to an aim, rather than to a finer one by which it was listed before. */
export function isListedAt(aim: Aim, recipe: Recipe, rung: Rung | undefined): boolean {
  if (aim === 'numa') return rung !== 'pcie';
  return aim === 'pcie' || !isAimable(recipe) || rung === 'host';
}

/** How many members of a recipe can be aligned at a rung at most, each by itself; Infinity when that is not known. */
export function mostAligned(
  model: ChoiceModel,
  recipe: Recipe,
  state: ChoiceState,
  rung: 'pcie' | 'numa',
): number {
  if (!isAimable(recipe)) return Number.POSITIVE_INFINITY;
  const { units, parts } = unitsOf(recipe);
  let possible = 0;
  for (const capacity of unitsByPlace(model, recipe, state, rung, units).values()) possible += capacity;
  return Math.floor(possible / parts);
}

/** How many members of a recipe there are devices for at most, by counts of what each request may get. */
export function mostMembers({ asks }: Recipe, { left }: ChoiceState): number {
  let most = Number.POSITIVE_INFINITY;
  for (const { sorts } of asks) {
    const within = new Set(sorts);
    let wanted = 0;
    for (const ask of asks) if (ask.sorts.every(sort => within.has(sort))) wanted += ask.count;
    const free = sorts.reduce((sum, sort) => sum + (left[sort] ?? 0), 0);
    most = Math.min(most, Math.floor(free / wanted));
  }
  return most;
}

class Lister {
  readonly #model: ChoiceModel;
  readonly #recipe: Recipe;
  readonly #state: ChoiceState;
  readonly #budget: Budget;
  readonly #visit: (option: ChoiceOption) => boolean;
  readonly #left: number[];
  readonly #counters: number[];
  readonly #takes: Take[] = [];
  #quotas: Quotas | undefined;
  #done = false;

  constructor(
    model: ChoiceModel,
    recipe: Recipe,
    state: ChoiceState,
    budget: Budget,
    visit: (option: ChoiceOption) => boolean,
  ) {
    this.#model = model;
    this.#recipe = recipe;
    this.#state = state;
    this.#budget = budget;
    this.#visit = visit;
    this.#left = [...state.left];
    this.#counters = [...state.counters];
  }

  list(quotas: Quotas | undefined): void {
    this.#quotas = quotas;
    this.#ask(0);
  }

  /** Deals the parts of the pod out to places, then looks for devices within these shares. */
  listAligned(rung: 'pcie' | 'numa'): void {
    const { units, parts } = unitsOf(this.#recipe);
    const places = [...unitsByPlace(this.#model, this.#recipe, this.#state, rung, units)];
    const dealt = new Map<string, number>();
    const deal = (index: number, open: number): void => {
      if (this.#done || --this.#budget.steps < 0) return;
      if (open === 0) {
        this.list({ rung, left: units.map(unit => scaled(dealt, unit)) });
        return;
      }
      const [place, capacity] = places[index] ?? [];
      if (place === undefined || capacity === undefined) return;
      for (let share = Math.min(open, capacity); share >= 0; share--) {
        dealt.set(place, share);
        deal(index + 1, open - share);
      }
      dealt.delete(place);
    };
    deal(0, parts);
  }

  #ask(index: number): void {
    const ask = this.#recipe.asks[index];
    if (ask === undefined) this.#emit();
    else this.#sort(index, 0, ask.count);
  }

  #sort(askIndex: number, position: number, open: number): void {
    if (this.#done) return;
    if (--this.#budget.steps < 0) {
      this.#done = true;
      return;
    }
    if (open === 0) {
      this.#ask(askIndex + 1);
      return;
    }
    const ask = this.#recipe.asks[askIndex];
    const index = ask?.sorts[position];
    const sort = index === undefined ? undefined : this.#model.sorts[index];
    if (ask === undefined || index === undefined || sort === undefined) return;
    const quota = this.#quota(ask.kind, sort);
    for (let count = Math.min(open, this.#fitting(index, sort), quota.left); count > 0; count--) {
      this.#takes.push({ ask: askIndex, sort: index, count });
      if (this.#obeysRules(askIndex)) {
        this.#take(index, sort, count);
        quota.take(count);
        this.#sort(askIndex, position + 1, open - count);
        quota.take(-count);
        this.#take(index, sort, -count);
      }
      this.#takes.pop();
      if (this.#done) return;
    }
    this.#sort(askIndex, position + 1, open);
  }

  #fitting(index: number, sort: Sort): number {
    let fitting = this.#left[index] ?? 0;
    for (const [counter, amount] of sort.takes)
      fitting = Math.min(fitting, Math.floor((this.#counters[counter] ?? 0) / amount));
    return fitting;
  }

  #take(index: number, sort: Sort, count: number): void {
    this.#left[index] = (this.#left[index] ?? 0) - count;
    for (const [counter, amount] of sort.takes)
      this.#counters[counter] = (this.#counters[counter] ?? 0) - count * amount;
  }

  #quota(kind: number | undefined, sort: Sort): { readonly left: number; take(count: number): void } {
    if (this.#quotas === undefined || kind === undefined) return unlimited;
    const ofKind = this.#quotas.left[kind];
    const place = sort.locality[this.#quotas.rung][0] ?? '';
    const left = ofKind?.get(place) ?? 0;
    return { left, take: count => ofKind?.set(place, (ofKind.get(place) ?? 0) - count) };
  }

  /** Whether the rules that cover an ask hold over all takes so far. */
  #obeysRules(askIndex: number): boolean {
    for (const { kind, attribute, asks } of this.#recipe.rules) {
      if (!asks.has(askIndex)) continue;
      const values: (string | undefined)[] = [];
      for (const { ask, sort, count } of this.#takes) {
        if (!asks.has(ask)) continue;
        const value = this.#model.sorts[sort]?.values[attribute];
        // Two of a sort have one value; more do not differ from that.
        values.push(value, ...(count > 1 ? [value] : []));
      }
      if (kind === 'match' ? !areEqual(values) : !areDistinct(values)) return false;
    }
    return true;
  }

  #emit(): void {
    this.#budget.steps -= 8;
    const after = { left: [...this.#left], counters: [...this.#counters] };
    const option = { ...this.#reached(), takes: [...this.#takes], after };
    if (!this.#visit(option)) this.#done = true;
  }

  #reached(): Pick<ChoiceOption, 'rung' | 'spread'> {
    const numaNodes = new Set<string | undefined>();
    // Shares dealt out at roots are in proportion at roots, and there is no finer rung.
    const isAtRoots = this.#quotas?.rung === 'pcie';
    const kinds = this.#recipe.kinds.map((): Locality[] => []);
    for (const { ask, sort, count } of this.#takes) {
      const taken = this.#model.sorts[sort];
      if (taken === undefined || !taken.alignable) continue;
      numaNodes.add(taken.locality.numa[0]);
      if (isAtRoots) continue;
      const ofKind = kinds[this.#kindOf(ask, taken)];
      for (let index = 0; index < count; index++) ofKind?.push(taken.locality);
    }
    const rung = isAtRoots ? 'pcie' : rungOfKinds(kinds.filter(places => places.length > 0));
    return { rung, spread: numaNodes.size };
  }

  #kindOf(index: number, { driver }: Sort): number {
    const { asks, kinds, isPlain } = this.#recipe;
    const ask = asks[index];
    if (isPlain && ask?.kind !== undefined) return ask.kind;
    return kinds.indexOf(kindOf(driver, ask?.className ?? ''));
  }
}

/** How many devices each kind may still take at each place of a rung. */
interface Quotas {
  readonly rung: 'pcie' | 'numa';
  readonly left: readonly Map<string, number>[];
}

const unlimited = { left: Number.POSITIVE_INFINITY, take: () => {} };

/** The smallest part that has the proportions of the whole pod, by kind, and how many there are of it. */
function unitsOf({ asks, kinds }: Recipe): { readonly units: readonly number[]; readonly parts: number } {
  const totals = kinds.map((_, kind) =>
    asks.reduce((sum, ask) => (ask.kind === kind ? sum + ask.count : sum), 0),
  );
  const parts = totals.length === 1 ? 1 : totals.reduce(commonDivisor, 0);
  return { units: totals.map(total => total / parts), parts };
}

/** How many such parts each place of a rung has room for, were there no rules. */
function unitsByPlace(
  model: ChoiceModel,
  { asks, kinds }: Recipe,
  { left }: ChoiceState,
  rung: 'pcie' | 'numa',
  units: readonly number[],
): ReadonlyMap<string, number> {
  const sortsByKind = kinds.map((_, kind) =>
    [...new Set(asks.flatMap(ask => (ask.kind === kind ? ask.sorts : [])))].sort((a, b) => a - b),
  );
  const free = sortsByKind.map(sorts => {
    const byPlace = new Map<string, number>();
    for (const sort of sorts) {
      const place = model.sorts[sort]?.locality[rung][0];
      if (place !== undefined) byPlace.set(place, (byPlace.get(place) ?? 0) + (left[sort] ?? 0));
    }
    return byPlace;
  });
  const places = new Map<string, number>();
  for (const place of free[0]?.keys() ?? []) {
    const capacity = Math.min(...units.map((unit, kind) => Math.floor((free[kind]?.get(place) ?? 0) / unit)));
    if (capacity > 0) places.set(place, capacity);
  }
  return places;
}

function scaled(shares: ReadonlyMap<string, number>, unit: number): Map<string, number> {
  return new Map([...shares].map(([place, share]) => [place, share * unit]));
}

function areEqual(values: readonly (string | undefined)[]): boolean {
  const [first] = values;
  return first !== undefined && values.every(value => value === first);
}

function areDistinct(values: readonly (string | undefined)[]): boolean {
  return !values.includes(undefined) && new Set(values).size === values.length;
}

function commonDivisor(left: number, right: number): number {
  return right === 0 ? left : commonDivisor(right, left % right);
}
