import type { PodCondition } from './api/kubernetes.ts';
import type { BerthOptions } from './berth-options.ts';
import type { ClusterCache } from './cache/cluster-cache.ts';
import type { OwnerRef } from './controller/placement-report.ts';
import type { PodInfo } from './group/pod-info.ts';
import type { Clock } from './kube/clock.ts';
import { EventRecorder } from './kube/event-recorder.ts';
import { WorkQueue } from './kube/work-queue.ts';
import { patchPodCondition } from './kube/writes.ts';

type EventType = 'Normal' | 'Warning';

/** What Berth tells people through the API: events and conditions. Every call returns at once and cannot fail. */
export interface Announcements {
  podEvent(pod: PodInfo, type: EventType, reason: string, message: string): void;
  ownerEvent(owner: OwnerRef, type: EventType, reason: string, message: string): void;
  /** Sets one condition of a pod; of several in a row of the same type the last one is written. */
  condition(pod: PodInfo, condition: PodCondition): void;
  start(): void;
  /** Writes what there is, for 2 s at most. */
  stop(): Promise<void>;
}

export function makeAnnouncements(
  { client, metrics, log }: BerthOptions,
  cache: ClusterCache,
  clock: Clock,
  identity: string,
): Announcements {
  const events = new EventRecorder({
    client,
    component: 'berth',
    instance: identity,
    log,
    clock,
    onDrop: () => metrics.eventsDropped.inc(),
  });
  const wanted = new Map<string, { readonly pod: PodInfo; readonly condition: PodCondition }>();
  const conditions = new WorkQueue({
    name: 'conditions',
    log,
    clock,
    concurrency: 4,
    async process(key) {
      const next = wanted.get(key);
      wanted.delete(key);
      if (next === undefined || cache.pod(next.pod.uid) === undefined) return;
      try {
        await patchPodCondition(client, next.pod, next.condition);
      } catch (error) {
        // Only words for people: what is lost is said again with the next change.
        log.debug(
          { err: error, pod: `${next.pod.namespace}/${next.pod.name}` },
          'condition could not be written',
        );
      }
    },
  });
  return {
    podEvent: ({ namespace, name, uid }, type, reason, message) =>
      events.record({
        involved: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
        type,
        reason,
        message,
      }),
    ownerEvent: (involved, type, reason, message) => events.record({ involved, type, reason, message }),
    condition: (pod, condition) => {
      const lastTransitionTime = new Date(clock.wallMs()).toISOString().replace(/\.\d+Z$/, 'Z');
      const key = `${pod.uid} ${condition.type}`;
      wanted.set(key, { pod, condition: { ...condition, lastTransitionTime } });
      conditions.add(key);
    },
    start: () => conditions.start(),
    stop: async () => {
      await Promise.all([conditions.shutdown(), events.flush(2_000)]);
      await events.stop();
    },
  };
}
