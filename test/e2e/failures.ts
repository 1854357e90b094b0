import { ApiFailure } from '../../hack/bed/api-client.ts';
import { readAudit, type WriteEvent } from '../../hack/bed/audit.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { DeviceTaintRule } from '../../src/api/dra.ts';
import type { ConfigMap, Node, Pod, Taint } from '../../src/api/kubernetes.ts';
import { parseIntent } from '../../src/failure/intent.ts';

/** Failure settings for tests: evict, and wait as little as a shared machine allows. */
export const fastFailure = {
  mode: 'evict',
  unhealthyAfterSeconds: 2,
  nodeGoneAfterSeconds: 2,
  nodeUnknownAfterSeconds: 2,
  nodeNotReadyAfterSeconds: 2,
  fencingAfterSeconds: 3,
  newHolderSeconds: 0,
  afterOutageSeconds: 0,
  servingEvictionsPerSecond: 10,
  servingBurst: 10,
  brokenEvictionsPerSecond: 10,
  brokenBurst: 10,
  inFlightMin: 10,
  inFlightPerDomain: 10,
  restartsPerHour: 50,
  restartsPerDay: 50,
  // Faults follow each other on one fleet, whose devices must not run out.
  probationSeconds: 1,
  lastChoiceHours: 0,
  flapWindowSeconds: 1,
  poisonDevices: 50,
  poisonNodes: 50,
} as const;

export type DeviceHealth = 'Healthy' | 'Unhealthy' | 'Unknown';

/** What a kubelet would report of the devices of a pod's first container. */
export async function reportDevice(
  cluster: Cluster,
  pod: Pod,
  health: DeviceHealth,
  resource = 'nvidia.com/gpu',
  resourceID = 'gpu-3',
  message?: string,
): Promise<void> {
  const { namespace = '', name = '' } = pod.metadata;
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const current = await cluster.request<Pod>('GET', path);
  const resources = [{ resourceID, health, ...(message !== undefined && { message }) }];
  const reported = (current.status?.containerStatuses ?? []).map((status, i) =>
    i === 0 ? { ...status, allocatedResourcesStatus: [{ name: resource, resources }] } : status,
  );
  const containerStatuses =
    reported.length > 0
      ? reported
      : [{ name: 'main', allocatedResourcesStatus: [{ name: resource, resources }] }];
  await cluster.request('PATCH', `${path}/status`, { status: { containerStatuses } });
}

/** Sets the taints of a node besides those that kube-controller-manager keeps. */
export async function taintNode(cluster: Cluster, name: string, taints: readonly Taint[]): Promise<void> {
  const path = `/api/v1/nodes/${name}`;
  const node = await cluster.request<Node>('GET', path);
  const kept = (node.spec?.taints ?? []).filter(({ key }) => key.startsWith('node.kubernetes.io/not-'));
  await cluster.request('PATCH', path, { spec: { taints: [...kept, ...taints] } });
}

export const maintenance: Taint = { key: 'example.com/sick', value: 'true', effect: 'NoExecute' };

/** An intent as it stands in its ConfigMap. */
export async function listIntents(cluster: Cluster) {
  const path = '/api/v1/namespaces/berth-system/configmaps?labelSelector=berth.dev/intent';
  const { items } = await cluster.request<{ items: ConfigMap[] }>('GET', path);
  return items.map(map => {
    const intent = parseIntent(map.data?.['intent.json'] ?? '');
    if ('code' in intent) throw new Error(`${map.metadata.name}: ${intent.message}`);
    return intent;
  });
}

const taintRulesPath = '/apis/resource.k8s.io/v1/devicetaintrules';

/** The DeviceTaintRules of devices that Berth keeps off new claims; none where the release serves none. */
export async function exclusionRules(cluster: Cluster): Promise<readonly DeviceTaintRule[]> {
  const path = `${taintRulesPath}?labelSelector=berth.dev/excluded`;
  try {
    return (await cluster.request<{ items: DeviceTaintRule[] }>('GET', path)).items;
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 404) return [];
    throw error;
  }
}

/** Takes away the rules of a Berth that has ended before their time. */
export async function forgetExclusions(cluster: Cluster): Promise<void> {
  for (const { metadata } of await exclusionRules(cluster))
    await cluster.request('DELETE', `${taintRulesPath}/${metadata.name}`).catch(() => {});
}

/** Forgets what was evicted and which breakers tripped: budgets count intents. */
export async function forgetFailures(cluster: Cluster): Promise<void> {
  for (const label of ['berth.dev/intent', 'berth.dev/breaker']) {
    const path = `/api/v1/namespaces/berth-system/configmaps`;
    const { items } = await cluster.request<{ items: ConfigMap[] }>('GET', `${path}?labelSelector=${label}`);
    for (const { metadata } of items) await cluster.request('DELETE', `${path}/${metadata.name}`);
  }
}

const berthUser = 'system:serviceaccount:berth-system:berth';

export interface DestructiveCalls {
  /** Evictions and deletions of pods and StatefulSets that Berth made since, refused ones included, dry runs not. */
  byBerth(): Promise<readonly WriteEvent[]>;
  /** Those of anybody that were done, in one namespace. */
  byAnybody(namespace: string): Promise<readonly WriteEvent[]>;
}

/** Watches the API server's audit log from now on. */
export async function watchDestruction(cluster: Cluster): Promise<DestructiveCalls> {
  const { nextOffset } = await readAudit(cluster.auditLogPath);
  const read = async () => (await readAudit(cluster.auditLogPath, nextOffset)).events.filter(isDestructive);
  return {
    byBerth: async () => (await read()).filter(({ user }) => user === berthUser),
    byAnybody: async namespace =>
      (await read()).filter(call => call.namespace === namespace && call.code < 300),
  };
}

function isDestructive({ verb, resource, subresource, dryRun }: WriteEvent): boolean {
  if (dryRun) return false;
  if (resource === 'pods' && subresource === 'eviction') return verb === 'create';
  if (resource !== 'pods' && resource !== 'statefulsets') return false;
  return subresource === '' && (verb === 'delete' || verb === 'deletecollection');
}

/** `create pods/eviction llama-0 201`, for comments and comparisons. */
export function describeCall({ verb, resource, subresource, name, code }: WriteEvent): string {
  return `${verb} ${resource}${subresource === '' ? '' : `/${subresource}`} ${name} ${code}`;
}
