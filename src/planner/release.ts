import { withoutTakers } from '../cluster/devices/node-device-info.ts';
import type { HostPort } from '../cluster/host-ports.ts';
import type { Labels } from '../cluster/labels.ts';
import type { NodeInfo, NodeUse } from '../cluster/node-info.ts';
import type { ExistingPod } from '../cluster/pod-affinity.ts';
import { addResources, isAcceleratorResource } from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { PlanInput } from './plan.ts';

/** What leaves as a whole or not at all: a group, or a pod outside any group. */
export interface Unit {
  /** `namespace/name`. */
  readonly key: string;
  readonly kind: 'group' | 'pod';
  /** `namespace/name` of the LeaderWorkerSet or its like; the unit's own key where it has none. */
  readonly owner: string;
  /** `going`: it is being deleted by somebody and its room comes free without anybody's doing. */
  readonly state: 'stays' | 'going';
  /** False for members that leave a group of which others stay. */
  readonly whole: boolean;
  /** The highest of its pods. */
  readonly priority: number;
  /** Pods that would end, bound or not. */
  readonly pods: number;
  readonly uses: readonly UnitUse[];
  /** Its pods as inter-pod terms see them: the very values (labels and all) that the snapshot tells of. */
  readonly existing: readonly ExistingPod[];
  /** Why Berth must not evict it for others; undefined when it may. */
  readonly whyKept: string | undefined;
  /** Why PodDisruptionBudgets do not allow that it goes now; undefined when they do. */
  readonly budgetsForbid: string | undefined;
}

/** What a unit takes of one node. */
export interface UnitUse {
  readonly node: string;
  /** False for a place that is held for a pod which is not bound yet. */
  readonly bound: boolean;
  readonly use: NodeUse;
  /** Keys under which it takes devices by DRA; see DevicesTaken. */
  readonly takes?: readonly string[];
}

/** What is taken to have happened: units have ended, nodes are in order again. */
export interface Release {
  readonly units: readonly Unit[];
  /** Names of nodes without their cordon, their taints and what else excludes them, and Ready. */
  readonly nodes: readonly string[];
}

/** One thing that could be released: a unit, or a node that comes back. */
export interface ReleaseCandidate {
  readonly key: string;
  readonly release: Release;
}

/**
 * The same question after a release: room, inter-pod terms and neighbours without those units. Only the nodes that the
 * release touches are made anew; units and snapshot must be of the same moment.
 */
export function release(input: PlanInput, { units, nodes }: Release): PlanInput {
  const returned = new Set(nodes);
  const gone = new Set(units.filter(unit => unit.whole).map(unit => unit.key));
  const excluded = input.excludedNodes;
  return {
    ...input,
    snapshot: releasedSnapshot(input.snapshot, units, returned),
    ...(input.neighbours && { neighbours: input.neighbours.filter(({ key }) => !gone.has(key)) }),
    ...(excluded && { excludedNodes: new Map([...excluded].filter(([name]) => !returned.has(name))) }),
  };
}

/** The node without some of its pods and holds. */
export function releasedNode(node: NodeInfo, uses: readonly UnitUse[]): NodeInfo {
  if (uses.length === 0) return node;
  let { free, freeOfPods } = node;
  const hostPorts = [...node.hostPorts];
  for (const { use, bound } of uses) {
    free = addResources(free, use.requests);
    if (bound) freeOfPods = addResources(freeOfPods, use.requests);
    for (const port of use.hostPorts) takeOut(hostPorts, port);
  }
  const gone = new Set(uses.flatMap(({ takes = [] }) => takes));
  const devices = node.devices && withoutTakers(node.devices, ({ key }) => gone.has(key));
  const released = { record: node.record, free, freeOfPods, hostPorts, ...(devices && { devices }) };
  const untouched = hasAllAccelerators(released) && (devices === undefined || devices.taken.length === 0);
  return { ...released, untouched };
}

/** The node as if it were in order. */
export function returnedNode(node: NodeInfo): NodeInfo {
  const { record } = node;
  const taints = record.taints.filter(({ effect }) => effect !== 'NoSchedule' && effect !== 'NoExecute');
  return { ...node, record: { ...record, taints, cordoned: false, ready: true, readyStatus: 'True' } };
}

/** The node without any pod or hold. */
export function emptiedNode({ record, devices }: NodeInfo): NodeInfo {
  const { allocatable } = record;
  const emptied = devices && withoutTakers(devices, () => true);
  return {
    record,
    freeOfPods: allocatable,
    free: allocatable,
    hostPorts: [],
    untouched: true,
    ...(emptied && { devices: emptied }),
  };
}

function releasedSnapshot(
  snapshot: ClusterSnapshot,
  units: readonly Unit[],
  returned: ReadonlySet<string>,
): ClusterSnapshot {
  const usesByNode = Map.groupBy(
    units.flatMap(unit => unit.uses),
    ({ node }) => node,
  );
  const changes = new Map<number, NodeInfo>();
  for (const name of new Set([...usesByNode.keys(), ...returned])) {
    const index = snapshot.tree.indexByNodeName.get(name);
    const node = index === undefined ? undefined : snapshot.nodes.at(index);
    if (index === undefined || node === undefined) continue;
    const released = releasedNode(node, usesByNode.get(name) ?? []);
    changes.set(index, returned.has(name) ? returnedNode(released) : released);
  }
  const gone = units.flatMap(unit => unit.existing);
  return {
    ...snapshot,
    nodes: snapshot.nodes.with(changes),
    existingPods: () => without(snapshot.existingPods(), gone),
    repellingPods: () => without(snapshot.repellingPods(), gone),
  };
}

/** Pods that are alike in all that terms can see stand for each other, so each takes one of its like away. */
function* without(pods: Iterable<ExistingPod>, gone: readonly ExistingPod[]): Iterable<ExistingPod> {
  const left = new Map<Labels, ExistingPod[]>();
  for (const pod of gone) {
    const alike = left.get(pod.labels);
    if (alike === undefined) left.set(pod.labels, [pod]);
    else alike.push(pod);
  }
  for (const pod of pods) {
    const alike = left.get(pod.labels);
    const at = alike?.findIndex(other => isAlike(pod, other)) ?? -1;
    if (at === -1) yield pod;
    else alike?.splice(at, 1);
  }
}

function isAlike(a: ExistingPod, b: ExistingPod): boolean {
  return a.namespace === b.namespace && a.nodeLabels === b.nodeLabels && a.antiAffinity === b.antiAffinity;
}

function takeOut(ports: HostPort[], { ip, protocol, port }: HostPort): void {
  const at = ports.findIndex(p => p.port === port && p.protocol === protocol && p.ip === ip);
  if (at !== -1) ports.splice(at, 1);
}

/** Nobody takes an accelerator exactly when none of them is missing. */
function hasAllAccelerators({ record, free }: Pick<NodeInfo, 'record' | 'free'>): boolean {
  for (const name of new Set([...record.allocatable.keys(), ...free.keys()])) {
    if (!isAcceleratorResource(name)) continue;
    if ((free.get(name) ?? 0) !== (record.allocatable.get(name) ?? 0)) return false;
  }
  return true;
}
