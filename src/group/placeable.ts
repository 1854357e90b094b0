import type { LeaderWorkerSet, PodSpec } from '../api/kubernetes.ts';
import { berth, lws } from '../api/names.ts';
import { requestsAccelerator, usesResourceClaims } from '../cluster/pod-requests.ts';

/** Why Berth leaves a group to kube-scheduler though its namespace has opted in. */
export type NotPlaceable =
  /** Placed by CPU and memory alone, and no topology asked for: nothing to gain from a plan. */
  'no-accelerator';

const topologyKeys: readonly string[] = [
  berth.requiredTopology,
  berth.preferredTopology,
  berth.sliceTopology,
  berth.exclusiveTopology,
  berth.spreadTopology,
  berth.sameDomainAs,
  berth.minAlignment,
  lws.exclusiveTopology,
];

/**
 * Looks at every template of an LWS group, because the answer must be the same for all its pods: a leader without
 * accelerator belongs to a group with them.
 */
export function whyNotPlaceable(options: {
  readonly spec: PodSpec;
  readonly annotations: Readonly<Record<string, string>>;
  readonly owner: LeaderWorkerSet | undefined;
}): NotPlaceable | undefined {
  const { owner } = options;
  const specs = [options.spec];
  const annotations = [options.annotations, owner?.metadata.annotations ?? {}];
  if (owner !== undefined) {
    const { leaderTemplate, workerTemplate } = owner.spec.leaderWorkerTemplate;
    for (const template of [leaderTemplate, workerTemplate])
      if (template !== undefined) specs.push(template.spec);
  }
  if (specs.some(spec => usesResourceClaims(spec) || requestsAccelerator(spec))) return undefined;
  return topologyKeys.some(key => annotations.some(a => a[key] !== undefined)) ? undefined : 'no-accelerator';
}
