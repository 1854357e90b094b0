import type {
  Affinity,
  Container,
  ObjectMeta,
  OwnerReference,
  Pod,
  PodSpec,
  PodTemplateSpec,
  Toleration,
} from '../../src/api/kubernetes.ts';
import { berth } from '../../src/api/names.ts';

export const gpuName = 'nvidia.com/gpu';
export const requiredDuringScheduling = 'requiredDuringSchedulingIgnoredDuringExecution';

/** What a pod asks for, in the words of the tests. */
export interface Ask {
  readonly gpu?: number;
  readonly cpu?: number;
  readonly memoryGi?: number;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly Toleration[];
  readonly affinity?: Affinity;
  readonly hostPort?: number;
  /** Claims by the pod's own name for them: the template behind each, or `claim:<name>` for a claim that is there. */
  readonly claims?: Readonly<Record<string, string>>;
  /** With Berth's readiness gate. */
  readonly drained?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface PodParts extends Ask {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly createdAt?: string;
  readonly node?: string;
  /** Pinned as Berth does it. */
  readonly pinnedTo?: string;
  readonly gated?: boolean;
  readonly terminating?: boolean;
  readonly phase?: string;
  readonly owner?: OwnerReference;
  readonly priority?: number;
}

export const createdAt = '2026-01-01T00:00:00Z';

export function containerOf({ gpu, cpu, memoryGi, hostPort }: Ask): Container {
  const requests = {
    ...(cpu !== undefined && { cpu: String(cpu) }),
    ...(memoryGi !== undefined && { memory: `${memoryGi}Gi` }),
    ...(gpu !== undefined && { [gpuName]: String(gpu) }),
  };
  return {
    name: 'main',
    resources: { requests, ...(gpu !== undefined && { limits: { [gpuName]: String(gpu) } }) },
    ...(hostPort !== undefined && { ports: [{ containerPort: hostPort, hostPort }] }),
  };
}

export function specOf(ask: Ask): PodSpec {
  const { nodeSelector, tolerations, affinity, claims, drained } = ask;
  const resourceClaims = Object.entries(claims ?? {}).map(([name, behind]) =>
    behind.startsWith('claim:')
      ? { name, resourceClaimName: behind.slice('claim:'.length) }
      : { name, resourceClaimTemplateName: behind },
  );
  return {
    ...(resourceClaims.length > 0 && { resourceClaims }),
    containers: [containerOf(ask)],
    ...(nodeSelector && { nodeSelector }),
    ...(tolerations && { tolerations }),
    ...(affinity && { affinity }),
    ...(drained && { readinessGates: [{ conditionType: berth.inService }] }),
  };
}

export function templateOf({ labels, annotations, ...ask }: Ask): PodTemplateSpec {
  const metadata = { ...(labels && { labels }), ...(annotations && { annotations }) };
  return { metadata, spec: specOf(ask) };
}

/** What the API server gives to every pod. */
const admissionTolerations: readonly Toleration[] = ['not-ready', 'unreachable'].map(affliction => ({
  key: `node.kubernetes.io/${affliction}`,
  operator: 'Exists',
  effect: 'NoExecute',
  tolerationSeconds: 300,
}));

/** A Pod as the API server sends it. */
export function podOf(parts: PodParts): Pod {
  const { name, namespace = 'serving', labels, annotations, owner, node, pinnedTo } = parts;
  const metadata: ObjectMeta = {
    name,
    namespace,
    uid: parts.uid ?? `uid-${namespace}-${name}`,
    creationTimestamp: parts.createdAt ?? createdAt,
    ...(labels && { labels }),
    ...(annotations && { annotations }),
    ...(owner && { ownerReferences: [owner] }),
    ...(parts.terminating && { deletionTimestamp: createdAt }),
  };
  const spec = specOf(parts);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata,
    spec: {
      ...spec,
      tolerations: [...(spec.tolerations ?? []), ...admissionTolerations],
      schedulerName: 'default-scheduler',
      ...(parts.priority !== undefined && { priority: parts.priority }),
      ...(node !== undefined && { nodeName: node }),
      ...(parts.gated && { schedulingGates: [{ name: berth.placementGate }] }),
      ...(pinnedTo !== undefined && { affinity: pinned(spec.affinity, pinnedTo) }),
    },
    ...(parts.phase !== undefined && { status: { phase: parts.phase } }),
  };
}

export function controlledBy(kind: string, name: string, uid: string): OwnerReference {
  return { apiVersion: kind === 'Pod' ? 'v1' : 'apps/v1', kind, name, uid, controller: true };
}

function pinned(affinity: Affinity | undefined, node: string): Affinity {
  const term = { matchFields: [{ key: 'metadata.name', operator: 'In', values: [node] }] };
  return { ...affinity, nodeAffinity: { [requiredDuringScheduling]: { nodeSelectorTerms: [term] } } };
}
