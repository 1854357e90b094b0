import type { LabelSelector, PodDisruptionBudget } from '../api/kubernetes.ts';

/** What Berth keeps of a PodDisruptionBudget. */
export interface DisruptionBudgetRecord {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** Absent, it selects nothing; empty, every pod of the namespace (policy/v1). */
  readonly selector: LabelSelector | undefined;
  readonly disruptionsAllowed: number;
  /** Whether kube-controller-manager has counted since the budget was changed; until then the number means nothing. */
  readonly upToDate: boolean;
}

export function decodeDisruptionBudget(budget: PodDisruptionBudget): DisruptionBudgetRecord {
  const { metadata, spec, status } = budget;
  return {
    uid: metadata.uid ?? '',
    namespace: metadata.namespace ?? '',
    name: metadata.name ?? '',
    selector: spec?.selector,
    disruptionsAllowed: status?.disruptionsAllowed ?? 0,
    upToDate: status?.observedGeneration !== undefined && status.observedGeneration === metadata.generation,
  };
}
