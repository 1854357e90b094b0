import type { Pod, PodDisruptionBudget } from '../../src/api/kubernetes.ts';
import { matchesLabelSelector } from '../../src/cluster/labels.ts';
import { resourceTypes } from './api-paths.ts';
import type { DeleteOptions } from './delete-options.ts';
import type { ObjectName } from './object-store.ts';
import { Refusal } from './refusal.ts';
import { nameOf, type ResourceApi } from './resource-api.ts';

/**
 * Subresource `eviction` of a pod: asks its PodDisruptionBudget, marks the pod as disrupted and deletes it. The budget is
 * charged before the UID is compared, as the API server does it. Nobody counts disruptions here: the status of a budget is
 * what its writer says.
 *
 * @throws Refusal 429 when a budget holds it back, 404 and 409 as a deletion
 */
export function evict(api: ResourceApi, name: ObjectName, options: DeleteOptions): void {
  const pod = api.get<Pod>(resourceTypes.pods, name);
  const budgets = budgetsOf(api, pod);
  if (budgets.length > 1) {
    throw new Refusal(500, 'InternalError', `pod ${name.name} has more than one PodDisruptionBudget`);
  }
  for (const budget of budgets) charge(api, budget, options.isDryRun ?? false);
  api.checkPreconditions(pod, options);
  if (options.isDryRun) return;
  const disrupted = { type: 'DisruptionTarget', status: 'True', reason: 'EvictionByEvictionAPI' };
  const patch = {
    contentType: 'application/strategic-merge-patch+json',
    body: { status: { conditions: [disrupted] } },
  };
  api.patch(resourceTypes.pods, name, patch, 'status');
  const { uid, propagationPolicy, gracePeriodSeconds } = options;
  api.remove(resourceTypes.pods, name, { uid, propagationPolicy, gracePeriodSeconds });
}

/** A pod that does not run yet disrupts nobody. */
function budgetsOf(api: ResourceApi, { metadata, spec }: Pod): readonly PodDisruptionBudget[] {
  if (spec.nodeName === undefined) return [];
  const { namespace, labels = {} } = metadata;
  return api.store
    .list<PodDisruptionBudget>('poddisruptionbudgets', namespace)
    .filter(budget => matchesLabelSelector(budget.spec?.selector, labels));
}

function charge(api: ResourceApi, budget: PodDisruptionBudget, isDryRun: boolean): void {
  const { name = '' } = nameOf(budget);
  const allowed = budget.status?.disruptionsAllowed ?? 0;
  if (allowed <= 0) {
    const cause = { reason: 'DisruptionBudget', message: `The disruption budget ${name} allows none now.` };
    const message = "Cannot evict pod as it would violate the pod's disruption budget.";
    throw new Refusal(429, 'TooManyRequests', message, [cause]);
  }
  if (isDryRun) return;
  const status = { ...budget.status, disruptionsAllowed: allowed - 1 };
  api.store.write('poddisruptionbudgets', { ...budget, status });
}
