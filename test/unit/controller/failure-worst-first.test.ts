import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import type { ApiRequest } from '../../../src/kube/api-client.ts';
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

t.test('many that wait cost the API server no more than those that go', async t => {
  const count = 40;
  const cluster = new FakeCluster(groupsOf(count, 1), count * 3);
  const wide = { inFlightMin: 1_000, inFlightPerOwner: 1_000, inFlightPerDomain: 1_000 };
  const replica = new Replica(cluster, {
    settings: {
      ...wide,
      domainMinNodes: 1_000,
      massMinNodes: 1_000,
      unhealthyAfterSeconds: 1,
      servingEvictionsPerSecond: 0.1,
      servingBurst: 1,
    },
  });
  await replica.run(1_000);
  // The worst is the last to be looked at.
  for (const group of cluster.groups.toReversed()) {
    present(cluster.podsOf(group)[0]).unhealthy = true;
    await replica.run(250);
  }
  await replica.run(15_000);
  const isRead = ({ method, path, query }: ApiRequest) =>
    method === 'GET' && path.endsWith('/configmaps') && query?.['labelSelector'] === berth.intent;
  let reads = 0;
  cluster.interrupt = (request, when) => {
    if (when === 'before' && isRead(request)) reads += 1;
  };
  const before = cluster.destructive.length;
  await replica.run(60_000);
  const evictions = cluster.destructive.length - before;
  t.equal(evictions, 6, 'one in ten seconds');
  // One for each eviction, and one for each review.
  t.ok(reads <= 2 * evictions, `${reads} reads of all records for ${evictions} evictions`);
});

t.test('of the pods of one controller the worst goes first', async t => {
  for (const certain of [0, 1]) {
    const cluster = new FakeCluster([], 16);
    cluster.namespaceLabels = { [berth.mode]: 'pin', [berth.singles]: 'pin' };
    cluster.addWorkload({ kind: 'ReplicaSet', name: 'web', replicas: 3 });
    const settings = { certainAfterSeconds: 1, nodeNotReadyAfterSeconds: 1 };
    const replica = new Replica(cluster, { settings });
    await replica.run(3_000);
    cluster.configMaps.set('berth-config', {
      metadata: { name: 'berth-config', annotations: { [berth.halt]: 'yes' } },
    });
    const pods = cluster.podsMadeBy('web').slice(0, 2);
    for (const [i, { pod }] of pods.entries()) {
      const node = pod.spec.nodeName ?? '';
      if (i === certain) cluster.setTaint(node, 'example.com/sick');
      else cluster.setReady(node, 'False');
    }
    await replica.run(10_000);
    t.same(cluster.destructive, []);
    cluster.configMaps.delete('berth-config');
    await replica.run(10_000);
    t.equal(cluster.destructive[0], `evict ${pods[certain]?.pod.metadata.uid}`);
  }
});

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('there is none');
  return value;
}
