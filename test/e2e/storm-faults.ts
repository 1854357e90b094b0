import { ApiFailure } from '../../hack/bed/api-client.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { createFleet } from '../../hack/bed/fleets.ts';
import type { DeviceTaint } from '../../src/api/dra.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { type DeviceId, deviceKey } from '../../src/cluster/devices/device.ts';
import { lwsPath, until } from './bed.ts';
import { evictionAnswer } from './budgets.ts';
import { bringBack, powerOff } from './dead-nodes.ts';
import { publishedDevices, resultsOf } from './devices.ts';
import { maintenance, reportDevice, taintNode } from './failures.ts';
import { setTaint, splitPool, withdrawPool } from './storm-devices.ts';
import type { StormHistory } from './storm-history.ts';
import type { FaultKind } from './storm-plan.ts';

export interface StormScene {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly history: StormHistory;
  /** Names of the LeaderWorkerSets that may be hurt, of two replicas each. */
  readonly victims: readonly string[];
  readonly fleet: ReadonlyMap<string, Node>;
  /** Nodes that innocent pods share: only devices of others may be hurt there. */
  readonly gentleNodes: ReadonlySet<string>;
}

/** Takes a fault back. */
export interface Repair {
  (): Promise<void>;
  /** Whether whoever was hurt is gone, so that nothing is to be had from waiting longer. */
  isSettled?: () => boolean;
}
type Inject = (pick: number) => Promise<Repair | undefined>;

const driver = 'gpu.nvidia.com';
const rulesPath = '/apis/resource.k8s.io/v1/devicetaintrules';
const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const odd: DeviceTaint = { key: 'example.com/odd', effect: 'NoSchedule' };
const dead: DeviceTaint = { key: 'example.com/dead', effect: 'NoExecute' };
/** So many nodes may be away at once: the others have room for all groups. */
const mostNodesAway = 8;
const usableMs = 90_000;
const nothing: Repair = async () => {};

/** Hurts random members of some groups. What is broken already is left alone until it was repaired. */
export class StormFaults {
  readonly #scene: StormScene;
  readonly #nodesAway = new Set<string>();
  /** By key. */
  readonly #busyDevices = new Map<string, DeviceId>();
  readonly #busyOwners = new Set<string>();
  #count = 0;

  constructor(scene: StormScene) {
    this.#scene = scene;
  }

  /** Whether a node is as it should be, so that its pods come and go. */
  isAway(node: string): boolean {
    return this.#nodesAway.has(node);
  }

  /** Undefined when there is nobody whom it could happen to right now. */
  async inject(kind: FaultKind, pick: number): Promise<Repair | undefined> {
    this.#count += 1;
    try {
      return await this.#kinds[kind](pick);
    } catch (error) {
      // Whoever was meant has gone meanwhile.
      if (error instanceof ApiFailure && [404, 409, 422, 429].includes(error.status)) return undefined;
      throw error;
    }
  }

  readonly #kinds: Readonly<Record<FaultKind, Inject>> = {
    'device tainted, certain': async pick => {
      const id = this.#heldDevice(pick);
      const pod = this.#members().find(member => this.#devicesOf(member).some(held => isSame(held, id)));
      return this.#untilGone(pod, await this.#withDevice(id, device => this.#taint(device, lost)));
    },
    'device tainted, suspect': pick => this.#taintHeld(pick, odd),
    'device tainted, NoExecute': pick => this.#taintHeld(pick, dead),
    'device tainted, None': pick => this.#taintHeld(pick, { ...lost, effect: 'None' }),
    'spare device tainted': async pick => {
      const taken = new Set(resultsOf([...this.#scene.history.claims.values()]).map(deviceKey));
      const ids = [...(await publishedDevices(this.#scene.cluster)).keys()].map(idOf);
      const spare = ids.filter(id => id.driver === driver && !taken.has(deviceKey(id)) && this.#isFree(id));
      return this.#withDevice(pickFrom(spare, pick), id => this.#taint(id, lost));
    },
    'rule about one device': pick =>
      this.#withDevice(this.#heldDevice(pick), async id => {
        const name = `storm-${this.#count}`;
        const { driver, pool, device } = id;
        const spec = { deviceSelector: { driver, pool, device }, taint: pick < 0.5 ? odd : dead };
        const rule = { apiVersion: 'resource.k8s.io/v1', kind: 'DeviceTaintRule', metadata: { name }, spec };
        await this.#scene.cluster.request('POST', rulesPath, rule);
        return () => this.#scene.cluster.request('DELETE', `${rulesPath}/${name}`);
      }),
    'kubelet says Unhealthy': async pick => {
      const pod = this.#member(pick);
      if (pod === undefined) return undefined;
      await this.#report(pod, 'Unhealthy');
      return this.#untilGone(pod, () => this.#report(pod, 'Healthy'));
    },
    'kubelet says Unknown': async pick => {
      const pod = this.#member(pick);
      if (pod === undefined) return undefined;
      await this.#report(pod, 'Unknown');
      return () => this.#report(pod, 'Healthy');
    },
    'node tainted, NoExecute': pick =>
      this.#withNode(pick, async name => {
        await taintNode(this.#scene.cluster, name, [maintenance]);
        return () => taintNode(this.#scene.cluster, name, []);
      }),
    'node cordoned': pick =>
      this.#withNode(pick, async name => {
        const cordon = (unschedulable: true | null) =>
          this.#scene.cluster.request('PATCH', `/api/v1/nodes/${name}`, { spec: { unschedulable } });
        await cordon(true);
        return () => cordon(null);
      }),
    'node silent': pick =>
      this.#withNode(pick, async name => {
        const { cluster, namespace } = this.#scene;
        await powerOff(cluster, namespace, name);
        return () => bringBack(cluster, namespace, name);
      }),
    'node replaced': pick =>
      this.#withNode(pick, async name => {
        const { cluster, fleet } = this.#scene;
        const node = fleet.get(name);
        if (node === undefined) return undefined;
        await cluster.request('DELETE', `/api/v1/nodes/${name}`);
        return () => createFleet(cluster, { name, nodes: [node] });
      }),
    'slices withdrawn': pick =>
      this.#withNode(pick, pool => withdrawPool(this.#scene.cluster, { driver, pool })),
    'generation changed': pick =>
      this.#withNode(pick, pool => splitPool(this.#scene.cluster, { driver, pool })),
    'member drained': async pick => {
      const pod = this.#member(pick);
      if (pod === undefined) return undefined;
      const answer = await evictionAnswer(this.#scene.cluster, pod.metadata, { dryRun: false });
      return answer === 201 ? nothing : undefined;
    },
    'rank killed': async pick => {
      const pod = this.#member(pick);
      if (pod === undefined) return undefined;
      const { namespace, name, uid } = pod.metadata;
      const body = { gracePeriodSeconds: 0, preconditions: { uid } };
      await this.#scene.cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}`, body);
      return nothing;
    },
    'owner scaled': pick =>
      this.#withOwner(pick, async path => {
        const scale = (replicas: number) =>
          this.#scene.cluster.request('PATCH', path, { spec: { replicas } });
        await scale(1);
        return () => scale(2);
      }),
    'owner rolled': pick =>
      this.#withOwner(pick, async path => {
        const image = '/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image';
        const steps = [{ op: 'replace', path: image, value: `model-server:${this.#count}` }];
        await this.#scene.cluster.request('PATCH', path, steps, 'application/json-patch+json');
        return nothing;
      }),
  };

  #untilGone(pod: Pod | undefined, repair: Repair | undefined): Repair | undefined {
    const isSettled = () => !this.#scene.history.pods.has(pod?.metadata.uid ?? '');
    return repair && Object.assign(repair, { isSettled });
  }

  /** Members that are bound and stay, on nodes that are as they should be. */
  #members(): readonly Pod[] {
    const { history, namespace, victims } = this.#scene;
    return [...history.pods.values()]
      .filter(
        ({ metadata, spec }) =>
          metadata.namespace === namespace &&
          victims.includes(metadata.labels?.['leaderworkerset.sigs.k8s.io/name'] ?? '') &&
          metadata.deletionTimestamp === undefined &&
          spec.nodeName !== undefined &&
          !this.#nodesAway.has(spec.nodeName),
      )
      .sort((a, b) => ((a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1));
  }

  #member(pick: number): Pod | undefined {
    return pickFrom(this.#members(), pick);
  }

  #devicesOf({ metadata }: Pod): readonly DeviceId[] {
    const claims = [...this.#scene.history.claims.values()].filter(claim =>
      claim.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid),
    );
    return resultsOf(claims).map(({ driver, pool, device }) => ({ driver, pool, device }));
  }

  #heldDevice(pick: number): DeviceId | undefined {
    const held = this.#members().flatMap(pod => this.#devicesOf(pod));
    return pickFrom(
      held.filter(id => this.#isFree(id)),
      pick,
    );
  }

  #isFree(id: DeviceId): boolean {
    return !this.#busyDevices.has(deviceKey(id)) && !this.#nodesAway.has(id.pool);
  }

  #taintHeld(pick: number, taint: DeviceTaint): Promise<Repair | undefined> {
    return this.#withDevice(this.#heldDevice(pick), id => this.#taint(id, taint));
  }

  async #taint(id: DeviceId, taint: DeviceTaint): Promise<Repair> {
    await setTaint(this.#scene.cluster, id, taint);
    return () => setTaint(this.#scene.cluster, id, undefined);
  }

  async #report(pod: Pod, health: 'Healthy' | 'Unhealthy' | 'Unknown'): Promise<void> {
    const [id] = this.#devicesOf(pod);
    const isThere = this.#scene.history.pods.has(pod.metadata.uid ?? '');
    if (!isThere || id === undefined) return;
    const resourceId = `${id.driver}/${id.pool}/${id.device}`;
    await reportDevice(this.#scene.cluster, pod, health, 'claim:gpus', resourceId).catch(ignoreGone);
  }

  async #withDevice(
    id: DeviceId | undefined,
    inject: (id: DeviceId) => Promise<() => Promise<unknown>>,
  ): Promise<Repair | undefined> {
    if (id === undefined) return undefined;
    const key = deviceKey(id);
    return this.#locked(inject(id), {
      lock: () => this.#busyDevices.set(key, id),
      unlock: () => this.#busyDevices.delete(key),
    });
  }

  /** A node with a member, and with nobody who is innocent. */
  async #withNode(
    pick: number,
    inject: (name: string) => Promise<(() => Promise<unknown>) | undefined>,
  ): Promise<Repair | undefined> {
    if (this.#nodesAway.size >= mostNodesAway) return undefined;
    const busy = new Set([...this.#busyDevices.values()].map(({ pool }) => pool));
    const names = [...new Set(this.#members().map(({ spec }) => spec.nodeName ?? ''))].filter(
      name => !busy.has(name) && !this.#scene.gentleNodes.has(name),
    );
    const name = pickFrom(names, pick);
    if (name === undefined) return undefined;
    return this.#locked(inject(name), {
      lock: () => this.#nodesAway.add(name),
      unlock: async () => {
        await this.#untilUsable(name);
        this.#nodesAway.delete(name);
      },
    });
  }

  async #untilUsable(name: string): Promise<void> {
    await until(`node ${name} to be usable`, usableMs, async () => {
      const { spec, status } = await this.#scene.cluster.request<Node>('GET', `/api/v1/nodes/${name}`);
      const isReady = status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
      return isReady === true && (spec?.taints ?? []).length === 0 && spec?.unschedulable !== true;
    });
  }

  async #withOwner(
    pick: number,
    inject: (path: string) => Promise<() => Promise<unknown>>,
  ): Promise<Repair | undefined> {
    const { victims, namespace } = this.#scene;
    const name = pickFrom(
      victims.filter(victim => !this.#busyOwners.has(victim)),
      pick,
    );
    if (name === undefined) return undefined;
    return this.#locked(inject(lwsPath(namespace, name)), {
      lock: () => this.#busyOwners.add(name),
      unlock: () => this.#busyOwners.delete(name),
    });
  }

  /** Nothing else happens to the same thing until the repair is done. */
  async #locked(
    injecting: Promise<(() => Promise<unknown>) | undefined>,
    { lock, unlock }: { readonly lock: () => unknown; readonly unlock: () => unknown },
  ): Promise<Repair | undefined> {
    lock();
    try {
      const repair = await injecting;
      if (repair !== undefined)
        return async () => {
          await repair();
          await unlock();
        };
    } catch (error) {
      await unlock();
      throw error;
    }
    await unlock();
    return undefined;
  }
}

function isSame(a: DeviceId, b: DeviceId | undefined): boolean {
  return b !== undefined && deviceKey(a) === deviceKey(b);
}

function pickFrom<T>(items: readonly T[], pick: number): T | undefined {
  return items[Math.floor(pick * items.length)];
}

/** Of `driver/pool/device`. */
function idOf(key: string): DeviceId {
  const [driver = '', pool = '', device = ''] = key.split('/');
  return { driver, pool, device };
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof ApiFailure && [404, 409, 422].includes(error.status))) throw error;
}
