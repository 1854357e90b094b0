import { setTimeout as delay } from 'node:timers/promises';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { outOfServiceTaint } from '../../src/failure/signals.ts';
import type { Cluster } from '../bed/cluster.ts';
import { silenceNode } from '../bed/fleets.ts';

/** What is done about a machine that is off for good. */
export type Fencing = 'taint' | 'delete';

/** The kubelet of a node falls silent: no heartbeat, and no pod there starts or ends any more. */
export async function killKubelet(cluster: Cluster, node: string, pods: readonly Pod[]): Promise<void> {
  // KWOK does not always see that another holds the Lease, so it is told in its own words as well.
  const silent = { metadata: { annotations: { 'bed.berth.test/silent': 'true' } } };
  await cluster.request('PATCH', `/api/v1/nodes/${node}`, silent);
  for (const { metadata } of pods.filter(({ spec }) => spec.nodeName === node))
    await cluster.request('PATCH', `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`, silent);
  await silenceNode(cluster, node);
}

/**
 * Plays the one who fences: when kube-controller-manager has called a node Unknown he makes sure that it is off, which
 * takes him a while, and says so. Resolves with the time at which the node turned Unknown, by `performance.now()`.
 */
export async function fence(
  cluster: Cluster,
  node: string,
  fencing: Fencing,
  afterMs: number,
): Promise<number> {
  const unknownMs = await turnsUnknown(cluster, node);
  await delay(afterMs);
  const path = `/api/v1/nodes/${node}`;
  if (fencing === 'delete') {
    await cluster.request('DELETE', path);
    return unknownMs;
  }
  const { spec } = await cluster.request<Node>('GET', path);
  const taint = { key: outOfServiceTaint, value: 'nodeshutdown', effect: 'NoExecute' };
  await cluster.request('PATCH', path, { spec: { taints: [...(spec?.taints ?? []), taint] } });
  return unknownMs;
}

function turnsUnknown(cluster: Cluster, name: string): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const selector = encodeURIComponent(`metadata.name=${name}`);
  const end = cluster.watch(`/api/v1/nodes?fieldSelector=${selector}`, (_type, object) => {
    const { status } = object as unknown as Node;
    if (status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'Unknown'))
      resolve(performance.now());
  });
  return promise.finally(end);
}
