import { isWithin, type Rung } from './alignment.ts';
import type { ChoiceModel, ChoiceState } from './choice-model.ts';
import { type Aim, aimsOf, type Budget, isListedAt, listOptions } from './choice-options.ts';
import { type StateKey, stateKeyOf } from './choice-symmetry.ts';

/** Whether all members can have devices at once, each within a rung; undecided when the steps run out. */
export type Possible = 'yes' | 'no' | 'undecided';

/**
 * Looks for any choice that gives every member its devices: the first option first, and back where that leads nowhere.
 * What is left once in vain for the members from one on is not tried again, up to symmetry.
 */
export function isChoicePossible(
  model: ChoiceModel,
  { minRung, steps }: { readonly minRung: Rung | undefined; readonly steps: number },
): Possible {
  const search = new Search(model, minRung, { steps });
  if (search.canServe(0, model.start)) return 'yes';
  return search.isExhausted ? 'undecided' : 'no';
}

const anywhere: readonly Aim[] = ['any'];

class Search {
  readonly #model: ChoiceModel;
  readonly #minRung: Rung | undefined;
  readonly #isAnywhere: boolean;
  readonly #budget: Budget;
  /** Made when something was in vain for the first time, which as a rule is never. */
  #keyOf: StateKey | undefined;
  readonly #inVain = new Set<string>();

  constructor(model: ChoiceModel, minRung: Rung | undefined, budget: Budget) {
    this.#model = model;
    this.#minRung = minRung;
    this.#isAnywhere = isWithin('host', minRung);
    this.#budget = budget;
  }

  get isExhausted(): boolean {
    return this.#budget.steps < 0;
  }

  canServe(member: number, state: ChoiceState): boolean {
    if (member === this.#model.demands.length) return true;
    if (this.#inVain.size > 0 && this.#inVain.has(this.#key(member, state))) return false;
    const served = this.#serve(member, state);
    if (!served) this.#inVain.add(this.#key(member, state));
    return served;
  }

  #key(member: number, state: ChoiceState): string {
    this.#keyOf ??= stateKeyOf(this.#model);
    return `${member} ${this.#keyOf(state)}`;
  }

  #serve(member: number, state: ChoiceState): boolean {
    const recipes = this.#model.demands[member]?.recipes ?? [];
    for (const recipe of recipes) {
      let hasOption = false;
      let served = false;
      const aims = this.#isAnywhere ? anywhere : aimsOf(recipe, this.#minRung, recipes.length > 1);
      for (const aim of aims) {
        listOptions(this.#model, recipe, state, aim, this.#budget, option => {
          hasOption = true;
          if (
            this.#isAnywhere ||
            (isListedAt(aim, recipe, option.rung) && isWithin(option.rung, this.#minRung))
          )
            served = this.canServe(member + 1, option.after);
          return !served;
        });
        if (served) return true;
      }
      // The allocator takes a later alternative only where no earlier one can be had.
      if (hasOption) return false;
    }
    return false;
  }
}
