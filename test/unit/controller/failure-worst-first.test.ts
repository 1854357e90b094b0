import t from 'tap';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

t.test('while the rate holds several groups, the worst of them goes first', async t => {
  for (const order of [
    ['certain', 'suspect'],
    ['suspect', 'certain'],
  ] as const) {
    const cluster = new FakeCluster(groupsOf(3, 2), 32);
    const [spent, ...others] = cluster.groups.map(group => present(cluster.podsOf(group)[1]));
    const settings = {
      certainAfterSeconds: 1,
      suspectAfterSeconds: 1,
      unhealthyAfterSeconds: 1,
      nodeNotReadyAfterSeconds: 1,
      servingEvictionsPerSecond: 0.02,
      servingBurst: 1,
      inFlightMin: 10,
      inFlightPerOwner: 10,
      inFlightPerDomain: 10,
    };
    const replica = new Replica(cluster, { settings });
    present(spent).unhealthy = true;
    await replica.run(5_000);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
    for (const [i, kind] of order.entries()) {
      const member = present(others[i]);
      if (kind === 'certain') cluster.setTaint(member.pod.spec.nodeName ?? '', 'example.com/sick');
      else cluster.setReady(member.pod.spec.nodeName ?? '', 'False');
      await replica.run(3_000);
    }
    t.equal(cluster.destructive.length, 1, 'the rate holds both');
    await replica.run(50_000);
    const certain = order.indexOf('certain') + 1;
    t.same(cluster.destructive.slice(1), [`evict uid-llm-${certain}-1`], order.join(', '));
    await replica.run(60_000);
    t.same(cluster.destructive.slice(2), [`evict uid-llm-${3 - certain}-1`], 'then the other');
  }
});

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('there is none');
  return value;
}
