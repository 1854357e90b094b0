import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { ApiFailure } from '../../hack/bed/api-client.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { reviveNode, silenceNode } from '../../hack/bed/fleets.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { listPods, until } from './bed.ts';

const strategicMergePatch = 'application/strategic-merge-patch+json';
const leasePath = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases';

/** `powerOff` until the end of the test; a node that was deleted meanwhile does not come back. */
export async function killNode(t: Test, cluster: Cluster, namespace: string, name: string): Promise<void> {
  t.teardown(() => bringBack(cluster, namespace, name));
  await powerOff(cluster, namespace, name);
}

/**
 * A machine that lost its power: its kubelet says nothing any more, so nobody ends the pods there. What
 * kube-controller-manager finds out after its grace period (400 s on a bed for many nodes) is written here at once, the
 * node's Ready condition and that of its pods; the taints are its own.
 */
export async function powerOff(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await silenceNode(cluster, name);
  // KWOK does not always see that another holds the Lease, so it is told in its own words as well.
  await annotateSilent(cluster, namespace, name, 'true');
  // What it has begun before it still does.
  await until(`node ${name} to stay silent`, 20_000, async () => {
    const status = { conditions: [readyCondition('Unknown', 'NodeStatusUnknown')] };
    await cluster.request('PATCH', `/api/v1/nodes/${name}/status`, { status }, strategicMergePatch);
    await delay(1_500);
    const node = await cluster.request<Node>('GET', `/api/v1/nodes/${name}`);
    return node.status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'Unknown';
  });
  for (const pod of await podsOn(cluster, namespace, name)) {
    const status = { conditions: [readyCondition('False', 'NodeNotReady')] };
    await cluster.request('PATCH', `${podPath(pod)}/status`, { status }, strategicMergePatch);
  }
}

async function annotateSilent(
  cluster: Cluster,
  namespace: string,
  name: string,
  value: 'true' | null,
): Promise<void> {
  const body = { metadata: { annotations: { 'bed.berth.test/silent': value } } };
  await cluster.request('PATCH', `/api/v1/nodes/${name}`, body).catch(ignoreGone);
  for (const pod of await podsOn(cluster, namespace, name))
    await cluster.request('PATCH', podPath(pod), body).catch(ignoreGone);
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof ApiFailure && error.status === 404)) throw error;
}

/** The end of `powerOff`. */
export async function bringBack(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await annotateSilent(cluster, namespace, name, null);
  if (await exists(cluster, `/api/v1/nodes/${name}`)) await reviveNode(cluster, name);
  // The next node of that name shall find a Lease that nobody holds.
  else if (await exists(cluster, `${leasePath}/${name}`))
    await cluster.request('DELETE', `${leasePath}/${name}`);
  // KWOK does not look again at pods that were deleted while it stood back.
  for (const pod of await podsOn(cluster, namespace, name))
    if (pod.metadata.deletionTimestamp !== undefined)
      await cluster.request('DELETE', podPath(pod), { gracePeriodSeconds: 0 }).catch(() => undefined);
}

function podPath({ metadata }: Pod): string {
  return `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
}

async function podsOn(cluster: Cluster, namespace: string, node: string): Promise<readonly Pod[]> {
  return (await listPods(cluster, namespace)).filter(({ spec }) => spec.nodeName === node);
}

function readyCondition(status: 'Unknown' | 'False', reason: string): Record<string, string> {
  const now = new Date().toISOString();
  return { type: 'Ready', status, reason, lastTransitionTime: now };
}

async function exists(cluster: Cluster, path: string): Promise<boolean> {
  try {
    await cluster.request('GET', path);
    return true;
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 404) return false;
    throw error;
  }
}
