import t from 'tap';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

/** Simulated time begins at midnight. */
const window = (cron: string): Partial<FailureSettings> => ({
  unhealthyAfterSeconds: 5,
  maintenanceWindows: [{ cron, durationMinutes: 2, timeZone: 'UTC' }],
});

function start(settings: Partial<FailureSettings>) {
  const cluster = new FakeCluster(groupsOf(1, 2), 16);
  const replica = new Replica(cluster, { settings });
  const [, worker] = cluster.groups.flatMap(group => cluster.podsOf(group));
  if (worker === undefined) throw new Error('no such member');
  return { cluster, replica, worker };
}

t.test('in a maintenance window a suspect failure holds and is told of, afterwards it evicts', async t => {
  const { cluster, replica, worker } = start(window('0 0 * * *'));
  worker.unhealthy = true;
  await replica.run(110_000, 500);
  t.same(cluster.destructive, []);
  t.equal([...cluster.configMaps.keys()].filter(name => name.includes('intent')).length, 0);
  t.same(replica.brakes, ['maintenance-window']);
  t.same(replica.outcomes, ['would-evict'], 'what would be done is counted once');
  const told = replica.events.filter(event => event.startsWith('EvictionHeld'));
  t.match(told, [/not evicted: a maintenance window is open, in which only certain failures evict$/]);
  await replica.run(30_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.same(replica.brakes, []);
});

t.test('a certain failure goes on in it', async t => {
  const { cluster, replica, worker } = start(window('0 0 * * *'));
  cluster.setTaint(worker.pod.spec.nodeName ?? '', 'example.com/sick');
  await replica.run(30_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('another time of the day is none', async t => {
  const { cluster, replica, worker } = start(window('0 12 * * *'));
  worker.unhealthy = true;
  await replica.run(30_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('what has nowhere to go would not be evicted, so nothing of the kind is told', async t => {
  const { cluster, replica, worker } = start(window('0 0 * * *'));
  replica.room = false;
  worker.unhealthy = true;
  await replica.run(60_000, 500);
  t.same(cluster.destructive, []);
  t.same(replica.brakes, ['plan-first', 'maintenance-window']);
  t.same(replica.outcomes, []);
});
