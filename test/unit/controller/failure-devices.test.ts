import t from 'tap';
import type { DeviceTaint, DeviceTaintRule } from '../../../src/api/dra.ts';
import { berth } from '../../../src/api/names.ts';
import { deviceNames, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica, type ReplicaOptions } from '../failure/replica.ts';

const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const odd: DeviceTaint = { key: 'example.com/odd', effect: 'NoSchedule' };
const suspectMs = 180_000;

t.setTimeout(120_000);

function start(groups: number, nodes: number, options?: ReplicaOptions) {
  const cluster = new FakeCluster(groupsOf(groups, 3), nodes, 4, { claims: true });
  return { cluster, replica: new Replica(cluster, options) };
}

/** Node of a member of the group of that number. */
function nodeOf(cluster: FakeCluster, index: number, rank = 1): string {
  const group = cluster.groups[index];
  const state = group === undefined ? undefined : cluster.podsOf(group).find(pod => pod.rank === rank);
  if (state?.pod.spec.nodeName === undefined) throw new Error('no such member');
  return state.pod.spec.nodeName;
}

const rule = (
  selector: DeviceTaintRule['spec']['deviceSelector'],
  effect = 'NoSchedule',
): DeviceTaintRule => ({
  metadata: { name: 'by-hand' },
  spec: { ...(selector && { deviceSelector: selector }), taint: { key: 'example.com/repair', effect } },
});

t.test('a device that is lost costs its group its place, once, and the record names the device', async t => {
  const { cluster, replica } = start(2, 20);
  await replica.run(2_000);
  const node = nodeOf(cluster, 0);
  cluster.publish(node, deviceNames, { 'gpu-1': lost });
  await replica.run(4_000);
  t.same(cluster.destructive, [], 'not before its 5 s');
  await replica.run(20_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.same(replica.outcomes, ['evicted', 'recovered']);
  t.notOk(replica.cache.excludedNodes.has(node), 'its node is not to blame');
  const records = [...cluster.configMaps.values()].map(({ data }) => data?.['intent.json'] ?? '');
  t.equal(records.length, 1);
  t.match(JSON.parse(records[0] ?? ''), {
    signal: 'DeviceNoSchedule',
    device: { driver: 'gpu.example.com', pool: node, device: 'gpu-1' },
    avoid: [],
  });
});

t.test('nobody is evicted', async t => {
  const cases: readonly {
    readonly when: string;
    readonly brake?: string;
    readonly fault: (cluster: FakeCluster, node: string) => void;
    readonly passes?: (cluster: FakeCluster, node: string) => void;
  }[] = [
    {
      when: 'for a spare device on a node of the group',
      fault: (cluster, node) => cluster.publish(node, deviceNames, { 'gpu-7': lost }),
    },
    {
      when: 'for a taint without effect',
      fault: (cluster, node) => cluster.publish(node, deviceNames, { 'gpu-1': { ...lost, effect: 'None' } }),
    },
    {
      when: 'for a taint of an effect that nobody knows',
      fault: (cluster, node) =>
        cluster.publish(node, deviceNames, { 'gpu-1': { ...lost, effect: 'NoMore' } }),
    },
    {
      when: 'while the driver of one node starts anew',
      fault: (cluster, node) => cluster.slices.delete(node),
      passes: (cluster, node) => cluster.publish(node, deviceNames),
    },
    {
      when: 'for a device that is not published any more, while the pod is Ready',
      fault: (cluster, node) => cluster.publish(node, deviceNames.slice(2)),
    },
    {
      when: 'for a suspicion that passes in time',
      fault: (cluster, node) => cluster.publish(node, deviceNames, { 'gpu-1': odd }),
      passes: (cluster, node) => cluster.publish(node, deviceNames),
    },
    {
      when: 'for a rule without a selector, which means no device',
      fault: cluster => cluster.taintRules.set('by-hand', rule(undefined)),
    },
    {
      when: 'for a rule that means all devices, by an administrator who did not confirm it',
      brake: 'blast-radius',
      fault: cluster => cluster.taintRules.set('by-hand', rule({}, 'NoExecute')),
    },
  ];
  for (const { when, brake, fault, passes } of cases) {
    await t.test(when, async t => {
      const { cluster, replica } = start(4, 40);
      await replica.run(2_000);
      const node = nodeOf(cluster, 0);
      fault(cluster, node);
      await replica.run(60_000, 1_000);
      passes?.(cluster, node);
      await replica.run(suspectMs + 60_000, 5_000);
      t.same(cluster.destructive, []);
      t.same([...cluster.configMaps.keys()], []);
      t.same(replica.brakes, brake === undefined ? [] : [brake]);
      cluster.taintRules.clear();
      cluster.publish(node, deviceNames, { 'gpu-1': lost });
      await replica.run(20_000);
      t.same(cluster.destructive, ['evict uid-llm-0-1'], 'while a fault that counts evicts the group');
    });
  }
});

t.test('a rule that means all devices evicts one by one once it is confirmed', async t => {
  const { cluster, replica } = start(4, 40);
  await replica.run(2_000);
  cluster.taintRules.set('by-hand', rule({ driver: 'gpu.example.com' }));
  await replica.run(suspectMs + 20_000, 1_000);
  t.same(cluster.destructive, []);
  t.same(replica.brakes, ['blast-radius']);
  t.ok(
    replica.events.some(event =>
      event.endsWith(
        'DeviceTaintRule by-hand hits too many groups at once; annotate it with berth.dev/confirmed if that is meant',
      ),
    ),
  );
  t.equal([...cluster.configMaps.keys()].length, 0, 'nor does it trip a breaker');
  const confirmed = rule({ driver: 'gpu.example.com' });
  const metadata = { ...confirmed.metadata, annotations: { [berth.confirmed]: 'new driver' } };
  cluster.taintRules.set('by-hand', { ...confirmed, metadata });
  await replica.run(45_000, 1_000);
  t.equal(cluster.destructive.length, 1, 'the next one of that owner waits for the first');
});

t.test('a group that was held is well once what is left is only noted', async t => {
  const { cluster, replica } = start(1, 20);
  replica.room = false;
  await replica.run(2_000);
  const node = nodeOf(cluster, 0);
  cluster.publish(node, deviceNames, { 'gpu-1': lost });
  await replica.run(10_000);
  t.same(replica.brakes, ['plan-first'], 'control');
  cluster.publish(node, deviceNames, { 'gpu-1': { ...lost, effect: 'None' } });
  await replica.run(30_000, 1_000);
  t.same(replica.brakes, []);
});

t.test('what is held for its own sake hides nothing that is not', async t => {
  const settings = {
    suspectAfterSeconds: 2,
    nodeNotReadyAfterSeconds: 2,
    excludeShare: 0,
    deviceMinCount: 1_000,
    deviceMassMinCount: 1_000,
  };
  const { cluster, replica } = start(1, 20, { settings });
  await replica.run(1_000);
  const node = nodeOf(cluster, 0);
  // The one device that may be kept off in spite of the share.
  cluster.publish('n19', deviceNames, { 'gpu-7': odd });
  await replica.run(6_000);
  const [member] = cluster.groups.flatMap(group => cluster.podsOf(group)).filter(({ rank }) => rank === 1);
  if (member === undefined) throw new Error('no such member');
  member.unhealthy = true;
  await replica.run(80_000, 500);
  t.same([cluster.destructive, replica.brakes], [[], ['exclusion']], 'control: its device stays in use');
  cluster.setReady(node, 'False');
  await replica.run(20_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1'], 'for its node');
});

t.test('a rule about one device is certain, and what it does ends with it', async t => {
  const { cluster, replica } = start(2, 20);
  await replica.run(2_000);
  const pool = nodeOf(cluster, 1);
  cluster.taintRules.set('by-hand', rule({ driver: 'gpu.example.com', pool, device: 'gpu-0' }, 'NoExecute'));
  await replica.run(4_000);
  t.same(cluster.destructive, []);
  cluster.taintRules.clear();
  await replica.run(10_000);
  t.same(cluster.destructive, [], 'it was taken back in time');
  cluster.taintRules.set('by-hand', rule({ driver: 'gpu.example.com', pool, device: 'gpu-0' }, 'NoExecute'));
  await replica.run(6_000);
  t.same(cluster.destructive, ['evict uid-llm-1-1']);
});

t.test('a device that is gone while its pod is not Ready evicts the group', async t => {
  const { cluster, replica } = start(1, 12);
  await replica.run(2_000);
  const node = nodeOf(cluster, 0);
  const group = cluster.groups[0];
  const member = group && cluster.podsOf(group).find(({ rank }) => rank === 1);
  if (member === undefined) throw new Error('no such member');
  cluster.publish(node, deviceNames.slice(2));
  member.readyAtMs = Number.POSITIVE_INFINITY;
  await replica.run(110_000, 1_000);
  t.same(cluster.destructive, []);
  await replica.run(20_000, 1_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('a fault that is over by what the API server says at the moment evicts nobody', async t => {
  const { cluster, replica } = start(1, 12);
  await replica.run(2_000);
  const node = nodeOf(cluster, 0);
  cluster.publish(node, deviceNames, { 'gpu-1': lost });
  await replica.run(4_000);
  // The watch lags.
  cluster.publish(node, deviceNames);
  await replica.clock.advance(10_000);
  t.same(cluster.destructive, []);
});

t.test('fault 16: two taints that take turns are one fault, which ripens all the same', async t => {
  const { cluster, replica } = start(1, 12);
  await replica.run(2_000);
  const node = nodeOf(cluster, 0);
  for (let passed = 0; passed < suspectMs; passed += 10_000) {
    const key = passed % 20_000 === 0 ? 'example.com/odd' : 'example.com/other';
    cluster.publish(node, deviceNames, { 'gpu-1': { ...odd, key } });
    t.same(cluster.destructive, []);
    await replica.run(10_000, 1_000);
  }
  await replica.run(5_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.equal(cluster.configMaps.size, 1);
});

t.test(
  'many devices that go bad within minutes trip a breaker: suspects wait, certain ones go seldom',
  async t => {
    const { cluster, replica } = start(4, 40, {
      settings: { inFlightPerOwner: 10, inFlightMin: 10, suspectAfterSeconds: 10 },
    });
    await replica.run(2_000);
    const nodes = [0, 1, 2, 3].map(index => nodeOf(cluster, index));
    const spare = [...cluster.nodes.keys()].filter(name => !nodes.includes(name)).slice(-10);
    // 5 % of 320 devices are 16.
    for (const name of spare.slice(0, 2))
      cluster.publish(name, deviceNames, Object.fromEntries(deviceNames.map(device => [device, odd])));
    cluster.publish(nodes[0] ?? '', deviceNames, { 'gpu-0': odd });
    await replica.run(60_000, 1_000);
    t.same(cluster.destructive, []);
    t.same(replica.brakes, ['device-failure']);
    for (const name of nodes.slice(1)) cluster.publish(name, deviceNames, { 'gpu-0': lost });
    await replica.run(60_000, 1_000);
    t.equal(cluster.destructive.length, 1, 'one in 100 s');
    await replica.run(80_000, 1_000);
    t.equal(cluster.destructive.length, 2);
    t.ok(cluster.configMaps.has('berth-breaker-device-failure'));
  },
);

t.test(
  'when a third of the devices of a driver is bad nobody is evicted, until the breaker is reset',
  async t => {
    const { cluster, replica } = start(2, 10, { settings: { domainEvictionsPerSecond: 1 } });
    await replica.run(2_000);
    const node = nodeOf(cluster, 0);
    const bad = [...cluster.nodes.keys()].slice(-3);
    const allLost = Object.fromEntries(deviceNames.map(device => [device, lost]));
    for (const name of bad) cluster.publish(name, deviceNames, allLost);
    cluster.publish(node, deviceNames, { 'gpu-0': lost });
    await replica.run(60_000, 1_000);
    t.same(cluster.destructive, []);
    t.ok(replica.brakes.includes('device-mass'), `${replica.brakes}`);
    replica.controller.reviewAll();
    await replica.run(1_000);
    t.ok(cluster.configMaps.has('berth-breaker-device-mass'));
    for (const name of ['device-mass', 'device-failure']) cluster.configMaps.delete(`berth-breaker-${name}`);
    replica.controller.reviewAll();
    await replica.run(40_000, 1_000);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
  },
);

t.test('a driver that is rolled out over all nodes trips the breaker and evicts nobody', async t => {
  const { cluster, replica } = start(4, 40);
  await replica.run(2_000);
  for (const [i, name] of [...cluster.nodes.keys()].entries()) {
    cluster.slices.delete(name);
    await replica.run(3_000, 1_000);
    const before = [...cluster.nodes.keys()][i - 15];
    if (before !== undefined) cluster.publish(before, deviceNames);
  }
  replica.controller.reviewAll();
  await replica.run(5_000, 1_000);
  t.same(cluster.destructive, []);
  t.ok(
    [...cluster.configMaps.keys()].some(name => name.startsWith('berth-breaker-device')),
    'it was noticed',
  );
  t.same([...replica.cache.excludedNodes], []);
});
