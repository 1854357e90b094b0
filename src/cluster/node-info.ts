import type { Node, Taint } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import { isDelegatedToDra } from './devices/extended-resources.ts';
import type { NodeDeviceInfo } from './devices/node-device-info.ts';
import type { HostPort } from './host-ports.ts';
import { type NodeConditionRecord, nodeConditionsOf } from './node-conditions.ts';
import { addResources, isAcceleratorResource, type Resources, resourcesFrom } from './resources.ts';

export type ReadyStatus = 'True' | 'False' | 'Unknown';

/** What Berth keeps of a Node. */
export interface NodeRecord {
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly Taint[];
  readonly cordoned: boolean;
  /** The kubelet's Ready condition is True. */
  readonly ready: boolean;
  /** The Ready condition itself: `Unknown` when the kubelet has fallen silent, or has never spoken. */
  readonly readyStatus: ReadyStatus;
  readonly allocatable: Resources;
  /** Conditions that are not the kubelet's own; absent where there is none. */
  readonly conditions?: readonly NodeConditionRecord[];
  /** How far its administrator wants Berth to go when it fails, as written; absent where nothing is. */
  readonly failureWish?: string;
}

/** A node with what is used and held on it. Immutable: a change makes a new one, so results may be memoised by it. */
export interface NodeInfo {
  readonly record: NodeRecord;
  /** Allocatable less the requests of bound pods, terminating ones included; `pods` counts pod slots. */
  readonly freeOfPods: Resources;
  /** The same less what is held for planned pods that are not bound yet. May be negative when nodes shrink. */
  readonly free: Resources;
  readonly hostPorts: readonly HostPort[];
  /** No bound pod and no hold takes an accelerator here. */
  readonly untouched: boolean;
  /** What it has by DRA; undefined in a cluster without any. */
  readonly devices?: NodeDeviceInfo | undefined;
}

/** One pod's or hold's share of a node. */
export interface NodeUse {
  readonly requests: Resources;
  readonly hostPorts: readonly HostPort[];
  readonly takesAccelerator: boolean;
}

const onePod: Resources = new Map([['pods', 1]]);

export function decodeNode(node: Node): NodeRecord {
  const name = node.metadata.name ?? '';
  const conditions = nodeConditionsOf(node);
  const failureWish = node.metadata.annotations?.[berth.failure];
  const ready = (node.status?.conditions ?? []).find(condition => condition.type === 'Ready')?.status;
  return {
    name,
    uid: node.metadata.uid ?? '',
    labels: node.metadata.labels ?? {},
    taints: node.spec?.taints ?? [],
    cordoned: node.spec?.unschedulable === true,
    ready: ready === 'True',
    readyStatus: ready === 'True' || ready === 'False' ? ready : 'Unknown',
    allocatable: resourcesFrom(node.status?.allocatable ?? {}, 'status.allocatable'),
    ...(conditions.length > 0 && { conditions }),
    ...(failureWish !== undefined && { failureWish }),
  };
}

/** A pod's requests with the pod slot it takes. */
export function withPodSlot(requests: Resources): Resources {
  return addResources(requests, onePod);
}

export function buildNodeInfo(
  record: NodeRecord,
  pods: Iterable<NodeUse>,
  holds: Iterable<{ readonly use: NodeUse }>,
  devices?: NodeDeviceInfo,
): NodeInfo {
  const left = new Map(record.allocatable);
  const hostPorts: HostPort[] = [];
  let untouched = devices === undefined || devices.taken.length === 0;
  // Done for every pod event, so amounts are taken off one map and not off copies.
  const take = ({ requests, hostPorts: ports, takesAccelerator }: NodeUse) => {
    for (const [name, amount] of requests) left.set(name, (left.get(name) ?? 0) - amount);
    if (ports.length > 0) hostPorts.push(...ports);
    if (takesAccelerator) untouched = false;
  };
  for (const pod of pods) take(pod);
  const freeOfPods: Resources = new Map(left);
  let held = false;
  for (const { use } of holds) {
    take(use);
    held = true;
  }
  const free = held ? left : freeOfPods;
  return { record, freeOfPods, free, hostPorts, untouched, ...(devices && { devices }) };
}

/** What of a pod's requests is counted against allocatable: not what the node has by DRA. */
export function requestsCountedOn({ record, devices }: NodeInfo, requests: Resources): Resources {
  if (devices === undefined || devices.catalog.extended.size === 0) return requests;
  const { allocatable } = record;
  const { extended } = devices.catalog;
  return new Map(
    [...requests].filter(
      ([name]) => !isAcceleratorResource(name) || !isDelegatedToDra(allocatable, name, extended),
    ),
  );
}
