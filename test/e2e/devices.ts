import type { Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { FleetContent } from '../../hack/bed/fleet-presets.ts';
import type {
  DeviceConstraint,
  DeviceRequest,
  DeviceRequestAllocationResult,
  ExactDeviceRequest,
  ResourceClaim,
  ResourceSlice,
  SliceDevice,
} from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { conditionOf, createPod, listPods, lwsPath, makeNamespace, singlePod, until } from './bed.ts';

/** Gate of somebody else: holds pods between Berth's plan and kube-scheduler. */
export const holdGate = 'example.com/hold';

const resourceApi = '/apis/resource.k8s.io/v1';
const pcieRoot = 'resource.kubernetes.io/pcieRoot';
/** What makes a GPU and a NIC a pair: one of each, asked for without a word about where they sit. */
export const pairRequests: readonly DeviceRequest[] = [
  exactly('gpu', 'gpu.nvidia.com'),
  exactly('nic', 'efa.networking.k8s.aws'),
];

type MakeNamespace = (t: Test, labels?: Readonly<Record<string, string>>) => Promise<string>;

/**
 * Makes fresh namespaces, each emptied when its part of the test ends. Kubernetes keeps an empty namespace for 5 s more;
 * only the whole test waits for that.
 */
export function deviceNamespaces(whole: Test, cluster: Cluster): MakeNamespace {
  return async (t, labels) => {
    const namespace = await makeNamespace(whole, cluster, labels);
    t.teardown(async () => {
      await emptyNamespace(cluster, namespace);
      await cluster.request('DELETE', `/api/v1/namespaces/${namespace}`);
    });
    return namespace;
  };
}

/** Deletes the groups, pods and claims of a namespace and waits until they are gone. */
export async function emptyNamespace(cluster: Cluster, namespace: string): Promise<void> {
  await cluster.request('DELETE', lwsPath(namespace));
  // Those of an LWS go with it; deleted here they would be made again.
  const singles = encodeURIComponent('!leaderworkerset.sigs.k8s.io/name');
  await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods?labelSelector=${singles}`);
  await cluster.request('DELETE', `${resourceApi}/namespaces/${namespace}/resourceclaims`);
  await until(`pods and claims of ${namespace} to be gone`, 90_000, async () => {
    const left = [...(await listPods(cluster, namespace)), ...(await listClaims(cluster, namespace))];
    return left.length === 0;
  });
}

/** One request of a claim. */
export function exactly(
  name: string,
  deviceClassName: string,
  rest: Omit<ExactDeviceRequest, 'deviceClassName'> = {},
): DeviceRequest {
  return { name, exactly: { deviceClassName, ...rest } };
}

/** A selector of a request, by a CEL expression. */
export function selecting(expression: string): Pick<ExactDeviceRequest, 'selectors'> {
  return { selectors: [{ cel: { expression } }] };
}

export async function createClaimTemplate(
  cluster: Cluster,
  namespace: string,
  name: string,
  requests: readonly DeviceRequest[],
  constraints: readonly DeviceConstraint[] = [],
): Promise<void> {
  await cluster.request('POST', `${resourceApi}/namespaces/${namespace}/resourceclaimtemplates`, {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: { name, namespace },
    spec: { spec: { devices: { requests, ...(constraints.length > 0 && { constraints }) } } },
  });
}

/** A claim by itself, as several pods may share it. */
export async function createClaim(
  cluster: Cluster,
  namespace: string,
  name: string,
  requests: readonly DeviceRequest[],
): Promise<void> {
  await cluster.request('POST', `${resourceApi}/namespaces/${namespace}/resourceclaims`, {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata: { name, namespace },
    spec: { devices: { requests } },
  });
}

/** Part of a pod spec: what its claims are called, to the template or claim behind each. */
export function claiming(claims: {
  readonly templates?: Readonly<Record<string, string>>;
  readonly claims?: Readonly<Record<string, string>>;
}) {
  const { templates = {}, claims: shared = {} } = claims;
  const resourceClaims = [
    ...Object.entries(templates).map(([name, template]) => ({ name, resourceClaimTemplateName: template })),
    ...Object.entries(shared).map(([name, claim]) => ({ name, resourceClaimName: claim })),
  ];
  const resources = { requests: { cpu: '1' }, claims: resourceClaims.map(({ name }) => ({ name })) };
  return { resourceClaims, containers: [{ name: 'main', image: 'model-server', resources }] };
}

export async function listClaims(cluster: Cluster, namespace?: string): Promise<ResourceClaim[]> {
  const scope = namespace === undefined ? '' : `/namespaces/${namespace}`;
  const path = `${resourceApi}${scope}/resourceclaims`;
  return (await cluster.request<{ items: ResourceClaim[] }>('GET', path)).items;
}

/** The devices that claims were given, each with its claim. */
export function resultsOf(claims: readonly ResourceClaim[]): readonly DeviceRequestAllocationResult[] {
  return claims.flatMap(claim => claim.status?.allocation?.devices?.results ?? []);
}

/** Requests that were met by their first alternative, and those that fell back to what the template says. */
export function countSteered(claims: readonly ResourceClaim[]): {
  readonly steered: number;
  readonly other: number;
} {
  const results = claims.flatMap(claim =>
    (claim.status?.allocation?.devices?.results ?? []).map(({ request }) => {
      const [parent, alternative] = request.split('/');
      const first = claim.spec.devices?.requests?.find(({ name }) => name === parent)?.firstAvailable?.[0];
      return first !== undefined && first.name === alternative;
    }),
  );
  const steered = results.filter(Boolean).length;
  return { steered, other: results.length - steered };
}

/** Whether a claim asks for planned devices first: no template of these tests has alternatives of its own. */
export function isSteered(claim: ResourceClaim): boolean {
  return claim.spec.devices?.requests?.some(({ firstAvailable }) => firstAvailable !== undefined) ?? false;
}

/** Devices that more than one claim holds. Those that may be shared by counters do not count as one. */
export function doublyHeld(claims: readonly ResourceClaim[]): string[] {
  const keys = resultsOf(claims).map(nameOf);
  return keys.filter((key, index) => keys.indexOf(key) !== index);
}

/** The published devices of a cluster, by `driver/pool/device`. */
export async function publishedDevices(cluster: Cluster): Promise<ReadonlyMap<string, SliceDevice>> {
  const { items } = await cluster.request<{ items: ResourceSlice[] }>('GET', `${resourceApi}/resourceslices`);
  return new Map(
    items.flatMap(({ spec }) =>
      (spec.devices ?? []).map(
        device =>
          [nameOf({ driver: spec.driver, pool: spec.pool.name, device: device.name }), device] as const,
      ),
    ),
  );
}

/** Claims whose GPU and NIC hang on one PCIe root, as the slices tell it. */
export function alignedPairs(
  claims: readonly ResourceClaim[],
  devices: ReadonlyMap<string, SliceDevice>,
): readonly ResourceClaim[] {
  return claims.filter(claim => {
    const roots = resultsOf([claim]).map(
      result => devices.get(nameOf(result))?.attributes?.[pcieRoot]?.string,
    );
    return roots.length === 2 && roots[0] !== undefined && roots[0] === roots[1];
  });
}

/** Name of the device of a node that a steered request asks for first: the one that its selectors tell apart. */
export function plannedDevice(
  claim: ResourceClaim | undefined,
  request: string,
  nodeName: string,
  devices: ReadonlyMap<string, SliceDevice>,
): DeviceRequestAllocationResult | undefined {
  const wanted = claim?.spec.devices?.requests?.find(({ name }) => name === request)?.firstAvailable?.[0];
  const text = (wanted?.selectors ?? []).map(({ cel }) => cel?.expression ?? '').join('\n');
  for (const [key, device] of devices) {
    const [driver = '', pool = '', name = ''] = key.split('/');
    const values = Object.values(device.attributes ?? {}).flatMap(({ string }) => string ?? []);
    const isUnique = (value: string) => holdersOf(value, nodeName, devices) === 1;
    if (pool === nodeName && values.some(value => text.includes(`"${value}"`) && isUnique(value)))
      return { request, driver, pool, device: name };
  }
  return undefined;
}

/** Claim of a pod, by what the pod calls it. */
export function claimOf(claims: readonly ResourceClaim[], pod: Pod, name: string): ResourceClaim | undefined {
  return claims.find(
    ({ metadata }) =>
      metadata.annotations?.['resource.kubernetes.io/pod-claim-name'] === name &&
      metadata.ownerReferences?.some(({ uid }) => uid === pod.metadata.uid),
  );
}

/** A single pod that takes devices of a node by a claim of its own; waits until it has them. */
export async function takeDevices(
  cluster: Cluster,
  namespace: string,
  name: string,
  nodeName: string,
  requests: readonly DeviceRequest[],
): Promise<void> {
  await createClaim(cluster, namespace, name, requests);
  const nodeSelector = { 'kubernetes.io/hostname': nodeName };
  const spec = { nodeSelector, ...claiming({ claims: { devices: name } }) };
  await createPod(cluster, singlePod(namespace, name, {}, spec));
  await until(`${namespace}/${name} to have its devices`, 30_000, async () => {
    const pod = await cluster.request<Pod>('GET', `/api/v1/namespaces/${namespace}/pods/${name}`);
    return pod.spec.nodeName !== undefined;
  });
}

/** Lets go the pods of a namespace that somebody else holds back. */
export async function release(cluster: Cluster, pods: readonly Pod[]): Promise<void> {
  await Promise.all(
    pods.map(({ metadata, spec }) => {
      const schedulingGates = spec.schedulingGates?.filter(({ name }) => name !== holdGate) ?? [];
      const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
      const patch = [{ op: 'replace', path: '/spec/schedulingGates', value: schedulingGates }];
      return cluster.request('PATCH', path, patch, 'application/json-patch+json');
    }),
  );
}

/** Racks of a fleet under the name that its test shows. */
export function named(name: string, content: FleetContent) {
  return { name, ...content };
}

/** Watches for pods that kube-scheduler has refused though they were pinned: Berth has said yes to what does not fit. */
export function watchStranded(t: Test, cluster: Cluster, namespace: string): ReadonlySet<string> {
  const stranded = new Set<string>();
  const path = `/api/v1/namespaces/${namespace}/pods`;
  t.teardown(
    cluster.watch(path, (_type, object) => {
      const pod = object as unknown as Pod;
      const isPinned =
        pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution !== undefined;
      const scheduled = conditionOf(pod, 'PodScheduled');
      // Those that share a claim wait for the first of them to have it allocated.
      const waitsForShared = scheduled?.message?.includes('in the process of being allocated');
      if (isPinned && scheduled?.reason === 'Unschedulable' && !waitsForShared)
        stranded.add(`${pod.metadata.name}: ${scheduled.message}`);
    }),
  );
  return stranded;
}

function holdersOf(value: string, nodeName: string, devices: ReadonlyMap<string, SliceDevice>): number {
  return [...devices].filter(
    ([key, { attributes = {} }]) =>
      key.split('/')[1] === nodeName && Object.values(attributes).some(({ string }) => string === value),
  ).length;
}

function nameOf({ driver, pool, device }: Pick<DeviceRequestAllocationResult, 'driver' | 'pool' | 'device'>) {
  return `${driver}/${pool}/${device}`;
}
