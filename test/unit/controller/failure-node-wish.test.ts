import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

/** A group of two whose worker's node, or the leader's, bears the annotation. */
function start(wish: string | undefined, at: 'worker' | 'leader' = 'worker', claims = false) {
  const cluster = new FakeCluster(groupsOf(1, 2), 16, 4, { claims });
  const [leader, worker] = cluster.groups.flatMap(group => cluster.podsOf(group));
  if (leader === undefined || worker === undefined) throw new Error('no such member');
  const node = worker.pod.spec.nodeName ?? '';
  const marked = at === 'worker' ? node : (leader.pod.spec.nodeName ?? '');
  if (wish !== undefined) cluster.annotateNode(marked, berth.failure, wish);
  const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 5 } });
  return { cluster, replica, worker, node };
}

for (const [wish, excludes] of [
  ['off', false],
  ['observe', false],
  ['obserf', false],
  ['cordon', true],
] as const) {
  t.test(`a node that says ${wish}`, async t => {
    const { cluster, replica, worker, node } = start(wish);
    cluster.setTaint(node, 'example.com/sick');
    worker.unhealthy = true;
    await replica.run(20_000, 500);
    t.same(cluster.destructive, [], 'costs no group its place');
    t.equal(replica.cache.excludedNodes.has(node), excludes, 'new plans keep off it, or not');

    const ofDevices = start(wish, 'worker', true);
    ofDevices.worker.unhealthy = true;
    await ofDevices.replica.run(20_000, 500);
    t.equal(ofDevices.replica.excluded.size > 0, excludes, 'and so do claims of its devices');
  });
}

t.test('what another node says, or evict, changes nothing', async t => {
  for (const { cluster, replica, worker } of [start('off', 'leader'), start('evict'), start(undefined)]) {
    worker.unhealthy = true;
    await replica.run(20_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
  }
});

t.test('what fails on such a node hides nothing that fails elsewhere in the group', async t => {
  const { cluster, replica, node } = start('observe');
  cluster.setTaint(node, 'example.com/known');
  await replica.run(20_000, 500);
  t.same(cluster.destructive, [], 'a standing false alarm');
  const [leader] = cluster.groups.flatMap(group => cluster.podsOf(group));
  if (leader === undefined) throw new Error('no such member');
  leader.unhealthy = true;
  await replica.run(20_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('what a node asks for holds for its devices within a second', async t => {
  const { cluster, replica, worker, node } = start('observe', 'worker', true);
  worker.unhealthy = true;
  await replica.run(20_000, 500);
  t.equal(replica.excluded.size, 0);
  cluster.annotateNode(node, berth.failure, 'cordon');
  await replica.run(1_000, 100);
  t.equal(replica.excluded.size, 1);
});
