import type { DeviceTaint, ResourceSlice } from '../../src/api/dra.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import type { ObjectStore } from '../simulator/object-store.ts';
import { claimName, requestName, type StormWorld } from './storm-world.ts';

type Kind = 'device' | 'pod' | 'node';

/** Something that reports are about: a device of a slice, a pod or a node, by their places in the world. */
interface Thing {
  readonly kind: Kind;
  readonly index: number;
  readonly device: number;
}

/** So many of a hundred signals are about taints of devices, about devices of pods, the others about nodes. */
const deviceSignals = 70;
const podSignals = 20;
/** So large a part of the fleet goes bad and comes back all the time, and half of it is bad at any moment. */
const flappingShare = 0.1;
/** Of all signals this share tells again what was told before, as agents do. */
const repeatShare = 0.5;
const gpusPerHost = 8;
const taints: readonly Pick<DeviceTaint, 'key' | 'value'>[] = [
  { key: 'gpu.nvidia.com/xid', value: '79' },
  { key: 'gpu.nvidia.com/xid', value: '31' },
  { key: 'example.com/sick', value: 'true' },
];

/**
 * What drivers, kubelets and agents of a fleet report in a storm: in a tenth of the fleet devices, pods and nodes go bad and
 * come back by turns, those first that went bad first, and all others tell again how they are. The same seed tells the
 * same.
 */
export class StormSignals {
  readonly #store: ObjectStore;
  readonly #nodes: Node[];
  readonly #slices: ResourceSlice[];
  readonly #pods: Pod[];
  readonly #random: () => number;
  readonly #bad: Readonly<Record<Kind, Map<string, Thing>>> = {
    device: new Map(),
    pod: new Map(),
    node: new Map(),
  };
  #told = 0;

  constructor(store: ObjectStore, world: StormWorld, random: () => number) {
    this.#store = store;
    this.#nodes = [...world.nodes];
    this.#slices = [...world.slices];
    this.#pods = [...world.pods];
    this.#random = random;
  }

  get told(): number {
    return this.#told;
  }

  /** One report of something. */
  tell(): void {
    this.#told += 1;
    const kind = this.#anyKind();
    const bad = this.#bad[kind];
    const isRepeat = this.#random() < repeatShare;
    const thing = this.#anyOf(kind, isRepeat ? 1 : flappingShare);
    const key = `${thing.index} ${thing.device}`;
    const [oldest] = bad;
    if (isRepeat) {
      this.#report(thing, bad.has(key));
    } else if (oldest !== undefined && bad.size >= this.#limitOf(kind)) {
      bad.delete(oldest[0]);
      this.#report(oldest[1], false);
    } else {
      bad.set(key, thing);
      this.#report(thing, true);
    }
  }

  #anyKind(): Kind {
    const percent = this.#random() * 100;
    if (percent < deviceSignals) return 'device';
    return percent < deviceSignals + podSignals ? 'pod' : 'node';
  }

  #anyOf(kind: Kind, share: number): Thing {
    const at = (length: number) => Math.floor(this.#random() * Math.ceil(length * share));
    if (kind === 'pod') return { kind, index: at(this.#pods.length), device: 3 };
    if (kind === 'node') return { kind, index: at(this.#nodes.length), device: 5 };
    return { kind, index: at(this.#slices.length), device: Math.floor(this.#random() * gpusPerHost) };
  }

  #limitOf(kind: Kind): number {
    const all = {
      device: this.#slices.length * gpusPerHost,
      pod: this.#pods.length,
      node: this.#nodes.length,
    };
    return Math.max(1, Math.round((all[kind] * flappingShare) / 2));
  }

  #report(thing: Thing, isBad: boolean): void {
    const report = { device: this.#reportDevice, pod: this.#reportPod, node: this.#reportNode }[thing.kind];
    report.call(this, thing, isBad);
  }

  #reportDevice({ index, device }: Thing, isBad: boolean): void {
    const slice = at(this.#slices, index);
    const kind = at(taints, (index + device) % taints.length);
    const timeAdded = new Date().toISOString();
    const devices = (slice.spec.devices ?? []).map((each, place) => {
      if (place !== device) return each;
      const { taints: _, ...well } = each;
      return isBad ? { ...well, taints: [{ ...kind, effect: 'NoSchedule', timeAdded }] } : well;
    });
    this.#slices[index] = this.#store.write('resourceslices', { ...slice, spec: { ...slice.spec, devices } });
  }

  #reportPod({ index, device }: Thing, isBad: boolean): void {
    const { metadata } = at(this.#pods, index);
    const { namespace, name = '' } = metadata;
    const pod = this.#store.read<Pod>('pods', { namespace, name });
    // It may have been evicted.
    if (pod === undefined || pod.metadata.uid !== metadata.uid) return;
    const resourceID = `gpu.nvidia.com/${pod.spec.nodeName}/gpu-${device}`;
    const health = isBad ? 'Unhealthy' : 'Healthy';
    const resources = [{ resourceID, health }];
    const allocatedResourcesStatus = [{ name: `claim:${claimName}/${requestName}`, resources }];
    const containerStatuses = [{ name: 'main', allocatedResourcesStatus }];
    this.#store.write<Pod>('pods', { ...pod, status: { ...pod.status, containerStatuses } });
  }

  #reportNode({ index, device }: Thing, isBad: boolean): void {
    const node = at(this.#nodes, index);
    const uuid = at(this.#slices, index).spec.devices?.[device]?.attributes?.['uuid']?.string ?? '';
    const message = `XID 79 on ${uuid} at ${new Date().toISOString()} Recommended Action=RESTART_VM`;
    const conditions = [
      { type: 'Ready', status: 'True' },
      { type: 'SysLogsXIDError', status: isBad ? 'True' : 'False', message },
    ];
    this.#nodes[index] = this.#store.write('nodes', { ...node, status: { ...node.status, conditions } });
  }
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`there is no item ${index}`);
  return item;
}
