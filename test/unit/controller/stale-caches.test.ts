import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { type ActingFacts, mayAct } from '../../../src/controller/acting.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';
import { PreemptionReplica } from './preemption-replica.ts';

t.setTimeout(120_000);

const states = [
  { when: 'unsynced', spoilt: { synced: false } },
  { when: 'stale', spoilt: { stalestMs: 91_000 } },
] as const;
const fresh = { synced: true, stalestMs: 0 };

function workerOf(cluster: FakeCluster) {
  const state = [...cluster.pods.values()].find(({ rank }) => rank === 1);
  if (state === undefined) throw new Error('no worker');
  return state;
}

t.test(
  'nothing at all is written on knowledge that is too old, or without having read everything',
  async t => {
    const good: ActingFacts = { observeOnly: false, hasRead: true, isHolder: true, stalestMs: 119_999 };
    t.equal(mayAct(good), true);
    for (const bad of [
      { observeOnly: true },
      { hasRead: false },
      { isHolder: false },
      { stalestMs: 120_000 },
      { stalestMs: Number.POSITIVE_INFINITY },
      { stalestMs: Number.NaN },
    ])
      t.equal(mayAct({ ...good, ...bad }), false, JSON.stringify(bad));
  },
);

for (const { when, spoilt } of states) {
  t.test(`${when}: an eviction that is decided, and not made yet, is held`, async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const replica = new Replica(cluster);
    cluster.interrupt = ({ method, path }, now) => {
      // Right after the intent was made.
      if (now === 'after' && method === 'POST' && path.endsWith('/configmaps'))
        Object.assign(replica, spoilt);
    };
    workerOf(cluster).unhealthy = true;
    await replica.run(120_000, 500);
    t.same(cluster.destructive, []);
    t.ok(
      [...cluster.configMaps.values()].some(({ metadata }) => metadata.labels?.[berth.intent] === 'open'),
      'the intent is there',
    );
    Object.assign(replica, fresh);
    cluster.interrupt = () => {};
    await replica.run(20_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1'], 'and it is made on fresh knowledge');
  });

  t.test(`${when}: the StatefulSet of workers whose leader others took is not deleted`, async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const replica = new Replica(cluster);
    await replica.run(1_000);
    cluster.interrupt = ({ method, path }, now) => {
      if (now === 'after' && method === 'POST' && path.endsWith('/configmaps'))
        Object.assign(replica, spoilt);
    };
    // Others tell the leader alone, and its kubelet does not end it.
    const leader = cluster.pods.get('uid-llm-0-1');
    const node = leader?.pod.spec.nodeName ?? '';
    cluster.setReady(node, 'Unknown');
    cluster.disrupt('uid-llm-0-1', 'DeletionByDeviceTaintManager');
    await replica.run(60_000, 500);
    t.same(cluster.destructive, []);
    t.ok(
      [...cluster.configMaps.keys()].some(name => name.includes('intent')),
      'the intent is there',
    );
    Object.assign(replica, fresh);
    cluster.interrupt = () => {};
    await replica.run(10_000, 500);
    t.same(cluster.destructive, ['delete-set uid-workers-llm-0-1']);
  });

  t.test(`${when}: a breaker that is kept is not taken away`, async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const name = 'berth-breaker-mass-failure';
    cluster.configMaps.set(name, {
      metadata: { name, labels: { [berth.breaker]: 'mass-failure' }, resourceVersion: '1' },
      data: {
        'breaker.json':
          '{"version":1,"trippedAt":"1970-01-01T00:00:00Z","lastBadAt":"1970-01-01T00:00:00Z","reason":"x"}',
      },
    });
    const replica = new Replica(cluster);
    Object.assign(replica, spoilt);
    for (let i = 0; i < 4; i += 1) {
      await replica.run(30_000, 1_000);
      replica.controller.reviewAll();
    }
    t.ok(cluster.configMaps.has(name));
    Object.assign(replica, fresh);
    replica.controller.reviewAll();
    await replica.run(1_000);
    t.notOk(cluster.configMaps.has(name), 'which it is on fresh knowledge');
  });

  for (const [what, singles, evictions] of [
    ['groups', 0, 2],
    ['pods outside groups', 16, 4],
  ] as const)
    t.test(`${when}: ${what} are not evicted for others`, async t => {
      const groups = groupsOf((16 - singles) / 2, 2, 'low');
      const cluster = new FakeCluster(groups, 16, 4, { gated: true });
      for (let i = 0; i < singles; i += 1) cluster.addSingle(`single-${i}`, `n${15 - i}`);
      const replica = new PreemptionReplica(cluster);
      await replica.run(5_000);
      Object.assign(replica, spoilt);
      const annotations = { [berth.requiredTopology]: 'rack' };
      cluster.arrive(new LwsGroup({ name: 'big', size: 4, worker: { gpu: 8 }, annotations }), 100);
      await replica.run(40_000, 500);
      t.same(cluster.destructive, []);
      Object.assign(replica, fresh);
      await replica.run(60_000, 500);
      t.equal(cluster.destructive.length, evictions, 'and they are on fresh knowledge');
    });
}

t.test(
  'records are deleted by what the API server says alone, and by the holder of the Lease alone',
  async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const first = new Replica(cluster, { settings: { keepClosedHours: 1 } });
    workerOf(cluster).unhealthy = true;
    await first.run(90_000, 1_000);
    const intents = () => [...cluster.configMaps.keys()].filter(name => name.includes('intent')).length;
    t.equal(intents(), 1);
    const twoHoursMs = 2 * 3_600_000;
    await first.clock.advance(twoHoursMs);
    first.holds = false;
    first.controller.reviewAll();
    await first.run(5_000, 1_000);
    t.equal(intents(), 1, 'not by another replica');
    first.holds = true;
    first.controller.reviewAll();
    await first.run(5_000, 1_000);
    t.equal(intents(), 0);
  },
);
