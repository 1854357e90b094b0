import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { isInvalidRequest } from '../../../src/extender/invalid-request.ts';
import { readPod } from '../../../src/extender/request-pod.ts';
import { refuses, sentences, type Verdict, verdictFor } from '../../../src/extender/verdict.ts';
import type { PlacementMode } from '../../../src/group/owner.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { controlledBy, type PodParts, podOf } from '../../builders/pods.ts';
import { addOwner, planned, planOf, setMode, worldIn } from './world.ts';

const group = new LwsGroup({ size: 3, worker: { gpu: 8 } });
const free: Partial<PodParts> = { gated: false };

/** In a few words, with the sentence checked. */
function verdictOf(cache: ClusterCache, pod: Pod): string {
  const info = readPod(JSON.parse(JSON.stringify(pod)), 'Pod');
  if (isInvalidRequest(info)) throw new Error(info.message);
  return describe(verdictFor(cache, info));
}

function describe(verdict: Verdict): string {
  switch (verdict.kind) {
    case 'anywhere':
      return 'anywhere';
    case 'only':
      t.equal(verdict.sentence, sentences.only);
      return `only ${verdict.node}`;
    case 'none':
      t.equal(verdict.sentence, sentences[verdict.cause]);
      return `none: ${verdict.cause}`;
    case 'except':
      t.equal(verdict.sentence, sentences.except);
      return `except ${[...verdict.nodes].sort().join(' ')}`;
  }
}

/** The group's leader carries a plan onto a, b and c, and two workers are there. */
function plannedWorld(mode: PlacementMode | undefined, more: Partial<PodParts> = free) {
  const leader = group.leader({ ...more, annotations: planned(group.leaderUid(), ['a', 'b', 'c']) });
  const workers = [1, 2].map(rank => group.worker(rank, more));
  const cache = worldIn(mode, [leader, ...workers]);
  addOwner(cache, group);
  return { cache, leader, workers };
}

t.test('pods without accelerators in no group may go anywhere, whatever is held or excluded', async t => {
  const { cache } = plannedWorld('extender');
  cache.setExcludedNodes(new Map([['d', 'its devices fail']]));
  t.equal(verdictOf(cache, podOf({ name: 'p', cpu: 4 })), 'anywhere');
  const daemon = podOf({ name: 'p', cpu: 1, pinnedTo: 'd', owner: controlledBy('DaemonSet', 'ds', 'u') });
  t.equal(verdictOf(cache, daemon), 'anywhere');
});

t.test('in mode extender members may go only where the plan says', async t => {
  const { cache, leader, workers } = plannedWorld('extender');
  t.same(
    [leader, ...workers].map(pod => verdictOf(cache, pod)),
    ['only a', 'only b', 'only c'],
  );
});

t.test(
  'a plan counts as soon as it is written, before the watch shows it, and not while it may be lost',
  async t => {
    const leader = group.leader(free);
    const cache = worldIn('extender', [leader]);
    addOwner(cache, group);
    t.equal(verdictOf(cache, leader), 'none: unplanned');
    const plan = planOf(group.leaderUid(), ['d', 'c', 'b']);
    cache.assumePlan(decode(leader), plan);
    t.equal(verdictOf(cache, leader), 'none: unplanned', 'it is on its way to the API server');
    cache.confirmPlan(decode(leader), planOf(group.leaderUid(), ['d', 'c', 'b']));
    t.equal(verdictOf(cache, leader), 'none: unplanned', 'another plan was written');
    cache.confirmPlan(decode(leader), plan);
    t.equal(verdictOf(cache, leader), 'only d');
  },
);

t.test('in mode extender members wait for a plan, in every other mode nobody is held up', async t => {
  const wants: readonly (readonly [PlacementMode | undefined, string])[] = [
    ['extender', 'none: unplanned'],
    ['pin', 'anywhere'],
    ['pin-extender', 'anywhere'],
    ['observe', 'anywhere'],
    [undefined, 'anywhere'],
  ];
  for (const [mode, want] of wants) {
    const leader = group.leader(free);
    const cache = worldIn(mode, [leader]);
    addOwner(cache, group);
    t.equal(verdictOf(cache, leader), want, `${mode}`);
    t.equal(verdictOf(cache, group.worker(1, free)), want, `${mode}, a worker not seen yet`);
  }
});

t.test('a member of which the cache has not seen anything waits', async t => {
  const cache = worldIn('extender');
  t.equal(verdictOf(cache, group.leader(free)), 'none: unplanned');
  t.equal(verdictOf(cache, group.worker(1, free)), 'none: unplanned');
  t.equal(verdictOf(cache, labelledPod(2, 1, { gpu: 8 })), 'none: unplanned');
  const own = group.leader({ ...free, annotations: { [berth.mode]: 'observe' } });
  t.equal(verdictOf(cache, own), 'anywhere', 'unless it says that it is not ours');
  t.equal(
    verdictOf(cache, podOf({ ...group.leader(free).metadata, name: 'x', namespace: 'new', gpu: 1 })),
    'anywhere',
  );
});

t.test('the mode that a leader asks for holds inside a namespace that has opted in', async t => {
  const annotated = (mode: string) => group.leader({ ...free, annotations: { [berth.mode]: mode } });
  t.equal(verdictOf(worldIn('observe', [annotated('extender')]), annotated('extender')), 'none: unplanned');
  t.equal(verdictOf(worldIn('extender', [annotated('observe')]), annotated('observe')), 'anywhere');
  t.equal(verdictOf(worldIn(undefined, [annotated('extender')]), annotated('extender')), 'anywhere');
});

t.test('a worker that kube-scheduler sees first gets its seat when it is certain', async t => {
  const leader = group.leader({ ...free, annotations: planned(group.leaderUid(), ['a', 'b', 'c']) });
  const cache = worldIn('extender', [leader]);
  const worker = group.worker(1, free);
  t.equal(verdictOf(cache, worker), 'none: unplanned', 'its StatefulSet is not known');
  addOwner(cache, group);
  t.equal(verdictOf(cache, worker), 'only b');
  t.equal(verdictOf(cache, group.worker(1, free, 2)), 'none: unplanned', 'one of another incarnation');
  cache.pods.upsert(decode(worker));
  t.equal(
    verdictOf(cache, { ...worker, metadata: { ...worker.metadata, uid: 'u2' } }),
    'none: unplanned',
    'the seat is taken',
  );
});

t.test('workers of an incarnation that is going get no seat', async t => {
  const leader = group.leader({ ...free, annotations: planned(group.leaderUid(2), ['a', 'b', 'c']) }, 2);
  const old = group.worker(1, free, 1);
  const cache = worldIn('extender', [leader, old]);
  addOwner(cache, group, 1);
  t.equal(verdictOf(cache, old), 'none: unplanned');
});

t.test('a rank that the plan leaves out goes where it can', async t => {
  const leader = group.leader({
    ...free,
    node: 'a',
    annotations: planned(group.leaderUid(), ['a', '', 'c']),
  });
  const worker = group.worker(1, free);
  const cache = worldIn('extender', [leader, worker]);
  addOwner(cache, group);
  t.equal(verdictOf(cache, worker), 'except c');
});

t.test('pinned members may go only to their pin', async t => {
  const { cache } = plannedWorld('pin-extender');
  const pinned = group.worker(1, { ...free, pinnedTo: 'b' });
  t.equal(verdictOf(cache, pinned), 'only b', 'also when the cache has not seen the pin');
  cache.pods.upsert(decode(pinned));
  t.equal(verdictOf(cache, pinned), 'only b');
  const late = group.worker(2, { ...free, pinnedTo: 'd' });
  t.equal(verdictOf(cache, late), 'only d', 'a pin that is not known yet is younger than the plan');
  cache.pods.upsert(decode(late));
  t.equal(verdictOf(cache, late), 'only c', 'a plan that gives it another node makes its pin void');
});

t.test('the last word: a planned node that is excluded or gone is refused', async t => {
  for (const mode of ['pin-extender', 'extender'] as const) {
    const { cache, workers } = plannedWorld(mode, { gated: false, pinnedTo: 'b' });
    const [worker = group.worker(1)] = workers;
    t.equal(verdictOf(cache, worker), 'only b');
    cache.setExcludedNodes(new Map([['b', 'its devices fail']]));
    t.equal(verdictOf(cache, worker), 'none: excluded');
    cache.setExcludedNodes(new Map([['b', 'for another cause']]));
    t.equal(verdictOf(cache, worker), 'none: excluded', 'in the same words');
    cache.setExcludedNodes(new Map());
    t.equal(verdictOf(cache, worker), 'only b');
    const node = cache.node('b');
    if (node !== undefined) cache.nodes.remove(node);
    t.equal(verdictOf(cache, worker), 'none: gone');
  }
});

t.test('groups that Berth does not place are strangers', async t => {
  const extender = worldIn('extender');
  const small = new LwsGroup({ size: 2, worker: { cpu: 1 } });
  const leader = small.leader(free);
  const cache = worldIn('extender', [leader]);
  addOwner(cache, small);
  t.equal(verdictOf(cache, leader), 'anywhere', 'a group without accelerators');
  const queued = group.leader({ ...free, labels: { 'kueue.x-k8s.io/queue-name': 'q' } });
  t.equal(verdictOf(extender, queued), 'anywhere', 'one that a queue system places');
  const behind = worldIn('extender', [queued]);
  addOwner(behind, group);
  t.equal(verdictOf(behind, group.worker(1, free)), 'anywhere', 'and its workers');
  const foreign = group.leader(free);
  const scheduled = { ...foreign, spec: { ...foreign.spec, schedulerName: 'other' } };
  t.equal(verdictOf(extender, scheduled), 'anywhere', 'one of another scheduler');
  const broken = podOf({ name: 'g', gpu: 1, labels: { [berth.group]: 'g' } });
  t.equal(verdictOf(extender, broken), 'anywhere', 'and one that does not say its size');
});

t.test('strangers are kept off the devices that are held, and off nothing else', async t => {
  const { cache } = plannedWorld('extender');
  const single = (gpu: number) => podOf({ name: 's', namespace: 'others', gpu });
  t.equal(verdictOf(cache, single(1)), 'except a b c');
  t.equal(verdictOf(cache, podOf({ name: 's', gpu: 1 })), 'except a b c', 'in an opted-in namespace, too');
  cache.pods.upsert(decode(group.worker(1, { ...free, node: 'b' })));
  t.equal(verdictOf(cache, single(1)), 'except a c', 'a node is nobody’s to hold once its pod is bound');
  cache.setExcludedNodes(new Map([['d', 'its devices fail']]));
  t.equal(verdictOf(cache, single(1)), 'except a c d', 'excluded nodes are kept free of new devices');
  const foreign = podOf({ name: 's', namespace: 'others', gpu: 1 });
  const scheduled = { ...foreign, spec: { ...foreign.spec, schedulerName: 'other' } };
  t.equal(verdictOf(cache, scheduled), 'except a c d', 'those of other schedulers, too');
});

t.test('a stranger may take what the held places leave', async t => {
  const small = new LwsGroup({ size: 1, worker: { gpu: 3 } });
  const leader = small.leader({ ...free, pinnedTo: 'a' });
  const cache = worldIn('pin-extender', [leader, podOf({ name: 'x', gpu: 1, node: 'a' })]);
  const single = (gpu: number) => podOf({ name: 's', namespace: 'others', gpu });
  t.equal(verdictOf(cache, single(4)), 'anywhere');
  t.equal(verdictOf(cache, single(5)), 'except a');
  t.equal(verdictOf(cache, podOf({ name: 's', gpu: 4, cpu: 63 })), 'anywhere', 'CPU is not held');
});

t.test('what is held where a stranger is pinned itself does not keep it off', async t => {
  const { cache } = plannedWorld('extender');
  const daemon = podOf({ name: 'd', gpu: 1, pinnedTo: 'a', owner: controlledBy('DaemonSet', 'ds', 'u') });
  t.equal(verdictOf(cache, daemon), 'except b c');
  cache.pods.upsert(decode(daemon));
  t.equal(verdictOf(cache, daemon), 'except b c');
  cache.setExcludedNodes(new Map([['a', 'its devices fail']]));
  t.equal(verdictOf(cache, daemon), 'except a b c', 'but an excluded node does');
});

t.test('singles that Berth pins may go only there, other pins are not its own', async t => {
  const single = podOf({ name: 's', gpu: 8, pinnedTo: 'b' });
  const cache = worldIn('pin', [single]);
  t.equal(verdictOf(cache, single), 'anywhere');
  setMode(cache, 'serving', 'pin', { [berth.singles]: 'pin' });
  t.equal(verdictOf(cache, single), 'only b');
  cache.setExcludedNodes(new Map([['b', 'its devices fail']]));
  t.equal(verdictOf(cache, single), 'none: excluded');
  t.equal(verdictOf(cache, podOf({ name: 'u', gpu: 8 })), 'except b', 'one that is not pinned is a stranger');
});

t.test('labelled groups are placed like any other', async t => {
  const members = [0, 1].map(rank => ({ ...labelledPod(2, rank, { gpu: 8 }) }));
  const [leader = podOf({ name: 'x' }), worker = podOf({ name: 'x' })] = members;
  const uid = leader.metadata.uid ?? '';
  const cache = worldIn('extender', members);
  t.equal(verdictOf(cache, worker), 'none: unplanned');
  const plan = planOf(uid, ['c', 'd']);
  cache.assumePlan(decode(leader), plan);
  cache.confirmPlan(decode(leader), plan);
  t.same(
    members.map(pod => verdictOf(cache, pod)),
    ['only c', 'only d'],
  );
});

t.test('what a verdict refuses', async t => {
  const sentence = '';
  const refused = (verdict: Verdict) => ['a', 'b'].filter(node => refuses(verdict, node));
  t.same(refused({ kind: 'anywhere' }), []);
  t.same(refused({ kind: 'only', node: 'a', sentence }), ['b']);
  t.same(refused({ kind: 'none', cause: 'gone', sentence }), ['a', 'b']);
  t.same(refused({ kind: 'except', nodes: new Set(['a']), sentence }), ['a']);
});
