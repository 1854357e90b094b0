import { matchesLabelSelector } from '../cluster/labels.ts';
import type { DisruptionBudgetRecord } from '../group/disruption-budget.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { kindOf, memberRank } from './incarnation.ts';

/**
 * Why PodDisruptionBudgets do not allow that a whole group goes, or undefined when they do.
 *
 * Of a LeaderWorkerSet's group the Eviction API is asked about the leader alone and charges one disruption, though all
 * members go with it (verified); and it answers 500 to a pod that two budgets match. So the sum is done here, over all
 * Ready members. Of other groups each member is evicted by itself, and the first must not go when the last may not.
 */
export function whyBudgetsForbid(
  pods: readonly PodInfo[],
  budgets: readonly DisruptionBudgetRecord[],
): string | undefined {
  const ready = pods.filter(pod => pod.ready && !pod.terminal && !pod.terminating);
  for (const budget of budgets) {
    const matching = ready.filter(pod => matchesLabelSelector(budget.selector, pod.labels)).length;
    if (matching === 0) continue;
    if (!budget.upToDate)
      return `PodDisruptionBudget ${budget.name} has changed and its status does not say yet what it allows`;
    if (budget.disruptionsAllowed < matching)
      return `PodDisruptionBudget ${budget.name} does not allow that all Ready members of the group go at once`;
  }
  for (const pod of pods.filter(isEvicted)) {
    const matching = budgets.filter(({ selector }) => matchesLabelSelector(selector, pod.labels));
    if (matching.length < 2) continue;
    const names = matching.map(({ name }) => name).sort();
    const whom = kindOf(pod) === 'lws' ? 'the leader' : pod.name;
    return `the PodDisruptionBudgets ${names.join(', ')} all match ${whom}, and the Eviction API takes one at most`;
  }
  return undefined;
}

/** Whether the Eviction API is asked about this very pod. */
function isEvicted(pod: PodInfo): boolean {
  return !pod.terminating && !pod.terminal && (kindOf(pod) !== 'lws' || memberRank(pod) === 0);
}
