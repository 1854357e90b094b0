import fc from 'fast-check';
import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { unitsOf } from '../../../src/cache/units.ts';
import { decodeDisruptionBudget } from '../../../src/group/disruption-budget.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { release, type Unit } from '../../../src/planner/release.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { controlledBy, gpuName, type PodParts, podOf } from '../../builders/pods.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8
    - d gpu=8
`);

const parts: LwsParts = { size: 3, worker: { gpu: 4 } };
const group = new LwsGroup(parts);

/** A leader with a plan in force, as Berth writes it. */
function planned(nodes: readonly string[], more: Partial<PodParts> = {}, of = group, incarnation = 1): Pod {
  const leaderUid = of.leaderUid(incarnation);
  const requests = nodes.map(
    () =>
      new Map([
        [gpuName, 4],
        ['pods', 1],
      ]),
  );
  const plan = formatPlanAnnotation({ leaderUid, generation: 1, nodes, requests });
  const [first = ''] = nodes;
  return of.leader(
    {
      gated: false,
      annotations: { [berth.plan]: plan },
      ...(more.node === undefined && { pinnedTo: first }),
      ...more,
    },
    incarnation,
  );
}

function cacheWith(pods: readonly Pod[], mode = 'pin'): ClusterCache {
  const cache = cacheOf(fleet);
  const labels = mode === '' ? {} : { [berth.mode]: mode };
  cache.namespaces.replace([decodeNamespace({ metadata: { name: 'serving', labels } })]);
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  cache.pods.replace(pods.map(decode));
  return cache;
}

/** `key state: node/gpus (node/gpus)`, what is held in brackets. */
function lineOf({ key, state, whole, uses }: Unit): string {
  const told = uses.map(({ node, bound, use }) => {
    const words = `${node}/${use.requests.get(gpuName) ?? 0}`;
    return bound ? words : `(${words})`;
  });
  return `${key} ${state}${whole ? '' : ' in part'}: ${told.sort().join(' ')}`;
}

function linesOf(cache: ClusterCache): readonly string[] {
  return unitsOf(cache).map(lineOf).sort();
}

const key = group.key;

t.test('a group is one unit with all that it uses and holds', async t => {
  const cases: readonly [string, readonly Pod[], readonly string[]][] = [
    [
      'bound members',
      [
        planned(['a', 'a', 'b'], { node: 'a' }),
        group.worker(1, { node: 'a' }),
        group.worker(2, { node: 'b' }),
      ],
      [`${key} stays: a/4 a/4 b/4`],
    ],
    [
      'seats of members that are not there yet, and of one that is pinned',
      [planned(['a', 'a', 'b'], { node: 'a' }), group.worker(1, { gated: false, pinnedTo: 'a' })],
      [`${key} stays: (a/4) (b/4) a/4`],
    ],
    ['a plan of which nothing is bound', [planned(['c', 'c', 'd'])], [`${key} stays: (c/4) (c/4) (d/4)`]],
    ['a group without a plan takes nothing', [group.leader()], [`${key} stays: `]],
    [
      'a member that leaves goes by itself, the others stay',
      [
        planned(['a', 'a', 'b'], { node: 'a' }),
        group.worker(1, { node: 'a' }),
        group.worker(2, { node: 'b', terminating: true }),
      ],
      [`${key} going in part: b/4`, `${key} stays: a/4 a/4`],
    ],
    [
      'with its leader the whole group goes',
      [
        planned(['a', 'a', 'b'], { node: 'a', terminating: true }),
        group.worker(1, { node: 'a' }),
        group.worker(2, { node: 'b', terminating: true }),
      ],
      [`${key} going: a/4 a/4 b/4`],
    ],
    [
      'workers that a former leader has left behind go, too',
      [group.leader({}, 2), group.worker(1, { node: 'a' }), group.worker(2, { node: 'b' })],
      [`${key} going in part: a/4 b/4`, `${key} stays: `],
    ],
  ];
  for (const [name, pods, lines] of cases) t.same(linesOf(cacheWith(pods)), lines, name);
});

t.test('a worker of which the leader cannot be told is no unit', async t => {
  const cache = cacheWith([group.leader({}, 2), group.worker(1, { node: 'a' }, 3)]);
  t.same(linesOf(cache), [`${key} stays: `]);
});

t.test('pods outside groups', async t => {
  const daemon = podOf({ name: 'daemon', node: 'a', gpu: 1, owner: controlledBy('DaemonSet', 'd', 'uid-d') });
  const back = podOf({
    name: 'comes-back',
    node: 'a',
    gpu: 1,
    terminating: true,
    owner: controlledBy('DaemonSet', 'd', 'u'),
  });
  const foreign = { ...podOf({ name: 'foreign', node: 'a', gpu: 1 }) };
  const cache = cacheWith([
    podOf({ name: 'bound', node: 'a', gpu: 1 }),
    podOf({ name: 'pinned', pinnedTo: 'b', gpu: 2 }),
    podOf({ name: 'waits', gated: true, gpu: 2 }),
    podOf({ name: 'done', node: 'a', gpu: 1, phase: 'Succeeded' }),
    podOf({ name: 'leaves', node: 'a', gpu: 1, terminating: true }),
    daemon,
    back,
    { ...foreign, spec: { ...foreign.spec, schedulerName: 'other' } },
  ]);
  t.same(linesOf(cache), [
    'serving/bound stays: a/1',
    'serving/leaves going: a/1',
    'serving/pinned stays: (b/2)',
  ]);
});

t.test('who may be taken', async t => {
  const pods = [planned(['a', 'a', 'b'], { node: 'a' }), podOf({ name: 'single', node: 'c' })];
  const whyOf = (cache: ClusterCache) => unitsOf(cache).map(unit => unit.whyKept);
  t.same(whyOf(cacheWith(pods)), [undefined, undefined]);
  t.same(whyOf(cacheWith(pods, 'extender')), [undefined, undefined]);
  const notPlaced = ['Berth does not place this group', 'its namespace has not opted in'];
  t.same(whyOf(cacheWith(pods, '')), notPlaced);
  t.same(whyOf(cacheWith(pods, 'observe')), notPlaced);
  const observed = planned(['a', 'a', 'b'], { node: 'a' });
  const annotations = { ...observed.metadata.annotations, [berth.mode]: 'observe' };
  t.same(whyOf(cacheWith([{ ...observed, metadata: { ...observed.metadata, annotations } }])), [
    'Berth does not place this group',
  ]);
  t.same(whyOf(cacheWith([labelledPod(1, 0, { gpu: 1 })])), [
    'only groups of a LeaderWorkerSet can be evicted whole',
  ]);
  const claims = podOf({ name: 'odd', node: 'a', labels: { [berth.group]: 'g' } });
  t.same(whyOf(cacheWith([claims])), ['it claims to be in a group that cannot be read']);
});

t.test('a group that Berth would not place again is kept', async t => {
  const plain = new LwsGroup({ name: 'web', size: 1, worker: { cpu: 1 } });
  const cache = cacheWith([plain.leader({ node: 'a', gated: false })]);
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(plain.owner()));
  t.same(
    unitsOf(cache).map(unit => unit.whyKept),
    ['Berth does not place this group: no-accelerator'],
  );
  const foreign = group.leader({ node: 'a' });
  const elsewhere = { ...foreign, spec: { ...foreign.spec, schedulerName: 'other' } };
  t.same(
    unitsOf(cacheWith([elsewhere])).map(unit => unit.whyKept),
    ['another owns its place: other'],
  );
});

t.test('priority, pods, owner and budgets', async t => {
  const ready = (pod: Pod): Pod => ({
    ...pod,
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  });
  const cache = cacheWith([
    ready(planned(['a', 'a', 'b'], { node: 'a', priority: 5, labels: { app: 'llm' } })),
    ready(group.worker(1, { node: 'a', priority: 7 })),
  ]);
  const facts = { key, kind: 'group', owner: 'serving/llm', priority: 7, pods: 2 };
  t.match(unitsOf(cache), [{ ...facts, budgetsForbid: undefined }]);
  cache.podDisruptionBudgets.upsert(
    decodeDisruptionBudget({
      metadata: { name: 'llm', namespace: 'serving', uid: 'uid-pdb', generation: 1 },
      spec: { selector: { matchLabels: { app: 'llm' } } },
      status: { disruptionsAllowed: 0, observedGeneration: 1 },
    }),
  );
  t.match(unitsOf(cache), [{ ...facts, budgetsForbid: /^PodDisruptionBudget llm does not allow/ }]);
});

t.test('a snapshot without all units equals one with nothing but what is no unit', async t => {
  const member = fc.record({
    at: fc.constantFrom('a', 'b', 'c', 'd'),
    as: fc.constantFrom('bound', 'absent', 'gated'),
  });
  fc.assert(
    fc.property(fc.array(member, { minLength: 3, maxLength: 3 }), fc.nat(2), (members, singles) => {
      const nodes = members.map(({ at }) => at);
      const [leader] = members;
      const pods = members.flatMap(({ at, as }, rank) => {
        if (rank === 0) return [planned(nodes, leader?.as === 'bound' ? { node: at } : {})];
        if (as === 'absent') return [];
        return [group.worker(rank, as === 'bound' ? { node: at, gated: false } : {})];
      });
      const others = Array.from({ length: singles }, (_, i) => podOf({ name: `s${i}`, node: 'd', gpu: 1 }));
      const cache = cacheWith([...pods, ...others]);
      const topology = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };
      const input = { demands: [], topology, snapshot: cache.snapshot(), memo: new FitMemo() };
      const { snapshot } = release(input, { units: unitsOf(cache), nodes: [] });
      for (const node of snapshot.nodes) {
        t.equal(node.free.get(gpuName), 8);
        t.equal(node.freeOfPods.get(gpuName), 8);
        t.equal(node.untouched, true);
      }
      t.same([...snapshot.existingPods()], []);
    }),
    { numRuns: 200 },
  );
});
