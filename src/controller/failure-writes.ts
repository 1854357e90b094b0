import type { ComputeDomain } from '../api/compute-domain.ts';
import type { EndpointSlice, InferencePool } from '../api/discovery.ts';
import type { DeviceTaintRule, ResourceClaim, ResourceSlice } from '../api/dra.ts';
import type {
  KubernetesObject,
  LeaderWorkerSet,
  Node,
  Pod,
  PodCondition,
  StatefulSet,
} from '../api/kubernetes.ts';
import { lws, nvidia } from '../api/names.ts';
import type { RemakerKind } from '../failure/remakers.ts';
import type { ApiClient } from '../kube/api-client.ts';
import { ApiGarbled, failureKind } from '../kube/api-errors.ts';
import { evictPod, getObject, getPod, type ObjectRef, patchPodCondition } from '../kube/writes.ts';

const resourceApi = '/apis/resource.k8s.io/v1';

/** A StatefulSet, ReplicaSet or Job as far as it is asked whether it makes pods anew. */
export interface LiveController extends KubernetesObject {
  readonly spec?: {
    readonly replicas?: number;
    readonly ordinals?: { readonly start?: number };
    readonly suspend?: boolean;
  };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

/** Live reads, and the destructive calls that failure handling and preemption know. All throw as `ApiClient.request` does. */
export interface FailureWrites {
  /** Undefined when there is none of that name; compare the UID. */
  livePod(pod: ObjectRef): Promise<Pod | undefined>;
  liveNode(name: string): Promise<Node | undefined>;
  liveOwner(owner: ObjectRef): Promise<LeaderWorkerSet | undefined>;
  liveStatefulSet(set: ObjectRef): Promise<StatefulSet | undefined>;
  /** Who makes a pod anew. */
  liveController(
    controller: Omit<ObjectRef, 'uid'> & { readonly kind: RemakerKind },
  ): Promise<LiveController | undefined>;
  liveClaim(claim: ObjectRef): Promise<ResourceClaim | undefined>;
  /** The slices of a driver: of a node, or of the whole cluster. */
  liveSlices(driver: string, nodeName: string | undefined): Promise<readonly ResourceSlice[]>;
  /** Undefined when there is none of that name, or the cluster has no ComputeDomains. */
  liveComputeDomain(domain: ObjectRef): Promise<ComputeDomain | undefined>;
  /** How many nodes bear a label of that value. */
  liveNodesWith(label: string, value: string): Promise<number>;
  liveTaintRules(): Promise<readonly DeviceTaintRule[]>;
  liveEndpointSlices(namespace: string): Promise<readonly EndpointSlice[]>;
  /** None where the cluster knows no such thing. */
  liveInferencePools(namespace: string): Promise<readonly InferencePool[]>;
  /** Sets a condition of this very pod. */
  setCondition(pod: Required<ObjectRef>, condition: PodCondition): Promise<void>;
  /** Asks for the eviction of the leader without evicting: budgets and rights are checked, nothing is charged. */
  tryEvictLeader(leader: Required<ObjectRef>): Promise<void>;
  /** Eviction of this very pod in foreground, so that its workers go at the same time. */
  evictLeader(leader: Required<ObjectRef>): Promise<void>;
  /** Eviction of this very pod and nothing else: it is outside groups, or of one that goes pod by pod. */
  evictSingle(pod: Required<ObjectRef>): Promise<void>;
  /** What the API server would say to that now. */
  tryEvictSingle(pod: Required<ObjectRef>): Promise<void>;
  /** Deletes this very StatefulSet in foreground: its pods go first, all at once. */
  deleteStatefulSet(set: Required<ObjectRef>): Promise<void>;
}

/** Failure handling's reads and writes against the API server. */
export function failureWrites(client: ApiClient): FailureWrites {
  return {
    livePod: pod => ifThere(getPod(client, pod)),
    liveNode: name => ifThere(getObject<Node>(client, `/api/v1/nodes/${name}`)),
    liveOwner: ({ namespace, name }) =>
      ifThere(
        getObject<LeaderWorkerSet>(
          client,
          `/apis/${lws.apiVersion}/namespaces/${namespace}/leaderworkersets/${name}`,
        ),
      ),
    liveClaim: ({ namespace, name }) =>
      ifThere(
        getObject<ResourceClaim>(client, `${resourceApi}/namespaces/${namespace}/resourceclaims/${name}`),
      ),
    async liveSlices(driver, nodeName) {
      const fields = [
        `spec.driver=${driver}`,
        ...(nodeName === undefined ? [] : [`spec.nodeName=${nodeName}`]),
      ];
      const path = `${resourceApi}/resourceslices`;
      const query = { fieldSelector: fields.join(',') };
      return itemsOf(
        await client.request<{ items?: readonly ResourceSlice[] }>({ method: 'GET', path, query }),
      );
    },
    liveComputeDomain: ({ namespace, name }) =>
      ifThere(
        getObject<ComputeDomain>(
          client,
          `/apis/${nvidia.apiVersion}/namespaces/${namespace}/computedomains/${name}`,
        ),
      ),
    async liveNodesWith(label, value) {
      const query = { labelSelector: `${label}=${value}` };
      const list = await client.request<{ items?: readonly Node[] }>({
        method: 'GET',
        path: '/api/v1/nodes',
        query,
      });
      return itemsOf(list).length;
    },
    async liveTaintRules() {
      const path = `${resourceApi}/devicetaintrules`;
      return itemsOf(await client.request<{ items?: readonly DeviceTaintRule[] }>({ method: 'GET', path }));
    },
    liveStatefulSet: set => ifThere(getObject<StatefulSet>(client, statefulSetPath(set))),
    liveController: ({ kind, namespace, name }) => {
      const { api, resource } = controllerApis[kind];
      return ifThere(getObject(client, `/apis/${api}/namespaces/${namespace}/${resource}/${name}`));
    },
    async liveEndpointSlices(namespace) {
      const path = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`;
      return itemsOf(await client.request<{ items?: readonly EndpointSlice[] }>({ method: 'GET', path }));
    },
    async liveInferencePools(namespace) {
      const path = `/apis/inference.networking.k8s.io/v1/namespaces/${namespace}/inferencepools`;
      try {
        return itemsOf(await client.request<{ items?: readonly InferencePool[] }>({ method: 'GET', path }));
      } catch (error) {
        if (failureKind(error) === 'gone') return [];
        throw error;
      }
    },
    async setCondition(pod, condition) {
      await patchPodCondition(client, pod, condition);
    },
    async tryEvictLeader(leader) {
      await evictPod(client, leader, { propagationPolicy: 'Foreground', dryRun: true });
    },
    async evictLeader(leader) {
      await evictPod(client, leader, { propagationPolicy: 'Foreground' });
    },
    async evictSingle(pod) {
      await evictPod(client, pod);
    },
    async tryEvictSingle(pod) {
      await evictPod(client, pod, { dryRun: true });
    },
    async deleteStatefulSet(set) {
      const body = {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Foreground',
        preconditions: { uid: set.uid },
      };
      await client.request({ method: 'DELETE', path: statefulSetPath(set), body });
    },
  };
}

const controllerApis: Readonly<Record<RemakerKind, { readonly api: string; readonly resource: string }>> = {
  StatefulSet: { api: 'apps/v1', resource: 'statefulsets' },
  ReplicaSet: { api: 'apps/v1', resource: 'replicasets' },
  Job: { api: 'batch/v1', resource: 'jobs' },
};

function statefulSetPath({ namespace, name }: ObjectRef): string {
  return `/apis/apps/v1/namespaces/${namespace}/statefulsets/${name}`;
}

/** An answer without items is no list: nothing may be decided on it. */
function itemsOf<T>(list: { readonly items?: readonly T[] } | undefined): readonly T[] {
  if (!Array.isArray(list?.items)) throw new ApiGarbled('the answer is no list');
  return list.items;
}

async function ifThere<T extends KubernetesObject>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (failureKind(error) === 'gone') return undefined;
    throw error;
  }
}
