import { matchesLabelSelector } from '../cluster/labels.ts';
import type { DisruptionBudgetRecord } from '../group/disruption-budget.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { memberRank } from './incarnation.ts';

/**
 * Why PodDisruptionBudgets do not allow that a whole group goes, or undefined when they do.
 *
 * The Eviction API is asked about the leader alone and charges one disruption, though all members go with it (verified);
 * and it answers 500 to a pod that two budgets match. So the sum is done here, over all Ready members.
 */
export function whyBudgetsForbid(
  pods: readonly PodInfo[],
  budgets: readonly DisruptionBudgetRecord[],
): string | undefined {
  const ready = pods.filter(pod => pod.ready && !pod.terminal && !pod.terminating);
  const leader = pods.find(pod => memberRank(pod) === 0);
  for (const budget of budgets) {
    const matching = ready.filter(pod => matchesLabelSelector(budget.selector, pod.labels)).length;
    if (matching === 0) continue;
    if (!budget.upToDate)
      return `PodDisruptionBudget ${budget.name} has changed and its status does not say yet what it allows`;
    if (budget.disruptionsAllowed < matching)
      return `PodDisruptionBudget ${budget.name} does not allow that all Ready members of the group go at once`;
  }
  const ofLeader =
    leader === undefined
      ? []
      : budgets.filter(({ selector }) => matchesLabelSelector(selector, leader.labels));
  if (ofLeader.length < 2) return undefined;
  const names = ofLeader.map(({ name }) => name).sort();
  return `the PodDisruptionBudgets ${names.join(', ')} all match the leader, and the Eviction API takes one at most`;
}
