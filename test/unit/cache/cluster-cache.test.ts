import t from 'tap';
import type { LeaderWorkerSet, Pod, PodCondition } from '../../../src/api/kubernetes.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import type { CacheChange } from '../../../src/cache/cache-changes.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { decodeDisruptionBudget } from '../../../src/group/disruption-budget.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { decodePod, type PodInfo, podShare } from '../../../src/group/pod-info.ts';
import { drawFleet, labelOf, nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { gpuName, type PodParts, podOf, requiredDuringScheduling } from '../../builders/pods.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8
    - d gpu=8
`);

/** A cache of the fleet, and what it has told since it was last asked. */
function watched(): { cache: ClusterCache; told: () => readonly string[]; gpus: (node: string) => number } {
  const cache = new ClusterCache({ levels: fleet.levels });
  const changes: CacheChange[] = [];
  cache.subscribe(change => changes.push(change));
  cache.nodes.replace(fleet.nodes.map(decodeNode));
  changes.length = 0;
  const told = () => {
    const words = changes
      .splice(0)
      .filter(({ kind }) => kind !== 'singles')
      .map(wordOf);
    return words.sort();
  };
  const gpus = (node: string) => cache.nodeInfo(node)?.free.get(gpuName) ?? Number.NaN;
  return { cache, told, gpus };
}

function wordOf(change: CacheChange): string {
  switch (change.kind) {
    case 'group':
      return change.key;
    case 'single':
      return change.uid;
    case 'service-gate':
      return `gate ${change.uid}`;
    case 'node':
      return change.name;
    default:
      return 'room';
  }
}

const group = new LwsGroup({ size: 3, worker: { gpu: 8 } });

function planOf(nodes: readonly string[], generation = 1, incarnation = 1): PlanAnnotation {
  const requests = nodes.map(
    () =>
      new Map([
        [gpuName, 8],
        ['pods', 1],
      ] as const),
  );
  return { leaderUid: group.leaderUid(incarnation), generation, nodes, requests };
}

function carrying(plan: PlanAnnotation, more: Partial<PodParts> = {}): Partial<PodParts> {
  return {
    gated: false,
    annotations: { [berth.plan]: formatPlanAnnotation(plan) },
    ...(more.node === undefined && plan.nodes[0] !== undefined && { pinnedTo: plan.nodes[0] }),
    ...more,
  };
}

function addWorkers(
  cache: ClusterCache,
  ranks: readonly number[],
  more: Partial<PodParts> = {},
  incarnation = 1,
) {
  for (const rank of ranks) cache.pods.upsert(decode(group.worker(rank, more, incarnation)));
}

t.test('a pod takes room from when it is bound until it ends', async t => {
  const { cache, told, gpus } = watched();
  const pod = (more: Partial<PodParts>) => decode(podOf({ name: 'p', gpu: 3, hostPort: 80, ...more }));
  cache.pods.upsert(pod({}));
  t.equal(gpus('a'), 8);
  cache.pods.upsert(pod({ node: 'a' }));
  t.equal(gpus('a'), 5);
  t.equal(cache.nodeInfo('a')?.untouched, false);
  t.same(
    cache.nodeInfo('a')?.hostPorts.map(({ port }) => port),
    [80],
  );
  cache.pods.upsert(pod({ node: 'a', terminating: true }));
  t.equal(gpus('a'), 5, 'also while it is terminating');
  t.same(told(), [], 'nobody has gained anything so far');
  cache.pods.upsert(pod({ node: 'a', phase: 'Failed' }));
  t.equal(gpus('a'), 8, 'a terminal pod takes none');
  t.same(told(), ['room']);
  cache.pods.remove(pod({ node: 'a', phase: 'Failed' }));
  t.same(told(), [], 'its end frees nothing more');
  cache.pods.upsert(pod({ node: 'a' }));
  cache.pods.remove(pod({ node: 'a' }));
  t.equal(gpus('a'), 8);
  t.same(told(), ['room']);
  cache.pods.remove(pod({}));
  t.same(told(), [], 'who is not known cannot go');
});

t.test('pods with the readiness gate are told of, in a group or not', async t => {
  const { cache, told } = watched();
  const pod = (conditions: readonly PodCondition[], drained = true) =>
    decode({ ...podOf({ name: 'p', uid: 'p', node: 'a', drained }), status: { conditions } });
  const condition = (type: string, status: string) => ({ type, status });
  cache.pods.upsert(pod([], false));
  t.same(told(), []);
  t.equal(cache.pod('p')?.inService, undefined, 'without the gate');
  cache.pods.upsert(pod([condition(berth.inService, 'True')], false));
  t.equal(cache.pod('p')?.inService, undefined, 'the condition alone is none');
  cache.pods.upsert(pod([condition('Ready', 'True')]));
  t.same(told(), ['gate p']);
  t.equal(cache.pod('p')?.inService, '', 'never set');
  cache.pods.upsert(pod([condition(berth.inService, 'False')]));
  t.equal(cache.pod('p')?.inService, 'False');
  const runs = condition('ContainersReady', 'True');
  const waitsForBerth = (conditions: readonly PodCondition[], others: readonly string[] = []) => {
    const { spec, ...rest } = podOf({ name: 'p', uid: 'p', node: 'a', drained: true });
    const readinessGates = [
      ...(spec.readinessGates ?? []),
      ...others.map(conditionType => ({ conditionType })),
    ];
    return decode({ ...rest, spec: { ...spec, readinessGates }, status: { conditions } }).withheld;
  };
  const out = condition(berth.inService, 'False');
  t.equal(waitsForBerth([runs]), true, 'never set, and else it would be Ready');
  t.equal(waitsForBerth([runs, out]), true);
  t.equal(waitsForBerth([runs, condition(berth.inService, 'True')]), undefined, 'in service');
  t.equal(waitsForBerth([out]), undefined, 'its containers are not ready');
  t.equal(waitsForBerth([runs, out], ['x/other']), undefined, 'another gate, too');
  t.equal(waitsForBerth([runs, out, condition('x/other', 'True')], ['x/other']), true);
  told();
  cache.pods.upsert(decode(group.leader({ node: 'a', drained: true })));
  t.same(told(), [`gate ${group.leaderUid()}`, group.key]);
});

t.test('a pod that is resized in place', async t => {
  const { cache, told, gpus } = watched();
  cache.pods.upsert(decode(podOf({ name: 'p', gpu: 3, cpu: 4, node: 'a' })));
  cache.pods.upsert(decode(podOf({ name: 'p', gpu: 3, cpu: 6, node: 'a' })));
  t.same(told(), []);
  cache.pods.upsert(decode(podOf({ name: 'p', gpu: 3, cpu: 2, node: 'a' })));
  t.same(told(), ['room']);
  t.equal(cache.nodeInfo('a')?.free.get('cpu'), 62_000);
  t.equal(gpus('a'), 5);
});

t.test('seats of a plan are held until their pods are bound', async t => {
  const { cache, told, gpus } = watched();
  const free = () => ['a', 'b', 'c'].map(gpus);
  cache.pods.upsert(decode(group.leader()));
  t.same(told(), [group.key]);
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'])))));
  t.same(free(), [0, 0, 0], 'for members that do not exist too');
  t.equal(cache.nodeInfo('b')?.freeOfPods.get(gpuName), 8, 'no pod is there yet');
  t.same(told(), [group.key]);
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c']), { node: 'a' }))));
  t.same(free(), [0, 0, 0], 'a bound member is not counted beside its seat');
  t.equal(cache.nodeInfo('a')?.freeOfPods.get(gpuName), 0);
  t.same(told(), [group.key], 'and nobody gains room by that');
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  addWorkers(cache, [1, 2]);
  t.same(free(), [0, 0, 0], 'gated workers have their seats');
  cache.pods.upsert(decode(group.worker(1, { gated: false, pinnedTo: 'b' })));
  t.same(free(), [0, 0, 0], 'a pinned one too, once');
  cache.pods.upsert(decode(group.worker(1, { gated: false, node: 'b' })));
  t.same(free(), [0, 0, 0]);
  told();
  cache.pods.upsert(decode(group.worker(1, { gated: false, node: 'b', terminating: true })));
  cache.pods.remove(decode(group.worker(1, { gated: false, node: 'b', terminating: true })));
  t.same(free(), [0, 0, 0], 'the seat of a member that is made anew stays held');
  t.same(new Set(told()), new Set([group.key]), 'so nobody gains room');
  cache.pods.remove(decode(group.leader()));
  t.same(free(), [8, 8, 8], 'seats live as long as their leader');
  t.same(told(), [group.key, 'room'].sort());
});

t.test('a seat whose pod leaves another node is held meanwhile', async t => {
  const { cache, gpus } = watched();
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'd', 'c'], 2), { node: 'a' }))));
  addWorkers(cache, [1], { gated: false, node: 'b', terminating: true });
  t.equal(gpus('d'), 0, 'the new seat');
  t.equal(gpus('b'), 0, 'the old pod');
  cache.pods.remove(decode(group.worker(1)));
  t.equal(gpus('b'), 8);
  t.equal(gpus('d'), 0);
});

t.test('a released rank holds nothing, a larger member holds what it asks for', async t => {
  const { cache, gpus } = watched();
  const plan = {
    ...planOf(['a', '', 'c']),
    requests: planOf(['', '', '']).requests.map(() => new Map([[gpuName, 2]])),
  };
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  cache.pods.upsert(decode(group.leader(carrying(plan))));
  t.same(['a', 'b', 'c', 'd'].map(gpus), [0, 8, 6, 8], 'the leader as it is, the absent worker as planned');
  addWorkers(cache, [1, 2]);
  t.same(['b', 'c'].map(gpus), [8, 0], 'the worker as it is');
});

t.test('plans that are assumed', async t => {
  const { cache, told, gpus } = watched();
  const leader = decode(group.leader());
  cache.pods.upsert(leader);
  told();
  cache.assumePlan(leader, planOf(['a', 'b', 'c']));
  t.same(['a', 'b', 'c'].map(gpus), [0, 0, 0]);
  t.same(told(), [group.key]);
  cache.pods.upsert(decode(group.leader({ priority: 1 })));
  t.equal(gpus('a'), 0, 'stay through other changes of the leader');
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'])))));
  t.same(['a', 'b', 'c'].map(gpus), [0, 0, 0], 'and are replaced by what is seen');
  told();
  cache.forgetPlan(leader);
  t.same(['a', 'b', 'c'].map(gpus), [0, 0, 0], 'to forget one that was seen changes nothing');
  t.same(told(), []);
  cache.assumePlan(leader, planOf(['a', 'd', 'c'], 2));
  t.same(['b', 'd'].map(gpus), [8, 0], 'a new generation moves a seat');
  t.same(told(), [group.key, 'room'].sort());
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'], 1)))));
  t.same(['b', 'd'].map(gpus), [8, 0], 'which the older one, seen late, does not undo');
  cache.forgetPlan(leader);
  t.same(['b', 'd'].map(gpus), [0, 8], 'a failed write does');
  t.equal(cache.group(group.key)?.plan?.generation, 1);
  cache.pods.remove(leader);
  cache.assumePlan(leader, planOf(['a', 'b', 'c']));
  t.same(['a', 'b', 'c'].map(gpus), [8, 8, 8], 'nothing is held for a leader that has gone');
});

t.test('single pods that are pinned', async t => {
  const { cache, told, gpus } = watched();
  const single = (more: Partial<PodParts> = {}) => decode(podOf({ name: 's', gpu: 2, ...more }));
  cache.pods.upsert(single({ gated: true }));
  t.same(told(), ['uid-serving-s']);
  cache.assumePin(single(), 'a');
  t.equal(gpus('a'), 6);
  cache.forgetPin(single());
  t.equal(gpus('a'), 8);
  t.same(told(), ['room', 'uid-serving-s']);
  cache.assumePin(single(), 'a');
  cache.pods.upsert(single({ pinnedTo: 'a' }));
  t.equal(gpus('a'), 6);
  t.same(told(), ['uid-serving-s'], 'it must be heard of when its gate goes');
  cache.pods.upsert(single({ pinnedTo: 'a', node: 'a' }));
  t.equal(gpus('a'), 6);
  t.equal(told().includes('room'), false);
  cache.pods.remove(single());
  t.equal(gpus('a'), 8);
  cache.pods.upsert(single({ pinnedTo: 'b' }));
  told();
  cache.pods.upsert(single({ pinnedTo: 'b', terminating: true }));
  t.equal(gpus('b'), 8, 'an unbound one that is going needs no place');
  t.same(told(), ['room', 'uid-serving-s']);
  cache.pods.remove(single());
  cache.assumePin(single(), 'c');
  t.equal(gpus('c'), 8, 'nor does one that has gone');
  t.equal(cache.snapshot().nodes.length, 4);
});

t.test('members seen before what they belong to', async t => {
  const { cache, gpus } = watched();
  addWorkers(cache, [1], { gated: false, pinnedTo: 'b' });
  t.equal(cache.group(group.key)?.leader, undefined);
  t.equal(gpus('b'), 0, 'a pinned worker holds its node by itself');
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'])))));
  t.equal(cache.group(group.key)?.others.length, 1, 'a worker whose StatefulSet is not known cannot be told');
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  t.same([...(cache.group(group.key)?.members.keys() ?? [])], [0, 1]);
  t.same(['a', 'b', 'c'].map(gpus), [0, 0, 0], 'and takes its seat, once');
  cache.statefulSets.remove(decodeStatefulSet(group.workerSet()));
  t.equal(cache.group(group.key)?.others.length, 1);
});

t.test('an old incarnation that is still there', async t => {
  const { cache, gpus } = watched();
  cache.statefulSets.replace([1, 2].map(incarnation => decodeStatefulSet(group.workerSet(incarnation))));
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c']), { node: 'a' }))));
  addWorkers(cache, [1, 2], { gated: false, node: 'b' });
  cache.pods.remove(decode(group.leader()));
  cache.pods.upsert(decode(group.leader({ createdAt: '2026-01-01T00:01:00Z', uid: group.leaderUid(2) }, 2)));
  const view = cache.group(group.key);
  t.equal(view?.leader?.uid, group.leaderUid(2));
  t.same([...(view?.members.keys() ?? [])], [0], 'its workers are not the new leader’s');
  t.same(view?.others.map(({ name }) => name).sort(), ['llm-0-1', 'llm-0-2']);
  t.equal(view?.plan, undefined);
  t.equal(gpus('b'), -8, 'but use what they use');
  addWorkers(cache, [1], {}, 2);
  t.same([...(cache.group(group.key)?.members.keys() ?? [])], [0, 1]);
  const plan = planOf(['a', 'b', 'c'], 1, 1);
  cache.pods.upsert(decode(group.leader({ ...carrying(plan), uid: group.leaderUid(2) }, 2)));
  t.equal(cache.group(group.key)?.plan, undefined, 'a plan of the old leader means nothing on the new one');
});

t.test('two leaders of one group: the younger counts', async t => {
  const { cache, gpus } = watched();
  const old = carrying(planOf(['a', 'b', 'c']), { terminating: true, node: 'a' });
  cache.pods.upsert(decode(group.leader(old)));
  t.equal(cache.group(group.key)?.leader, undefined, 'one that is going leads no more');
  t.same(['a', 'b', 'c'].map(gpus), [0, 8, 8]);
  cache.pods.upsert(decode(group.leader({ uid: group.leaderUid(2) }, 2)));
  t.equal(cache.group(group.key)?.leader?.uid, group.leaderUid(2));
  t.equal(cache.group(group.key)?.others.length, 1);
});

t.test('a labelled group of the name of an LWS leader does not mix with it', async t => {
  const { cache } = watched();
  cache.pods.upsert(decode(group.leader()));
  const stranger = labelledPod(3, 1, { labels: { [berth.group]: 'llm-0' } });
  cache.pods.upsert(
    decode({ ...stranger, metadata: { ...stranger.metadata, creationTimestamp: '2025-01-01T00:00:00Z' } }),
  );
  t.same([...(cache.group(group.key)?.members.keys() ?? [])], [0]);
});

t.test('a labelled pod that changes its group', async t => {
  const { cache, told } = watched();
  cache.pods.upsert(decode(labelledPod(2, 0, {})));
  cache.pods.upsert(decode(labelledPod(2, 1, {})));
  told();
  const moved = labelledPod(2, 1, { labels: { [berth.group]: 'h' } });
  cache.pods.upsert(decode(moved));
  t.same(told(), ['serving/g', 'serving/h']);
  t.same([...cache.groupKeys()], ['serving/g', 'serving/h']);
  t.equal(cache.group('serving/g')?.members.size, 1);
  cache.pods.remove(decode(moved));
  t.same([...cache.groupKeys()], ['serving/g']);
  t.equal(cache.group('serving/h'), undefined);
});

t.test('a relist says what is gone', async t => {
  const { cache, told, gpus } = watched();
  const pods = ['p', 'q', 'r'].map(name => podOf({ name, gpu: 1, node: 'a' }));
  cache.pods.replace(pods.map(decode));
  t.equal(gpus('a'), 5);
  cache.pods.upsert(decode(group.leader(carrying(planOf(['b', 'c', 'd'])))));
  told();
  cache.pods.replace(pods.slice(1).map(decode));
  t.equal(gpus('a'), 6);
  t.equal(gpus('b'), 8, 'holds too');
  t.same(told(), ['room', group.key]);
  cache.pods.replace(pods.slice(1).map(decode));
  t.same(told(), [], 'the same once more is no news');
  const renewed = podOf({ name: 'q', uid: 'another', gpu: 4, node: 'a' });
  cache.pods.replace([renewed].map(decode));
  t.equal(gpus('a'), 4, 'a pod of the same name is another one');
});

t.test('nodes that come, go and change', async t => {
  const { cache, told, gpus } = watched();
  const [first] = fleet.nodes;
  if (first === undefined) throw new Error('no node');
  cache.pods.upsert(decode(podOf({ name: 'p', gpu: 3, node: 'a' })));
  cache.pods.upsert(decode(podOf({ name: 's', gpu: 1, pinnedTo: 'a' })));
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'])))));
  told();
  const tree = cache.snapshot().tree;
  const snapshot = cache.snapshot();
  cache.nodes.upsert(decodeNode({ ...first, metadata: { ...first.metadata, resourceVersion: '99' } }));
  t.equal(cache.snapshot(), snapshot, 'a heartbeat is no change');
  t.same(told(), []);
  cache.nodes.upsert(decodeNode({ ...first, spec: { unschedulable: true } }));
  t.same(
    told(),
    ['a', 'room', group.key, 'uid-serving-s'].sort(),
    'who waits to be bound there must hear of it',
  );
  t.equal(cache.snapshot().tree, tree, 'the tree is the same as long as no node moves');
  t.not(cache.snapshot(), snapshot);
  cache.nodes.remove(decodeNode(first));
  t.equal(cache.nodeInfo('a'), undefined);
  t.same(told(), ['a', group.key, 'uid-serving-s'].sort());
  t.same(cache.snapshot().tree.nodeNames, ['b', 'c', 'd']);
  t.equal(cache.snapshot().nodes.length, 3);
  cache.nodes.upsert(decodeNode(first));
  t.equal(gpus('a'), 8 - 3 - 1 - 8, 'its pods and holds are still known');
  const moved = { ...first, metadata: { ...first.metadata, labels: { [labelOf('rack')]: 'r1' } } };
  cache.nodes.upsert(decodeNode(moved));
  t.same(cache.snapshot().tree.nodeNames, ['b', 'a', 'c', 'd']);
  t.equal(cache.snapshot().nodes.at(1)?.record.name, 'a', 'nodes stand where the tree says');
});

t.test('the cluster as if a group were not there', async t => {
  const { cache } = watched();
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c']), { node: 'a' }))));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  addWorkers(cache, [1], { gated: false, node: 'b' });
  cache.pods.upsert(decode(podOf({ name: 'stays', gpu: 2, node: 'd' })));
  const free = (snapshot = cache.snapshot()) => [...snapshot.nodes].map(node => node.free.get(gpuName));
  t.same(free(), [0, 0, 0, 6], 'two bound members, one held seat, a stranger');
  const own = new Set(cache.group(group.key)?.members.values());
  t.same(free(cache.snapshotWithout(own)), [8, 8, 8, 6]);
  t.same(free(), [0, 0, 0, 6], 'the cluster itself is as it was');
  t.same(
    [...cache.snapshotWithout(own).existingPods()].length,
    1,
    'its pods repel and attract nobody any more',
  );
});

t.test('a place reserved for a group that is being remade is room for that group alone', async t => {
  const { cache, gpus } = watched();
  const eight = new Map([[gpuName, 8]]);
  cache.reservePlace(
    group.key,
    ['c', 'd'].map(node => ({ node, requests: eight })),
  );
  t.same([gpus('c'), gpus('d')], [0, 0]);
  t.same(
    [...cache.snapshotFor(group.key).nodes].map(node => node.free.get(gpuName)),
    [8, 8, 8, 8],
  );
  t.equal(cache.snapshotFor('serving/other'), cache.snapshot(), 'others see it taken');
  t.same([...cache.heldNodes()].sort(), ['c', 'd']);
  const leader = decode(group.leader());
  cache.pods.upsert(leader);
  cache.assumePlan(leader, planOf(['a', 'b', 'c']));
  t.same(['a', 'b', 'c', 'd'].map(gpus), [0, 0, 0, 8], 'it ends when the next plan stands');
  cache.reservePlace(group.key, [{ node: 'd', requests: eight }]);
  cache.reservePlace(group.key, []);
  t.equal(gpus('d'), 8, 'or when it is given up');
});

t.test('places reserved for different purposes are kept beside each other', async t => {
  const { cache, gpus } = watched();
  const eight = new Map([[gpuName, 8]]);
  cache.reservePlace(group.key, [{ node: 'c', requests: eight }]);
  cache.reservePlace(group.key, [{ node: 'd', requests: eight }], 'preemption');
  t.same([gpus('c'), gpus('d')], [0, 0]);
  t.same(
    [...cache.snapshotFor(group.key).nodes].map(node => node.free.get(gpuName)),
    [8, 8, 8, 8],
    'the group sees neither',
  );
  cache.reservePlace(group.key, []);
  t.same([gpus('c'), gpus('d')], [8, 0]);
  const leader = decode(group.leader());
  cache.pods.upsert(leader);
  cache.assumePlan(leader, planOf(['a', 'b', 'c']));
  t.equal(gpus('d'), 8, 'a plan ends all');
});

t.test('nodes that no plan may use', async t => {
  const { cache, told } = watched();
  const eight = new Map([[gpuName, 8]]);
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'])))));
  told();
  cache.setExcludedNodes(new Map([['b', 'a device is unhealthy']]));
  t.same(told(), ['room', group.key].sort(), 'who waits to be bound there hears of it');
  t.equal(cache.fitsSeat(group.key, 1, 'b', eight, undefined), false);
  cache.setExcludedNodes(new Map([['b', 'said in other words']]));
  t.same(told(), [], 'other words are no change');
  cache.setExcludedNodes(new Map());
  t.same(told(), ['room', group.key].sort());
  t.equal(cache.fitsSeat(group.key, 1, 'b', eight, undefined), true);
});

t.test('where a pod is to go', async t => {
  const { cache } = watched();
  const leader = decode(group.leader(carrying(planOf(['a', 'b', 'c']))));
  cache.pods.upsert(leader);
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  addWorkers(cache, [1, 2], { gated: false });
  const seats = [...(cache.group(group.key)?.members.values() ?? [])].map(pod => cache.plannedNode(pod));
  t.same(seats, ['a', 'b', 'c'], 'the seats of a plan, pinned or not');
  const pinned = decode(podOf({ name: 'pinned', gpu: 1, pinnedTo: 'd' }));
  cache.pods.upsert(pinned);
  t.equal(cache.plannedNode(pinned), 'd', 'a pin');
  const free = decode(podOf({ name: 'free', gpu: 1 }));
  cache.pods.upsert(free);
  t.equal(cache.plannedNode(free), undefined);
  cache.assumePin(free, 'd');
  t.equal(cache.plannedNode(free), 'd', 'a pin that is on its way');
});

t.test('pods of a node are known while the Node itself is gone', async t => {
  const { cache } = watched();
  const [first] = fleet.nodes;
  if (first === undefined) throw new Error('no node');
  cache.pods.upsert(decode(podOf({ name: 'p', gpu: 3, node: 'a' })));
  cache.pods.upsert(decode(podOf({ name: 'ended', gpu: 3, node: 'a', phase: 'Failed' })));
  cache.nodes.remove(decodeNode(first));
  t.same(
    [...cache.podsOn('a')].map(pod => pod.name),
    ['p'],
  );
  t.same([...cache.podsOn('b')], []);
});

t.test('disruption budgets by namespace', async t => {
  const { cache } = watched();
  const budget = (namespace: string, name: string, status: object = {}) =>
    decodeDisruptionBudget({
      metadata: { uid: `${namespace}/${name}`, namespace, name, generation: 2 },
      status,
    });
  cache.podDisruptionBudgets.replace([budget('serving', 'b'), budget('others', 'c')]);
  cache.podDisruptionBudgets.upsert(budget('serving', 'b', { disruptionsAllowed: 3, observedGeneration: 2 }));
  t.match(cache.disruptionBudgets('serving'), [{ name: 'b', disruptionsAllowed: 3, upToDate: true }]);
  t.match(cache.disruptionBudgets('others'), [{ disruptionsAllowed: 0, upToDate: false }]);
  cache.podDisruptionBudgets.remove(budget('serving', 'b'));
  t.same(cache.disruptionBudgets('serving'), []);
});

t.test('a seat is free for its own member', async t => {
  const { cache } = watched();
  cache.pods.upsert(decode(group.leader(carrying(planOf(['a', 'b', 'c'])))));
  const eight = new Map([[gpuName, 8]]);
  t.equal(cache.fitsSeat(group.key, 1, 'b', eight, undefined), true);
  t.equal(cache.fitsSeat(group.key, 2, 'b', eight, undefined), false, 'not for another');
  t.equal(cache.fitsSeat('serving/x', 1, 'b', eight, undefined), false);
  t.equal(cache.fitsSeat(group.key, 1, 'gone', eight, undefined), false);
  const sick = { key: 'sick', effect: 'NoExecute' } as const;
  for (const node of fleet.nodes.filter(({ metadata }) => metadata.name === 'b'))
    cache.nodes.upsert(decodeNode({ ...node, spec: { taints: [sick] } }));
  t.equal(cache.fitsSeat(group.key, 1, 'b', eight, undefined), false, 'tainted');
  t.equal(cache.fitsSeat(group.key, 1, 'b', eight, [{ operator: 'Exists' }]), true, 'and tolerated');
  cache.nodes.replace(fleet.nodes.map(decodeNode));
  cache.pods.upsert(decode(podOf({ name: 'thief', gpu: 1, node: 'b' })));
  t.equal(cache.fitsSeat(group.key, 1, 'b', eight, undefined), false, 'a stranger has come');
});

t.test('the largest worker seen', async t => {
  const { cache } = watched();
  const seen = () => cache.largestWorker('serving', 'llm', 'r1');
  cache.pods.upsert(decode(group.leader({ cpu: 99 })));
  t.equal(seen(), undefined, 'leaders do not count');
  addWorkers(cache, [1], { cpu: 3 });
  addWorkers(cache, [2], { cpu: 2, memoryGi: 1 });
  t.same(Object.fromEntries(seen() ?? []), { cpu: 3000, memory: 2 ** 30, [gpuName]: 8, pods: 1 });
  addWorkers(cache, [1, 2], { phase: 'Failed' });
  t.equal(seen()?.get('cpu'), 3000, 'is remembered when it ends');
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.leaderWorkerSets.remove(decodeLeaderWorkerSet(group.owner()));
  t.equal(seen(), undefined, 'until its owner goes');
  cache.pods.upsert(decode(labelledPod(2, 1, { cpu: 1 })));
  t.equal(cache.largestWorker('serving', 'g', ''), undefined, 'labelled groups have no templates');
});

t.test('owners and namespaces tell the groups they concern', async t => {
  const { cache, told } = watched();
  cache.pods.upsert(decode(group.leader()));
  cache.pods.upsert(decode(new LwsGroup({ name: 'other', size: 2, worker: {} }).leader()));
  cache.pods.upsert(decode(podOf({ name: 's', gated: true })));
  cache.pods.upsert(decode(podOf({ name: 'free', namespace: 'elsewhere', gated: true })));
  told();
  const owner: LeaderWorkerSet = group.owner();
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(owner));
  t.same(told(), [group.key]);
  cache.leaderWorkerSets.upsert(
    decodeLeaderWorkerSet({ ...owner, metadata: { ...owner.metadata, resourceVersion: '7' } }),
  );
  t.same(told(), [], 'a new status is no change');
  cache.leaderWorkerSets.replace([]);
  t.same(told(), [group.key]);
  const namespace = (mode: string) =>
    decodeNamespace({ metadata: { name: 'serving', labels: { [berth.mode]: mode } } });
  cache.namespaces.upsert(namespace('pin'));
  t.same(told(), [group.key, 'serving/other-0', 'uid-serving-s'].sort());
  cache.namespaces.upsert(namespace('pin'));
  t.same(told(), []);
  cache.namespaces.remove(namespace('pin'));
  t.same(told(), [group.key, 'serving/other-0', 'uid-serving-s'].sort());
  t.equal(cache.namespace('serving'), undefined);
  t.same(cache.counts(), {
    pods: 4,
    nodes: 4,
    namespaces: 0,
    leaderworkersets: 0,
    statefulsets: 0,
    resourceslices: 0,
    resourceclaims: 0,
  });
});

t.test('who is told sees the change as a whole', async t => {
  const { cache } = watched();
  const seen: string[] = [];
  cache.subscribe(() => {
    const members = cache.group(group.key)?.members.size ?? 0;
    seen.push(`${members} members, ${cache.snapshot().nodes.at(0)?.free.get(gpuName)} free on a`);
  });
  cache.pods.upsert(decode(group.leader({ node: 'a', gated: false })));
  t.same(seen.splice(0), ['1 members, 0 free on a']);
  cache.pods.remove(decode(group.leader()));
  t.same(seen, ['0 members, 8 free on a', '0 members, 8 free on a']);
});

t.test('pods that inter-pod terms see', async t => {
  const { cache } = watched();
  const away = {
    podAntiAffinity: {
      [requiredDuringScheduling]: [
        { topologyKey: k8s.hostname, labelSelector: { matchLabels: { app: 'x' } } },
      ],
    },
  };
  const where = (pods: Iterable<{ labels: object; nodeLabels: Readonly<Record<string, string>> }>) =>
    [...pods].map(({ nodeLabels }) => nodeLabels[k8s.hostname]).sort();
  const exclusive = new LwsGroup({ size: 2, worker: { gpu: 8 }, exclusive: labelOf('rack') });
  const leader = decode(exclusive.leader());
  cache.pods.upsert(leader);
  cache.pods.upsert(decode(podOf({ name: 'bound', node: 'b', affinity: away })));
  cache.pods.upsert(decode(podOf({ name: 'plain', node: 'b' })));
  cache.pods.upsert(decode(podOf({ name: 'ended', node: 'b', affinity: away, phase: 'Succeeded' })));
  cache.pods.upsert(decode(podOf({ name: 'lost', node: 'no-such-node', affinity: away })));
  t.same(where(cache.snapshot().existingPods()), ['b', 'b'], 'those with a node');
  t.same(where(cache.snapshot().repellingPods()), ['b']);
  cache.assumePlan(leader, planOf(['c', 'd']));
  t.same(where(cache.snapshot().repellingPods()), ['b', 'c'], 'and planned ones at their seat');
  const bound = decode(podOf({ name: 'bound', node: 'b', affinity: away }));
  cache.pods.upsert(bound);
  cache.pods.upsert(bound);
  t.same(where(cache.snapshot().repellingPods()), ['b', 'c'], 'the same record seen twice is still there');
});

t.test('a large cluster is taken in', async t => {
  const cache = new ClusterCache({ levels: fleet.levels });
  const share = podShare();
  const before = heapMiB();
  const startedMs = performance.now();
  const nodeNames = Array.from({ length: 5_000 }, (_, i) => `node-${i}`);
  cache.nodes.replace(
    nodeNames.map((name, i) =>
      decodeNode(nodeOf({ name, gpu: 8, labels: { [labelOf('rack')]: `r${i >> 4}` } })),
    ),
  );
  const pods: PodInfo[] = [];
  for (let i = 0; i < 50_000; i++) {
    const node = nodeNames[i % nodeNames.length] ?? '';
    const pod: Pod = podOf({
      name: `pod-${i}`,
      gpu: i % 10 === 0 ? 1 : 0,
      cpu: 1,
      node,
      labels: { app: `a${i % 50}` },
    });
    pods.push(decodePod(pod, share));
  }
  cache.pods.replace(pods);
  const ingestedMs = performance.now();
  const snapshot = cache.snapshot();
  const doneMs = performance.now();
  t.equal(snapshot.nodes.length, 5_000);
  t.equal(snapshot.nodes.at(0)?.free.get('cpu'), 54_000);
  t.comment(
    `50,000 pods and 5,000 nodes: ${Math.round(ingestedMs - startedMs)} ms with building them, first snapshot ` +
      `${Math.round(doneMs - ingestedMs)} ms, heap grew by ${Math.round(heapMiB() - before)} MiB`,
  );
});

function heapMiB(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / 2 ** 20;
}
