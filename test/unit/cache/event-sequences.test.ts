import t from 'tap';
import type { Pod, StatefulSet } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNode, withPodSlot } from '../../../src/cluster/node-info.ts';
import { podRequests } from '../../../src/cluster/pod-requests.ts';
import { addResources, type Resources, subtractResources } from '../../../src/cluster/resources.ts';
import { decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { believedPlan, type PodInfo } from '../../../src/group/pod-info.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { type PodParts, podOf } from '../../builders/pods.ts';
import { mulberry32 } from '../planner/instances.ts';
import {
  claimsOfPods,
  DeviceHistory,
  devicePortrait,
  expectedHolds,
  freeDevices,
  heldBy,
} from './device-history.ts';

// Longer than it takes by far: machines may be busy.
t.setTimeout(180_000);

const firstSeed = Number(process.env['BERTH_SEED'] ?? 4711);
const sequences = 400;
const stepsEach = 80;

const levels = [{ name: 'rack', nodeLabel: 'example.com/rack' }];
const nodes = ['a', 'b', 'c', 'd'].map((name, i) =>
  nodeOf({ name, gpu: 8, labels: { 'example.com/rack': `r${i >> 1}` } }),
);
const groups = [
  new LwsGroup({ size: 3, worker: { gpu: 2 } }),
  new LwsGroup({ size: 2, worker: { gpu: 3 } }, 1),
];

/** The API server's side of a random history, and the cache that follows it. */
class History {
  readonly random: () => number;
  readonly cache = new ClusterCache({ levels });
  readonly pods = new Map<string, Pod>();
  readonly sets = new Map<string, StatefulSet>();
  readonly nodes = new Map(nodes.map(node => [node.metadata.name ?? '', node]));
  readonly assumedPlans = new Map<string, { readonly leader: PodInfo; readonly plan: PlanAnnotation }>();
  readonly assumedPins = new Map<string, { readonly pod: PodInfo; readonly node: string }>();
  readonly told = new Set<string>();
  readonly devices: DeviceHistory;
  #serial = 0;

  constructor(seed: number) {
    this.random = mulberry32(seed);
    this.devices = new DeviceHistory(this.cache, this.random);
    this.cache.nodes.replace(nodes.map(decodeNode));
    this.cache.subscribe(change =>
      this.told.add(change.kind === 'group' ? change.key : change.kind === 'single' ? change.uid : 'room'),
    );
  }

  pick<T>(values: Iterable<T>): T | undefined {
    const list = [...values];
    return list[Math.floor(this.random() * list.length)];
  }

  chance(p: number): boolean {
    return this.random() < p;
  }

  /** A pod that there is, or was, or will be. */
  #somePod(): string | undefined {
    const group = this.pick(groups);
    if (this.chance(0.2)) return group?.leaderUid(1 + Math.floor(this.random() * 2));
    return this.pick(this.pods.keys());
  }

  makeClaim(): void {
    this.devices.makeClaim(this.#somePod());
  }

  makeShared(): void {
    this.devices.makeShared();
  }

  changeClaim(): void {
    this.devices.changeClaim(this.#somePod());
  }

  deleteClaim(): void {
    this.devices.deleteClaim();
  }

  putSlice(): void {
    this.devices.putSlice();
  }

  removeSlice(): void {
    this.devices.removeSlice();
  }

  changeClass(): void {
    this.devices.toggleClass();
  }

  changeRule(): void {
    this.devices.toggleRule();
  }

  changeTemplate(): void {
    this.devices.toggleTemplate();
  }

  relistDevices(): void {
    this.devices.relist();
  }

  /** One thing happens; its name is for whoever has to find out what went wrong. */
  step(): string {
    const actions = [
      this.addLeader,
      this.addWorker,
      this.addWorker,
      this.addLabelled,
      this.addSingle,
      this.changePod,
      this.changePod,
      this.changePod,
      this.deletePod,
      this.toggleSet,
      this.toggleNode,
      this.assume,
      this.takeBack,
      this.relist,
      this.makeClaim,
      this.makeClaim,
      this.makeShared,
      this.changeClaim,
      this.changeClaim,
      this.changeClaim,
      this.deleteClaim,
      this.putSlice,
      this.putSlice,
      this.removeSlice,
      this.changeClass,
      this.changeRule,
      this.changeTemplate,
      this.relistDevices,
    ];
    const action = this.pick(actions) ?? this.relist;
    action.call(this);
    return action.name;
  }

  addLeader(): void {
    const group = this.pick(groups);
    if (group === undefined) return;
    const incarnation = 1 + Math.floor(this.random() * 2);
    this.#put(claiming(group.leader({ ...this.#time(), uid: group.leaderUid(incarnation) }, incarnation)));
  }

  addWorker(): void {
    const group = this.pick(groups);
    if (group === undefined) return;
    const rank = 1 + Math.floor(this.random() * (group.parts.size - 1));
    const more: Partial<PodParts> = this.chance(0.5) ? { gated: false, pinnedTo: this.#node() } : {};
    this.#put(claiming(group.worker(rank, { ...this.#time(), ...more }, 1 + Math.floor(this.random() * 2))));
  }

  addLabelled(): void {
    const name = this.pick(['g', 'llm-0']) ?? 'g';
    const rank = Math.floor(this.random() * 2);
    const pod = labelledPod(2, rank, { gpu: 1, labels: { [berth.group]: name } });
    this.#put({ ...pod, metadata: { ...pod.metadata, uid: `labelled-${rank}-${this.chance(0.5)}` } });
  }

  addSingle(): void {
    const name = `s${Math.floor(this.random() * 3)}`;
    this.#put(
      podOf({
        name,
        gpu: 1,
        hostPort: 80,
        ...(this.chance(0.5) ? { gated: true } : { pinnedTo: this.#node() }),
      }),
    );
  }

  changePod(): void {
    const pod = this.pick(this.pods.values());
    if (pod === undefined) return;
    const { metadata, spec, status } = pod;
    const { schedulingGates: _, ...ungated } = spec;
    const kind = this.pick(['bind', 'bind', 'end', 'go', 'plan', 'pin', 'resize'] as const);
    const bound = spec.nodeName !== undefined;
    if (kind === 'bind' && !bound) this.#put({ ...pod, spec: { ...ungated, nodeName: this.#node() } });
    if (kind === 'end')
      this.#put({ ...pod, status: { ...status, phase: this.pick(['Failed', 'Succeeded']) ?? 'Failed' } });
    if (kind === 'go')
      this.#put({ ...pod, metadata: { ...metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } });
    if (kind === 'pin' && !bound) {
      const { affinity } = podOf({ name: 'x', pinnedTo: this.#node() }).spec;
      this.#put({ ...pod, spec: { ...ungated, ...(affinity && { affinity }) } });
    }
    if (kind === 'resize') {
      const containers = [
        { name: 'main', resources: { requests: { cpu: String(Math.floor(this.random() * 4)) } } },
      ];
      this.#put({ ...pod, spec: { ...spec, containers } });
    }
    if (kind === 'plan') {
      const plan = this.#planFor(decode(pod));
      const annotations = {
        ...metadata.annotations,
        ...(plan && { [berth.plan]: formatPlanAnnotation(plan) }),
      };
      this.#put({ ...pod, metadata: { ...metadata, annotations } });
    }
  }

  deletePod(): void {
    const pod = this.pick(this.pods.values());
    if (pod === undefined) return;
    this.#drop(pod.metadata.uid ?? '');
    this.cache.pods.remove(decode(pod));
  }

  toggleSet(): void {
    const group = this.pick(groups);
    const set = group?.workerSet(1 + Math.floor(this.random() * 2));
    if (set === undefined) return;
    const uid = set.metadata.uid ?? '';
    if (this.sets.delete(uid)) this.cache.statefulSets.remove(decodeStatefulSet(set));
    else {
      this.sets.set(uid, set);
      this.cache.statefulSets.upsert(decodeStatefulSet(set));
    }
  }

  toggleNode(): void {
    const node = this.pick(nodes);
    const name = node?.metadata.name ?? '';
    if (node === undefined) return;
    if (this.nodes.delete(name)) this.cache.nodes.remove(decodeNode(node));
    else {
      const seen = this.chance(0.5) ? node : { ...node, spec: { unschedulable: true } };
      this.nodes.set(name, seen);
      this.cache.nodes.upsert(decodeNode(seen));
    }
  }

  assume(): void {
    const pod = this.pick(this.pods.values());
    if (pod === undefined) return;
    const info = decode(pod);
    const plan = this.#planFor(info);
    if (plan !== undefined) {
      this.cache.assumePlan(info, plan);
      this.assumedPlans.set(info.uid, { leader: info, plan });
    } else if (info.membership === undefined && info.nodeName === undefined && info.pinnedTo === undefined) {
      const node = this.#node();
      this.cache.assumePin(info, node);
      this.assumedPins.set(info.uid, { pod: info, node });
    }
  }

  takeBack(): void {
    const plan = this.pick(this.assumedPlans.values());
    if (plan !== undefined && this.chance(0.5)) {
      this.cache.forgetPlan(plan.leader);
      this.assumedPlans.delete(plan.leader.uid);
    }
    const pin = this.pick(this.assumedPins.values());
    if (pin !== undefined && this.chance(0.5)) {
      this.cache.forgetPin(pin.pod);
      this.assumedPins.delete(pin.pod.uid);
    }
  }

  /** The watch was lost; pods have gone meanwhile without anybody seeing it. */
  relist(): void {
    for (const uid of [...this.pods.keys()]) if (this.chance(0.1)) this.#drop(uid);
    const listed = [...this.pods.values()].sort(() => this.random() - 0.5);
    this.cache.pods.replace(listed.map(decode));
  }

  /** A cache that has seen nothing but the end of the story. */
  retold(): ClusterCache {
    const cache = new ClusterCache({ levels });
    this.devices.showTo(cache);
    cache.pods.replace([...this.pods.values()].reverse().map(decode));
    cache.statefulSets.replace([...this.sets.values()].map(decodeStatefulSet));
    cache.nodes.replace([...this.nodes.values()].map(decodeNode));
    for (const { leader, plan } of this.assumedPlans.values()) cache.assumePlan(leader, plan);
    for (const { pod, node } of this.assumedPins.values()) cache.assumePin(pod, node);
    return cache;
  }

  #put(pod: Pod): void {
    const info = decode(pod);
    this.pods.set(info.uid, pod);
    this.cache.pods.upsert(info);
    const assumed = this.assumedPlans.get(info.uid);
    const seen = believedPlan(info);
    if (assumed !== undefined && seen !== undefined && seen.generation >= assumed.plan.generation)
      this.assumedPlans.delete(info.uid);
    if (info.pinnedTo !== undefined || info.nodeName !== undefined) this.assumedPins.delete(info.uid);
  }

  #drop(uid: string): void {
    this.pods.delete(uid);
    this.assumedPlans.delete(uid);
    this.assumedPins.delete(uid);
  }

  #planFor(leader: PodInfo): PlanAnnotation | undefined {
    const { membership } = leader;
    if (membership === undefined || 'code' in membership || membership.rank !== 0) return undefined;
    const ranks = Array.from({ length: membership.size });
    return {
      leaderUid: leader.uid,
      generation: 1 + this.#serial++,
      nodes: ranks.map(() => (this.chance(0.1) ? '' : this.#node())),
      requests: ranks.map(() => withPodSlot(new Map([['cpu', 500]]))),
      ...(this.chance(0.7) && { devices: this.devices.planned(membership.size) }),
    };
  }

  #node(): string {
    return this.pick(['a', 'b', 'c', 'd', 'gone']) ?? 'a';
  }

  #time(): { createdAt: string } {
    return { createdAt: `2026-01-01T00:00:${String(10 + (this.#serial++ % 50))}Z` };
  }
}

function claiming(pod: Pod): Pod {
  return { ...pod, spec: { ...pod.spec, resourceClaims: claimsOfPods } };
}

/** Everything that can be asked of a cache, in an order of its own. */
function portrait(cache: ClusterCache): object {
  const snapshot = cache.snapshot();
  const names = (pods: Iterable<PodInfo>) => [...pods].map(({ uid }) => uid).sort();
  return {
    nodes: [...snapshot.nodes].map(({ record, free, freeOfPods, hostPorts, untouched }) => ({
      name: record.name,
      cordoned: record.cordoned,
      free: amounts(free),
      freeOfPods: amounts(freeOfPods),
      ports: hostPorts.map(port => JSON.stringify(port)).sort(),
      untouched,
    })),
    tree: snapshot.tree.nodeNames,
    groups: [...cache.groupKeys()].sort().map(key => {
      const view = cache.group(key);
      return {
        key,
        leader: view?.leader?.uid,
        members: [...(view?.members ?? [])].map(([rank, { uid }]) => `${rank} ${uid}`),
        leaving: [...(view?.leaving ?? [])].map(([rank, { uid }]) => `${rank} ${uid}`),
        others: names(view?.others ?? []),
        plan: view?.plan === undefined ? undefined : formatPlanAnnotation(view.plan),
      };
    }),
    existing: [...snapshot.existingPods()].map(pod => JSON.stringify(pod)).sort(),
    counts: cache.counts(),
    devices: devicePortrait(cache),
  };
}

function amounts(resources: Resources): Record<string, number> {
  return Object.fromEntries([...resources].filter(([, amount]) => amount !== 0).sort());
}

/** Allocatable less bound pods that have not ended, worked out from the API objects alone. */
function freeOfPods(history: History, name: string): Record<string, number> {
  const node = history.nodes.get(name);
  if (node === undefined) return {};
  let free = decodeNode(node).allocatable;
  for (const pod of history.pods.values()) {
    const ended = pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded';
    if (pod.spec.nodeName === name && !ended) free = subtractResources(free, withPodSlot(podRequests(pod)));
  }
  return amounts(free);
}

/** Holds, worked out from the views: seats without a bound pod, and pinned pods that no seat is for. */
function heldOn(history: History, name: string): Record<string, number> {
  const { cache } = history;
  let held: Resources = new Map();
  for (const key of cache.groupKeys()) {
    const view = cache.group(key);
    view?.plan?.nodes.forEach((seat, rank) => {
      const member = view.members.get(rank);
      const covered = member?.nodeName !== undefined || view.leaving.get(rank)?.nodeName === name;
      if (seat === name && !covered)
        held = addResources(held, member?.requests ?? view.plan?.requests[rank] ?? new Map());
    });
  }
  for (const pod of cache.allPods()) {
    const pinned = history.assumedPins.get(pod.uid)?.node ?? pod.pinnedTo;
    if (pinned !== name || pod.nodeName !== undefined || pod.terminating || pod.terminal) continue;
    const key =
      pod.membership !== undefined && !('code' in pod.membership)
        ? `${pod.namespace}/${pod.membership.name}`
        : undefined;
    const view = key === undefined ? undefined : cache.group(key);
    const seated = [...(view?.members ?? [])].some(
      ([rank, member]) => member === pod && view?.plan?.nodes[rank] === name,
    );
    if (!seated) held = addResources(held, pod.requests);
  }
  return amounts(held);
}

function freeByNode(cache: ClusterCache): ReadonlyMap<string, Resources> {
  return new Map([...cache.snapshot().nodes].map(({ record, free }) => [record.name, free]));
}

function grew(before: ReadonlyMap<string, Resources>, after: ReadonlyMap<string, Resources>): boolean {
  return [...after].some(([name, free]) => {
    const known = before.get(name);
    return known === undefined || [...free].some(([resource, amount]) => amount > (known.get(resource) ?? 0));
  });
}

function cameFree(
  before: ReadonlyMap<string, ReadonlySet<string>>,
  after: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  return [...after].some(([name, free]) => [...free].some(key => before.get(name)?.has(key) !== true));
}

function groupsIn(cache: ClusterCache): ReadonlyMap<string, string> {
  const { groups } = portrait(cache) as { groups: readonly { key: string }[] };
  return new Map(groups.map(group => [group.key, JSON.stringify(group)]));
}

t.test('whatever happens in whatever order, the cache is what its last objects make it', async t => {
  let steps = 0;
  let rooms = 0;
  let freed = 0;
  let holds = 0;
  for (let i = 0; i < sequences; i++) {
    const history = new History(firstSeed + i);
    const trail: string[] = [];
    for (let step = 0; step < stepsEach; step++) {
      const before = freeByNode(history.cache);
      const devicesBefore = freeDevices(history.cache);
      const groupsBefore = groupsIn(history.cache);
      history.told.clear();
      trail.push(history.step());
      steps++;
      const where = `seed ${firstSeed + i}, after ${trail.length} steps, the last ${trail.at(-1)}`;
      if (grew(before, freeByNode(history.cache))) {
        rooms++;
        if (!history.told.has('room')) t.fail(`${where}: room has grown and nobody was told`);
      }
      if (cameFree(devicesBefore, freeDevices(history.cache))) {
        freed++;
        if (!history.told.has('room')) t.fail(`${where}: devices have come free and nobody was told`);
      }
      const groupsAfter = groupsIn(history.cache);
      for (const [key, group] of groupsAfter) {
        if (groupsBefore.get(key) !== group && !history.told.has(key))
          t.fail(`${where}: ${key} has changed untold`);
      }
      for (const key of groupsBefore.keys()) {
        if (!groupsAfter.has(key) && !history.told.has(key)) t.fail(`${where}: ${key} went untold`);
      }
      if (step % 10 !== 9) continue;
      for (const { record, free, freeOfPods: ofPods } of history.cache.snapshot().nodes) {
        const expected = freeOfPods(history, record.name);
        if (JSON.stringify(amounts(ofPods)) !== JSON.stringify(expected))
          t.same(amounts(ofPods), expected, `${where}: bound pods on ${record.name}`);
        const held = heldOn(history, record.name);
        if (JSON.stringify(amounts(subtractResources(ofPods, free))) !== JSON.stringify(held))
          t.same(amounts(subtractResources(ofPods, free)), held, `${where}: holds on ${record.name}`);
      }
      for (const key of history.cache.groupKeys()) {
        const [held, expected] = [
          heldBy(history.cache, key),
          expectedHolds(history.devices, history.cache, key),
        ];
        holds += held.length;
        if (JSON.stringify(held) !== JSON.stringify(expected))
          t.same(held, expected, `${where}: devices held for ${key}`);
      }
      const [now, retold] = [portrait(history.cache), portrait(history.retold())];
      if (JSON.stringify(now) !== JSON.stringify(retold)) {
        t.same(now, retold, where);
        return;
      }
    }
  }
  t.comment(
    `${steps} steps from seed ${firstSeed}, room grew in ${rooms} of them, devices came free in ${freed}`,
  );
  t.ok(rooms > steps / 50);
  t.ok(freed > steps / 100);
  t.ok(holds > steps / 100);
});
