import type { NodeRecord } from '../cluster/node-info.ts';

/*
 * Nodes that somebody else is about to empty or to take away. Berth leaves the node to them and does the part with groups:
 * it plans nothing there, and once they have evicted one member it finishes the group (signal Foreign).
 */

/** NVSentinel keeps it on a node from the fault until the node is given back, whatever its value. */
const sentinelStateLabel = 'dgxc.nvidia.com/nvsentinel-state';

/** Whoever tolerates every taint, as many GPU pods do, would be planned there all the same. */
const removers: ReadonlyMap<string, string> = new Map([
  ['karpenter.sh/disrupted', 'Karpenter is about to remove it'],
  ['karpenter.sh/disruption', 'Karpenter is about to remove it'],
  ['ToBeDeletedByClusterAutoscaler', 'the cluster autoscaler is about to remove it'],
]);

/** Written by administrators (KEP-5683), and by NVSentinel for what a cloud announces. */
const maintenanceConditions: readonly string[] = [
  'MaintenancePlanned',
  'MaintenanceInProgress',
  'DrainInProgress',
  'Drained',
  'CSPMaintenance',
];

/** Who takes a node away from new groups, in one sentence; undefined where nobody does. */
export function whoTakes({
  name,
  labels,
  taints,
  conditions = [],
}: Pick<NodeRecord, 'name' | 'labels' | 'taints' | 'conditions'>): string | undefined {
  const state = labels[sentinelStateLabel];
  if (state !== undefined) return `node ${name}: NVSentinel takes care of it (${state})`;
  for (const { key } of taints) {
    const remover = removers.get(key);
    if (remover !== undefined) return `node ${name}: ${remover}`;
  }
  const condition = conditions.find(
    ({ type, status }) => status === 'True' && maintenanceConditions.includes(type),
  );
  return condition === undefined ? undefined : `node ${name} has the condition ${condition.type}=True`;
}
