import type { NodeRecord } from './node-info.ts';

/** Of GKE, on nodes of TPU partitions of a shape (tpu7x: 4x4x4): whether a slice can be formed of the partition. */
const stateLabel = /^cloud\.google\.com\/gke-tpu-partition-[0-9x]+-state$/;
/** A degraded one is impaired and serves all the same. */
const usableStates: readonly string[] = ['HEALTHY', 'DEGRADED'];
const known = new WeakMap<NodeRecord['labels'], string | undefined>();

/** State of the TPU partition that a node belongs to, in the words of GKE; undefined where it tells none. */
export function tpuPartitionState({ labels }: Pick<NodeRecord, 'labels'>): string | undefined {
  if (known.has(labels)) return known.get(labels);
  const key = Object.keys(labels).find(label => stateLabel.test(label));
  const state = key === undefined || labels[key] === '' ? undefined : labels[key];
  known.set(labels, state);
  return state;
}

/** Whether a workload may be placed on a partition of that state. */
export function isUsablePartition(state: string | undefined): boolean {
  return state === undefined || usableStates.includes(state);
}
