import { setTimeout as delay } from 'node:timers/promises';
import type { Node, Pod, Taint } from '../../src/api/kubernetes.ts';
import { ApiFailure } from './api-client.ts';
import type { Cluster } from './cluster.ts';
import type { Fleet } from './fleet-presets.ts';

/** A node's lease as far as this file touches it. */
interface Lease {
  readonly spec: { readonly leaseDurationSeconds: number };
}

const createConcurrency = 24;
const readyTimeoutMs = 120_000;
const pollMs = 100;
/** Taints that kube-controller-manager puts on nodes it knows nothing good of yet. */
const conditionTaints = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];
const slicesPath = '/apis/resource.k8s.io/v1/resourceslices';
const deviceClassesPath = '/apis/resource.k8s.io/v1/deviceclasses';
const leaseNamespacePath = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases';
/** No node of a test is away for longer. */
const foreignLeaseSeconds = 24 * 3600;

/**
 * Creates a fleet: classes and slices of its devices first, as if the drivers had been there before anybody looked, then
 * its nodes. It waits until the scheduler may use them: admission taints a new node as not ready, and
 * kube-controller-manager takes the taint off when it has seen the Ready condition.
 */
export async function createFleet(cluster: Cluster, fleet: Fleet): Promise<void> {
  const awaited = new Set(fleet.nodes.map(node => node.metadata.name));
  // A watch, since polling a list of 1,000 nodes would itself keep the API server busy.
  const stop = cluster.watch('/api/v1/nodes', (_type, node: Node) => {
    if (isUsable(node)) awaited.delete(node.metadata.name);
  });
  try {
    await inParallel(fleet.deviceClasses ?? [], item => cluster.request('POST', deviceClassesPath, item));
    await inParallel(fleet.slices ?? [], item => cluster.request('POST', slicesPath, item));
    await inParallel(fleet.nodes, node => cluster.request('POST', '/api/v1/nodes', readyNow(node)));
    await until(
      `${fleet.nodes.length} nodes of fleet ${fleet.name} to be ready`,
      async () => awaited.size === 0,
    );
  } finally {
    stop();
  }
}

/** Deletes a fleet's devices and nodes and, without grace, the pods that are bound to them. */
export async function deleteFleet(cluster: Cluster, fleet: Fleet): Promise<void> {
  await inParallel(fleet.nodes, node =>
    ifPresent(cluster.request('DELETE', `/api/v1/nodes/${node.metadata.name}`)),
  );
  const names = new Set(fleet.nodes.map(node => node.metadata.name));
  const { items } = await cluster.request<{ items: Pod[] }>('GET', '/api/v1/pods');
  const bound = items.filter(pod => names.has(pod.spec.nodeName ?? ''));
  await inParallel(bound, pod => {
    const path = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`;
    return ifPresent(cluster.request('DELETE', path, { gracePeriodSeconds: 0 }));
  });
  // Nobody owns them here: real ones are the node's, and kube-controller-manager's garbage collector is slow.
  await inParallel(fleet.slices ?? [], ({ metadata }) =>
    ifPresent(cluster.request('DELETE', `${slicesPath}/${metadata.name}`)),
  );
  await inParallel(fleet.deviceClasses ?? [], ({ metadata }) =>
    ifPresent(cluster.request('DELETE', `${deviceClassesPath}/${metadata.name}`)),
  );
}

/**
 * Makes a node look as if its kubelet had died: no heartbeat, no pod starts or ends there. KWOK stands back from a node
 * whose lease another holds. kube-controller-manager declares the node Unknown after its grace period (50 s; shorter
 * with `--node-monitor-grace-period` in `extraArgs`).
 */
export async function silenceNode(cluster: Cluster, name: string): Promise<void> {
  await patchLease(cluster, name, 'berth-bed-silence', foreignLeaseSeconds);
}

/** The end of `silenceNode`: KWOK takes the node up again within its lease interval, about 10 s. */
export async function reviveNode(cluster: Cluster, name: string): Promise<void> {
  await patchLease(cluster, name, null, 1);
}

async function patchLease(
  cluster: Cluster,
  name: string,
  holder: string | null,
  seconds: number,
): Promise<void> {
  const spec = { holderIdentity: holder, leaseDurationSeconds: seconds, renewTime: microTime() };
  await until(`a lease of node ${name}`, () =>
    isPresent(cluster.request<Lease>('GET', `${leaseNamespacePath}/${name}`)),
  );
  await cluster.request('PATCH', `${leaseNamespacePath}/${name}`, { spec });
}

/** Leases carry microseconds. */
function microTime(): string {
  return new Date().toISOString().replace('Z', '000Z');
}

function readyNow(node: Node): Node & { readonly status: Record<string, unknown> } {
  const now = new Date().toISOString();
  const ready = {
    type: 'Ready',
    status: 'True',
    reason: 'KubeletReady',
    message: 'simulated',
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  };
  return { ...node, status: { ...node.status, conditions: [ready] } };
}

function isUsable(node: Node): boolean {
  const isTainted = node.spec?.taints?.some((taint: Taint) => conditionTaints.includes(taint.key)) ?? false;
  const isReady =
    node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  return isReady && !isTainted;
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const queue = items.values();
  const lane = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: createConcurrency }, lane));
}

async function until(what: string, isDone: () => Promise<boolean>): Promise<void> {
  const deadlineMs = Date.now() + readyTimeoutMs;
  while (!(await isDone())) {
    if (Date.now() > deadlineMs) throw new Error(`waited ${readyTimeoutMs / 1000} s in vain for ${what}`);
    await delay(pollMs);
  }
}

async function ifPresent(request: Promise<unknown>): Promise<void> {
  await isPresent(request);
}

async function isPresent(request: Promise<unknown>): Promise<boolean> {
  try {
    await request;
    return true;
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 404) return false;
    throw error;
  }
}
