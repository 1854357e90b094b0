import t from 'tap';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

function start(suspectMode: FailureSettings['suspectMode'], claims = false) {
  const cluster = new FakeCluster(groupsOf(1, 2), 16, 4, { claims });
  const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 5, suspectMode } });
  const [, worker] = cluster.groups.flatMap(group => cluster.podsOf(group));
  if (worker === undefined) throw new Error('no such member');
  return { cluster, replica, worker, node: worker.pod.spec.nodeName ?? '' };
}

for (const suspectMode of ['observe', 'cordon', 'evict'] as const) {
  t.test(`with suspect mode ${suspectMode}`, async t => {
    const excludes = suspectMode !== 'observe';

    await t.test('a suspicion against a node', async t => {
      const { cluster, replica, worker, node } = start(suspectMode);
      worker.unhealthy = true;
      await replica.run(20_000, 500);
      t.equal(cluster.destructive.length, suspectMode === 'evict' ? 1 : 0);
      t.equal(replica.cache.excludedNodes.has(node), excludes, 'new plans keep off it');
      if (suspectMode === 'evict') return;
      t.same(replica.outcomes, ['would-evict']);
      t.same(replica.brakes, ['mode']);
      t.ok(
        replica.events.some(event =>
          event.endsWith(`mode ${suspectMode} of suspect failures does not evict`),
        ),
      );
    });

    await t.test('a suspicion against a device', async t => {
      const { cluster, replica, worker } = start(suspectMode, true);
      worker.unhealthy = true;
      await replica.run(4_900, 100);
      t.equal(replica.excluded.size > 0, excludes, 'new claims keep off it');
      await replica.run(20_000, 500);
      t.equal(cluster.destructive.length, suspectMode === 'evict' ? 1 : 0);
    });

    await t.test('a certain failure evicts all the same', async t => {
      const { cluster, replica, worker, node } = start(suspectMode);
      worker.unhealthy = true;
      cluster.setTaint(node, 'example.com/sick');
      await replica.run(20_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1']);
    });
  });
}
