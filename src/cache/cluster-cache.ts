import type { LeaderWorkerSet } from '../api/kubernetes.ts';
import { buildNodeInfo, type NodeInfo, type NodeRecord, type NodeUse } from '../cluster/node-info.ts';
import type { ExistingPod } from '../cluster/pod-affinity.ts';
import { addResources, fits, maxResources, type Resources } from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { buildTopologyTree, type TopologyLevel, type TopologyTree } from '../cluster/topology.ts';
import { groupKeyOf, isMembershipError } from '../group/membership.ts';
import type { NamespaceRecord, StatefulSetRecord } from '../group/owner.ts';
import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { believedPlan, type PodInfo, takesAccelerator } from '../group/pod-info.ts';
import { buildGroupView, type GroupView, rankOf, seatOf } from './group-view.ts';

/** What the cache tells its one listener, so that work follows changes and not the clock. */
export type CacheChange =
  /** Something about a group's pods, owner or plan. */
  | { readonly kind: 'group'; readonly key: string }
  /** A pod outside any group that Berth has gated, or had. */
  | { readonly kind: 'single'; readonly uid: string }
  /** Room may have come free somewhere: what was refused before may fit now. */
  | { readonly kind: 'room' };

/** Receives decoded objects of one resource; the reflector's counterpart. */
export interface ObjectSink<T> {
  upsert(object: T): void;
  remove(object: T): void;
  /** The complete list: whatever is not in it is gone. */
  replace(objects: readonly T[]): void;
}

/**
 * The only mutable state: objects as last seen, what they use and hold on nodes, and plans that were written but not
 * seen yet. Everything here can be rebuilt from the API server; reducers are synchronous and total.
 */
export class ClusterCache {
  readonly levels: readonly TopologyLevel[];
  readonly pods: ObjectSink<PodInfo> = sinkOf(
    this.#upsertPod.bind(this),
    this.#removePod.bind(this),
    () => this.#pods,
    p => p.uid,
  );
  readonly nodes: ObjectSink<NodeRecord> = sinkOf(
    this.#upsertNode.bind(this),
    this.#removeNode.bind(this),
    () => this.#nodes,
    n => n.name,
  );
  readonly namespaces: ObjectSink<NamespaceRecord> = sinkOf(
    this.#upsertNamespace.bind(this),
    n => this.#namespaces.delete(n.name),
    () => this.#namespaces,
    n => n.name,
  );
  readonly leaderWorkerSets: ObjectSink<LeaderWorkerSet> = sinkOf(
    this.#upsertOwner.bind(this),
    this.#removeOwner.bind(this),
    () => this.#owners,
    ownerKey,
  );
  readonly statefulSets: ObjectSink<StatefulSetRecord> = sinkOf(
    this.#upsertSet.bind(this),
    this.#removeSet.bind(this),
    () => this.#sets,
    s => s.uid,
  );

  readonly #listeners: ((change: CacheChange) => void)[] = [];
  readonly #pods = new Map<string, PodInfo>();
  readonly #nodes = new Map<string, NodeRecord>();
  readonly #namespaces = new Map<string, NamespaceRecord>();
  readonly #owners = new Map<string, LeaderWorkerSet>();
  readonly #sets = new Map<string, StatefulSetRecord>();

  readonly #podsByNode = new Map<string, Set<PodInfo>>();
  readonly #podsByGroup = new Map<string, Set<PodInfo>>();
  readonly #repelling = new Set<PodInfo>();
  /** Node name -> hold key -> what is held. A hold key is `group key#rank` or a pod's UID. */
  readonly #holdsByNode = new Map<string, Map<string, NodeUse>>();
  /** Hold keys of a group or single with their node, to take them back. */
  readonly #holdsByOwner = new Map<string, Map<string, string>>();
  readonly #views = new Map<string, GroupView | undefined>();
  readonly #assumedPlans = new Map<string, PlanAnnotation>();
  readonly #assumedPins = new Map<string, string>();
  readonly #largestWorker = new Map<string, Resources>();

  readonly #nodeInfos = new Map<string, NodeInfo>();
  #tree: TopologyTree | undefined;
  #snapshot: ClusterSnapshot | undefined;

  constructor(options: { readonly levels: readonly TopologyLevel[] }) {
    this.levels = options.levels;
  }

  subscribe(listener: (change: CacheChange) => void): void {
    this.#listeners.push(listener);
  }

  /** The cluster now. The same object as long as nothing changed. */
  snapshot(): ClusterSnapshot {
    this.#snapshot ??= this.#buildSnapshot();
    return this.#snapshot;
  }

  group(key: string): GroupView | undefined {
    if (!this.#views.has(key)) {
      this.#views.set(
        key,
        buildGroupView(this.#podsByGroup.get(key) ?? [], this.#sets, leader =>
          this.#assumedPlans.get(leader.uid),
        ),
      );
    }
    return this.#views.get(key);
  }

  groupKeys(): Iterable<string> {
    return this.#podsByGroup.keys();
  }

  pod(uid: string): PodInfo | undefined {
    return this.#pods.get(uid);
  }

  allPods(): Iterable<PodInfo> {
    return this.#pods.values();
  }

  node(name: string): NodeRecord | undefined {
    return this.#nodes.get(name);
  }

  nodeInfo(name: string): NodeInfo | undefined {
    const record = this.#nodes.get(name);
    if (record === undefined) return undefined;
    let info = this.#nodeInfos.get(name);
    if (info === undefined) {
      info = buildNodeInfo(
        record,
        this.#podsByNode.get(name) ?? [],
        this.#holdsByNode.get(name)?.values() ?? [],
      );
      this.#nodeInfos.set(name, info);
    }
    return info;
  }

  /**
   * Whether a member that asks for `requests` can take the place that the plan holds for its rank: the hold itself does
   * not stand in its way, everything else that has come to the node does.
   */
  fitsSeat(key: string, rank: number, node: string, requests: Resources): boolean {
    const info = this.nodeInfo(node);
    if (info === undefined || info.record.cordoned || !info.record.ready) return false;
    const held = this.#holdsByNode.get(node)?.get(`${key}#${rank}`)?.requests;
    return fits(held === undefined ? info.free : addResources(info.free, held), requests);
  }

  namespace(name: string): NamespaceRecord | undefined {
    return this.#namespaces.get(name);
  }

  leaderWorkerSet(namespace: string, name: string): LeaderWorkerSet | undefined {
    return this.#owners.get(`${namespace}/${name}`);
  }

  statefulSet(uid: string): StatefulSetRecord | undefined {
    return this.#sets.get(uid);
  }

  /** Largest requests seen of a worker made from a template revision. */
  largestWorker(namespace: string, owner: string, revision: string): Resources | undefined {
    return this.#largestWorker.get(`${namespace}/${owner}/${revision}`);
  }

  counts(): Readonly<Record<string, number>> {
    return {
      pods: this.#pods.size,
      nodes: this.#nodes.size,
      namespaces: this.#namespaces.size,
      leaderworkersets: this.#owners.size,
      statefulsets: this.#sets.size,
    };
  }

  /** Takes a plan as given before the watch shows it, so that the next group is not planned onto the same places. */
  assumePlan(leader: PodInfo, plan: PlanAnnotation): void {
    this.#assumedPlans.set(leader.uid, plan);
    this.#groupChanged(leader);
  }

  /** Takes an assumption back after the write failed. */
  forgetPlan(leader: PodInfo): void {
    if (this.#assumedPlans.delete(leader.uid)) this.#groupChanged(leader);
  }

  assumePin(pod: PodInfo, node: string): void {
    this.#assumedPins.set(pod.uid, node);
    this.#holdSingle(pod);
  }

  forgetPin(pod: PodInfo): void {
    if (this.#assumedPins.delete(pod.uid)) this.#holdSingle(this.#pods.get(pod.uid) ?? pod);
    this.#tell({ kind: 'single', uid: pod.uid });
  }

  #upsertPod(pod: PodInfo): void {
    const before = this.#pods.get(pod.uid);
    this.#pods.set(pod.uid, pod);
    this.#countOnNode(before, pod);
    if (pod.affinity !== undefined && pod.affinity.antiAffinity.length > 0) this.#repelling.add(pod);
    if (before !== undefined) this.#repelling.delete(before);
    const plan = believedPlan(pod);
    const assumed = this.#assumedPlans.get(pod.uid);
    if (plan !== undefined && assumed !== undefined && plan.generation >= assumed.generation)
      this.#assumedPlans.delete(pod.uid);
    if (pod.pinnedTo !== undefined || pod.nodeName !== undefined) this.#assumedPins.delete(pod.uid);
    this.#rememberWorker(pod);
    this.#regroup(before, pod);
    this.#holdSingle(pod);
    this.#snapshot = undefined;
  }

  #removePod(pod: PodInfo): void {
    const before = this.#pods.get(pod.uid);
    if (before === undefined) return;
    this.#pods.delete(pod.uid);
    this.#countOnNode(before, undefined);
    this.#repelling.delete(before);
    this.#assumedPlans.delete(pod.uid);
    this.#assumedPins.delete(pod.uid);
    this.#replaceHolds(pod.uid, []);
    this.#regroup(before, undefined);
    this.#snapshot = undefined;
  }

  #countOnNode(before: PodInfo | undefined, after: PodInfo | undefined): void {
    const from = before === undefined || before.terminal ? undefined : before.nodeName;
    const to = after === undefined || after.terminal ? undefined : after.nodeName;
    if (before !== undefined && from !== undefined) {
      this.#podsByNode.get(from)?.delete(before);
      this.#nodeInfos.delete(from);
    }
    if (after !== undefined && to !== undefined) {
      const pods = this.#podsByNode.get(to) ?? new Set();
      this.#podsByNode.set(to, pods.add(after));
      this.#nodeInfos.delete(to);
    }
    if (from !== undefined && to === undefined) this.#tell({ kind: 'room' });
  }

  #rememberWorker(pod: PodInfo): void {
    const membership = pod.membership;
    if (membership === undefined || isMembershipError(membership) || membership.rank === 0 || pod.terminal)
      return;
    const key = `${membership.namespace}/${membership.owner}/${membership.revision}`;
    const known = this.#largestWorker.get(key);
    this.#largestWorker.set(key, known === undefined ? pod.requests : maxResources(known, pod.requests));
  }

  /** Moves a pod between groups (a labelled pod may change its labels) and looks at the groups touched again. */
  #regroup(before: PodInfo | undefined, after: PodInfo | undefined): void {
    const from = groupKey(before);
    const to = groupKey(after);
    if (from !== undefined && before !== undefined) {
      const pods = this.#podsByGroup.get(from);
      pods?.delete(before);
      if (pods?.size === 0) this.#podsByGroup.delete(from);
    }
    if (to !== undefined && after !== undefined) {
      const pods = this.#podsByGroup.get(to) ?? new Set();
      this.#podsByGroup.set(to, pods.add(after));
    }
    for (const key of new Set([from, to])) if (key !== undefined) this.#lookAgain(key);
    if (to === undefined && after !== undefined && after.gates.length > 0)
      this.#tell({ kind: 'single', uid: after.uid });
  }

  #groupChanged(pod: PodInfo): void {
    const key = groupKey(pod);
    if (key !== undefined) this.#lookAgain(key);
    this.#snapshot = undefined;
  }

  /** Sorts a group anew and holds the seats that its plan gives to ranks without a bound pod. */
  #lookAgain(key: string): void {
    this.#views.delete(key);
    const view = this.group(key);
    const plan = view?.plan;
    const seats: { key: string; node: string; use: NodeUse }[] = [];
    if (view !== undefined && plan !== undefined) {
      plan.nodes.forEach((node, rank) => {
        const member = view.members.get(rank);
        const bound = member?.nodeName !== undefined || view.leaving.get(rank)?.nodeName !== undefined;
        if (node === '' || bound) return;
        const requests = member?.requests ?? plan.requests[rank];
        if (requests === undefined) return;
        const use = {
          requests,
          hostPorts: member?.hostPorts ?? [],
          takesAccelerator: takesAccelerator(requests),
        };
        seats.push({ key: `${key}#${rank}`, node, use });
      });
    }
    this.#replaceHolds(key, seats);
    this.#tell({ kind: 'group', key });
  }

  /** Holds the node of a pinned pod that is not bound yet and whose seat no plan holds already. */
  #holdSingle(pod: PodInfo): void {
    const node = this.#assumedPins.get(pod.uid) ?? pod.pinnedTo;
    const rank = rankOf(pod);
    const key = groupKey(pod);
    const view = key === undefined ? undefined : this.group(key);
    const seated =
      view !== undefined &&
      rank !== undefined &&
      view.members.get(rank) === pod &&
      seatOf(view, rank) === node;
    const holdsPlace =
      node !== undefined && pod.nodeName === undefined && !pod.terminating && !pod.terminal && !seated;
    this.#replaceHolds(pod.uid, holdsPlace ? [{ key: pod.uid, node, use: pod }] : []);
  }

  #replaceHolds(owner: string, holds: readonly { key: string; node: string; use: NodeUse }[]): void {
    const before = this.#holdsByOwner.get(owner);
    if (before === undefined && holds.length === 0) return;
    for (const [key, node] of before ?? []) {
      this.#holdsByNode.get(node)?.delete(key);
      this.#nodeInfos.delete(node);
    }
    const after = new Map<string, string>();
    for (const { key, node, use } of holds) {
      const held = this.#holdsByNode.get(node) ?? new Map<string, NodeUse>();
      this.#holdsByNode.set(node, held.set(key, use));
      this.#nodeInfos.delete(node);
      after.set(key, node);
    }
    if (after.size > 0) this.#holdsByOwner.set(owner, after);
    else this.#holdsByOwner.delete(owner);
    this.#snapshot = undefined;
    if ((before?.size ?? 0) > after.size) this.#tell({ kind: 'room' });
  }

  #upsertNode(node: NodeRecord): void {
    const before = this.#nodes.get(node.name);
    // Heartbeats change a Node every few seconds without changing anything that placement looks at.
    if (before !== undefined && sameNode(before, node)) return;
    this.#nodes.set(node.name, node);
    this.#nodeInfos.delete(node.name);
    this.#snapshot = undefined;
    if (
      before === undefined ||
      this.levels.some(l => before.labels[l.nodeLabel] !== node.labels[l.nodeLabel])
    )
      this.#tree = undefined;
    this.#tellNodeGroups(node.name);
    this.#tell({ kind: 'room' });
  }

  #removeNode(node: NodeRecord): void {
    if (!this.#nodes.delete(node.name)) return;
    this.#nodeInfos.delete(node.name);
    this.#tree = undefined;
    this.#snapshot = undefined;
    this.#tellNodeGroups(node.name);
  }

  /** Groups that wait to be bound to a node must hear when something happens to it. */
  #tellNodeGroups(node: string): void {
    for (const hold of this.#holdsByNode.get(node)?.keys() ?? []) {
      const at = hold.lastIndexOf('#');
      if (at > 0) this.#tell({ kind: 'group', key: hold.slice(0, at) });
      else this.#tell({ kind: 'single', uid: hold });
    }
  }

  #upsertNamespace(namespace: NamespaceRecord): void {
    const before = this.#namespaces.get(namespace.name);
    this.#namespaces.set(namespace.name, namespace);
    this.#snapshot = undefined;
    if (before?.mode === namespace.mode && before.pinsSingles === namespace.pinsSingles) return;
    for (const key of this.#podsByGroup.keys()) {
      if (key.startsWith(`${namespace.name}/`)) this.#tell({ kind: 'group', key });
    }
  }

  #upsertOwner(owner: LeaderWorkerSet): void {
    this.#owners.set(ownerKey(owner), owner);
    this.#tellOwned(owner);
  }

  #removeOwner(owner: LeaderWorkerSet): void {
    this.#owners.delete(ownerKey(owner));
    const prefix = `${ownerKey(owner)}/`;
    for (const key of this.#largestWorker.keys()) if (key.startsWith(prefix)) this.#largestWorker.delete(key);
    this.#tellOwned(owner);
  }

  #tellOwned(owner: LeaderWorkerSet): void {
    const { namespace = '', name = '' } = owner.metadata;
    for (const [key, pods] of this.#podsByGroup) {
      const [pod] = pods;
      const membership = pod?.membership;
      if (membership === undefined || isMembershipError(membership)) continue;
      if (membership.namespace === namespace && membership.owner === name) this.#tell({ kind: 'group', key });
    }
  }

  #upsertSet(set: StatefulSetRecord): void {
    const before = this.#sets.get(set.uid);
    this.#sets.set(set.uid, set);
    // A worker StatefulSet bears its leader's name, which is also the name of the group.
    if (before?.controllerUid !== set.controllerUid) this.#lookAgainIfKnown(`${set.namespace}/${set.name}`);
  }

  #removeSet(set: StatefulSetRecord): void {
    if (this.#sets.delete(set.uid)) this.#lookAgainIfKnown(`${set.namespace}/${set.name}`);
  }

  #lookAgainIfKnown(key: string): void {
    if (this.#podsByGroup.has(key)) this.#lookAgain(key);
  }

  #tell(change: CacheChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  #buildSnapshot(): ClusterSnapshot {
    this.#tree ??= buildTopologyTree(this.levels, this.#nodes.values());
    const tree = this.#tree;
    const nodes = tree.nodeNames.flatMap(name => this.nodeInfo(name) ?? []);
    return {
      tree,
      nodes,
      existingPods: () => this.#existing(this.#pods.values()),
      repellingPods: () => this.#existing(this.#repelling),
      namespaceLabels: name => this.#namespaces.get(name)?.labels ?? {},
    };
  }

  *#existing(pods: Iterable<PodInfo>): Iterable<ExistingPod> {
    for (const pod of pods) {
      if (pod.terminal) continue;
      const name = pod.nodeName ?? this.#plannedNode(pod);
      const node = name === undefined ? undefined : this.#nodes.get(name);
      if (node === undefined) continue;
      yield {
        namespace: pod.namespace,
        labels: pod.labels,
        nodeLabels: node.labels,
        antiAffinity: pod.affinity,
      };
    }
  }

  #plannedNode(pod: PodInfo): string | undefined {
    if (pod.terminating) return undefined;
    const rank = rankOf(pod);
    const key = groupKey(pod);
    const view = key === undefined ? undefined : this.group(key);
    if (view !== undefined && rank !== undefined && view.members.get(rank) === pod)
      return seatOf(view, rank) ?? pod.pinnedTo;
    return this.#assumedPins.get(pod.uid) ?? pod.pinnedTo;
  }
}

function groupKey(pod: PodInfo | undefined): string | undefined {
  const membership = pod?.membership;
  return membership === undefined || isMembershipError(membership) ? undefined : groupKeyOf(membership);
}

function ownerKey(owner: LeaderWorkerSet): string {
  return `${owner.metadata.namespace ?? ''}/${owner.metadata.name ?? ''}`;
}

function sameNode(a: NodeRecord, b: NodeRecord): boolean {
  return (
    a.uid === b.uid &&
    a.ready === b.ready &&
    a.cordoned === b.cordoned &&
    JSON.stringify(a.taints) === JSON.stringify(b.taints) &&
    sameEntries(Object.entries(a.labels), new Map(Object.entries(b.labels))) &&
    sameEntries(a.allocatable, b.allocatable)
  );
}

function sameEntries<V>(a: Iterable<readonly [string, V]>, b: ReadonlyMap<string, V>): boolean {
  let count = 0;
  for (const [key, value] of a) {
    if (b.get(key) !== value) return false;
    count++;
  }
  return count === b.size;
}

function sinkOf<T>(
  upsert: (object: T) => void,
  remove: (object: T) => void,
  known: () => ReadonlyMap<string, T>,
  keyOf: (object: T) => string,
): ObjectSink<T> {
  return {
    upsert,
    remove,
    replace(objects) {
      const listed = new Set(objects.map(keyOf));
      for (const [key, object] of [...known()]) if (!listed.has(key)) remove(object);
      for (const object of objects) upsert(object);
    },
  };
}
