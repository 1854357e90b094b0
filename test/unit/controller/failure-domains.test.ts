import t from 'tap';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

/** Nothing but the domain holds. */
const settings: Partial<FailureSettings> = {
  unhealthyAfterSeconds: 5,
  inFlightMin: 100,
  servingBurst: 100,
  domainMinNodes: 1_000,
};

/** Racks of two hosts, each host with a group of one, each group of a LeaderWorkerSet of its own. */
function fleet(): FakeCluster {
  const groups = Array.from({ length: 4 }, (_, i) => groupsOf(1, 1, `llm${i}`)).flat();
  return new FakeCluster(groups, 24, 2);
}

function hurt(cluster: FakeCluster, at: number): void {
  const group = cluster.groups[at];
  const member = group && cluster.podsOf(group)[0];
  if (member === undefined) throw new Error('no such member');
  member.unhealthy = true;
}

/** Nobody remakes the pods of a group any more. */
function keepDown(cluster: FakeCluster, at: number): void {
  const group = cluster.groups[at];
  if (group !== undefined) cluster.groups.splice(at, 1);
}

t.test('of one rack one group is down at a time, those of other racks do not wait for it', async t => {
  const cluster = fleet();
  const replica = new Replica(cluster, { settings });
  for (const at of [0, 1, 2]) hurt(cluster, at);
  keepDown(cluster, 0);
  await replica.run(20_000);
  t.same(cluster.destructive, ['evict uid-llm0-0-1', 'evict uid-llm2-0-1'], 'one of each rack');
  t.ok(replica.brakes.includes('in-flight'), `${replica.brakes}`);
  const told = replica.events.filter(event => event.startsWith('EvictionHeld'));
  t.match(told, [/down at once in rack r0 were evicted and are not Ready again$/]);

  await t.test('nor does a restart forget it, or a node that is gone by then', async t => {
    replica.kill();
    cluster.nodes.delete('n0');
    const next = new Replica(cluster, { settings, clock: replica.clock });
    await next.run(60_000);
    t.notOk(cluster.destructive.includes('evict uid-llm1-0-1'));
    t.ok(next.brakes.includes('in-flight'), `${next.brakes}`);
  });
});

t.test('once the first is Ready again the next one goes', async t => {
  const cluster = fleet();
  const replica = new Replica(cluster, { settings });
  for (const at of [0, 1]) hurt(cluster, at);
  await replica.run(40_000);
  t.same(cluster.destructive, ['evict uid-llm0-0-1', 'evict uid-llm1-0-1']);
  t.same(replica.outcomes, ['evicted', 'recovered', 'evicted', 'recovered'], 'one after the other');
});

t.test('as many may be down as the configuration says', async t => {
  const cluster = fleet();
  const replica = new Replica(cluster, { settings: { ...settings, inFlightPerDomain: 2 } });
  for (const at of [0, 1]) hurt(cluster, at);
  await replica.run(20_000);
  t.same(replica.outcomes.slice(0, 2), ['evicted', 'evicted'], 'both at once');
});

t.test('a group that does not serve costs its rack nothing', async t => {
  const cluster = fleet();
  const replica = new Replica(cluster, { settings });
  for (const at of [0, 1]) hurt(cluster, at);
  const second = cluster.groups[1];
  for (const member of second === undefined ? [] : cluster.podsOf(second))
    member.readyAtMs = Number.POSITIVE_INFINITY;
  keepDown(cluster, 0);
  await replica.run(20_000);
  t.same(cluster.destructive.length, 2);
});
