import type {
  KubernetesObject,
  LeaderWorkerSet,
  Node,
  Pod,
  ResourceRequirements,
} from '../src/api/kubernetes.ts';
import { berth, lws } from '../src/api/names.ts';
import { presetFleet } from './bed/fleet-presets.ts';

/** One LeaderWorkerSet of the story. */
export interface Workload {
  readonly name: string;
  /** Groups. */
  readonly replicas: number;
  /** Pods of one group, each with all 8 GPUs of a host. */
  readonly size: number;
  readonly model: string;
  /** The workers come when the leader is Ready, which is when it is told so. */
  readonly isLeaderFirst?: boolean;
}

/** A group of the story, drawn as a letter. */
export interface StoryGroup {
  readonly letter: string;
  /** Name of its leader pod. */
  readonly name: string;
  readonly size: number;
}

export const gpu = 'nvidia.com/gpu';
export const rackLabel = 'example.com/rack';
export const gpusPerHost = 8;

/** Only `serving` and `research` opt in. */
export const namespaces = {
  residents: 'notebooks',
  stock: 'stock',
  berth: 'serving',
  research: 'research',
} as const;
/** Single pods are shown wherever they are. */
export const singleNamespaces: readonly string[] = [namespaces.residents, namespaces.research];

/** What differs from Berth's defaults: it evicts, and a story has no minute to wait. */
export const failureSettings = { mode: 'evict', unhealthyAfterSeconds: 1, newHolderSeconds: 0 } as const;

/** What comes first, in this order. */
export const small: Workload = { name: 'qwen', replicas: 1, size: 2, model: 'registry.example/qwen:v1' };
export const large: Workload = { name: 'llama', replicas: 3, size: 4, model: 'registry.example/llama:v1' };
/** Comes when all others are there, and finds no room. */
export const late: Workload = { name: 'mixtral', replicas: 1, size: 4, model: 'registry.example/mixtral:v1' };
/** Comes last, its leader first. */
export const loading: Workload = {
  name: 'phi',
  replicas: 1,
  size: 2,
  model: 'registry.example/phi:v1',
  isLeaderFirst: true,
};

export const groups: readonly StoryGroup[] = [large, small, late, loading]
  .flatMap(({ name, replicas, size }) =>
    Array.from({ length: replicas }, (_, index) => ({ name: `${name}-${index}`, size })),
  )
  .map((group, index) => ({ letter: String.fromCharCode(65 + index), ...group }));

/** 4 racks of 4 hosts of 8 GPUs. */
export const fleet = presetFleet('generic');

export function rackOf(node: Node): string {
  return node.metadata.labels?.[rackLabel] ?? '';
}

/** Single pods that run before anything else, each bound to its host. */
export function residents(): readonly Pod[] {
  const hosts = ['r02-h00', 'r02-h00', 'r02-h01'];
  return hosts.map((nodeName, index) => singlePod(`notebook-${index}`, { nodeName }));
}

/** Single pods that come together with the groups. */
export function newcomers(): readonly Pod[] {
  return ['embed-0', 'embed-1'].map(name => singlePod(name, {}));
}

/** Single pods of people who have opted in. */
export function experiments(): readonly Pod[] {
  return ['tune-0', 'tune-1', 'tune-2'].map(name => singlePod(name, {}));
}

/** A single pod of somebody who has not opted in, and wants a whole host. */
export function stranger(index: number): Pod {
  const resources = { limits: { [gpu]: String(gpusPerHost), cpu: '16', memory: '128Gi' } };
  return singlePod(`stranger-${index}`, {}, resources);
}

/** The kubelets played here do not start a pod that has it. */
export const notReadyAnnotation = 'bed.berth.test/not-ready';

export function leaderWorkerSet({ name, replicas, size, model, isLeaderFirst }: Workload): LeaderWorkerSet {
  const resources = { limits: { [gpu]: String(gpusPerHost), cpu: '64', memory: '512Gi' } };
  const workerTemplate = {
    metadata: { annotations: { [berth.model]: model } },
    spec: { containers: [{ name: 'server', image: 'registry.example/vllm:v1', resources }] },
  };
  const { metadata, spec } = workerTemplate;
  const leaderTemplate = {
    metadata: { annotations: { ...metadata.annotations, [notReadyAnnotation]: 'true' } },
    spec,
  };
  return {
    apiVersion: lws.apiVersion,
    kind: lws.kind,
    metadata: { name, annotations: { [berth.requiredTopology]: 'rack' } },
    spec: {
      replicas,
      ...(isLeaderFirst && { startupPolicy: 'LeaderReady' }),
      leaderWorkerTemplate: { size, workerTemplate, ...(isLeaderFirst && { leaderTemplate }) },
    },
  };
}

/** Whether a group, by the name of its leader, is one of a workload. */
export function belongsTo(groupName: string, { name }: Workload): boolean {
  return groupName.startsWith(`${name}-`);
}

/** Rank of a member within its group, by the name that LWS gives it: `llama-0` leads, `llama-0-3` has rank 3. */
export function seatOf(
  pod: KubernetesObject,
): { readonly group: StoryGroup; readonly rank: number } | undefined {
  const name = pod.metadata.name ?? '';
  const group = groups.find(known => name === known.name || name.startsWith(`${known.name}-`));
  if (group === undefined) return undefined;
  return { group, rank: name === group.name ? 0 : Number(name.slice(group.name.length + 1)) };
}

function singlePod(
  name: string,
  place: { readonly nodeName?: string },
  resources: ResourceRequirements = { limits: { [gpu]: '2', cpu: '16', memory: '128Gi' } },
): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: { ...place, containers: [{ name: 'server', image: 'registry.example/server:v1', resources }] },
  };
}
