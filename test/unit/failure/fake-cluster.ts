import type { EndpointSlice, InferencePool } from '../../../src/api/discovery.ts';
import type { DeviceTaint, DeviceTaintRule, ResourceClaim, ResourceSlice } from '../../../src/api/dra.ts';
import type {
  ConfigMap,
  LeaderWorkerSet,
  Node,
  Pod,
  PodCondition,
  StatefulSet,
} from '../../../src/api/kubernetes.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeResourceClaim } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeTaintRule, withTaintRules } from '../../../src/cluster/devices/taint-rules.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import type { DisruptionBudgetRecord } from '../../../src/group/disruption-budget.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../../../src/group/owner.ts';
import type { PodInfo } from '../../../src/group/pod-info.ts';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { labelOf, nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { type Ask, createdAt, podOf } from '../../builders/pods.ts';

/** What a pod is besides its object. */
interface PodState {
  pod: Pod;
  /** Undefined for a pod outside groups. */
  readonly group: LwsGroup | undefined;
  readonly incarnation: number;
  readonly rank: number;
  terminatingAtMs: number | undefined;
  foreground: boolean;
  disruption: string | undefined;
  unhealthy: boolean;
  readyAtMs: number;
  /** Its kubelet does not follow conditions for now. */
  slowKubelet: boolean;
  /** Conditions that were written, by type. */
  readonly conditions: Map<string, PodCondition>;
  /** What kube-controller-manager saw last of its readiness, and since when. */
  seen: { readonly ready: boolean; readonly atMs: number };
}

export interface FakeClusterOptions {
  /** Pods come gated, and go where Berth pins them; else they are bound at once. */
  readonly gated?: boolean;
  /** Devices come by claims: each node is a pool of eight, and each pod has the first four of its node's. */
  readonly claims?: boolean;
  /** Besides, the first pods of all groups use one claim that they name: `gpu-7` of node `n0`. Those after them wait. */
  readonly shared?: boolean;
}

/** Who makes pods anew besides LWS. */
export interface Workload {
  readonly kind: 'StatefulSet' | 'ReplicaSet' | 'Job';
  readonly name: string;
  replicas: number;
  /** Of its i-th pod. */
  readonly labels?: (index: number) => Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Its pods have the readiness gate. */
  readonly drained?: boolean;
}

interface SetState {
  readonly set: StatefulSet;
  readonly group: LwsGroup;
  readonly incarnation: number;
  terminating: boolean;
}

interface PatchStep {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

type JsonObject = Record<string, unknown>;

const deviceDriver = 'gpu.example.com';
const graceMs = 1_500;
const startMs = 1_000;

/**
 * A cluster in memory: an API server for the objects that failure handling touches, and what kubelets, the garbage
 * collector and LWS (v0.9, restartPolicy Recreate) do about them. Time moves by `tick`.
 */
export class FakeCluster implements ApiClient {
  readonly groups: LwsGroup[];
  readonly nodes = new Map<string, Node>();
  readonly pods = new Map<string, PodState>();
  readonly sets = new Map<string, SetState>();
  readonly configMaps = new Map<string, ConfigMap>();
  readonly owners = new Map<string, LeaderWorkerSet>();
  /** Every call that changed something outside Berth's namespace: `evict <uid>` or `delete-set <uid>`. */
  readonly destructive: string[] = [];
  namespaceLabels: Readonly<Record<string, string>> = { [berth.mode]: 'pin' };
  /** Called before a request is served, and after its effect; a throw is the answer. */
  interrupt: (request: ApiRequest, when: 'before' | 'after') => void = () => {};
  /** Answer to evictions, where it is not 201. */
  evictionError: ApiError | undefined;
  /** The same for single pods, by name; a dry run is not asked. */
  readonly evictionErrors = new Map<string, ApiError>();
  readonly workloads: Workload[] = [];
  refusedEvictions = 0;
  /** LWS may miss a worker that goes at once (LWS #998); then only that one comes back. */
  lwsMissesWorkers = false;
  readonly budgets: DisruptionBudgetRecord[] = [];
  /** By node, where devices come by claims. */
  readonly slices = new Map<string, ResourceSlice>();
  readonly taintRules = new Map<string, DeviceTaintRule>();
  /** Whether the API server serves DeviceTaintRules, and what was done to them: `create <name>` or `delete <name>`. */
  servesTaintRules = false;
  readonly ruleWrites: string[] = [];
  /** What kubelets say of devices that are not well, by UID of the pod. */
  readonly messages = new Map<string, string>();
  /** Services by name: whether they select leaders alone, and whether they have no address. */
  readonly services = new Map<string, { readonly leaders?: boolean; readonly headless?: boolean }>();
  /** Undefined where the cluster knows no such thing. */
  pools: readonly InferencePool[] | undefined;
  /** So long it takes until EndpointSlices follow the pods. */
  sliceLagMs = 0;
  /** Every condition that was written, `<type> <status> <uid>`, and the evictions among them as in `destructive`. */
  readonly writes: string[] = [];
  /** By name of the set; 0 for others. */
  readonly priorities = new Map<string, number>();
  readonly #gated: boolean;
  readonly #claims: boolean;
  readonly #shared: boolean;
  readonly #shown = new WeakMap<ClusterCache, readonly unknown[]>();
  readonly #decoded = new WeakMap<object, unknown>();
  readonly #podInfos = new WeakMap<Pod, { readonly looks: string; readonly info: PodInfo }>();
  nowMs = 0;
  #version = 0;
  readonly #incarnations = new Map<string, number>();
  readonly #made = new Map<string, number>();

  constructor(
    groups: readonly LwsGroup[],
    nodeCount: number,
    perRack = 4,
    { gated = false, claims = false, shared = false }: FakeClusterOptions = {},
  ) {
    this.groups = [...groups];
    this.#gated = gated;
    this.#claims = claims;
    this.#shared = shared;
    for (let i = 0; i < nodeCount; i += 1) {
      const name = `n${i}`;
      const labels = { [labelOf('rack')]: `r${Math.floor(i / perRack)}` };
      this.nodes.set(name, nodeOf({ name, labels, gpu: 8 }));
      if (claims) this.publish(name, deviceNames);
    }
    for (const group of groups) this.#own(group);
    this.tick(0);
    this.tick(startMs);
  }

  /** A group of another LeaderWorkerSet. */
  arrive(group: LwsGroup, priority: number): void {
    this.priorities.set(group.setName, priority);
    this.groups.push(group);
    this.#own(group);
  }

  /** Pods of a controller, each with a whole node. */
  addWorkload(workload: Workload): void {
    this.workloads.push(workload);
    this.#runWorkload(workload);
  }

  podsMadeBy(name: string): readonly PodState[] {
    return [...this.pods.values()].filter(({ pod }) => pod.metadata.ownerReferences?.[0]?.name === name);
  }

  /** A pod outside groups that takes a whole node. */
  addSingle(name: string, node: string, labels: Readonly<Record<string, string>> = {}, ask: Ask = {}): void {
    const pod = podOf({ name, node, gpu: 8, labels, ...ask });
    this.#keep(pod, { group: undefined, incarnation: 1, rank: 0, readyAtMs: this.nowMs });
  }

  /** The driver of a node publishes its devices anew, each with its taints. */
  publish(
    node: string,
    devices: readonly string[],
    taints: Readonly<Record<string, DeviceTaint>> = {},
  ): void {
    const generation = (this.slices.get(node)?.spec.pool.generation ?? 0) + 1;
    this.slices.set(node, {
      metadata: { name: `slice-${node}` },
      spec: {
        driver: deviceDriver,
        nodeName: node,
        pool: { name: node, generation, resourceSliceCount: 1 },
        devices: devices.map(name => ({ name, ...(taints[name] && { taints: [taints[name]] }) })),
      },
    });
  }

  /** Lets the controllers of the cluster work until that much time has passed. */
  tick(byMs: number): void {
    this.nowMs += byMs;
    for (let round = 0; round < 4; round += 1) {
      this.#collect();
      for (const group of this.groups) this.#runLws(group);
      for (const workload of this.workloads) this.#runWorkload(workload);
      if (this.#gated) this.#bind();
    }
    for (const state of this.pods.values()) {
      const ready = this.#isReady(state);
      if (ready !== state.seen.ready) state.seen = { ready, atMs: this.nowMs };
    }
  }

  /** As the kubelet reckons it: started, and the conditions behind its readiness gates are True. */
  #isReady({ pod, readyAtMs, conditions, slowKubelet, seen }: PodState): boolean {
    if (slowKubelet) return seen.ready;
    const gates = pod.spec.readinessGates ?? [];
    return (
      this.nowMs >= readyAtMs &&
      gates.every(({ conditionType }) => conditions.get(conditionType)?.status === 'True')
    );
  }

  /** Members whose condition of that type has that status, by UID. */
  withCondition(type: string, status: string): readonly string[] {
    return [...this.pods]
      .filter(([, { conditions }]) => conditions.get(type)?.status === status)
      .map(([uid]) => uid);
  }

  /** Pods that are Ready, by UID. */
  readyPods(): readonly string[] {
    return [...this.pods].filter(([, state]) => this.#isReady(state)).map(([uid]) => uid);
  }

  /** A fresh cache of all there is. */
  cache(): ClusterCache {
    const cache = new ClusterCache({ levels: [{ name: 'rack', nodeLabel: labelOf('rack') }] });
    this.show(cache);
    return cache;
  }

  /** Brings a cache up to date, as reflectors do. */
  show(cache: ClusterCache): void {
    cache.namespaces.replace([
      decodeNamespace({ metadata: { name: 'serving', labels: this.namespaceLabels } }),
    ]);
    cache.leaderWorkerSets.replace([...this.owners.values()].map(decodeLeaderWorkerSet));
    cache.statefulSets.replace([...this.sets.values()].map(({ set }) => decodeStatefulSet(set)));
    cache.nodes.replace([...this.nodes.values()].map(node => this.#decodedOnce(node, decodeNode)));
    cache.podDisruptionBudgets.replace(this.budgets);
    this.#showDevices(cache);
    cache.pods.replace([...this.pods.values()].map(state => this.#podInfo(state)));
  }

  /** Most objects do not change between two looks, and decoding is most of what a simulation costs. */
  #decodedOnce<Raw extends object, T>(raw: Raw, decodeRaw: (raw: Raw) => T): T {
    const known = this.#decoded.get(raw) as T | undefined;
    if (known !== undefined) return known;
    const decoded = decodeRaw(raw);
    this.#decoded.set(raw, decoded);
    return decoded;
  }

  #podInfo(state: PodState): PodInfo {
    const { pod, terminatingAtMs, disruption, foreground, unhealthy, conditions } = state;
    const looks = [
      terminatingAtMs !== undefined,
      disruption,
      foreground,
      unhealthy,
      this.#isReady(state),
      JSON.stringify([...conditions.values()]),
    ].join();
    const known = this.#podInfos.get(pod);
    if (known?.looks === looks) return known.info;
    const info = decode(this.#podObject(state));
    this.#podInfos.set(pod, { looks, info });
    return info;
  }

  /** A reflector tells nothing when nothing has changed. */
  #showDevices(cache: ClusterCache): void {
    if (!this.#claims) return;
    const bound = [...this.pods.values()].map(({ pod }) => `${pod.metadata.uid} ${pod.spec.nodeName}`);
    const now = [...this.slices.values(), ...this.taintRules.values(), bound.join()];
    const before = this.#shown.get(cache);
    if (now.length === before?.length && now.every((each, i) => each === before[i])) return;
    this.#shown.set(cache, now);
    cache.resourceSlices.replace([...this.slices.values()].map(decodeResourceSlice));
    cache.deviceTaintRules.replace([...this.taintRules.values()].map(decodeTaintRule));
    cache.resourceClaims.replace(this.#claimObjects().map(decodeResourceClaim));
  }

  podsOf(group: LwsGroup): readonly PodState[] {
    return [...this.pods.values()].filter(state => state.group === group);
  }

  setReady(node: string, status: 'True' | 'False' | 'Unknown'): void {
    const known = this.nodes.get(node);
    if (known === undefined) throw new Error(`no node ${node}`);
    this.nodes.set(node, { ...known, status: { ...known.status, conditions: [{ type: 'Ready', status }] } });
  }

  setTaint(node: string, key: string): void {
    const known = this.nodes.get(node);
    if (known === undefined) throw new Error(`no node ${node}`);
    this.nodes.set(node, { ...known, spec: { ...known.spec, taints: [{ key, effect: 'NoExecute' }] } });
  }

  annotateNode(node: string, key: string, value: string): void {
    const known = this.nodes.get(node);
    if (known === undefined) throw new Error(`no node ${node}`);
    const annotations = { ...known.metadata.annotations, [key]: value };
    this.nodes.set(node, { ...known, metadata: { ...known.metadata, annotations } });
  }

  /** What kube-controller-manager's taint eviction does: a background delete with a condition. */
  disrupt(uid: string, reason = 'DeletionByTaintManager'): void {
    const state = this.pods.get(uid);
    if (state === undefined || state.terminatingAtMs !== undefined) return;
    state.terminatingAtMs = this.nowMs;
    state.disruption = reason;
  }

  /** A delete by a person, or by the StatefulSet of the leaders in a rolling update. */
  deleteInBackground(uid: string): void {
    const state = this.pods.get(uid);
    if (state !== undefined) state.terminatingAtMs ??= this.nowMs;
  }

  // biome-ignore lint/correctness/useYield: nothing here watches
  async *stream<T>(): AsyncGenerator<T, void, undefined> {
    throw new Error('nothing here watches');
  }

  async request<T>(request: ApiRequest): Promise<T> {
    await Promise.resolve();
    this.interrupt(request, 'before');
    const answer = this.#serve(request);
    this.interrupt(request, 'after');
    return structuredClone(answer) as T;
  }

  #serve({ method, path, query, body }: ApiRequest): unknown {
    const segments = path.split('/').filter(segment => segment !== '');
    const at = segments.indexOf('namespaces');
    const [resource = '', name = '', subresource] =
      at === -1 ? segments.slice(segments[0] === 'apis' ? 3 : 2) : segments.slice(at + 2);
    switch (`${method} ${subresource ?? resource}`) {
      case 'GET nodes':
        return this.#found(this.nodes.get(name));
      case 'GET resourceslices':
        return {
          items: [...this.slices.values()].filter(slice => isSelected(slice, query?.['fieldSelector'])),
        };
      case 'GET ':
        return { resources: this.servesTaintRules ? [{ name: 'devicetaintrules' }] : [] };
      case 'POST devicetaintrules':
        return this.#createRule(body as DeviceTaintRule);
      case 'DELETE devicetaintrules':
        return this.#deleteRule(this.#found(this.taintRules.get(name)), body);
      case 'GET devicetaintrules':
        return { items: [...this.taintRules.values()] };
      case 'GET resourceclaims':
        return this.#found(this.#claimObjects().find(({ metadata }) => metadata.name === name));
      case 'GET leaderworkersets':
        return this.#found(this.owners.get(name));
      case 'GET replicasets':
      case 'GET jobs':
        return controllerObject(this.#found(this.workloads.find(workload => workload.name === name)));
      case 'GET statefulsets': {
        const workload = this.workloads.find(each => each.kind === 'StatefulSet' && each.name === name);
        return workload ? controllerObject(workload) : this.#setObject(this.#found(this.#setNamed(name)));
      }
      case 'DELETE statefulsets':
        return this.#deleteSet(this.#found(this.#setNamed(name)), body);
      case 'GET pods':
        return this.#podObject(this.#found(this.#podNamed(name)));
      case 'PATCH pods':
        return this.#patch(this.#found(this.#podNamed(name)), body as readonly PatchStep[]);
      case 'PATCH status':
        return this.#patchStatus(this.#found(this.#podNamed(name)), body as Pod);
      case 'GET endpointslices':
        return { items: this.#slices() };
      case 'GET inferencepools':
        return { items: this.#found(this.pools) };
      case 'POST eviction':
        return this.#evict(this.#found(this.#podNamed(name)), body);
      case 'GET configmaps':
        return name === ''
          ? this.#listConfigMaps(query?.['labelSelector'])
          : this.#found(this.configMaps.get(name));
      case 'POST configmaps':
      case 'PUT configmaps':
        return this.#writeConfigMap(method, body as ConfigMap);
      case 'DELETE configmaps':
        this.#found(this.configMaps.get(name));
        return this.configMaps.delete(name);
      default:
        throw new Error(`not served here: ${method} ${path}`);
    }
  }

  #evict(state: PodState, body: unknown): unknown {
    if (this.evictionError !== undefined) {
      this.refusedEvictions += 1;
      throw this.evictionError;
    }
    const { uid, policy, dryRun } = deletion((body as { deleteOptions: unknown }).deleteOptions);
    if (state.pod.metadata.uid !== uid) throw conflict();
    if (dryRun) return {};
    const refusal = this.evictionErrors.get(state.pod.metadata.name ?? '');
    if (refusal !== undefined) throw refusal;
    this.writes.push(`evict ${uid}`);
    this.destructive.push(`evict ${uid}`);
    if (state.terminatingAtMs !== undefined) return {};
    state.terminatingAtMs = this.nowMs;
    state.foreground = policy === 'Foreground';
    state.disruption = 'EvictionByEvictionAPI';
    return {};
  }

  #patchStatus(state: PodState, { metadata, status }: Pod): unknown {
    if (metadata.uid !== state.pod.metadata.uid) throw conflict();
    for (const condition of status?.conditions ?? []) {
      state.conditions.set(condition.type, condition);
      this.writes.push(`${condition.type} ${condition.status} ${metadata.uid}`);
    }
    return this.#podObject(state);
  }

  /** What kube-controller-manager makes of Services. One without address publishes pods that are not ready, as LWS's does. */
  #slices(): readonly EndpointSlice[] {
    return [...this.services].map(([name, { leaders = false, headless = false }]) => ({
      metadata: {
        name: `${name}-x`,
        labels: { [k8s.serviceName]: name, ...(headless && { [k8s.headlessService]: '' }) },
      },
      endpoints: [...this.pods.values()]
        .filter(({ rank }) => rank === 0 || !leaders)
        .map(({ pod, seen, terminatingAtMs }) => {
          const serving = this.nowMs - seen.atMs >= this.sliceLagMs ? seen.ready : !seen.ready;
          const terminating = terminatingAtMs !== undefined;
          return {
            addresses: ['10.0.0.1'],
            conditions: { ready: headless || (serving && !terminating), serving, terminating },
            targetRef: { kind: 'Pod', uid: pod.metadata.uid ?? '' },
          };
        }),
    }));
  }

  #patch(state: PodState, steps: readonly PatchStep[]): unknown {
    const pod = structuredClone(this.#podObject(state)) as unknown as JsonObject;
    for (const { op, path, value } of steps) {
      const keys = path
        .split('/')
        .slice(1)
        .map(key => key.replaceAll('~1', '/'));
      const last = keys.pop() ?? '';
      const parent = keys.reduce<JsonObject>((at, key) => at[key] as JsonObject, pod);
      if (op === 'test' && JSON.stringify(parent[last] ?? null) !== JSON.stringify(value))
        throw new ApiError({ status: 422, reason: 'Invalid', message: 'test failed' });
      if (op === 'remove' && Array.isArray(parent)) parent.splice(Number(last), 1);
      else if (op === 'remove') delete parent[last];
      if (op === 'add' || op === 'replace') parent[last] = value;
    }
    state.pod = pod as unknown as Pod;
    return pod;
  }

  #deleteSet(state: SetState, body: unknown): unknown {
    const { uid, policy } = deletion(body);
    if (state.set.metadata.uid !== uid || policy !== 'Foreground') throw conflict();
    this.destructive.push(`delete-set ${uid}`);
    state.terminating = true;
    return {};
  }

  #listConfigMaps(label: unknown): unknown {
    const items = [...this.configMaps.values()].filter(
      ({ metadata }) => metadata.labels?.[String(label)] !== undefined,
    );
    return {
      kind: 'ConfigMapList',
      apiVersion: 'v1',
      metadata: { resourceVersion: '1' },
      items: structuredClone(items),
    };
  }

  #writeConfigMap(method: string, object: ConfigMap): ConfigMap {
    const name = object.metadata.name ?? '';
    const known = this.configMaps.get(name);
    if (method === 'POST' && known !== undefined)
      throw new ApiError({ status: 409, reason: 'AlreadyExists', message: 'there is one' });
    if (method === 'PUT') {
      this.#found(known);
      const wanted = object.metadata.resourceVersion;
      if (wanted !== undefined && wanted !== known?.metadata.resourceVersion) throw conflict();
    }
    this.#version += 1;
    const stored = structuredClone({
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.#version) },
    });
    this.configMaps.set(name, stored);
    return stored;
  }

  #createRule(rule: DeviceTaintRule): DeviceTaintRule {
    const { name = '' } = rule.metadata;
    if (this.taintRules.has(name))
      throw new ApiError({ status: 409, reason: 'AlreadyExists', message: 'it exists' });
    this.#version += 1;
    const stored = { ...rule, metadata: { ...rule.metadata, uid: `rule-${this.#version}` } };
    this.taintRules.set(name, stored);
    this.ruleWrites.push(`create ${name}`);
    return stored;
  }

  #deleteRule({ metadata: { name = '', uid } }: DeviceTaintRule, options: unknown): object {
    if (deletion(options).uid !== uid) throw conflict();
    this.taintRules.delete(name);
    this.ruleWrites.push(`delete ${name}`);
    return {};
  }

  /** Garbage collector and kubelets. */
  #collect(): void {
    for (const [uid, state] of this.sets) {
      const leader = this.pods.get(state.set.metadata.ownerReferences?.[0]?.uid ?? '');
      const own = [...this.pods.values()].filter(pod => pod.pod.metadata.ownerReferences?.[0]?.uid === uid);
      if (leader?.foreground) state.terminating = true;
      // Owner gone: the StatefulSet goes in background, and its pods after it.
      if (leader === undefined || state.terminating)
        for (const pod of own) pod.terminatingAtMs ??= this.nowMs;
      if (leader === undefined && !state.terminating) this.sets.delete(uid);
      if (state.terminating && own.length === 0) this.sets.delete(uid);
    }
    for (const [uid, state] of this.pods) {
      if (state.terminatingAtMs === undefined) continue;
      if (this.#gated && state.pod.spec.nodeName === undefined) {
        this.pods.delete(uid);
        continue;
      }
      const node = this.nodes.get(state.pod.spec.nodeName ?? '');
      const ready = node?.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') ?? false;
      const { taints = [] } = node?.spec ?? {};
      const fenced = node === undefined || taints.some(taint => taint.key.endsWith('out-of-service'));
      if (!ready && !fenced) continue;
      const dependants = [...this.sets.values()].some(
        set => set.set.metadata.ownerReferences?.[0]?.uid === uid,
      );
      if (this.nowMs - state.terminatingAtMs >= graceMs && !(state.foreground && dependants))
        this.pods.delete(uid);
    }
  }

  #runLws(group: LwsGroup): void {
    const owner = this.owners.get(group.setName);
    const wanted = owner !== undefined && group.index < (owner.spec.replicas ?? 1);
    const leader = this.#podNamed(group.leaderName);
    if (!wanted) {
      if (leader !== undefined) leader.terminatingAtMs ??= this.nowMs;
      return;
    }
    if (leader === undefined) {
      const incarnation = (this.#incarnations.get(group.key) ?? 0) + 1;
      this.#incarnations.set(group.key, incarnation);
      this.#addPod(group, incarnation, 0);
      return;
    }
    if (leader.terminatingAtMs !== undefined) return;
    const set = this.#setNamed(group.leaderName);
    if (set === undefined) {
      const workerSet = group.workerSet(leader.incarnation);
      const uid = workerSet.metadata.uid ?? '';
      this.sets.set(uid, { set: workerSet, group, incarnation: leader.incarnation, terminating: false });
      return;
    }
    if (set.incarnation !== leader.incarnation || set.terminating) return;
    for (let rank = 1; rank < group.parts.size; rank += 1) {
      const worker = this.#podNamed(`${group.leaderName}-${rank}`);
      if (worker === undefined) this.#addPod(group, leader.incarnation, rank);
      else if (!this.lwsMissesWorkers && worker.terminatingAtMs !== undefined) {
        leader.terminatingAtMs = this.nowMs;
        leader.foreground = true;
      }
    }
  }

  /** A StatefulSet waits until a pod of that name is gone; the others make another at once. */
  #runWorkload({ kind, name, replicas, labels = () => ({}), annotations, drained }: Workload): void {
    for (let i = 0; i < replicas; i += 1) {
      const own = this.podsMadeBy(name).filter(({ rank }) => rank === i);
      if (own.some(({ terminatingAtMs }) => kind === 'StatefulSet' || terminatingAtMs === undefined))
        continue;
      const made = (this.#made.get(`${name}-${i}`) ?? 0) + 1;
      const podLabels = labels(i);
      const isPlaced = podLabels[berth.group] !== undefined || this.namespaceLabels[berth.singles] === 'pin';
      const isGated = this.#gated && isPlaced;
      const node = isGated ? undefined : this.#freeNode();
      if (!isGated && node === undefined) continue;
      this.#made.set(`${name}-${i}`, made);
      const podName = kind === 'StatefulSet' ? `${name}-${i}` : `${name}-${i}-${made}`;
      const pod = podOf({
        name: podName,
        uid: `uid-${podName}-${made}`,
        createdAt: new Date(Date.parse(createdAt) + this.nowMs).toISOString(),
        gpu: 8,
        labels: podLabels,
        ...(annotations && { annotations }),
        ...(drained && { drained }),
        ...(isGated ? { gated: true } : { node: node ?? '' }),
        owner: { ...ownerOf(kind, name), controller: true },
      });
      const readyAtMs = isGated ? Number.POSITIVE_INFINITY : this.nowMs + startMs;
      this.#keep(pod, { group: undefined, incarnation: made, rank: i, readyAtMs });
    }
  }

  #own(group: LwsGroup): void {
    const owner = group.owner();
    const alike = this.groups.filter(g => g.setName === group.setName);
    const replicas = Math.max(...alike.map(g => g.index)) + 1;
    this.owners.set(group.setName, { ...owner, spec: { ...owner.spec, replicas } });
  }

  /** Pods past their gate go where they are pinned as soon as there is nobody. */
  #bind(): void {
    for (const state of this.pods.values()) {
      const info = decode(this.#podObject(state));
      const { pinnedTo: node } = info;
      if (node === undefined || info.nodeName !== undefined || info.terminating) continue;
      if ([...this.pods.values()].some(other => other.pod.spec.nodeName === node)) continue;
      state.pod = { ...state.pod, spec: { ...state.pod.spec, nodeName: node } };
      state.readyAtMs = this.nowMs + startMs;
    }
  }

  /** Binds at once to the first node that is whole and has nobody, unless Berth is to say where. */
  #addPod(group: LwsGroup, incarnation: number, rank: number): void {
    const node = this.#freeNode();
    if (node === undefined && !this.#gated) return;
    const name = rank === 0 ? group.leaderName : `${group.leaderName}-${rank}`;
    const made = (this.#made.get(name) ?? 0) + 1;
    this.#made.set(name, made);
    const priority = this.priorities.get(group.setName) ?? 0;
    const place = this.#gated || node === undefined ? { gated: true } : { node, gated: false };
    const more = { ...place, priority, ...(rank > 0 && { uid: `uid-${name}-${made}` }) };
    const pod = rank === 0 ? group.leader(more, incarnation) : group.worker(rank, more, incarnation);
    const waits = this.#gated || (incarnation > 1 && this.#sharedClaims().length > 0);
    const readyAtMs = waits ? Number.POSITIVE_INFINITY : this.nowMs + startMs;
    this.#keep(pod, { group, incarnation, rank, readyAtMs });
  }

  #freeNode(): string | undefined {
    const taken = new Set([...this.pods.values()].map(state => state.pod.spec.nodeName));
    return [...this.nodes.values()].find(
      ({ metadata, spec, status }) =>
        !taken.has(metadata.name) &&
        (spec?.taints ?? []).length === 0 &&
        this.#hasDevices(metadata.name ?? '') &&
        status?.conditions?.[0]?.status === 'True',
    )?.metadata.name;
  }

  #keep(pod: Pod, rest: Pick<PodState, 'group' | 'incarnation' | 'rank' | 'readyAtMs'>): void {
    this.pods.set(pod.metadata.uid ?? '', {
      pod,
      terminatingAtMs: undefined,
      foreground: false,
      disruption: undefined,
      unhealthy: false,
      slowKubelet: false,
      conditions: new Map(),
      seen: { ready: false, atMs: Number.NEGATIVE_INFINITY },
      ...rest,
    });
  }

  #podObject(state: PodState): Pod {
    const { pod, terminatingAtMs, disruption, foreground } = state;
    const conditions = [
      ...state.conditions.values(),
      { type: 'Ready', status: this.#isReady(state) ? 'True' : 'False' },
      ...(disruption === undefined ? [] : [{ type: 'DisruptionTarget', status: 'True', reason: disruption }]),
    ];
    const health = state.unhealthy ? 'Unhealthy' : 'Healthy';
    const [name, resourceID] = this.#claims
      ? ['claim:gpus', `${deviceDriver}/${pod.spec.nodeName}/gpu-1`]
      : ['nvidia.com/gpu', 'GPU-0'];
    const message = state.unhealthy ? this.messages.get(pod.metadata.uid ?? '') : undefined;
    const resources = [{ resourceID, health, ...(message !== undefined && { message }) }];
    return {
      ...pod,
      metadata: {
        ...pod.metadata,
        ...(terminatingAtMs !== undefined && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
        ...(foreground && { finalizers: ['foregroundDeletion'] }),
      },
      status: {
        phase: 'Running',
        conditions,
        containerStatuses: [{ name: 'main', allocatedResourcesStatus: [{ name, resources }] }],
      },
    };
  }

  #claimObjects(): readonly ResourceClaim[] {
    if (!this.#claims) return [];
    return [...this.#sharedClaims(), ...this.#ownClaims()];
  }

  #sharedClaims(): readonly ResourceClaim[] {
    const users = [...this.pods.values()].filter(({ incarnation }) => incarnation === 1);
    if (!this.#shared || users.length === 0) return [];
    const results = [{ request: 'gpu', driver: deviceDriver, pool: 'n0', device: 'gpu-7' }];
    const reservedFor = users.map(({ pod: { metadata } }) => ({
      resource: 'pods',
      name: metadata.name ?? '',
      uid: metadata.uid ?? '',
    }));
    return [
      {
        metadata: { name: 'common', namespace: 'serving', uid: 'claim-common' },
        spec: { devices: { requests: [] } },
        status: { allocation: { devices: { results } }, reservedFor },
      },
    ];
  }

  #ownClaims(): readonly ResourceClaim[] {
    return [...this.pods.values()].flatMap(({ pod }) => {
      const { nodeName: pool } = pod.spec;
      const { name = '', namespace = '', uid = '' } = pod.metadata;
      if (pool === undefined) return [];
      const results = deviceNames
        .slice(0, 4)
        .map(device => ({ request: 'gpu', driver: deviceDriver, pool, device }));
      return [
        {
          metadata: {
            name: `${name}-gpus`,
            namespace,
            uid: `claim-${uid}`,
            annotations: { [k8s.podClaimName]: 'gpus' },
            ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name, uid, controller: true }],
          },
          spec: {},
          status: { allocation: { devices: { results } }, reservedFor: [{ resource: 'pods', name, uid }] },
        },
      ];
    });
  }

  /** What the allocator would say: the devices that a pod takes are there, without taint. */
  #hasDevices(node: string): boolean {
    if (!this.#claims) return true;
    const slice = this.slices.get(node);
    if (slice === undefined) return false;
    const rules = [...this.taintRules.values()].map(decodeTaintRule);
    const { devices } = withTaintRules(decodeResourceSlice(slice), rules);
    return deviceNames
      .slice(0, 4)
      .every(name => devices.some(({ id, taints }) => id.device === name && taints.length === 0));
  }

  #setObject({ set, terminating }: SetState): StatefulSet {
    if (!terminating) return set;
    return { ...set, metadata: { ...set.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };
  }

  #podNamed(name: string): PodState | undefined {
    return [...this.pods.values()].find(({ pod }) => pod.metadata.name === name);
  }

  #setNamed(name: string): SetState | undefined {
    return [...this.sets.values()].find(({ set }) => set.metadata.name === name);
  }

  #found<T>(object: T | undefined): T {
    if (object === undefined)
      throw new ApiError({ status: 404, reason: 'NotFound', message: 'there is none' });
    return object;
  }
}

function ownerOf(kind: Workload['kind'], name: string) {
  const apiVersion = kind === 'Job' ? 'batch/v1' : 'apps/v1';
  return { apiVersion, kind, name, uid: `uid-${kind}-${name}` };
}

function controllerObject({ kind, name, replicas }: Workload) {
  const { uid } = ownerOf(kind, name);
  return { metadata: { namespace: 'serving', name, uid }, spec: { replicas } };
}

export const deviceNames = Array.from({ length: 8 }, (_, i) => `gpu-${i}`);

/** ConfigMap of Berth's configuration, halted or not. */
export function configOf(halted: boolean): ConfigMap {
  return { metadata: { name: 'berth-config', ...(halted && { annotations: { [berth.halt]: 'yes' } }) } };
}

export function groupsOf(
  count: number,
  size: number,
  setName = 'llm',
  worker: Ask = {},
): readonly LwsGroup[] {
  return Array.from(
    { length: count },
    (_, i) => new LwsGroup({ name: setName, size, worker: { gpu: 8, ...worker } }, i),
  );
}

function isSelected({ spec }: ResourceSlice, selector: unknown): boolean {
  return String(selector)
    .split(',')
    .every(term => [`spec.driver=${spec.driver}`, `spec.nodeName=${spec.nodeName}`].includes(term));
}

function conflict(): ApiError {
  return new ApiError({ status: 409, reason: 'Conflict', message: 'precondition failed' });
}

function deletion(options: unknown): {
  readonly uid: string | undefined;
  readonly policy: string | undefined;
  readonly dryRun: boolean;
} {
  const { preconditions, propagationPolicy, dryRun } = options as {
    preconditions?: { uid?: string };
    propagationPolicy?: string;
    dryRun?: readonly string[];
  };
  return { uid: preconditions?.uid, policy: propagationPolicy, dryRun: dryRun?.includes('All') ?? false };
}
