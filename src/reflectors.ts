import type { ComputeDomain } from './api/compute-domain.ts';
import type {
  DeviceClass,
  DeviceTaintRule,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from './api/dra.ts';
import type {
  KubernetesObject,
  LeaderWorkerSet,
  Namespace,
  Node,
  Pod,
  PodDisruptionBudget,
  StatefulSet,
} from './api/kubernetes.ts';
import { berth, lws, nvidia } from './api/names.ts';
import type { BerthOptions } from './berth-options.ts';
import type { ClusterCache } from './cache/cluster-cache.ts';
import type { ObjectSink } from './cache/object-sink.ts';
import type { ClaimRecord, ClaimTemplateRecord, DeviceClassRecord } from './cluster/devices/claims.ts';
import { type ComputeDomainRecord, decodeComputeDomain } from './cluster/devices/compute-domain.ts';
import {
  decodeDeviceClass,
  decodeResourceClaim,
  decodeResourceClaimTemplate,
} from './cluster/devices/decode-claim.ts';
import { decodeSliceAgain } from './cluster/devices/decode-slice.ts';
import type { DeviceSlice } from './cluster/devices/device.ts';
import { decodeTaintRule, type TaintRuleRecord } from './cluster/devices/taint-rules.ts';
import { decodeNode } from './cluster/node-info.ts';
import { decodeDisruptionBudget } from './group/disruption-budget.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from './group/owner.ts';
import { decodePod, type PodInfo, podShare } from './group/pod-info.ts';
import { Reflector } from './kube/reflector.ts';

const resourceApi = '/apis/resource.k8s.io/v1';

/** One reflector for each resource that Berth needs; decoded objects go into the cache. */
export function makeReflectors(options: BerthOptions, cache: ClusterCache) {
  const { metrics, log } = options;
  const share = podShare();
  const reflect = reflectorsWith(options);
  return [
    reflect<Node, ReturnType<typeof decodeNode>>('nodes', '/api/v1/nodes', decodeNode, cache.nodes),
    reflect<Namespace, ReturnType<typeof decodeNamespace>>(
      'namespaces',
      '/api/v1/namespaces',
      namespace => {
        const record = decodeNamespace(namespace);
        if (record.invalidMode !== undefined) {
          metrics.invalidRequests.inc({ field: `metadata.labels[${berth.mode}]` });
          log.warn(
            { namespace: record.name, mode: record.invalidMode },
            'unknown placement mode, only observed',
          );
        }
        return record;
      },
      cache.namespaces,
    ),
    reflect<LeaderWorkerSet, LeaderWorkerSet>(
      'leaderworkersets',
      `/apis/${lws.apiVersion}/leaderworkersets`,
      decodeLeaderWorkerSet,
      cache.leaderWorkerSets,
    ),
    reflect<StatefulSet, ReturnType<typeof decodeStatefulSet>>(
      'statefulsets',
      '/apis/apps/v1/statefulsets',
      decodeStatefulSet,
      cache.statefulSets,
      {
        labelSelector: lws.name,
      },
    ),
    reflect<PodDisruptionBudget, ReturnType<typeof decodeDisruptionBudget>>(
      'poddisruptionbudgets',
      '/apis/policy/v1/poddisruptionbudgets',
      decodeDisruptionBudget,
      cache.podDisruptionBudgets,
    ),
    // Clusters without DRA answer 404, which is an empty list.
    reflect<ResourceSlice, DeviceSlice>(
      'resourceslices',
      `${resourceApi}/resourceslices`,
      decodeSliceAgain,
      cache.resourceSlices,
    ),
    reflect<DeviceClass, DeviceClassRecord>(
      'deviceclasses',
      `${resourceApi}/deviceclasses`,
      decodeDeviceClass,
      cache.deviceClasses,
    ),
    reflect<ResourceClaimTemplate, ClaimTemplateRecord>(
      'resourceclaimtemplates',
      `${resourceApi}/resourceclaimtemplates`,
      decodeResourceClaimTemplate,
      cache.resourceClaimTemplates,
    ),
    reflect<ResourceClaim, ClaimRecord>(
      'resourceclaims',
      `${resourceApi}/resourceclaims`,
      decodeResourceClaim,
      cache.resourceClaims,
    ),
    reflect<DeviceTaintRule, TaintRuleRecord>(
      'devicetaintrules',
      `${resourceApi}/devicetaintrules`,
      decodeTaintRule,
      cache.deviceTaintRules,
    ),
    reflect<Pod, PodInfo>('pods', '/api/v1/pods', pod => decodePod(pod, share), cache.pods),
  ];
}

/**
 * Reflectors of resources that Berth can do without: it neither waits for them nor stops for them when they are stale. Who
 * acts on what they say looks again live.
 */
export function makeOptionalReflectors(options: BerthOptions, cache: ClusterCache) {
  const reflect = reflectorsWith(options);
  return [
    // Where NVIDIA's DRA driver is not installed this is a 404, which is an empty list.
    reflect<ComputeDomain, ComputeDomainRecord>(
      'computedomains',
      `/apis/${nvidia.apiVersion}/computedomains`,
      decodeComputeDomain,
      cache.computeDomains,
    ),
  ];
}

function reflectorsWith({ client, metrics, log }: BerthOptions) {
  return <Raw extends KubernetesObject, T>(
    resource: string,
    path: string,
    decode: (raw: Raw, before?: T) => T,
    sink: ObjectSink<T>,
    query?: Readonly<Record<string, string>>,
  ) =>
    new Reflector<T, Raw>({
      client,
      path,
      resource,
      decode,
      sink,
      log,
      ...(query && { query }),
      onList: cause => metrics.reflectorRelists.inc({ resource, cause }),
      onDecodeError: () => metrics.decodeErrors.inc({ resource }),
    });
}
