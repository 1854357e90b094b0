import { isWithin, type Rung } from './alignment.ts';
import { isAimable, mostAligned, mostMembers } from './choice-bounds.ts';
import type { ChoiceModel, ChoiceState, ModelledDemand, Recipe } from './choice-model.ts';
import {
  type Aim,
  aimsOf,
  type Budget,
  type ChoiceOption,
  isListedAt,
  listOptions,
} from './choice-options.ts';
import { type StateKey, stateKeyOf } from './choice-symmetry.ts';
import { type Usefulness, usefulnessOf } from './choice-usefulness.ts';

export interface SearchRequest {
  readonly model: ChoiceModel;
  readonly minRung: Rung | undefined;
  readonly steps: number;
}

export type SearchResult =
  | { readonly kind: 'found'; readonly options: readonly MemberOption[]; readonly isBest: boolean }
  | { readonly kind: 'impossible' }
  /** The steps ran out before anything was found. */
  | { readonly kind: 'undecided' };

export interface MemberOption extends ChoiceOption {
  readonly recipe: number;
}

/**
 * Devices for all members at once: as many members as can be aligned by PCIe roots, then by NUMA nodes; then each on few
 * NUMA nodes, for 4 roots of one are better than 4 of two; then the most useful rest.
 *
 * Members are taken in order, aligned options first, and of these the one that leaves the most useful rest. What the
 * members from one on can reach depends only on what is left for them, so it is remembered by that, up to symmetry. A bound
 * on the rungs that are still possible ends the search where it is met: alignment is exact, usefulness member by member.
 * Out of steps, each member takes the option found first, so the end is near.
 */
export function searchChoice(request: SearchRequest): SearchResult {
  const search = new Search(request);
  const reached = search.reach(0, request.model.start);
  if (reached === undefined) return { kind: search.isExhausted ? 'undecided' : 'impossible' };
  const options = search.walk();
  return options === undefined
    ? { kind: 'undecided' }
    : { kind: 'found', options, isBest: !search.isExhausted };
}

interface Reached {
  readonly pcie: number;
  /** Members on one PCIe root or one NUMA node. */
  readonly near: number;
  /** NUMA nodes, over all members. */
  readonly spread: number;
  readonly usefulness: Usefulness;
  /** The option that leads there: its recipe, its rung, and its key. */
  readonly next?: { readonly recipe: number; readonly rung: Rung | undefined; readonly key: string };
}

interface Bound {
  readonly pcie: number;
  readonly near: number;
}

const mostOptions = 256;
const walkSteps = 100_000;

class Search {
  readonly #model: ChoiceModel;
  readonly #minRung: Rung | undefined;
  readonly #keyOf: StateKey;
  readonly #usefulness: (state: ChoiceState) => Usefulness;
  readonly #known = new Map<string, Reached | undefined>();
  /** How many members of which demand there are from each member on. */
  readonly #counts: (ReadonlyMap<ModelledDemand, number> | undefined)[] = [];
  readonly #rootsTellNuma: boolean;
  readonly #budget: Budget;
  readonly #steps: number;

  constructor({ model, minRung, steps }: SearchRequest) {
    this.#model = model;
    this.#minRung = minRung;
    this.#keyOf = stateKeyOf(model);
    this.#usefulness = usefulnessOf(model);
    this.#rootsTellNuma = model.sorts.every(
      ({ alignable, locality }) => !alignable || locality.pcie.length === 0 || locality.numa.length > 0,
    );
    this.#budget = { steps };
    this.#steps = steps;
  }

  get isExhausted(): boolean {
    return this.#budget.steps < 0;
  }

  /** The best that the members from `member` on can reach; undefined when they cannot all have their devices. */
  reach(member: number, state: ChoiceState): Reached | undefined {
    const demand = this.#model.demands[member];
    if (demand === undefined) return { pcie: 0, near: 0, spread: 0, usefulness: this.#usefulness(state) };
    // Twice the steps: even the way of first options led nowhere.
    if (this.#budget.steps < -this.#steps) return undefined;
    const key = `${member} ${this.#keyOf(state)}`;
    if (this.#known.has(key)) return this.#known.get(key);
    const reached = this.#reach(member, demand, state);
    this.#known.set(key, reached);
    return reached;
  }

  #reach(member: number, demand: ModelledDemand, state: ChoiceState): Reached | undefined {
    if (!this.#hasEnough(member, state)) return undefined;
    const rest = this.#bound(member + 1, state);
    for (const [index, recipe] of demand.recipes.entries()) {
      let best: Reached | undefined;
      let hasOption = false;
      for (const aim of aimsOf(recipe, this.#minRung, demand.recipes.length > 1)) {
        const own = { pcie: aim === 'pcie' ? 1 : 0, near: aim === 'any' ? 0 : 1 };
        if (aim === 'any' && !isAimable(recipe)) own.pcie = own.near = 1;
        const bound = { pcie: rest.pcie + own.pcie, near: rest.near + own.near };
        if (best !== undefined && compareRungs(best, bound) >= 0) continue;
        const { options, found } = this.#options(recipe, state, aim);
        hasOption ||= found;
        for (const { option, key } of options) {
          if (best !== undefined && (this.isExhausted || compareRungs(best, bound) >= 0)) break;
          const after = this.reach(member + 1, option.after);
          if (after === undefined) continue;
          const reached = {
            pcie: after.pcie + (isWithin(option.rung, 'pcie') ? 1 : 0),
            near: after.near + (isWithin(option.rung, 'numa') ? 1 : 0),
            spread: after.spread + option.spread,
            usefulness: after.usefulness,
            next: { recipe: index, rung: option.rung, key },
          };
          if (best === undefined || compareReached(reached, best) > 0) best = reached;
        }
      }
      // The allocator takes a later alternative only where no earlier one can be had.
      if (best !== undefined || hasOption) return best;
    }
    return undefined;
  }

  /** The options of a recipe, one of each that lead to equal states, the most useful first. */
  #options(recipe: Recipe, state: ChoiceState, aim: Aim) {
    const seen = new Set<string>();
    const options: { option: ChoiceOption; key: string; usefulness: Usefulness }[] = [];
    const most = this.isExhausted ? 1 : mostOptions;
    // Out of steps, the way to a first option may still be walked.
    const budget = this.isExhausted ? { steps: 1000 } : this.#budget;
    const before = budget.steps;
    let found = false;
    listOptions(this.#model, recipe, state, aim, budget, option => {
      found = true;
      if (!isListedAt(aim, recipe, option.rung) || !isWithin(option.rung, this.#minRung)) return true;
      const key = this.#keyOfOption(option);
      if (seen.has(key)) return true;
      seen.add(key);
      options.push({ option, key, usefulness: this.#usefulness(option.after) });
      return options.length < most;
    });
    if (budget !== this.#budget) this.#budget.steps -= before - budget.steps;
    options.sort(
      (left, right) =>
        left.option.spread - right.option.spread || compareNumbers(right.usefulness, left.usefulness),
    );
    return { options, found };
  }

  /** Options with one key do equally well and leave as much, up to symmetry. */
  #keyOfOption({ rung, spread, after }: ChoiceOption): string {
    return `${rung} ${spread} ${this.#keyOf(after)}`;
  }

  /** False when the members from `member` on cannot all have devices, as counts alone tell. */
  #hasEnough(member: number, state: ChoiceState): boolean {
    for (const [{ recipes }, count] of this.#demandsFrom(member)) {
      let most = 0;
      // Alternatives may be mixed: what one cannot have, another may.
      for (const recipe of recipes) most += mostMembers(recipe, state);
      if (most < count) return false;
    }
    return true;
  }

  /** What the members from `member` on can reach at most: each demand counted by itself. */
  #bound(member: number, state: ChoiceState): Bound {
    const bound = { pcie: 0, near: 0 };
    for (const [{ recipes }, count] of this.#demandsFrom(member)) {
      const most = (rung: 'pcie' | 'numa') =>
        Math.max(0, ...recipes.map(recipe => mostAligned(this.#model, recipe, state, rung)));
      const pcie = Math.min(count, most('pcie'));
      bound.pcie += pcie;
      // Where roots tell the NUMA node, what is aligned by them is so by NUMA nodes, too.
      const near = this.#rootsTellNuma ? most('numa') : pcie + most('numa');
      bound.near += Math.min(count, near);
    }
    return bound;
  }

  #demandsFrom(member: number): ReadonlyMap<ModelledDemand, number> {
    const known = this.#counts[member];
    if (known !== undefined) return known;
    const counts = new Map<ModelledDemand, number>();
    for (const demand of this.#model.demands.slice(member)) counts.set(demand, (counts.get(demand) ?? 0) + 1);
    this.#counts[member] = counts;
    return counts;
  }

  /** The options that lead to what `reach` found from the start, on the devices that come first. */
  walk(): readonly MemberOption[] | undefined {
    const options: MemberOption[] = [];
    let state = this.#model.start;
    for (const [member, demand] of this.#model.demands.entries()) {
      const next = this.#known.get(`${member} ${this.#keyOf(state)}`)?.next;
      const recipe = next === undefined ? undefined : demand.recipes[next.recipe];
      if (next === undefined || recipe === undefined) return undefined;
      let taken: ChoiceOption | undefined;
      const isAimed = isAimable(recipe) && (next.rung === 'pcie' || next.rung === 'numa');
      const aim = isAimed ? next.rung : 'any';
      listOptions(this.#model, recipe, state, aim, { steps: walkSteps }, option => {
        if (this.#keyOfOption(option) === next.key) taken = option;
        return taken === undefined;
      });
      if (taken === undefined) return undefined;
      options.push({ ...taken, recipe: next.recipe });
      state = taken.after;
    }
    return options;
  }
}

function compareRungs(left: Bound, right: Bound): number {
  return left.pcie - right.pcie || left.near - right.near;
}

function compareReached(left: Reached, right: Reached): number {
  return (
    compareRungs(left, right) ||
    right.spread - left.spread ||
    compareNumbers(left.usefulness, right.usefulness)
  );
}

function compareNumbers(left: readonly number[], right: readonly number[]): number {
  for (const [index, value] of left.entries()) {
    const difference = value - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
