import type { LeaderWorkerSet, Toleration } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import { devicesOn as publishedOn } from '../cluster/devices/choice-input.ts';
import type { ClaimRecord, ClaimTemplateRecord, DeviceClassRecord } from '../cluster/devices/claims.ts';
import type { ComputeDomainRecord } from '../cluster/devices/compute-domain.ts';
import {
  type Device,
  type DeviceId,
  type DeviceKey,
  type DeviceSlice,
  deviceKey,
} from '../cluster/devices/device.ts';
import { type DeviceCatalog, withoutTakers } from '../cluster/devices/node-device-info.ts';
import type { PoolState } from '../cluster/devices/pool-state.ts';
import type { TaintRuleRecord } from '../cluster/devices/taint-rules.ts';
import { type NodeInfo, type NodeRecord, requestsCountedOn } from '../cluster/node-info.ts';
import { addResources, fits, maxResources, type Resources } from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { untoleratedTaint } from '../cluster/taints.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import type { ClaimSource } from '../group/claims.ts';
import type { DisruptionBudgetRecord } from '../group/disruption-budget.ts';
import { isMembershipError } from '../group/membership.ts';
import type { NamespaceRecord, StatefulSetRecord } from '../group/owner.ts';
import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { noSeatDevices, type SeatDevices } from '../group/planned-devices.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { singleKeyOf } from '../group/single.ts';
import { Assumptions } from './assumptions.ts';
import { type CacheChange, CacheChanges } from './cache-changes.ts';
import { troubleOf } from './claim-users.ts';
import { DeviceHolds } from './device-holds.ts';
import { DeviceState } from './device-state.ts';
import { buildGroupView, type GroupView, seatKey } from './group-view.ts';
import { NodeLedger } from './node-ledger.ts';
import { type ObjectReducer, type ObjectSink, objectSink } from './object-sink.ts';
import { claimsNamedBy, groupKeyOfPod, PodIndex } from './pod-index.ts';
import { sameDomain, sameNode } from './record-equality.ts';
import {
  allReservedFor,
  isOnItsWay,
  type ReservedSeat,
  type ReservePurpose,
  reservedFor,
  reservedHold,
  reservedKey,
  seatOfPod,
  seatsToHold,
} from './seat-holds.ts';
import { Snapshots } from './snapshots.ts';

const nobody: ReadonlySet<PodInfo> = new Set();

/**
 * The only mutable state: objects as last seen, what they use and hold on nodes, and plans that were written but not
 * seen yet. Everything here can be rebuilt from the API server; reducers are synchronous and total.
 */
export class ClusterCache {
  readonly levels: readonly TopologyLevel[];
  readonly pods = this.#sink<PodInfo>({
    upsert: pod => this.#upsertPod(pod),
    remove: pod => this.#removePod(pod),
    known: () => this.#pods,
    keyOf: pod => pod.uid,
  });
  readonly nodes = this.#sink<NodeRecord>({
    upsert: node => this.#upsertNode(node),
    remove: node => this.#removeNode(node),
    known: () => this.#nodes,
    keyOf: node => node.name,
  });
  readonly namespaces = this.#sink<NamespaceRecord>({
    upsert: namespace => this.#upsertNamespace(namespace),
    remove: namespace => this.#removeNamespace(namespace),
    known: () => this.#namespaces,
    keyOf: namespace => namespace.name,
  });
  readonly leaderWorkerSets = this.#sink<LeaderWorkerSet>({
    upsert: owner => this.#upsertOwner(owner),
    remove: owner => this.#removeOwner(owner),
    known: () => this.#owners,
    keyOf: ownerKey,
  });
  readonly statefulSets = this.#sink<StatefulSetRecord>({
    upsert: set => this.#upsertSet(set),
    remove: set => this.#removeSet(set),
    known: () => this.#sets,
    keyOf: set => set.uid,
  });
  readonly podDisruptionBudgets = this.#sink<DisruptionBudgetRecord>({
    // Asked when it is needed: nobody waits for a budget.
    upsert: budget => {
      this.#budgets.set(budget.uid, budget);
      return false;
    },
    remove: budget => {
      this.#budgets.delete(budget.uid);
      return false;
    },
    known: () => this.#budgets,
    keyOf: budget => budget.uid,
  });
  readonly resourceSlices = this.#sink<DeviceSlice>({
    upsert: slice => this.#devices.putSlice(slice),
    remove: slice => this.#devices.removeSlice(slice.name),
    known: () => this.#devices.slices,
    keyOf: slice => slice.name,
  });
  readonly deviceTaintRules = this.#sink<TaintRuleRecord>({
    upsert: rule => this.#devices.putTaintRule(rule),
    remove: rule => this.#devices.removeTaintRule(rule.name),
    known: () => this.#devices.taintRules,
    keyOf: rule => rule.name,
  });
  readonly deviceClasses = this.#sink<DeviceClassRecord>({
    upsert: deviceClass => this.#devices.putClass(deviceClass),
    remove: deviceClass => this.#devices.removeClass(deviceClass.name),
    known: () => this.#devices.classes,
    keyOf: deviceClass => deviceClass.name,
  });
  readonly resourceClaimTemplates = this.#sink<ClaimTemplateRecord>({
    upsert: template => this.#devices.putTemplate(template),
    remove: template => this.#devices.removeTemplate(template),
    known: () => this.#devices.templates,
    keyOf: template => `${template.namespace}/${template.name}`,
  });
  readonly resourceClaims = this.#sink<ClaimRecord>({
    upsert: claim => this.#upsertClaim(claim),
    remove: claim => this.#removeClaim(claim),
    known: () => this.#devices.claims,
    keyOf: claim => claim.uid,
  });

  readonly computeDomains = this.#sink<ComputeDomainRecord>({
    upsert: domain => this.#upsertDomain(domain),
    remove: domain => this.#removeDomain(domain),
    known: () => this.#domains,
    keyOf: domain => domain.uid,
  });

  /** Where the objects behind claims are looked up. */
  readonly claims: ClaimSource = {
    template: (namespace, name) => this.#devices.template(namespace, name),
    claim: (namespace, name) => this.#devices.claim(namespace, name),
    steers: namespace => this.#steers(namespace),
    trouble: (claim, group) => troubleOf(this, claim, group),
  };

  readonly #changes = new CacheChanges();
  readonly #pods = new Map<string, PodInfo>();
  readonly #nodes = new Map<string, NodeRecord>();
  readonly #namespaces = new Map<string, NamespaceRecord>();
  readonly #owners = new Map<string, LeaderWorkerSet>();
  readonly #sets = new Map<string, StatefulSetRecord>();
  readonly #budgets = new Map<string, DisruptionBudgetRecord>();
  readonly #domains = new Map<string, ComputeDomainRecord>();

  readonly #groups = new PodIndex(pod => optional(groupKeyOfPod(pod)));
  readonly #singles = new PodIndex(pod => optional(singleKeyOf(pod)));
  readonly #namers = new PodIndex(claimsNamedBy);
  readonly #repelling = new Set<PodInfo>();
  /** Hold keys are `group key#rank` or a pod's UID; their owners the group key or that UID. */
  readonly #ledger = new NodeLedger<PodInfo>();
  readonly #devices = new DeviceState();
  readonly #deviceHolds = new DeviceHolds(this.#devices);
  readonly #views = new Map<string, GroupView>();
  readonly #assumed = new Assumptions();
  readonly #largestWorker = new Map<string, Resources>();

  #excludedNodes: ReadonlyMap<string, string> = new Map();
  #lastChoice: {
    readonly nodes: ReadonlySet<string>;
    readonly devices: ReadonlyMap<DeviceKey, string>;
  } = { nodes: new Set(), devices: new Map() };
  #nodesVersion = 0;
  /** Nodes whose record has changed since the last snapshot. */
  readonly #staleRecords = new Set<string>();
  readonly #snapshots: Snapshots;

  readonly #steersClaims: boolean;

  /** `steersClaims`: whether Berth has a say at all in which devices claims get; default no. */
  constructor(options: { readonly levels: readonly TopologyLevel[]; readonly steersClaims?: boolean }) {
    this.levels = options.levels;
    this.#steersClaims = options.steersClaims ?? false;
    this.#snapshots = new Snapshots({
      levels: this.levels,
      nodes: this.#nodes,
      nodeInfo: name => this.nodeInfo(name),
      takeStale: () => this.#takeStale(),
      pods: () => this.#pods.values(),
      repelling: () => this.#repelling,
      namespaceLabels: name => this.#namespaces.get(name)?.labels ?? {},
      plannedNode: pod => this.plannedNode(pod),
    });
  }

  subscribe(listener: (change: CacheChange) => void): void {
    this.#changes.subscribe(listener);
  }

  /** The cluster now. The same object as long as nothing changed. */
  snapshot(): ClusterSnapshot {
    return this.#snapshots.current();
  }

  /**
   * The cluster as if some pods, the seats of their groups and what is reserved for these were not there: where could
   * they go if they left?
   * @param claims UIDs of claims that are released then, though others have them reserved, too
   */
  snapshotWithout(
    pods: ReadonlySet<PodInfo>,
    groups: readonly string[] = [],
    claims: ReadonlySet<string> = new Set(),
  ): ClusterSnapshot {
    const keys = new Set([...groups, ...[...pods].flatMap(pod => groupKeyOfPod(pod) ?? [])]);
    const owners = new Set([...keys].flatMap(key => [key, ...allReservedFor(key)]));
    for (const pod of pods) owners.add(pod.uid);
    const changed = new Set(
      [...owners].flatMap(owner => [
        ...this.#ledger.nodesHeldFor(owner),
        ...this.#devices.nodesHeldFor(owner),
      ]),
    );
    const uids = new Set([...pods].map(pod => pod.uid));
    for (const pod of pods) if (pod.nodeName !== undefined) changed.add(pod.nodeName);
    for (const uid of claims)
      for (const user of this.#devices.claims.get(uid)?.reservedFor ?? []) {
        const node = this.#pods.get(user)?.nodeName;
        if (node !== undefined) changed.add(node);
      }
    const infos = [...changed].flatMap(name => {
      const record = this.#nodes.get(name);
      if (record === undefined) return [];
      const devices = this.#devices.infoWithout(record, uids, owners, claims);
      return [[name, this.#ledger.infoWithout(record, pods, owners, devices)] as const];
    });
    return this.#snapshots.without(pods, infos);
  }

  /** What one group is planned on: all that others hold, and not what is reserved for itself. */
  snapshotFor(group: string): ClusterSnapshot {
    const reserved = allReservedFor(group).some(owner => this.#ledger.nodesHeldFor(owner).length > 0);
    return reserved ? this.snapshotWithout(new Set(), [group]) : this.snapshot();
  }

  group(key: string): GroupView | undefined {
    const pods = this.#groups.podsOf(key);
    if (pods === undefined) return undefined;
    const known = this.#views.get(key);
    if (known !== undefined) return known;
    const view = buildGroupView(pods, this.#sets, leader => this.#assumed.plan(leader.uid));
    if (view !== undefined) this.#views.set(key, view);
    return view;
  }

  /** All pods that say they belong to a group, of whatever incarnation; also those that have ended, unlike a view. */
  podsOfGroup(key: string): Iterable<PodInfo> {
    return this.#groups.podsOf(key) ?? [];
  }

  groupKeys(): Iterable<string> {
    return this.#groups.keys();
  }

  /** Pods outside groups under one key; see singleKeyOf. */
  singles(key: string): ReadonlySet<PodInfo> {
    return this.#singles.podsOf(key) ?? nobody;
  }

  singleKeys(): Iterable<string> {
    return this.#singles.keys();
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

  get nodeCount(): number {
    return this.#nodes.size;
  }

  allNodes(): Iterable<NodeRecord> {
    return this.#nodes.values();
  }

  /** Pods bound to a node that have not ended, terminating ones included; also where the Node itself is gone. */
  podsOn(node: string): Iterable<PodInfo> {
    return this.#ledger.users(node);
  }

  /** What is held on a node for one pod by itself: where it is pinned to, while it is not bound. */
  heldFor(uid: string, node: string): Resources {
    return this.#ledger.held(node, uid);
  }

  /** Nodes on which at least one place is kept for a pod that asks for devices and is not bound yet. */
  *heldNodes(): Iterable<string> {
    const told = new Set<string>();
    for (const node of this.#ledger.nodesWithHeldDevices()) {
      told.add(node);
      yield node;
    }
    for (const node of this.#devices.nodesWithHolds()) if (!told.has(node)) yield node;
  }

  /** Classes of devices, and how their selectors are evaluated. */
  get deviceCatalog(): DeviceCatalog {
    return this.#devices.catalog;
  }

  /** Another number whenever nodes, classes or published devices have changed; pods and claims do not count. */
  get hardwareVersion(): number {
    return this.#nodesVersion + this.#devices.hardwareVersion;
  }

  /** Claims made for a pod, and those reserved for it. */
  claimsOf(podUid: string): Iterable<ClaimRecord> {
    return this.#devices.claimsOf(podUid);
  }

  /** Devices of a claim that nobody new should get by it; see failedDevices. */
  failedDevicesOf(claim: ClaimRecord): readonly DeviceId[] {
    return this.#devices.failedDevicesOf(claim);
  }

  /** Members of groups that name a claim, whether or not it is reserved for them. */
  membersNaming({ namespace, name }: Pick<ClaimRecord, 'namespace' | 'name'>): Iterable<PodInfo> {
    return this.#namers.podsOf(`${namespace}/${name}`) ?? [];
  }

  /** By its UID. */
  computeDomain(uid: string): ComputeDomainRecord | undefined {
    return this.#domains.get(uid);
  }

  /** What the slices of a pool say together, DeviceTaintRules included; undefined when there is none of it. */
  devicePool(driver: string, pool: string): PoolState | undefined {
    return this.#devices.poolState(driver, pool);
  }

  /** Claims that have devices of a pool, whether or not it is published now. */
  claimsOnPool(driver: string, pool: string): Iterable<ClaimRecord> {
    return this.#devices.claimsOnPool(driver, pool);
  }

  allClaims(): Iterable<ClaimRecord> {
    return this.#devices.claims.values();
  }

  allSlices(): Iterable<DeviceSlice> {
    return this.#devices.slices.values();
  }

  taintRule(name: string): TaintRuleRecord | undefined {
    return this.#devices.taintRules.get(name);
  }

  taintRules(): Iterable<TaintRuleRecord> {
    return this.#devices.taintRules.values();
  }

  /** By node, the keys under which devices are held for a group; see DevicesTaken. */
  heldDevices(group: string): ReadonlyMap<string, readonly string[]> {
    const byNode = Map.groupBy(this.#devices.holdsOf(group), ({ node }) => node);
    return new Map([...byNode].map(([node, holds]) => [node, holds.map(({ key }) => key)]));
  }

  /** Nodes that no plan may use, each with the cause in words, though they may look healthy. */
  get excludedNodes(): ReadonlyMap<string, string> {
    return this.#excludedNodes;
  }

  setExcludedNodes(nodes: ReadonlyMap<string, string>): void {
    const before = this.#excludedNodes;
    this.#excludedNodes = new Map(nodes);
    for (const name of new Set([...before.keys(), ...nodes.keys()])) {
      if (before.has(name) === nodes.has(name)) continue;
      this.#touchHolders(name);
      this.#changes.room = true;
    }
    this.#settle();
  }

  /** Nodes that plans should use last, and devices with the node of each: they have come back from a failure. */
  get lastChoice(): {
    readonly nodes: ReadonlySet<string>;
    readonly devices: ReadonlyMap<DeviceKey, string>;
  } {
    return this.#lastChoice;
  }

  /** Nobody waits for what this changes, so nobody is told. */
  setLastChoice(change: Partial<ClusterCache['lastChoice']>): void {
    this.#lastChoice = { ...this.#lastChoice, ...change };
  }

  /** Devices that no plan may use, though they may be published as healthy: as if a rule tainted them. */
  setExcludedDevices(devices: ReadonlyMap<DeviceKey, DeviceId>): void {
    if (this.#devices.setExclusions(devices)) this.#settle();
  }

  /**
   * Keeps places for a group until its next plan stands; `[]` gives them up. Those of different purposes are kept beside
   * each other, and may be on nodes whose users are still to leave. The group's own planning does not see them.
   */
  reservePlace(group: string, seats: readonly ReservedSeat[], purpose: ReservePurpose = 'return'): void {
    const keyOf = (seat: number) => reservedKey(group, purpose, seat);
    const holds = seats.map((seat, index) => reservedHold(seat, keyOf(index)));
    const kept = seats.map(({ node, claims = [] }, index) => ({ key: keyOf(index), node, claims }));
    this.#ledger.setHolds(reservedFor(group, purpose), holds);
    this.#deviceHolds.reserve(reservedFor(group, purpose), kept);
    this.#settle();
  }

  nodeInfo(name: string): NodeInfo | undefined {
    const record = this.#nodes.get(name);
    return record === undefined ? undefined : this.#ledger.infoOf(record, this.#devices.infoOf(record));
  }

  /**
   * Whether a member that asks for `requests` can take the place that the plan holds for its rank: the hold itself does
   * not stand in its way, everything else that has come to the node does, a taint it does not tolerate included.
   */
  fitsSeat(
    key: string,
    rank: number,
    node: string,
    requests: Resources,
    tolerations: readonly Toleration[] | undefined,
  ): boolean {
    const info = this.nodeInfo(node);
    if (info === undefined || info.record.cordoned || !info.record.ready) return false;
    if (this.#excludedNodes.has(node)) return false;
    if (untoleratedTaint(info.record.taints, tolerations) !== undefined) return false;
    const held = this.#ledger.held(node, seatKey(key, rank));
    return fits(addResources(info.free, held), requestsCountedOn(info, requests));
  }

  /**
   * Whether the devices planned for a rank can still be had: they are published for its node, and nobody else has got
   * them. Those of claims that are allocated by now are not asked about.
   */
  hasPlannedDevices(key: string, rank: number): boolean {
    const prefix = `${seatKey(key, rank)}/`;
    for (const { key: holdKey, node, results } of this.#devices.holdsOf(key)) {
      if (!holdKey.startsWith(prefix) || results.length === 0) continue;
      const devices = this.nodeInfo(node)?.devices;
      const published = new Set(this.devicesOn(node).map(device => device.key));
      const others = devices && withoutTakers(devices, taken => taken.key === holdKey).used;
      for (const result of results) {
        const device = deviceKey(result);
        if (!published.has(device) || others?.devices.has(device)) return false;
      }
    }
    return true;
  }

  /** Everything that is published for a node and that it may use, taken or not. */
  devicesOn(node: string): readonly Device[] {
    const devices = this.nodeInfo(node)?.devices;
    return devices === undefined ? [] : publishedOn(devices.pools);
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

  disruptionBudgets(namespace: string): readonly DisruptionBudgetRecord[] {
    return [...this.#budgets.values()].filter(budget => budget.namespace === namespace);
  }

  /** Where a pod is to go: the seat in the plan in force, else the pin just given to it, else the pin it carries. */
  plannedNode(pod: PodInfo): string | undefined {
    if (pod.terminating) return undefined;
    const key = groupKeyOfPod(pod);
    const view = key === undefined ? undefined : this.group(key);
    const seat = view === undefined ? undefined : seatOfPod(view, pod);
    return seat ?? this.#assumed.pin(pod.uid) ?? pod.pinnedTo;
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
      resourceslices: this.#devices.slices.size,
      resourceclaims: this.#devices.claims.size,
    };
  }

  /**
   * Takes a plan as given before it is written, so that the next group is not planned onto the same places. Nothing
   * happens when the leader has gone meanwhile.
   */
  assumePlan(leader: PodInfo, plan: PlanAnnotation): void {
    if (!this.#pods.has(leader.uid)) return;
    this.#assumed.assumePlan(leader.uid, plan);
    const key = groupKeyOfPod(leader);
    for (const owner of key === undefined ? [] : allReservedFor(key)) {
      this.#ledger.setHolds(owner, []);
      this.#deviceHolds.reserve(owner, []);
    }
    this.#lookAtGroupOf(leader.uid);
    this.#settle();
  }

  /** The API server has taken the assumed plan: from now on members may be sent to its seats. */
  confirmPlan(leader: PodInfo, plan: PlanAnnotation): void {
    if (!this.#assumed.confirmPlan(leader.uid, plan)) return;
    this.#lookAtGroupOf(leader.uid);
    this.#settle();
  }

  /** Takes an assumption back after the write failed. */
  forgetPlan(leader: PodInfo): void {
    if (this.#assumed.forgetPlan(leader.uid)) this.#lookAtGroupOf(leader.uid);
    this.#settle();
  }

  /** The same for a single pod. */
  assumePin(pod: PodInfo, node: string, devices: SeatDevices = noSeatDevices): void {
    const current = this.#pods.get(pod.uid);
    if (current === undefined) return;
    this.#assumed.assumePin(pod.uid, node);
    this.#deviceHolds.holdSingle(current, node, devices.claims);
    this.#holdPinned(current);
    this.#settle();
  }

  forgetPin(pod: PodInfo): void {
    const current = this.#pods.get(pod.uid);
    this.#deviceHolds.forgetSingle(pod.uid);
    if (this.#assumed.forgetPin(pod.uid) && current !== undefined) this.#holdPinned(current);
    this.#changes.singles.add(pod.uid);
    this.#settle();
  }

  #sink<T>(reducer: ObjectReducer<T>): ObjectSink<T> {
    return objectSink(reducer, () => this.#settle());
  }

  #upsertPod(pod: PodInfo): boolean {
    const before = this.#pods.get(pod.uid);
    this.#pods.set(pod.uid, pod);
    this.#countOnNode(before, pod);
    if (pod.inService !== undefined && pod !== before) this.#changes.gates.add(pod.uid);
    if (before !== undefined) this.#repelling.delete(before);
    if (pod.affinity !== undefined && pod.affinity.antiAffinity.length > 0) this.#repelling.add(pod);
    this.#assumed.seen(pod);
    this.#rememberWorker(pod);
    this.#regroup(before, pod);
    return true;
  }

  #removePod(pod: PodInfo): boolean {
    const before = this.#pods.get(pod.uid);
    if (before === undefined) return false;
    this.#pods.delete(pod.uid);
    this.#countOnNode(before, undefined);
    this.#repelling.delete(before);
    this.#assumed.forget(pod.uid);
    this.#deviceHolds.forgetSingle(pod.uid);
    this.#ledger.setHolds(pod.uid, []);
    this.#regroup(before, undefined);
    return true;
  }

  #countOnNode(before: PodInfo | undefined, after: PodInfo | undefined): void {
    if (before?.nodeName !== undefined) this.#ledger.vacate(before.nodeName, before);
    if (after?.nodeName !== undefined && !after.terminal) this.#ledger.occupy(after.nodeName, after);
  }

  /** Labelled groups have no template whose pods would be alike. */
  #rememberWorker(pod: PodInfo): void {
    const membership = pod.membership;
    if (membership === undefined || isMembershipError(membership) || pod.terminal) return;
    if (membership.kind !== 'lws' || membership.rank === 0) return;
    const key = `${membership.namespace}/${membership.owner}/${membership.revision}`;
    const known = this.#largestWorker.get(key);
    this.#largestWorker.set(key, known === undefined ? pod.requests : maxResources(known, pod.requests));
  }

  /** Moves a pod between groups (a labelled pod may change its labels) and looks at the groups touched again. */
  #regroup(before: PodInfo | undefined, after: PodInfo | undefined): void {
    this.#namers.move(before, after);
    for (const key of this.#groups.move(before, after)) this.#lookAgain(key);
    for (const key of this.#singles.move(before, after)) this.#changes.singleKeys.add(key);
    if (after !== undefined && groupKeyOfPod(after) === undefined) this.#holdPinned(after);
    for (const pod of [before, after]) if (pod !== undefined) this.#touchSingle(pod);
  }

  /** Nothing for members of groups, and for pods with which Berth has nothing to do. */
  #touchSingle(pod: PodInfo): void {
    if (groupKeyOfPod(pod) === undefined && isOnItsWay(pod)) this.#changes.singles.add(pod.uid);
  }

  /** The group that the pod belongs to by now: its labels may have changed. */
  #lookAtGroupOf(uid: string): void {
    const key = groupKeyOfPod(this.#pods.get(uid));
    if (key !== undefined) this.#lookAgain(key);
  }

  /** Sorts a group anew and holds the seats that its plan gives to ranks without a bound pod. */
  #lookAgain(key: string): void {
    this.#views.delete(key);
    this.#changes.groups.add(key);
    const view = this.group(key);
    this.#ledger.setHolds(key, view === undefined ? [] : seatsToHold(view));
    this.#deviceHolds.holdSeats(key, view);
    for (const pod of this.podsOfGroup(key)) this.#holdPinned(pod, view);
  }

  #upsertClaim(claim: ClaimRecord): boolean {
    this.#devices.putClaim(claim);
    this.#lookAtGroupsOf(claim);
    return true;
  }

  #removeClaim({ uid }: ClaimRecord): boolean {
    const claim = this.#devices.claims.get(uid);
    if (claim === undefined) return false;
    this.#devices.removeClaim(uid);
    this.#lookAtGroupsOf(claim);
    return true;
  }

  /** Groups of the pod that the claim was made for, and of all that name it, whether or not it is reserved for them. */
  #lookAtGroupsOf({ podUid, reservedFor, namespace, name }: ClaimRecord): void {
    const pods = [...(this.#namers.podsOf(`${namespace}/${name}`) ?? [])];
    for (const uid of new Set([...reservedFor, ...(podUid === undefined ? [] : [podUid])])) {
      const pod = this.#pods.get(uid);
      if (pod !== undefined) pods.push(pod);
    }
    for (const pod of pods) {
      const key = singleKeyOf(pod);
      if (key !== undefined) this.#changes.singleKeys.add(key);
      if (groupKeyOfPod(pod) === undefined) this.#deviceHolds.lookAtSingle(pod);
    }
    for (const key of new Set(pods.map(groupKeyOfPod))) if (key !== undefined) this.#lookAgain(key);
  }

  #upsertDomain(domain: ComputeDomainRecord): boolean {
    const before = this.#domains.get(domain.uid);
    this.#domains.set(domain.uid, domain);
    if (before !== undefined && sameDomain(before, domain)) return false;
    return this.#touchChannels(domain.uid);
  }

  #removeDomain({ uid }: ComputeDomainRecord): boolean {
    return this.#domains.delete(uid) && this.#touchChannels(uid);
  }

  /** Groups and single pods with channels of a domain; a domain changes seldom. True when there are any. */
  #touchChannels(domain: string): boolean {
    let isUsed = false;
    for (const { computeDomain, podUid, reservedFor } of this.#devices.claims.values()) {
      if (computeDomain !== domain) continue;
      for (const uid of podUid === undefined ? reservedFor : [podUid, ...reservedFor]) {
        const pod = this.#pods.get(uid);
        const group = groupKeyOfPod(pod);
        const single = pod && singleKeyOf(pod);
        if (group !== undefined) this.#changes.groups.add(group);
        if (single !== undefined) this.#changes.singleKeys.add(single);
        isUsed ||= group !== undefined || single !== undefined;
      }
    }
    return isUsed;
  }

  #steers(namespace: string): boolean {
    return this.#steersClaims && this.#namespaces.get(namespace)?.labels[berth.steerClaims] !== 'false';
  }

  /** Holds the node of a pinned pod that is not bound yet and whose seat no plan holds already. */
  #holdPinned(pod: PodInfo, view?: GroupView): void {
    const node = this.#assumed.pin(pod.uid) ?? pod.pinnedTo;
    const holdsPlace =
      node !== undefined &&
      pod.nodeName === undefined &&
      !pod.terminating &&
      !pod.terminal &&
      !(view !== undefined && seatOfPod(view, pod) === node);
    this.#ledger.setHolds(pod.uid, holdsPlace ? [{ key: pod.uid, node, use: pod }] : []);
    this.#deviceHolds.lookAtSingle(pod);
  }

  #upsertNode(node: NodeRecord): boolean {
    const before = this.#nodes.get(node.name);
    // Heartbeats change a Node every few seconds without changing anything that placement looks at.
    if (before !== undefined && sameNode(before, node)) return false;
    this.#nodes.set(node.name, node);
    this.#nodesVersion++;
    this.#staleRecords.add(node.name);
    const moved = this.levels.some(({ nodeLabel }) => before?.labels[nodeLabel] !== node.labels[nodeLabel]);
    if (before === undefined || moved) this.#snapshots.invalidate('tree');
    this.#changes.room = true;
    this.#changes.nodes.add(node.name);
    this.#touchHolders(node.name);
    return true;
  }

  #removeNode(node: NodeRecord): boolean {
    if (!this.#nodes.delete(node.name)) return false;
    this.#nodesVersion++;
    this.#ledger.forgetNode(node.name);
    this.#devices.forgetNode(node.name);
    this.#snapshots.invalidate('tree');
    this.#changes.nodes.add(node.name);
    this.#touchHolders(node.name);
    return true;
  }

  /** Groups that wait to be bound to a node must hear when something happens to it. */
  #touchHolders(node: string): void {
    for (const hold of this.#ledger.holdKeys(node)) {
      const at = hold.lastIndexOf('#');
      if (at > 0) this.#changes.groups.add(hold.slice(0, at));
      else this.#changes.singles.add(hold);
    }
  }

  #upsertNamespace(namespace: NamespaceRecord): boolean {
    const before = this.#namespaces.get(namespace.name);
    this.#namespaces.set(namespace.name, namespace);
    if (
      before?.mode !== namespace.mode ||
      before.pinsSingles !== namespace.pinsSingles ||
      before.labels[berth.failure] !== namespace.labels[berth.failure]
    )
      this.#touchNamespace(namespace.name);
    return true;
  }

  #removeNamespace(namespace: NamespaceRecord): boolean {
    if (!this.#namespaces.delete(namespace.name)) return false;
    this.#touchNamespace(namespace.name);
    return true;
  }

  #touchNamespace(name: string): void {
    for (const key of this.#groups.keys()) if (key.startsWith(`${name}/`)) this.#changes.groups.add(key);
    for (const key of this.#singles.keys()) if (key.startsWith(`${name}/`)) this.#changes.singleKeys.add(key);
    for (const pod of this.#pods.values()) if (pod.namespace === name) this.#touchSingle(pod);
  }

  #upsertOwner(owner: LeaderWorkerSet): boolean {
    const before = this.#owners.get(ownerKey(owner));
    // LWS writes its status with every pod that becomes ready; none of it is kept.
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(owner)) return false;
    this.#owners.set(ownerKey(owner), owner);
    this.#touchOwned(owner);
    return true;
  }

  #removeOwner(owner: LeaderWorkerSet): boolean {
    if (!this.#owners.delete(ownerKey(owner))) return false;
    const prefix = `${ownerKey(owner)}/`;
    for (const key of this.#largestWorker.keys()) if (key.startsWith(prefix)) this.#largestWorker.delete(key);
    this.#touchOwned(owner);
    return true;
  }

  #touchOwned(owner: LeaderWorkerSet): void {
    const { namespace = '', name = '' } = owner.metadata;
    for (const [key, pods] of this.#groups.entries()) {
      const [pod] = pods;
      const membership = pod?.membership;
      if (membership === undefined || isMembershipError(membership)) continue;
      if (membership.namespace === namespace && membership.owner === name) this.#changes.groups.add(key);
    }
  }

  #upsertSet(set: StatefulSetRecord): boolean {
    const before = this.#sets.get(set.uid);
    this.#sets.set(set.uid, set);
    if (before?.controllerUid === set.controllerUid) return false;
    // A worker StatefulSet bears its leader's name, which is also the name of the group.
    this.#lookAgainIfKnown(`${set.namespace}/${set.name}`);
    return true;
  }

  #removeSet(set: StatefulSetRecord): boolean {
    if (!this.#sets.delete(set.uid)) return false;
    this.#lookAgainIfKnown(`${set.namespace}/${set.name}`);
    return true;
  }

  #lookAgainIfKnown(key: string): void {
    if (this.#groups.has(key)) this.#lookAgain(key);
  }

  /** Ends a change: what was worked out before it is void, and listeners hear of it. */
  #settle(): void {
    this.#snapshots.invalidate('use');
    const grew = [this.#ledger.takeGrowth(), this.#devices.takeGrowth()];
    this.#changes.tell({ pools: this.#devices.takeChangedPools(), room: grew.includes(true) });
  }

  #takeStale(): 'all' | ReadonlySet<string> {
    const ofDevices = this.#devices.takeStale();
    const ofPods = this.#ledger.takeStale();
    const records = [...this.#staleRecords];
    this.#staleRecords.clear();
    return ofDevices === 'all' ? 'all' : new Set([...ofPods, ...records, ...ofDevices]);
  }
}

function ownerKey(owner: LeaderWorkerSet): string {
  return `${owner.metadata.namespace ?? ''}/${owner.metadata.name ?? ''}`;
}

function optional(key: string | undefined): readonly string[] {
  return key === undefined ? [] : [key];
}
