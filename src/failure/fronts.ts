import type { Endpoint, EndpointSlice, InferencePool } from '../api/discovery.ts';
import { k8s } from '../api/names.ts';
import { matchesLabelSelector } from '../cluster/labels.ts';
import type { PodInfo } from '../group/pod-info.ts';

/** Something that sends requests to pods. */
export interface Front {
  /**
   * `service` has an address, behind which requests are spread; `headless` only gives out addresses, as LWS's own Service
   * does for the members of its groups; `pool` is an InferencePool.
   */
  readonly kind: 'service' | 'headless' | 'pool';
  /** Whom it knows of, by UID of the pod, or by address where there is none. */
  readonly listed: ReadonlySet<string>;
  /** Who gets requests. */
  readonly serving: ReadonlySet<string>;
}

/** The fronts of one namespace; `pods` are those of that namespace. */
export function frontsOf(
  slices: readonly EndpointSlice[],
  pools: readonly InferencePool[],
  pods: readonly PodInfo[],
): readonly Front[] {
  const byService = new Map<string, EndpointSlice[]>();
  for (const slice of slices) {
    const service = slice.metadata.labels?.[k8s.serviceName];
    const key = service === undefined ? `slice/${slice.metadata.name}` : `service/${service}`;
    byService.set(key, [...(byService.get(key) ?? []), slice]);
  }
  return [...[...byService.values()].map(serviceFront), ...pools.map(pool => poolFront(pool, pods))];
}

/** Whoever sends requests to any of these pods sends none to others: without them nobody would answer. */
export function areTheLast(fronts: readonly Front[], uids: ReadonlySet<string>): boolean {
  const sending = fronts.filter(
    ({ kind, serving }) => kind !== 'headless' && [...serving].some(uid => uids.has(uid)),
  );
  return sending.length > 0 && sending.every(({ serving }) => [...serving].every(uid => uids.has(uid)));
}

function serviceFront(slices: readonly EndpointSlice[]): Front {
  const endpoints = slices.flatMap(slice => slice.endpoints ?? []);
  const isHeadless = slices.some(({ metadata }) => metadata.labels?.[k8s.headlessService] !== undefined);
  return {
    kind: isHeadless ? 'headless' : 'service',
    listed: new Set(endpoints.map(nameOf)),
    serving: new Set(endpoints.filter(getsRequests).map(nameOf)),
  };
}

/** LWS's Service publishes pods that are not ready, so `ready` alone would never become false. */
function getsRequests({ conditions = {} }: Endpoint): boolean {
  return conditions.ready !== false && conditions.serving !== false && conditions.terminating !== true;
}

function nameOf({ targetRef, addresses }: Endpoint): string {
  return targetRef?.uid ?? addresses?.[0] ?? '';
}

function poolFront({ spec }: InferencePool, pods: readonly PodInfo[]): Front {
  const { matchLabels = {} } = spec?.selector ?? {};
  const selects = Object.keys(matchLabels).length > 0;
  const selected = pods.filter(({ labels }) => selects && matchesLabelSelector({ matchLabels }, labels));
  return {
    kind: 'pool',
    listed: new Set(selected.map(({ uid }) => uid)),
    serving: new Set(selected.filter(pod => pod.ready && !pod.terminating).map(({ uid }) => uid)),
  };
}
