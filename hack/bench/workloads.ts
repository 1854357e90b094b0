import type { Container, LeaderWorkerSet, Pod } from '../../src/api/kubernetes.ts';
import { berth, lws } from '../../src/api/names.ts';

export interface GroupsShape {
  readonly name: string;
  readonly groups: number;
  readonly size: number;
  readonly gpusPerPod: number;
}

/** An LWS as people write it for multi-host inference. With a level, each group must lie in one domain of it. */
export function groupsObject(shape: GroupsShape, requiredLevel?: string): LeaderWorkerSet {
  const spec = { terminationGracePeriodSeconds: 1, containers: [serverContainer(shape.gpusPerPod)] };
  return {
    apiVersion: lws.apiVersion,
    kind: lws.kind,
    metadata: {
      name: shape.name,
      ...(requiredLevel !== undefined && { annotations: { [berth.requiredTopology]: requiredLevel } }),
    },
    spec: {
      replicas: shape.groups,
      leaderWorkerTemplate: { size: shape.size, workerTemplate: { spec } },
    },
  };
}

/** A pod outside any group that takes one GPU. */
export function singleGpuPod(name: string): Pod {
  const resources = { requests: { cpu: '1' }, limits: { 'nvidia.com/gpu': '1' } };
  return podOf(name, {}, [{ name: 'main', image: 'registry.example.com/inference:1', resources }]);
}

/** A pod without accelerators, as any deployment makes them. */
export function cpuPod(name: string): Pod {
  const resources = { requests: { cpu: '500m', memory: '1Gi' } };
  return podOf(name, { app: 'web' }, [{ name: 'main', image: 'registry.example.com/web:1', resources }]);
}

/** A pod as it comes out of an injector of sidecars: about 4 KB of JSON when it is read back. */
export function injected(pod: Pod): Pod {
  const { metadata, spec } = pod;
  return {
    ...pod,
    metadata: { ...metadata, annotations: { ...metadata.annotations, ...residentAnnotations } },
    spec: { ...spec, containers: [...spec.containers, sidecar('proxy', 16)] },
  };
}

/** Member of a group without LWS: its review costs nobody else's webhook. */
export function labelledMember(name: string, group: string, size: number, rank: number): Pod {
  return podOf(name, groupLabels(group, size, rank), [serverContainer(8)]);
}

/**
 * A bound pod of the size that pods have in real clusters: three containers with environment, probes and mounts, and
 * what operators and injectors annotate. About 6 KB of JSON when it is read back.
 */
export function residentPod(name: string, node: string, group?: { name: string; rank: number }): Pod {
  const labels = {
    app: 'resident',
    'app.kubernetes.io/name': 'resident',
    'app.kubernetes.io/instance': name.slice(0, 40),
    'app.kubernetes.io/managed-by': 'Helm',
    'pod-template-hash': '6c8f9d7b54',
    ...(group && groupLabels(group.name, residentGroupSize, group.rank)),
  };
  const main = group === undefined ? webContainer : serverContainer(1);
  const pod = podOf(name, labels, [main, sidecar('proxy', 24), sidecar('metrics', 8)]);
  const metadata = { ...pod.metadata, annotations: residentAnnotations };
  return { ...pod, metadata, spec: { ...pod.spec, nodeName: node } };
}

export const residentGroupSize = 4;

function podOf(name: string, labels: Readonly<Record<string, string>>, containers: Container[]): Pod {
  const spec = { terminationGracePeriodSeconds: 1, containers };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, labels }, spec };
}

function groupLabels(name: string, size: number, rank: number): Record<string, string> {
  return { [berth.group]: name, [berth.groupSize]: String(size), [berth.groupRank]: String(rank) };
}

function serverContainer(gpus: number): Container {
  return {
    name: 'server',
    image: 'registry.example.com/inference/model-server:v1.4.2',
    resources: { requests: { cpu: '8', memory: '64Gi' }, limits: { 'nvidia.com/gpu': String(gpus) } },
    env: environment('SERVER', 16),
    ports: [{ containerPort: 8000 }, { containerPort: 29500 }],
  };
}

const webContainer: Container = {
  name: 'web',
  image: 'registry.example.com/web/frontend:v3.11.0',
  resources: { requests: { cpu: '250m', memory: '512Mi' }, limits: { memory: '512Mi' } },
  env: environment('WEB', 16),
  ports: [{ containerPort: 8080 }],
};

function sidecar(name: string, variables: number): Container {
  return {
    name,
    image: `registry.example.com/mesh/${name}:1.22.3`,
    resources: { requests: { cpu: '50m', memory: '64Mi' }, limits: { memory: '128Mi' } },
    env: environment(name.toUpperCase(), variables),
    ports: [{ containerPort: 15090 }],
  };
}

function environment(prefix: string, count: number): { name: string; value: string }[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `${prefix}_SETTING_${index}`,
    value: `value-${index}-of-${prefix.toLowerCase()}-as-long-as-they-often-are`,
  }));
}

const residentAnnotations: Readonly<Record<string, string>> = {
  'kubectl.kubernetes.io/default-container': 'web',
  'prometheus.io/scrape': 'true',
  'prometheus.io/port': '15090',
  'checksum/config': 'a3f5c1d7e9b20468ace13579bdf02468a3f5c1d7e9b20468ace13579bdf02468',
  'mesh.example.com/status': JSON.stringify({
    initContainers: ['mesh-init'],
    containers: ['proxy'],
    volumes: ['workload-socket', 'credential-socket', 'workload-certs', 'envoy', 'data', 'podinfo', 'token'],
    revision: 'default',
  }),
};
