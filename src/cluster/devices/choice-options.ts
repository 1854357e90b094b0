import { kindOf, type Rung, rungOfKinds } from './alignment.ts';
import { isAimable, unitsByPlace, unitsOf } from './choice-bounds.ts';
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
