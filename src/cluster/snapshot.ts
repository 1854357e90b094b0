import type { NodeList } from './node-list.ts';
import type { ExistingPod } from './pod-affinity.ts';
import type { TopologyTree } from './topology.ts';

/** The cluster at one moment, as planners see it. Immutable but for the pods, which are those of the moment of asking. */
export interface ClusterSnapshot {
  readonly tree: TopologyTree;
  /** By the index that the tree gives a node. */
  readonly nodes: NodeList;
  /** Pods that inter-pod terms may match: bound ones, and planned ones at their planned node. */
  existingPods(): Iterable<ExistingPod>;
  /** The ones among them that carry required anti-affinity, which keeps newcomers away. */
  repellingPods(): Iterable<ExistingPod>;
  namespaceLabels(namespace: string): Readonly<Record<string, string>>;
}
