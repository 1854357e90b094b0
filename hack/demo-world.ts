import type { KubernetesObject, Node } from '../src/api/kubernetes.ts';
import type { BerthProcess } from './bed/berth-process.ts';

/** How long AdmissionReviews of the story's pods took, as the API server saw it. */
export interface AdmissionTimes {
  readonly reviews: number;
  readonly failed: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** A cluster to tell the story on. */
export interface World {
  readonly kind: 'simulated' | 'real';
  /** A request as admin; PATCH is a merge patch. Throws when it is refused. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Tells all pods there are, then what changes. Returns the end of it. */
  watchPods(onEvent: (type: string, pod: KubernetesObject) => void): () => void;
  createFleet(nodes: readonly Node[]): Promise<void>;
  /** Resolves when pods can be created there. */
  createNamespace(name: string, labels: Readonly<Record<string, string>>): Promise<void>;
  /** Resolves when the API server has the pods of opted-in namespaces reviewed. */
  startBerth(): Promise<BerthProcess>;
  /** Has the scheduler ask this Berth, with the configuration that deploy/ ships for mode `pin-extender`. */
  startExtender(berth: BerthProcess): Promise<void>;
  admissionTimes(): Promise<AdmissionTimes>;
  /** @param keepLogs leaves the logs where they are and says where that is */
  stop(keepLogs: boolean): Promise<void>;
}

const roots = {
  pods: '/api/v1',
  events: '/api/v1',
  configmaps: '/api/v1',
  statefulsets: '/apis/apps/v1',
  leaderworkersets: '/apis/leaderworkerset.x-k8s.io/v1',
} as const;

export function collectionPath(namespace: string, resource: keyof typeof roots): string {
  return `${roots[resource]}/namespaces/${namespace}/${resource}`;
}

/** Milliseconds with two decimals, as many as mean anything. */
export function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
