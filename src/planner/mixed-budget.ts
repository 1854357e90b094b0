/** Steps that are left to a plan, over all the domains it tries: questions to hosts and moves of the exact search. */
export interface SearchBudget {
  trials: number;
}

/** A second or so at the very worst, however many domains there are. */
const trialsPerPlan = 1_500_000;

export function searchBudget(): SearchBudget {
  return { trials: trialsPerPlan };
}

/** Runs a part of the search on no more than `most` of the steps, and takes those it used off the budget. */
export function withAllowance<T>(budget: SearchBudget, most: number, search: (part: SearchBudget) => T): T {
  const allowed = Math.max(0, Math.min(most, budget.trials));
  const part = { trials: allowed };
  const found = search(part);
  budget.trials -= allowed - Math.max(0, part.trials);
  return found;
}
