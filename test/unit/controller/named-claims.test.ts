import t from 'tap';
import type { DeviceTaint } from '../../../src/api/dra.ts';
import { berth } from '../../../src/api/names.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { deviceNames, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica, type ReplicaOptions } from '../failure/replica.ts';

t.setTimeout(120_000);

const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const odd: DeviceTaint = { key: 'example.com/odd', effect: 'NoSchedule' };
/** The shared device is on a node of the first group. */
const node = 'n0';
const ofBoth = { servingEvictionsPerSecond: 10, servingBurst: 10, suspectAfterSeconds: 10 };
const evictions = ['evict uid-llm-0-1', 'evict uid-llm-1-1'];

async function start(options: ReplicaOptions = {}, groups = groupsOf(2, 3)) {
  const cluster = new FakeCluster(groups, 20, 4, { claims: true, shared: true });
  const settings = { ...ofBoth, ...options.settings };
  const replica = new Replica(cluster, { ...options, settings });
  await replica.run(2_000);
  return { cluster, replica };
}

/** Moves on until somebody is evicted. */
async function untilEvicted(cluster: FakeCluster, replica: Replica): Promise<void> {
  for (let passed = 0; passed < 60_000 && cluster.destructive.length === 0; passed += 250)
    await replica.run(250);
}

/** Two groups of different owners, the second with a mode of its own. */
const apart = (mode: string) => [
  ...groupsOf(1, 3),
  new LwsGroup({ name: 'moe', size: 3, worker: { gpu: 8 }, annotations: { [berth.failure]: mode } }),
];
const sharers = (group: string) => ['serving/llm-0', 'serving/moe-0'].filter(key => key !== group);

t.test('groups of one owner that share a claim do not wait for each other', async t => {
  const { cluster, replica } = await start();
  cluster.publish(node, deviceNames, { 'gpu-7': lost });
  await untilEvicted(cluster, replica);
  await replica.run(500);
  t.strictSame(cluster.destructive, evictions, 'before the first has come back');
  await replica.run(60_000, 1_000);
  t.strictSame(cluster.destructive, evictions, 'once each');
});

t.test('while those with devices of their own go one after the other', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 20, 4, { claims: true });
  const replica = new Replica(cluster, { settings: ofBoth });
  await replica.run(2_000);
  for (const group of cluster.groups) {
    const [leader] = cluster.podsOf(group);
    cluster.publish(leader?.pod.spec.nodeName ?? '', deviceNames, { 'gpu-1': lost });
  }
  await untilEvicted(cluster, replica);
  await replica.run(500);
  t.equal(cluster.destructive.length, 1);
  t.ok(replica.brakes.includes('in-flight'), `${replica.brakes}`);
});

t.test('the second one goes even when no place is found for it any more: the first waits for it', async t => {
  const { cluster, replica } = await start({
    settings: { servingBurst: 1, servingEvictionsPerSecond: 0.05 },
  });
  cluster.publish(node, deviceNames, { 'gpu-7': lost });
  await untilEvicted(cluster, replica);
  t.equal(cluster.destructive.length, 1, 'the rate holds the second');
  replica.room = false;
  await replica.run(30_000, 1_000);
  t.strictSame(cluster.destructive, evictions);
});

t.test('nobody goes when one of them would stay: it has opted out', async t => {
  for (const taint of [lost, odd]) {
    const { cluster, replica } = await start({ sharers }, apart('off'));
    cluster.publish(node, deviceNames, { 'gpu-7': taint });
    await replica.run(60_000, 1_000);
    t.strictSame(cluster.destructive, []);
    t.ok(replica.brakes.includes('plan-first'), `${replica.brakes}`);
  }
});

t.test('both go when neither would stay', async t => {
  const { cluster, replica } = await start({ sharers }, apart('evict'));
  cluster.publish(node, deviceNames, { 'gpu-7': odd });
  await replica.run(30_000, 1_000);
  t.strictSame([...cluster.destructive].sort(), ['evict uid-llm-0-1', 'evict uid-moe-0-1']);
});

t.test('nobody goes when there is no room for one of them', async t => {
  const { cluster, replica } = await start({ sharers }, apart('evict'));
  replica.room = false;
  cluster.publish(node, deviceNames, { 'gpu-7': odd });
  await replica.run(30_000, 1_000);
  t.strictSame(cluster.destructive, []);
});

t.test(
  "a taint of the driver does not do for a claim that is named: Berth's exclusion must hold first",
  async t => {
    // Patience with exclusion ends with the time that the signal must stand.
    const settings = { certainAfterSeconds: 2, excludeAfterSeconds: 20, excludeShare: 0 };
    const { cluster, replica } = await start({ settings });
    cluster.publish(node, deviceNames, { 'gpu-6': odd, 'gpu-7': odd });
    await replica.run(60_000, 1_000);
    t.strictSame(cluster.destructive, [], 'one suspect is excluded at most');
    t.ok(replica.brakes.includes('exclusion'), `${replica.brakes}`);
  },
);

t.test('another process keeps new pods off the device as soon as it has read the record', async t => {
  const { cluster, replica } = await start();
  cluster.publish(node, deviceNames, { 'gpu-7': lost });
  await untilEvicted(cluster, replica);
  replica.kill();
  const next = new Replica(cluster, { settings: ofBoth, clock: replica.clock });
  await next.run(500);
  t.equal(next.excluded.get('gpu.example.com'), 1);
  const fresh = new FakeCluster(groupsOf(2, 3), 20, 4, { claims: true, shared: true });
  fresh.publish(node, deviceNames, { 'gpu-7': lost });
  const without = new Replica(fresh, { settings: ofBoth });
  await without.run(500);
  t.equal(without.excluded.get('gpu.example.com'), undefined, 'without one it has to stand first');
});
