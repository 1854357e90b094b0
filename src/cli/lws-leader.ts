import { createHash } from 'node:crypto';
import type { Affinity, LeaderWorkerSet, Pod, PodAffinityTerm } from '../api/kubernetes.ts';
import { k8s, lws } from '../api/names.ts';

/**
 * The leader pod of one replica of a LeaderWorkerSet, as the LWS controller, the StatefulSet controller and LWS's pod
 * webhook make it together, before any other admission. Sources, LWS v0.9 and v0.10:
 *
 * - pkg/controllers/leaderworkerset_controller.go: the leader StatefulSet's template is the leader template, or the
 *   worker template where there is none; labels `name`, `worker-index` 0 and the revision; annotations `size` and
 *   `exclusive-topology`, which come from the live object and not from the revision; with a subGroupPolicy its size and
 *   type, and `subgroup-exclusive-topology`. The terms that LWS makes of the last one are not repeated here: the planner
 *   reads the annotation itself
 * - StatefulSet: name `<set>-<ordinal>`, `apps.kubernetes.io/pod-index`, hostname
 * - pkg/webhooks/pod_webhook.go: `group-index`, `group-key` (SHA-1 of `namespace/leader name`), and for exclusive
 *   placement required terms near its own group key and away from every other, unless both kinds of terms use that
 *   topology key already
 */
export function lwsLeaderPod(set: LeaderWorkerSet, namespace: string, ordinal: number): Pod {
  const { size = 1, leaderTemplate, workerTemplate } = set.spec.leaderWorkerTemplate;
  const { metadata, spec } = leaderTemplate ?? workerTemplate;
  const setName = set.metadata.name ?? '';
  const name = `${setName}-${ordinal}`;
  const groupKey = createHash('sha1').update(`${namespace}/${name}`).digest('hex');
  // LWS takes an empty value for none.
  const exclusive = set.metadata.annotations?.[lws.exclusiveTopology] || undefined;
  const affinity =
    exclusive === undefined ? spec.affinity : exclusiveAffinity(spec.affinity, exclusive, groupKey);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: {
        ...metadata?.labels,
        [lws.name]: setName,
        [lws.workerIndex]: '0',
        [lws.groupIndex]: String(ordinal),
        [lws.groupKey]: groupKey,
        [lws.templateRevisionHash]: revisionOf(set),
        [k8s.podIndex]: String(ordinal),
      },
      annotations: {
        ...metadata?.annotations,
        [lws.size]: String(size),
        ...(exclusive !== undefined && { [lws.exclusiveTopology]: exclusive }),
        ...subgroupAnnotations(set),
      },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          kind: 'StatefulSet',
          name: setName,
          uid: `${setName}-leaders`,
          controller: true,
        },
      ],
    },
    spec: {
      ...spec,
      hostname: name,
      subdomain: setName,
      ...(affinity !== undefined && { affinity }),
    },
  };
}

/** Only with a subGroupPolicy; its type is LeaderWorker where it names none. */
function subgroupAnnotations({ metadata, spec }: LeaderWorkerSet): Readonly<Record<string, string>> {
  const template = spec.leaderWorkerTemplate;
  const policy = 'subGroupPolicy' in template ? template.subGroupPolicy : undefined;
  if (typeof policy !== 'object' || policy === null || !('subGroupSize' in policy)) return {};
  const type = 'subGroupPolicyType' in policy ? String(policy.subGroupPolicyType) : 'LeaderWorker';
  const exclusive = metadata.annotations?.[lws.subgroupExclusiveTopology];
  return {
    [lws.subgroupSize]: String(policy.subGroupSize),
    [lws.subgroupPolicyType]: type,
    ...(exclusive !== undefined && { [lws.subgroupExclusiveTopology]: exclusive }),
  };
}

const required = 'requiredDuringSchedulingIgnoredDuringExecution';

function exclusiveAffinity(
  affinity: Affinity | undefined,
  topologyKey: string,
  groupKey: string,
): Affinity | undefined {
  const near = affinity?.podAffinity?.[required] ?? [];
  const away = affinity?.podAntiAffinity?.[required] ?? [];
  const uses = (terms: readonly PodAffinityTerm[]) => terms.some(term => term.topologyKey === topologyKey);
  if (uses(near) && uses(away)) return affinity;
  const own = { key: lws.groupKey, operator: 'In', values: [groupKey] };
  const any = { key: lws.groupKey, operator: 'Exists' };
  const foreign = { key: lws.groupKey, operator: 'NotIn', values: [groupKey] };
  return {
    ...affinity,
    podAffinity: {
      ...affinity?.podAffinity,
      [required]: [...near, { topologyKey, labelSelector: { matchExpressions: [own] } }],
    },
    podAntiAffinity: {
      ...affinity?.podAntiAffinity,
      [required]: [...away, { topologyKey, labelSelector: { matchExpressions: [any, foreign] } }],
    },
  };
}

/**
 * LWS hashes the template with the networkConfig in a form of its own. Here only equal templates must have equal
 * hashes, and no template that of a revision which the cluster runs already.
 */
function revisionOf(set: LeaderWorkerSet): string {
  const template = JSON.stringify(set.spec.leaderWorkerTemplate);
  return createHash('sha1').update(template).digest('hex').slice(0, 10);
}
