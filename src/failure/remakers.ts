import { berth } from '../api/names.ts';
import type { PodInfo } from '../group/pod-info.ts';

/** A controller and those of its pods that stay until they are evicted, by name. */
export interface Remaker {
  readonly kind: RemakerKind;
  readonly name: string;
  readonly uid: string;
  readonly pods: readonly string[];
}

/** Controllers of which Berth knows that they make a pod anew, and can see whether they still will. */
export const remakerKinds = ['StatefulSet', 'ReplicaSet', 'Job'] as const;
export type RemakerKind = (typeof remakerKinds)[number];

/** A controller as the API server shows it; a Job has no replicas. */
export interface LiveRemaker {
  readonly uid: string | undefined;
  readonly isGoing: boolean;
  readonly replicas: number;
  readonly firstOrdinal: number;
  /** A Job that is over or suspended makes no more pods. */
  readonly isOver: boolean;
}

/** Why nobody would make one of these pods anew, or why that costs what its owner has not agreed to; undefined when all are. */
export function whyNotRemade(pods: readonly PodInfo[]): string | undefined {
  for (const { name, controller, annotations } of pods) {
    if (controller === undefined) return `${name} has no controller that would make it anew`;
    const { kind } = controller;
    if (kind === 'Job') {
      if (annotations[berth.failure] !== 'evict')
        return `${name} is a pod of Job ${controller.name}, of whose backoffLimit an eviction takes one; annotate its template with ${berth.failure}: evict if that may be`;
    } else if (remakerOf(kind) === undefined) {
      return `Berth does not know whether ${kind} ${controller.name} makes ${name} anew`;
    }
  }
  return undefined;
}

/** Who makes these pods anew, in the order of their names. */
export function remakersOf(pods: readonly PodInfo[]): readonly Remaker[] {
  const byUid = Map.groupBy(pods, ({ controllerUid }) => controllerUid);
  return [...byUid.values()]
    .flatMap(own => {
      const { controller } = own[0] ?? {};
      const kind = remakerOf(controller?.kind);
      if (controller === undefined || kind === undefined) return [];
      const pods = own.filter(({ terminating }) => !terminating).map(pod => pod.name);
      return [{ kind, name: controller.name, uid: controller.uid, pods: pods.sort() }];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Whether a controller would make these pods anew if they went now. */
export function stillRemakes({ kind, name, uid, pods }: Remaker, live: LiveRemaker | undefined): boolean {
  if (live === undefined || live.uid !== uid || live.isGoing || live.isOver) return false;
  switch (kind) {
    case 'Job':
      return true;
    case 'ReplicaSet':
      return Math.max(1, pods.length) <= live.replicas;
    case 'StatefulSet':
      if (live.replicas === 0) return false;
      return pods.every(pod => {
        const ordinal = pod.startsWith(`${name}-`) ? Number(pod.slice(name.length + 1)) : Number.NaN;
        return ordinal >= live.firstOrdinal && ordinal < live.firstOrdinal + live.replicas;
      });
  }
}

function remakerOf(kind: string | undefined): RemakerKind | undefined {
  return remakerKinds.find(known => known === kind);
}
