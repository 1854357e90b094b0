import type { Cluster } from '../../hack/bed/cluster.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { gpuResources, isReady, listPods, nudger, until } from './bed.ts';

export type WorkloadKind = 'Deployment' | 'StatefulSet' | 'Job';

export interface WorkloadShape {
  readonly kind: WorkloadKind;
  readonly name: string;
  readonly replicas?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly spec?: Readonly<Record<string, unknown>>;
}

const paths: Readonly<Record<WorkloadKind, readonly [string, string]>> = {
  Deployment: ['apps/v1', 'deployments'],
  StatefulSet: ['apps/v1', 'statefulsets'],
  Job: ['batch/v1', 'jobs'],
};

/** Pods with a host's eight GPUs each and the label `app`, made by somebody else than LWS. */
export async function createWorkload(
  cluster: Cluster,
  namespace: string,
  { kind, name, replicas = 1, labels = {}, annotations = {}, spec = {} }: WorkloadShape,
): Promise<void> {
  const [apiVersion, resource] = paths[kind];
  const template = {
    metadata: { labels: { app: name, ...labels }, annotations },
    spec: {
      terminationGracePeriodSeconds: 1,
      ...(kind === 'Job' && { restartPolicy: 'Never' }),
      containers: [{ name: 'main', image: 'model-server', resources: gpuResources(8) }],
      ...spec,
    },
  };
  const copies =
    kind === 'Job' ? { parallelism: replicas } : { replicas, selector: { matchLabels: { app: name } } };
  const service = kind === 'StatefulSet' ? { serviceName: name, podManagementPolicy: 'Parallel' } : {};
  await cluster.request('POST', `/apis/${apiVersion}/namespaces/${namespace}/${resource}`, {
    apiVersion,
    kind,
    metadata: { name },
    spec: { ...copies, ...service, template },
  });
}

/** A group of as many workloads of one pod each, rank by rank, in one rack. */
export async function createLabelledGroup(
  cluster: Cluster,
  namespace: string,
  group: string,
  kinds: readonly WorkloadKind[],
  annotations: Readonly<Record<string, string>> = {},
): Promise<void> {
  for (const [rank, kind] of kinds.entries())
    await createWorkload(cluster, namespace, {
      kind,
      name: `${group}-part-${rank}`,
      labels: {
        'berth.dev/group': group,
        'berth.dev/group-size': String(kinds.length),
        'berth.dev/group-rank': String(rank),
      },
      annotations: { 'berth.dev/required-topology': 'rack', ...annotations },
    });
}

/** Waits until those pods are Ready, all of them new and none going; by rank, else by name. */
export async function newAndReady(
  cluster: Cluster,
  namespace: string,
  selector: string,
  count: number,
  old: readonly Pod[] = [],
  timeoutMs = 60_000,
): Promise<readonly Pod[]> {
  const before = new Set(uidsOf(old));
  const nudge = nudger(cluster);
  let pods: readonly Pod[] = [];
  const looks = () => pods.map(pod => `${pod.metadata.name} ${isReady(pod)}`).join(', ');
  await until(
    () => `${count} new pods ${selector} (${looks()})`,
    timeoutMs,
    async () => {
      pods = await listPods(cluster, namespace, selector);
      await nudge(pods);
      return (
        pods.length === count &&
        pods.every(pod => !before.has(pod.metadata.uid) && isReady(pod) && !pod.metadata.deletionTimestamp)
      );
    },
  );
  return [...pods].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
}

export function uidsOf(pods: readonly Pod[]): readonly (string | undefined)[] {
  return pods.map(({ metadata }) => metadata.uid).sort();
}

export function nameOf({ metadata }: Pod): string {
  return metadata.name ?? '';
}
