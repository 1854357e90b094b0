import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { ApiFailure } from '../../hack/bed/api-client.ts';
import { awaitAdmission, type BerthProcess, startBerthOn } from '../../hack/bed/berth.ts';
import { attachCluster, type Cluster, startCluster } from '../../hack/bed/cluster.ts';
import type { Fleet } from '../../hack/bed/fleet-presets.ts';
import { createFleet, deleteFleet } from '../../hack/bed/fleets.ts';
import type { DeviceClass, ResourceSlice } from '../../src/api/dra.ts';
import type { KubernetesObject, Node, Pod } from '../../src/api/kubernetes.ts';
import { forgetExclusions, forgetFailures } from './failures.ts';

/** The control plane that all files of a run share (`BERTH_BED` names its state file), or one of its own. */
export async function openBed(t: Test): Promise<Cluster> {
  const shared = process.env['BERTH_BED'];
  const cluster = shared === undefined ? await startCluster({ nodes: 'many' }) : await attachCluster(shared);
  t.teardown(() => cluster.stop());
  if (shared !== undefined) await sweep(cluster);
  return cluster;
}

/** Takes away what a file before may have left on a shared control plane because it ended badly. */
async function sweep(cluster: Cluster): Promise<void> {
  const listed = async <T>(path: string) => (await cluster.request<{ items: T[] }>('GET', path)).items;
  const [namespaces, nodes, slices, deviceClasses] = await Promise.all([
    listed<KubernetesObject>('/api/v1/namespaces'),
    listed<Node>('/api/v1/nodes'),
    listed<ResourceSlice>('/apis/resource.k8s.io/v1/resourceslices'),
    listed<DeviceClass>('/apis/resource.k8s.io/v1/deviceclasses'),
  ]);
  await forgetFailures(cluster);
  const names = namespaces.map(({ metadata }) => metadata.name ?? '').filter(name => name.startsWith('e2e-'));
  if (names.length === 0 && nodes.length === 0) return;
  await Promise.all(
    names.map(name => cluster.request('DELETE', `/api/v1/namespaces/${name}`).catch(() => {})),
  );
  await deleteFleet(cluster, { name: 'left over', nodes, slices, deviceClasses });
  for (const name of names) await removeNamespace(cluster, name);
}

/** The levels that the generic fleets have. */
export const genericTopology = {
  levels: [
    { name: 'block', nodeLabel: 'example.com/block' },
    { name: 'rack', nodeLabel: 'example.com/rack' },
  ],
};

export interface BerthSettings {
  /** Default: that of the generic fleets. */
  readonly topology?: Readonly<Record<string, unknown>>;
  readonly placement?: Readonly<Record<string, unknown>>;
  readonly lease?: Readonly<Record<string, number>>;
  readonly failure?: Readonly<Record<string, unknown>>;
  readonly preemption?: Readonly<Record<string, unknown>>;
  readonly devices?: Readonly<Record<string, unknown>>;
}

/** Installs Berth from deploy/ and runs one replica; it ends with the test, and what it has recorded with it. */
export async function runBerth(
  t: Test,
  cluster: Cluster,
  settings: BerthSettings = {},
): Promise<BerthProcess> {
  const { topology = genericTopology, placement, lease, failure, preemption, devices } = settings;
  const berth = await startBerthOn(cluster, {
    config: {
      topology,
      shutdownDelaySeconds: 0,
      ...(placement && { placement }),
      ...(lease && { lease }),
      ...(failure && { failure }),
      ...(preemption && { preemption }),
      ...(devices && { devices }),
    },
  });
  t.teardown(async () => {
    await berth.stop();
    // A Berth that still runs would write them again, and the next one on a shared bed would go by them.
    await forgetExclusions(cluster);
    await forgetFailures(cluster);
  });
  return berth;
}

export async function withFleet(t: Test, cluster: Cluster, fleet: Fleet): Promise<void> {
  await createFleet(cluster, fleet);
  t.teardown(() => deleteFleet(cluster, fleet));
}

/**
 * Takes away what a test before may have left on a shared bed: without a Berth its webhooks would refuse members, and
 * nothing would be measured "without Berth".
 */
export async function uninstallBerth(cluster: Cluster): Promise<void> {
  const admission = '/apis/admissionregistration.k8s.io/v1';
  for (const path of [
    `${admission}/mutatingwebhookconfigurations/zz-berth-mutating-webhook-configuration`,
    ...['pods', 'bindings'].flatMap(what => [
      `${admission}/validatingadmissionpolicybindings/berth-owned-keys-${what}`,
      `${admission}/validatingadmissionpolicies/berth-owned-keys-${what}`,
    ]),
  ]) {
    await cluster.request('DELETE', path).catch(error => {
      if (!(error instanceof ApiFailure && error.status === 404)) throw error;
    });
  }
}

let counter = 0;

/** A fresh namespace, in mode `pin` unless told otherwise; goes with the test and waits until its pods are gone. */
export async function makeNamespace(
  t: Test,
  cluster: Cluster,
  labels: Readonly<Record<string, string>> = { 'berth.dev/mode': 'pin' },
): Promise<string> {
  const name = `e2e-${process.pid}-${++counter}`;
  const metadata = { name, labels };
  await cluster.request('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata });
  await until(`default service account in ${name}`, 20_000, () =>
    cluster.request('GET', `/api/v1/namespaces/${name}/serviceaccounts/default`).then(
      () => true,
      () => false,
    ),
  );
  t.teardown(() => removeNamespace(cluster, name));
  if (['pin', 'pin-extender'].includes(labels['berth.dev/mode'] ?? '')) await awaitAdmission(cluster, name);
  return name;
}

export async function removeNamespace(cluster: Cluster, name: string): Promise<void> {
  await cluster.request('DELETE', `/api/v1/namespaces/${name}`).catch(() => {});
  await until(`namespace ${name} to be gone`, 60_000, () =>
    cluster.request('GET', `/api/v1/namespaces/${name}`).then(
      () => false,
      () => true,
    ),
  );
}

export interface LwsShape {
  readonly name: string;
  readonly replicas?: number;
  readonly size: number;
  readonly gpus?: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly podAnnotations?: Readonly<Record<string, string>>;
  /** A leader template of its own, as a partial pod spec. */
  readonly leader?: Readonly<Record<string, unknown>>;
  readonly worker?: Readonly<Record<string, unknown>>;
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly restartPolicy?: string;
  readonly subGroupPolicy?: Readonly<Record<string, unknown>>;
}

/** An LWS of pods with one container each, whole-host by default. */
export function lwsObject(namespace: string, shape: LwsShape): Record<string, unknown> {
  const {
    name,
    replicas = 1,
    size,
    gpus = 8,
    annotations,
    podAnnotations,
    leader,
    worker,
    spec,
    restartPolicy,
  } = shape;
  const resources = gpus > 0 ? { limits: { 'nvidia.com/gpu': String(gpus) } } : { requests: { cpu: '1' } };
  const podSpec = {
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image: 'model-server', resources }],
  };
  const metadata = podAnnotations && { annotations: podAnnotations };
  return {
    apiVersion: 'leaderworkerset.x-k8s.io/v1',
    kind: 'LeaderWorkerSet',
    metadata: { name, namespace, ...(annotations && { annotations }) },
    spec: {
      replicas,
      leaderWorkerTemplate: {
        size,
        ...(restartPolicy !== undefined && { restartPolicy }),
        ...(leader && { leaderTemplate: { ...(metadata && { metadata }), spec: { ...podSpec, ...leader } } }),
        workerTemplate: { ...(metadata && { metadata }), spec: { ...podSpec, ...worker } },
      },
      ...spec,
    },
  };
}

export async function createLws(cluster: Cluster, namespace: string, shape: LwsShape): Promise<void> {
  await cluster.request('POST', lwsPath(namespace), lwsObject(namespace, shape));
}

/**
 * Deletes an LWS and waits until its pods are gone. kube-controller-manager's garbage collector looks for new kinds only
 * every 30 s, so on a young control plane the first deletion takes that long.
 */
export async function deleteLws(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await cluster.request('DELETE', lwsPath(namespace, name));
  const selector = `leaderworkerset.sigs.k8s.io/name=${name}`;
  await until(`pods of ${namespace}/${name} to be gone`, 90_000, async () => {
    return (await listPods(cluster, namespace, selector)).length === 0;
  });
}

export function lwsPath(namespace: string, name?: string): string {
  const path = `/apis/leaderworkerset.x-k8s.io/v1/namespaces/${namespace}/leaderworkersets`;
  return name === undefined ? path : `${path}/${name}`;
}

/** A pod outside any group. */
export function singlePod(
  namespace: string,
  name: string,
  resources: Readonly<Record<string, unknown>>,
  spec: Readonly<Record<string, unknown>> = {},
  labels: Readonly<Record<string, string>> = {},
): Record<string, unknown> {
  const containers = [{ name: 'main', image: 'filler', resources }];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels },
    spec: { terminationGracePeriodSeconds: 1, containers, ...spec },
  };
}

export function gpuResources(gpus: number): Record<string, unknown> {
  return { limits: { 'nvidia.com/gpu': String(gpus) } };
}

export async function listPods(cluster: Cluster, namespace: string, selector = ''): Promise<Pod[]> {
  const query = selector === '' ? '' : `?labelSelector=${encodeURIComponent(selector)}`;
  const list = await cluster.request<{ items: Pod[] }>('GET', `/api/v1/namespaces/${namespace}/pods${query}`);
  return list.items;
}

export async function listNodes(cluster: Cluster): Promise<Map<string, Node>> {
  const list = await cluster.request<{ items: Node[] }>('GET', '/api/v1/nodes');
  return new Map(list.items.map(node => [node.metadata.name ?? '', node]));
}

/** Waits until `count` pods of the namespace are bound and Ready; the pods then. */
export function waitForReady(
  cluster: Cluster,
  namespace: string,
  count: number,
  timeoutMs = 60_000,
  selector = '',
): Promise<Pod[]> {
  return waitForPods({ cluster, namespace, count, timeoutMs, selector, what: 'ready', isDone: isReady });
}

/** The same for pods that have their node: Ready is the simulated kubelet's, who is slow on a large busy fleet. */
export function waitForBound(
  cluster: Cluster,
  namespace: string,
  count: number,
  timeoutMs = 60_000,
): Promise<Pod[]> {
  const isDone = (pod: Pod) => pod.spec.nodeName !== undefined;
  return waitForPods({ cluster, namespace, count, timeoutMs, selector: '', what: 'bound', isDone });
}

async function waitForPods(wanted: {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly count: number;
  readonly timeoutMs: number;
  readonly selector: string;
  readonly what: string;
  readonly isDone: (pod: Pod) => boolean;
}): Promise<Pod[]> {
  const { cluster, namespace, count, timeoutMs, selector, what, isDone } = wanted;
  let last: Pod[] = [];
  const nudge = nudger(cluster);
  await until(
    () =>
      `${count} ${what} pods in ${namespace} (${last.filter(isDone).length} of ${last.length} are: ${summary(last)})`,
    timeoutMs,
    async () => {
      last = (await listPods(cluster, namespace, selector)).filter(
        pod => pod.metadata.deletionTimestamp === undefined,
      );
      await nudge(last);
      return last.length === count && last.every(isDone);
    },
  );
  return last;
}

/**
 * KWOK drops what happens to a pod while it does not hold the Lease of the pod's node, as for a moment after a Node was
 * deleted and made again, and never looks at that pod by itself. A real kubelet lists its pods; here a change of the pod
 * stands in for that.
 */
export function nudger(cluster: Cluster, afterMs = 8_000): (pods: readonly Pod[]) => Promise<void> {
  const since = new Map<string, number>();
  return async pods => {
    const now = Date.now();
    for (const pod of pods) {
      const { uid = '', name = '', namespace = '' } = pod.metadata;
      const first = since.get(uid) ?? now;
      since.set(uid, first);
      if (pod.spec.nodeName === undefined || isReady(pod) || now - first < afterMs) continue;
      since.set(uid, now);
      const metadata = { annotations: { 'example.com/nudged': String(now) } };
      await cluster
        .request('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, { metadata })
        .catch(() => undefined);
    }
  };
}

/** Waits until Berth says on a pod why its group waits; the sentence. */
export async function sentenceOn(
  cluster: Cluster,
  namespace: string,
  podName: string,
  timeoutMs = 20_000,
): Promise<string> {
  let sentence: string | undefined;
  await until(`a sentence on ${podName}`, timeoutMs, async () => {
    const pod = (await listPods(cluster, namespace)).find(({ metadata }) => metadata.name === podName);
    const condition = pod && conditionOf(pod, 'berth.dev/Placed');
    sentence = condition?.status === 'False' ? condition.message : undefined;
    return sentence !== undefined;
  });
  return sentence ?? '';
}

export interface BedEvent {
  readonly type: string;
  readonly reason: string;
  readonly message: string;
  readonly involvedObject: { readonly kind: string; readonly name: string };
}

export async function listEvents(cluster: Cluster, namespace: string): Promise<readonly BedEvent[]> {
  const path = `/api/v1/namespaces/${namespace}/events`;
  return (await cluster.request<{ items: BedEvent[] }>('GET', path)).items;
}

/** Watches the pods of a namespace; ends with the test. */
export function watchPods(
  t: Test,
  cluster: Cluster,
  namespace: string,
  onEvent: (type: string, pod: Pod) => void,
): void {
  t.teardown(
    cluster.watch(`/api/v1/namespaces/${namespace}/pods`, (type, object) =>
      onEvent(type, object as unknown as Pod),
    ),
  );
}

export function isReady(pod: Pod): boolean {
  return pod.spec.nodeName !== undefined && conditionOf(pod, 'Ready')?.status === 'True';
}

export function isGatedByBerth(pod: Pod): boolean {
  return pod.spec.schedulingGates?.some(gate => gate.name === 'berth.dev/placement') ?? false;
}

export function conditionOf(pod: Pod, type: string) {
  return pod.status?.conditions?.find(condition => condition.type === type);
}

/** Pods by LWS group: `name-index` to the members in rank order. */
export function groupsOf(pods: readonly Pod[]): Map<string, Pod[]> {
  const groups = new Map<string, Pod[]>();
  for (const pod of pods) {
    const labels = pod.metadata.labels ?? {};
    const name = labels['leaderworkerset.sigs.k8s.io/name'];
    if (name === undefined) continue;
    const key = `${name}-${labels['leaderworkerset.sigs.k8s.io/group-index']}`;
    groups.set(key, [...(groups.get(key) ?? []), pod]);
  }
  for (const members of groups.values()) members.sort((a, b) => rankOf(a) - rankOf(b));
  return groups;
}

export function rankOf(pod: Pod): number {
  return Number(pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/worker-index']);
}

/** Values of a node label over the nodes of some pods. */
export function domainsOf(
  pods: readonly Pod[],
  nodes: ReadonlyMap<string, Node>,
  label = 'example.com/rack',
): Set<string> {
  return new Set(pods.map(pod => nodes.get(pod.spec.nodeName ?? '')?.metadata.labels?.[label] ?? 'unbound'));
}

/** Groups that lie in more than one domain, with the domains. */
export function splitGroups(pods: readonly Pod[], nodes: ReadonlyMap<string, Node>): string[] {
  return [...groupsOf(pods)]
    .map(([key, members]) => ({ key, racks: domainsOf(members, nodes) }))
    .filter(({ racks }) => racks.size > 1)
    .map(({ key, racks }) => `${key}: ${[...racks].sort().join(', ')}`);
}

/** Looks every 100 ms until `done` says yes. */
export async function until(
  what: string | (() => string),
  timeoutMs: number,
  done: () => boolean | Promise<boolean>,
): Promise<void> {
  const endsMs = Date.now() + timeoutMs;
  while (!(await done())) {
    if (Date.now() > endsMs)
      throw new Error(
        `timed out after ${timeoutMs / 1000} s waiting for ${typeof what === 'string' ? what : what()}`,
      );
    await delay(100);
  }
}

function summary(pods: readonly Pod[]): string {
  return pods
    .filter(pod => !isReady(pod))
    .slice(0, 8)
    .map(pod => {
      const placed = conditionOf(pod, 'berth.dev/Placed')?.message;
      const scheduled = conditionOf(pod, 'PodScheduled');
      return `${pod.metadata.name} ${pod.spec.nodeName ?? 'unbound'}${isGatedByBerth(pod) ? ' gated' : ''} ${placed ?? scheduled?.message ?? ''}`;
    })
    .join('; ');
}

/** Its name; it ends with the test. */
export async function makePriorityClass(
  t: Test,
  cluster: Cluster,
  what: string,
  value: number,
): Promise<string> {
  const path = '/apis/scheduling.k8s.io/v1/priorityclasses';
  const name = `e2e-${process.pid}-${what}`;
  await cluster.request('POST', path, {
    apiVersion: 'scheduling.k8s.io/v1',
    kind: 'PriorityClass',
    metadata: { name },
    value,
  });
  t.teardown(() => cluster.request('DELETE', `${path}/${name}`));
  return name;
}

export async function createPod(cluster: Cluster, pod: Record<string, unknown>): Promise<void> {
  const { namespace } = pod['metadata'] as { namespace: string };
  await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
}
