import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { FailureWatch } from '../../../src/controller/failure-watch.ts';
import { noClaims } from '../../../src/failure/claim.ts';
import type { Intent } from '../../../src/failure/intent.ts';
import { defaultFailureSettings } from '../../../src/failure/settings.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { decode } from '../../builders/planning.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { intentOf } from '../failure/intents.ts';

function watchOf(cluster: FakeCluster) {
  const cache = cluster.cache();
  let nowMs = 0;
  const watch = new FailureWatch({
    cache,
    settings: { ...defaultFailureSettings, mode: 'cordon' },
    claims: noClaims,
    nowMs: () => nowMs,
    intents: () => [],
  });
  watch.lookAtAll();
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { cache, watch, pass };
}

t.test(
  'a node that refuses three pods within ten minutes is kept off plans, and hurts nobody there',
  async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 8);
    const { cache, watch, pass } = watchOf(cluster);
    const [group] = cluster.groups;
    const [leader] = group === undefined ? [] : cluster.podsOf(group);
    if (group === undefined || leader === undefined) throw new Error('no group');
    const node = 'n0';
    const status = { phase: 'Failed', reason: 'UnexpectedAdmissionError' };
    const refused = (number: number, reason = status.reason): Pod => ({
      ...group.worker(1, { node, gated: false, uid: `refused-${number}` }),
      status: { ...status, reason },
    });
    const take = (pod: Pod) => {
      cache.pods.upsert(decode(pod));
      watch.lookAtGroup(group.key);
      watch.excludeNodes([], 0);
      return [...cache.excludedNodes.keys()];
    };
    t.same(take(refused(1)), []);
    t.same(take(refused(1)), [], 'the same one again');
    t.same(take(refused(2, 'Evicted')), [], 'one that ended otherwise');
    t.same(take(refused(3)), []);
    t.same(take(refused(4)), [node]);
    t.same(watch.evidenceOf(group.leaderUid()), []);
    pass(600_000);
    for (let look = 0; look < 3; look += 1) {
      watch.lookAtAll();
      watch.lookAtGroup(group.key);
    }
    watch.excludeNodes([], 0);
    t.same(
      [...cache.excludedNodes],
      [],
      'after ten minutes without another one, though the pods lie about still',
    );
    for (const number of [1, 3, 4]) cache.pods.remove(decode(refused(number)));
    watch.lookAtAll();
    for (const number of [5, 6]) t.same(take(refused(number)), [], 'what was before does not count');
    t.same(take(refused(7)), [node]);
  },
);

t.test('a node that has failed and come back is used last for a day', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 8);
  const { cache, watch, pass } = watchOf(cluster);
  const lastChoice = (intents: readonly Intent[] = [], wallMs = 0) => {
    for (const name of cluster.nodes.keys()) watch.lookAtNode(name);
    watch.excludeNodes(intents, wallMs);
    return [...cache.lastChoice.nodes].sort();
  };
  const set = (node: string, status: 'True' | 'Unknown') => {
    cluster.setReady(node, status);
    cluster.show(cache);
  };
  t.same(lastChoice(), []);
  set('n1', 'Unknown');
  t.same(lastChoice(), []);
  pass(59_000);
  set('n1', 'True');
  t.same(lastChoice(), [], 'what passed before it counted was no failure');
  set('n1', 'Unknown');
  t.same(lastChoice(), []);
  pass(61_000);
  t.same(lastChoice(), []);
  set('n1', 'True');
  t.same(lastChoice(), ['n1']);
  pass(23 * 3_600_000);
  t.same(lastChoice(), ['n1']);
  pass(3_600_000);
  t.same(lastChoice(), []);

  const minuteMs = 60_000;
  const uid = cache.node('n2')?.uid ?? '';
  const evicted = intentOf({
    avoid: [{ node: 'n2', nodeUid: uid, cause: 'it failed' }],
    times: { intent: 0 },
  });
  t.same(lastChoice([evicted], 59 * minuteMs), [], 'while it is excluded there is no choice');
  t.same(lastChoice([evicted], 60 * minuteMs), ['n2'], 'the records tell of it after a restart');
  t.same(lastChoice([evicted], 25 * 60 * minuteMs), []);
  const other = intentOf({
    avoid: [{ node: 'n2', nodeUid: 'another', cause: 'it failed' }],
    times: { intent: 0 },
  });
  t.same(lastChoice([other], 60 * minuteMs), [], 'another node had that name');

  const back = { ...evicted, phase: 'closed', outcome: 'overtaken' } as const;
  t.same(lastChoice([back], 60 * minuteMs), [], 'that eviction was not made');
  t.same([...cache.excludedNodes], []);
  lastChoice([back], minuteMs);
  t.same([...cache.excludedNodes], [], 'and costs the node nothing before that either');
  const made = { ...back, times: { ...back.times, evicted: 0 } };
  lastChoice([made], minuteMs);
  t.same([...cache.excludedNodes.keys()], ['n2']);
});

t.test('a node whose device plugin offers less than is in use is suspect while that lasts', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 8);
  const { cache, watch } = watchOf(cluster);
  const [group] = cluster.groups;
  if (group === undefined) throw new Error('no group');
  const offering = (gpu: number) => {
    cache.nodes.upsert(decodeNode({ ...nodeOf({ name: 'n1', gpu }) }));
    watch.lookAtNode('n1');
    watch.lookAtGroup(group.key);
    return watch.evidenceOf(group.leaderUid()).map(({ sighting }) => sighting.signal);
  };
  t.same(offering(8), []);
  t.same(offering(7), ['NodeShort']);
  t.same(offering(8), []);
});

t.test('breakers see each new bad node at once, also where hundreds are bad already', async t => {
  for (const size of [40, 400]) {
    const cluster = new FakeCluster([], size);
    const { cache, watch, pass } = watchOf(cluster);
    const half = size / 2;
    const turn = (at: number, readyStatus: string) => {
      const conditions = [{ type: 'Ready', status: readyStatus }];
      cache.nodes.upsert(
        decodeNode({ ...nodeOf({ name: `n${at}`, gpu: 8 }), status: { ...status, conditions } }),
      );
      watch.lookAtNode(`n${at}`);
    };
    const { status } = nodeOf({ name: 'n', gpu: 8 });
    const mass = () => watch.readings(0).find(({ name }) => name === 'mass-failure')?.reason !== undefined;
    for (let at = 0; at < half - 1; at += 1) {
      turn(at, 'Unknown');
      if (at % 50 === 0) mass();
    }
    t.equal(mass(), false, `${half - 1} of ${size}`);
    turn(half - 1, 'Unknown');
    t.equal(mass(), true, `${half} of ${size}, in the same moment`);
    turn(half - 1, 'True');
    pass(100);
    t.equal(mass(), false, 'one is well again');
    turn(half - 1, 'Unknown');
    pass(100);
    t.equal(mass(), true, 'one that was bad before is bad again');
  }
});

t.test('nodes of single pods with devices by claims belong to the fleet, bad ones or not', async t => {
  const cluster = new FakeCluster(groupsOf(1, 2), 20, 20, { claims: true });
  for (let at = 4; at < 20; at += 1) cluster.addSingle(`single-${at}`, `n${at}`);
  const { cache, watch } = watchOf(cluster);
  const massFailure = () => watch.readings(0).find(({ name }) => name === 'mass-failure')?.reason;
  const breakNodes = (count: number) => {
    for (let at = 4; at < 4 + count; at += 1) cluster.setReady(`n${at}`, 'Unknown');
    cluster.show(cache);
    watch.lookAtAll();
  };
  breakNodes(3);
  t.equal(massFailure(), undefined, '3 of 18');
  breakNodes(12);
  t.match(massFailure(), /nodes/, 'control');
});
