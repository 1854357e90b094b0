import type {
  DeviceClass,
  DeviceTaintRule,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '../api/dra.ts';
import type {
  Container,
  KubernetesObject,
  LeaderWorkerSet,
  Node,
  ObjectMeta,
  Pod,
  PodSpec,
  PodTemplateSpec,
} from '../api/kubernetes.ts';
import { berth, foreignTopologyAnnotations, k8s, kueue, lws, nvidia } from '../api/names.ts';
import type { PriorityClass } from './cluster-objects.ts';
import type { KnownKind } from './object-schemas.ts';
import { present } from './present.ts';
import {
  trimClaim,
  trimClaimTemplate,
  trimDeviceClass,
  trimSlice,
  trimTaintRule,
} from './trimmed-device-objects.ts';

/**
 * Cuts an object down to what planning reads, field by field, so that nothing gets into a dump because somebody forgot
 * to take it out.
 */
export function trimmed(kind: KnownKind, raw: KubernetesObject): KubernetesObject {
  const object = { apiVersion: raw.apiVersion ?? '', kind, metadata: trimMetadata(raw.metadata) };
  switch (kind) {
    case 'Node':
      return { ...object, ...trimNode(raw as Node) };
    case 'Pod':
      return { ...object, ...trimPod(raw as Pod) };
    case 'LeaderWorkerSet':
      return { ...object, ...trimSet(raw as LeaderWorkerSet) };
    case 'PriorityClass': {
      const { value, globalDefault } = raw as PriorityClass;
      return { ...object, ...present({ value, globalDefault }) };
    }
    case 'ResourceSlice':
      return { ...object, ...trimSlice(raw as ResourceSlice) };
    case 'DeviceClass':
      return { ...object, ...trimDeviceClass(raw as DeviceClass) };
    case 'ResourceClaim':
      return { ...object, ...trimClaim(raw as ResourceClaim) };
    case 'ResourceClaimTemplate':
      return { ...object, ...trimClaimTemplate(raw as ResourceClaimTemplate, trimMetadata) };
    case 'DeviceTaintRule':
      return { ...object, ...trimTaintRule(raw as DeviceTaintRule) };
    case 'Namespace':
    case 'StatefulSet':
      return object;
  }
}

const keptAnnotations: ReadonlySet<string> = new Set([
  ...Object.values(berth),
  ...Object.values(lws),
  ...Object.values(kueue),
  ...Object.values(nvidia),
  ...foreignTopologyAnnotations,
  k8s.mirrorPod,
  k8s.podClaimName,
  k8s.extendedResourceClaim,
]);

function trimMetadata(metadata: ObjectMeta): ObjectMeta {
  const { name, generateName, namespace, uid, creationTimestamp, deletionTimestamp, labels } = metadata;
  const annotations = Object.entries(metadata.annotations ?? {}).filter(([key]) => keptAnnotations.has(key));
  const ownerReferences = metadata.ownerReferences?.map(
    ({ apiVersion, kind, name: owner, uid: id, controller }) => ({
      apiVersion,
      kind,
      name: owner,
      uid: id,
      ...(controller !== undefined && { controller }),
    }),
  );
  return {
    ...present({ name, generateName, namespace, uid, creationTimestamp, deletionTimestamp, labels }),
    ...(annotations.length > 0 && { annotations: Object.fromEntries(annotations) }),
    ...(ownerReferences !== undefined && { ownerReferences }),
  };
}

function trimNode({ spec, status }: Node): Pick<Node, 'spec' | 'status'> {
  const ready = status?.conditions?.filter(({ type }) => type === 'Ready');
  return {
    spec: present({ unschedulable: spec?.unschedulable, taints: spec?.taints }),
    status: {
      ...present({ allocatable: status?.allocatable }),
      conditions: (ready ?? []).map(({ type, status: value }) => ({ type, status: value })),
    },
  };
}

function trimPod({ spec, status }: Pod): Pick<Pod, 'spec' | 'status'> {
  const told = ['Ready', 'PodScheduled', 'DisruptionTarget', 'PodResizePending', berth.placedCondition];
  const trimStatus = (container: NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number]) => {
    const { name, allocatedResources, resources } = container;
    return { name, ...present({ allocatedResources, resources }) };
  };
  return {
    spec: trimSpec(spec),
    ...(status && {
      status: present({
        phase: status.phase,
        conditions: status.conditions
          ?.filter(({ type }) => told.includes(type))
          .map(({ type, status: value, reason }) => ({ type, status: value, ...present({ reason }) })),
        containerStatuses: status.containerStatuses?.map(trimStatus),
        initContainerStatuses: status.initContainerStatuses?.map(trimStatus),
        resources: status.resources,
        allocatedResources: status.allocatedResources,
      }),
    }),
  };
}

/** Without volumes but those of claims, whose node affinity may bind a pod. */
function trimSpec(spec: PodSpec): PodSpec {
  const claims = spec.volumes?.flatMap(({ name, persistentVolumeClaim }) =>
    persistentVolumeClaim === undefined
      ? []
      : [{ name, persistentVolumeClaim: { claimName: persistentVolumeClaim.claimName } }],
  );
  return {
    ...present({
      nodeName: spec.nodeName,
      schedulerName: spec.schedulerName,
      hostNetwork: spec.hostNetwork,
      nodeSelector: spec.nodeSelector,
      affinity: spec.affinity,
      tolerations: spec.tolerations,
      topologySpreadConstraints: spec.topologySpreadConstraints,
      schedulingGates: spec.schedulingGates,
      priority: spec.priority,
      priorityClassName: spec.priorityClassName,
      preemptionPolicy: spec.preemptionPolicy,
      overhead: spec.overhead,
      resources: spec.resources,
      resourceClaims: spec.resourceClaims?.map(({ name, resourceClaimName, resourceClaimTemplateName }) => ({
        name,
        ...present({ resourceClaimName, resourceClaimTemplateName }),
      })),
      initContainers: spec.initContainers?.map(trimContainer),
    }),
    containers: spec.containers.map(trimContainer),
    ...(claims !== undefined && claims.length > 0 && { volumes: claims }),
  };
}

function trimContainer({ name, resources, ports, restartPolicy }: Container): Container {
  const hostPorts = ports
    ?.filter(({ hostPort }) => hostPort !== undefined)
    .map(({ containerPort, hostPort, hostIP, protocol }) =>
      present({ containerPort, hostPort, hostIP, protocol }),
    );
  return {
    name,
    ...present({ resources, restartPolicy }),
    ...(hostPorts !== undefined && hostPorts.length > 0 && { ports: hostPorts }),
  };
}

function trimSet({ spec }: LeaderWorkerSet): Pick<LeaderWorkerSet, 'spec'> {
  const { size, leaderTemplate, workerTemplate, restartPolicy } = spec.leaderWorkerTemplate;
  const template = spec.leaderWorkerTemplate;
  const subGroupPolicy = 'subGroupPolicy' in template ? template.subGroupPolicy : undefined;
  const leaderWorkerTemplate = {
    ...present({ size, restartPolicy, subGroupPolicy }),
    ...(leaderTemplate && { leaderTemplate: trimTemplate(leaderTemplate) }),
    workerTemplate: trimTemplate(workerTemplate),
  };
  const { replicas, startupPolicy } = spec;
  return { spec: { ...present({ replicas, startupPolicy }), leaderWorkerTemplate } };
}

function trimTemplate({ metadata, spec }: PodTemplateSpec): PodTemplateSpec {
  return { ...(metadata && { metadata: trimMetadata(metadata) }), spec: trimSpec(spec) };
}
