import t from 'tap';
import { FakeCluster, groupsOf } from './fake-cluster.ts';
import { Replica } from './replica.ts';

t.setTimeout(120_000);

const minuteMs = 60_000;

// The longer one outlasts the time after which a breaker that is quiet lets one group go as a trial.
for (const silentMinutes of [10, 45])
  t.test(
    `fault 19: all nodes fall silent for ${silentMinutes} min and come back: nobody is evicted, then or for 3 min after`,
    async t => {
      const cluster = new FakeCluster(groupsOf(4, 3), 24);
      const replica = new Replica(cluster);
      await replica.run(2_000);
      const names = [...cluster.nodes.keys()];
      for (const name of names) cluster.setReady(name, 'Unknown');
      for (let minutes = 0; minutes < silentMinutes; minutes += 1) {
        replica.controller.reviewAll();
        await replica.run(minuteMs, 2_000);
      }
      t.same(cluster.destructive, []);
      t.ok(replica.brakes.includes('mass-failure'), `held by ${replica.brakes}`);
      // They come back one by one, and those with pods, which are last, still look dead meanwhile.
      for (const name of names.toReversed()) {
        cluster.setReady(name, 'True');
        await replica.run(5_000, 1_000);
        if (cluster.nowMs % 30_000 < 5_000) replica.controller.reviewAll();
      }
      await replica.run(3 * minuteMs, 1_000);
      t.same(cluster.destructive, []);
      t.same(
        [...cluster.configMaps.keys()].filter(name => name.includes('intent')),
        [],
        'no record either',
      );
      const state = [...cluster.pods.values()].find(({ rank }) => rank === 1);
      if (state === undefined) throw new Error('no worker');
      for (let minutes = 0; minutes < 35; minutes += 1) {
        replica.controller.reviewAll();
        await replica.run(minuteMs, 10_000);
      }
      state.unhealthy = true;
      await replica.run(2 * minuteMs, 1_000);
      t.same(
        cluster.destructive,
        ['evict uid-llm-0-1'],
        'while what fails after a quiet half hour is dealt with',
      );
    },
  );

t.test('fault 29: a storm of reports of one device is one fault', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 24);
  const replica = new Replica(cluster);
  await replica.run(2_000);
  const state = [...cluster.pods.values()].find(({ rank }) => rank === 1);
  if (state === undefined) throw new Error('no worker');
  for (let i = 0; i < 2_000; i += 1) {
    // Each is heard of twice, and now and then an old one after a new one.
    state.unhealthy = i % 7 !== 0;
    cluster.show(replica.cache);
    cluster.show(replica.cache);
    if (i % 50 === 0) t.ok(replica.controller.queueDepth <= 4, 'the queue does not grow');
  }
  state.unhealthy = true;
  await replica.run(80_000, 1_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.equal([...cluster.configMaps.keys()].filter(name => name.includes('intent')).length, 1, 'one record');
});
