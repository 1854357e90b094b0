import type { Pod } from '../../src/api/kubernetes.ts';
import { resourceTypes } from './api-paths.ts';
import { parseObject } from './object-store.ts';
import { nameOf, now, type ResourceApi } from './resource-api.ts';

const startMs = 150;
const endMs = 300;

/** A pod with it does not start, as in the stages of hack/bed. */
const notReady = 'bed.berth.test/not-ready';

/** Plays all kubelets: bound pods run and are ready after a moment, deleted ones go after one. */
export function startKubelets(api: ResourceApi): () => void {
  const timers = new Set<NodeJS.Timeout>();
  const begun = new Set<string>();
  const later = (delayMs: number, work: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, delayMs);
    timers.add(timer);
  };
  const unsubscribe = api.store.subscribe(({ resource, type, text }) => {
    if (resource !== 'pods' || type === 'DELETED') return;
    const pod = parseObject<Pod>(text);
    if (pod.spec.nodeName === undefined) return;
    const isGoing = pod.metadata.deletionTimestamp !== undefined;
    if (!isGoing && pod.metadata.annotations?.[notReady] !== undefined) return;
    const task = `${isGoing ? 'end' : 'start'} ${pod.metadata.uid}`;
    if (begun.has(task)) return;
    begun.add(task);
    later(isGoing ? endMs : startMs, () => (isGoing ? end(api, pod) : start(api, pod)));
  });
  return () => {
    unsubscribe();
    for (const timer of timers) clearTimeout(timer);
  };
}

function start(api: ResourceApi, pod: Pod): void {
  const current = sameIncarnation(api, pod);
  if (current === undefined || current.metadata.deletionTimestamp !== undefined) return;
  const ready = { type: 'Ready', status: 'True', lastTransitionTime: now() };
  const conditions = [...(current.status?.conditions ?? []), ready];
  const containerStatuses = current.spec.containers.map(({ name }) => ({ name }));
  const status = { ...current.status, phase: 'Running', conditions, containerStatuses };
  api.store.write('pods', { ...current, status });
}

function end(api: ResourceApi, pod: Pod): void {
  if (sameIncarnation(api, pod) === undefined) return;
  api.remove(resourceTypes.pods, nameOf(pod), { gracePeriodSeconds: 0 });
}

function sameIncarnation(api: ResourceApi, pod: Pod): Pod | undefined {
  const current = api.store.read<Pod>('pods', nameOf(pod));
  return current?.metadata.uid === pod.metadata.uid ? current : undefined;
}
