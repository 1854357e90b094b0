import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { singlePod } from './bed.ts';

/** How long ordinary pods took, in milliseconds. */
export interface PodTimings {
  /** Answer of the API server to each CREATE, sorted. */
  readonly createMs: readonly number[];
  /** From the first CREATE to the last bind. */
  readonly allBoundMs: number;
  readonly bound: number;
}

const lanes = 8;
const cpuPodLabel = 'cpu-pod';
const boundTimeoutMs = 60_000;

/** Creates CPU pods, a few at a time, waits until each has a node, and deletes them. */
export async function bindCpuPods(
  cluster: Cluster,
  namespace: string,
  prefix: string,
  count: number,
): Promise<PodTimings> {
  const bound = new Set<string>();
  let lastMs = 0;
  const startedMs = performance.now();
  const stop = cluster.watch(`/api/v1/namespaces/${namespace}/pods`, (_type, pod) => {
    const name = pod.metadata.name ?? '';
    if (!name.startsWith(prefix) || !hasNode(pod['spec']) || bound.has(name)) return;
    bound.add(name);
    lastMs = performance.now() - startedMs;
  });
  const createMs: number[] = [];
  const queue = Array.from({ length: count }, (_, i) => `${prefix}-${i}`).values();
  const lane = async () => {
    for (const name of queue) {
      const pod = singlePod(namespace, name, { requests: { cpu: '10m' } }, {}, { [cpuPodLabel]: '' });
      const beganMs = performance.now();
      await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
      createMs.push(performance.now() - beganMs);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  while (bound.size < count && performance.now() - startedMs < boundTimeoutMs) await delay(20);
  stop();
  // They would leave no room for the next ones: a node takes 110 pods.
  await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods?labelSelector=${cpuPodLabel}`, {
    gracePeriodSeconds: 0,
  });
  return { createMs: createMs.sort((a, b) => a - b), allBoundMs: lastMs, bound: bound.size };
}

/** A value out of sorted ones, e.g. share 0.5 for the median. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function hasNode(spec: unknown): boolean {
  return typeof spec === 'object' && spec !== null && 'nodeName' in spec;
}
