import type { Node, Taint } from '../api/kubernetes.ts';
import type { HostPort } from './host-ports.ts';
import { addResources, type Resources, resourcesFrom, subtractResources } from './resources.ts';

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
  };
}

/** A pod's requests with the pod slot it takes. */
export function withPodSlot(requests: Resources): Resources {
  return addResources(requests, onePod);
}

export function buildNodeInfo(
  record: NodeRecord,
  pods: Iterable<NodeUse>,
  holds: Iterable<NodeUse>,
): NodeInfo {
  let freeOfPods = record.allocatable;
  let untouched = true;
  const hostPorts: HostPort[] = [];
  for (const pod of pods) {
    freeOfPods = subtractResources(freeOfPods, pod.requests);
    hostPorts.push(...pod.hostPorts);
    if (pod.takesAccelerator) untouched = false;
  }
  let free = freeOfPods;
  for (const hold of holds) {
    free = subtractResources(free, hold.requests);
    hostPorts.push(...hold.hostPorts);
    if (hold.takesAccelerator) untouched = false;
  }
  return { record, freeOfPods, free, hostPorts, untouched };
}
