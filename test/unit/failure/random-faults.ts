import type { DeviceTaint } from '../../../src/api/dra.ts';
import type { LwsGroup } from '../../builders/lws-group.ts';
import { deviceNames, type FakeCluster } from './fake-cluster.ts';

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const odd: DeviceTaint = { key: 'example.com/odd', effect: 'NoSchedule' };
const dead: DeviceTaint = { key: 'example.com/dead', effect: 'NoExecute' };
/** Of the eight devices of a node a pod has the first four. */
const held = 4;

type Member = ReturnType<FakeCluster['podsOf']>[number];

/** Hurts random members of some groups of a cluster whose devices come by claims, and repairs what it broke. */
export class RandomFaults {
  readonly #cluster: FakeCluster;
  readonly #victims: readonly LwsGroup[];
  readonly #random: () => number;
  readonly #repairs: { readonly atMs: number; readonly repair: () => void }[] = [];
  /** How many there were of each kind. */
  readonly counts = new Map<string, number>();

  constructor(cluster: FakeCluster, victims: readonly LwsGroup[], random: () => number) {
    this.#cluster = cluster;
    this.#victims = victims;
    this.#random = random;
  }

  /** One more fault, of a random kind. */
  add(): void {
    const [kind, hurt] = this.#pick(Object.entries(this.#kinds)) ?? [];
    const member = this.#pick(this.#victims.flatMap(group => this.#cluster.podsOf(group)));
    const node = member?.pod.spec.nodeName;
    if (kind === undefined || hurt === undefined || member === undefined || node === undefined) return;
    hurt(member, node);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }

  /** All devices of most nodes go bad, and are well again after so long. */
  addMass(forMs: number): void {
    const { nodes, nowMs } = this.#cluster;
    for (const node of nodes.keys()) {
      if (this.#random() > 0.6) continue;
      const taints = Object.fromEntries(deviceNames.map(name => [name, lost]));
      this.#cluster.publish(node, deviceNames, taints);
      this.#repairs.push({ atMs: nowMs + forMs, repair: () => this.#cluster.publish(node, deviceNames) });
      this.counts.set('mass', (this.counts.get('mass') ?? 0) + 1);
    }
  }

  /** Takes back what is due, or all of it. */
  repair(all = false): void {
    for (const each of this.#repairs.splice(0)) {
      if (all || this.#cluster.nowMs >= each.atMs) each.repair();
      else this.#repairs.push(each);
    }
  }

  readonly #kinds: Readonly<Record<string, (member: Member, node: string) => void>> = {
    'device unhealthy': member => {
      member.unhealthy = true;
      if (this.#random() < 0.3) this.#later(60, () => Object.assign(member, { unhealthy: false }));
    },
    'certain taint': (_, node) => this.#taint(node, this.#heldDevice(), lost),
    'suspect taint': (_, node) => this.#taint(node, this.#heldDevice(), odd),
    'taint without effect': (_, node) => this.#taint(node, this.#heldDevice(), { ...lost, effect: 'None' }),
    'sick spare': (_, node) => this.#taint(node, deviceNames[held + 1] ?? '', lost),
    'device NoExecute': (member, node) => {
      this.#taint(node, this.#heldDevice(), dead);
      this.#cluster.disrupt(member.pod.metadata.uid ?? '', 'DeletionByDeviceTaintManager');
    },
    'driver away': (_, node) => {
      this.#cluster.slices.delete(node);
      this.#later(60, () => this.#cluster.publish(node, deviceNames));
    },
    'node NoExecute': (member, node) => {
      if (!this.#cluster.nodes.has(node)) return;
      this.#cluster.setTaint(node, 'example.com/sick');
      this.#cluster.disrupt(member.pod.metadata.uid ?? '');
      this.#renewNode(node, '');
    },
    'node silent': (_, node) => {
      if (!this.#cluster.nodes.has(node)) return;
      const fences = this.#random() < 0.5;
      this.#cluster.setReady(node, 'Unknown');
      const fence = () => {
        if (this.#cluster.nodes.has(node)) this.#cluster.setTaint(node, 'node.kubernetes.io/out-of-service');
      };
      if (fences) this.#later(120, fence);
      this.#renewNode(node, '');
    },
    'node replaced': (_, node) => {
      this.#renewNode(node, '-again');
      this.#cluster.nodes.delete(node);
    },
    drained: member => this.#cluster.disrupt(member.pod.metadata.uid ?? '', 'EvictionByEvictionAPI'),
    'LWS blind for a while': () => {
      this.#cluster.lwsMissesWorkers = true;
      this.#later(20, () => Object.assign(this.#cluster, { lwsMissesWorkers: false }));
    },
  };

  #taint(node: string, device: string, taint: DeviceTaint): void {
    this.#cluster.publish(node, deviceNames, { [device]: taint });
    this.#later(200, () => this.#cluster.publish(node, deviceNames));
  }

  /** The node comes back as it was, or with another UID. */
  #renewNode(name: string, suffix: string): void {
    const known = this.#cluster.nodes.get(name);
    if (known === undefined) return;
    const uid = `${known.metadata.uid}${suffix}`;
    const status = { ...known.status, conditions: [{ type: 'Ready', status: 'True' }] };
    const { metadata } = known;
    this.#later(200, () =>
      this.#cluster.nodes.set(name, { ...known, metadata: { ...metadata, uid }, spec: {}, status }),
    );
  }

  /** Within so many seconds. */
  #later(seconds: number, repair: () => void): void {
    this.#repairs.push({ atMs: this.#cluster.nowMs + this.#random() * seconds * 1000, repair });
  }

  #heldDevice(): string {
    return this.#pick(deviceNames.slice(0, held)) ?? '';
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[Math.floor(this.#random() * items.length)];
  }
}

/** Whether something is wrong with a member for which its group may go, by what is there now. */
export function isHurt(cluster: FakeCluster, { pod, unhealthy, terminatingAtMs }: Member): boolean {
  const { nodeName = '' } = pod.spec;
  const node = cluster.nodes.get(nodeName);
  const isReady = node?.status?.conditions?.every(
    ({ type, status }) => type !== 'Ready' || status === 'True',
  );
  const devices = cluster.slices.get(nodeName)?.spec.devices ?? [];
  const sick = devices.filter(({ taints = [] }) => taints.some(({ effect }) => effect !== 'None'));
  return (
    unhealthy ||
    terminatingAtMs !== undefined ||
    !isReady ||
    (node?.spec?.taints ?? []).length > 0 ||
    sick.some(({ name }) => deviceNames.indexOf(name) < held)
  );
}
