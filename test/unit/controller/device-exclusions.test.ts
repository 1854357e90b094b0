import t, { type Test } from 'tap';
import type { DeviceTaint, DeviceTaintRule } from '../../../src/api/dra.ts';
import { berth } from '../../../src/api/names.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { exclusionName } from '../../../src/kube/exclusion-store.ts';
import { configOf, deviceNames, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica, type ReplicaOptions } from '../failure/replica.ts';

t.setTimeout(120_000);

const driver = 'gpu.example.com';
const odd: DeviceTaint = { key: 'example.com/odd', effect: 'NoSchedule' };
const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const settings = { mode: 'cordon', probationSeconds: 60 } as const;

interface Scene {
  readonly cluster: FakeCluster;
  readonly replica: Replica;
  /** Node of a worker of the first group, whose devices gpu-0 to gpu-3 it has. */
  readonly node: string;
}

async function start(options: ReplicaOptions = {}, serves = true): Promise<Scene> {
  const cluster = new FakeCluster(groupsOf(2, 3), 20, 4, { claims: true });
  cluster.servesTaintRules = serves;
  const replica = new Replica(cluster, { ...options, settings: { ...settings, ...options.settings } });
  await replica.run(1_000);
  return { cluster, replica, node: workerOf(cluster).pod.spec.nodeName ?? '' };
}

function workerOf(cluster: FakeCluster, index = 0) {
  const [...pods] = cluster.groups[index] ? cluster.podsOf(cluster.groups[index]) : [];
  const worker = pods.find(({ rank }) => rank === 1);
  if (worker === undefined) throw new Error('no such member');
  return worker;
}

/** Devices that no plan may use, by their taint in the cache. */
function excluded({ cache }: Replica): readonly string[] {
  return [...cache.allSlices()].flatMap(({ pool }) =>
    [...(cache.devicePool(driver, pool)?.devices.values() ?? [])]
      .filter(({ taints }) => taints.some(({ key }) => key === berth.excluded))
      .map(({ id }) => `${id.pool}/${id.device}`),
  );
}

function ownRules(cluster: FakeCluster): readonly DeviceTaintRule[] {
  return [...cluster.taintRules.values()].filter(({ metadata }) => metadata.labels?.[berth.excluded]);
}

t.test('a device that only the kubelet calls sick is excluded by a rule, and comes back', async t => {
  const { cluster, replica, node } = await start();
  workerOf(cluster).unhealthy = true;
  await replica.run(2_000);
  t.same(cluster.ruleWrites, [], 'not before it has stood');
  await replica.run(3_000);
  const [rule, ...others] = ownRules(cluster);
  t.same(others, []);
  t.same(rule?.spec, {
    deviceSelector: { driver, pool: node, device: 'gpu-1' },
    taint: { key: berth.excluded, effect: 'NoSchedule' },
  });
  t.match(JSON.parse(rule?.metadata.annotations?.[berth.exclusion] ?? ''), {
    version: 1,
    class: 'suspect',
    cause: /is unhealthy/,
    group: 'serving/llm-0',
  });
  t.same(excluded(replica), [`${node}/gpu-1`]);
  t.notOk(replica.cache.excludedNodes.has(node), 'its node is not to blame');
  t.same([...replica.excluded], [[driver, 1]]);
  workerOf(cluster).unhealthy = false;
  await replica.run(59_000, 1_000);
  t.equal(ownRules(cluster).length, 1);
  await replica.run(3_000);
  t.same(ownRules(cluster), [], 'nothing is left behind');
  t.same(excluded(replica), []);
  t.same(
    replica.told.map(text => text.split(':')[0]),
    ['DeviceExcluded', 'DeviceReleased'],
  );
  t.same(cluster.destructive, []);
});

t.test('where no rules are served plans keep off the device all the same, in every replica', async t => {
  const { cluster, replica, node } = await start({}, false);
  const other = new Replica(cluster, { settings, clock: replica.clock });
  other.holds = false;
  workerOf(cluster).unhealthy = true;
  for (let i = 0; i < 8; i += 1) {
    await replica.run(500);
    await other.run(0);
    cluster.show(other.cache);
  }
  t.same(cluster.ruleWrites, []);
  t.same(excluded(replica), [`${node}/gpu-1`]);
  t.same(excluded(other), [`${node}/gpu-1`]);
  t.same(other.told, [], 'one replica tells');
});

t.test('what a driver taints needs no rule until the taint goes, and then has its probation', async t => {
  const { cluster, replica, node } = await start();
  cluster.publish(node, deviceNames, { 'gpu-7': lost });
  await replica.run(10_000);
  t.same(cluster.ruleWrites, []);
  cluster.publish(node, deviceNames);
  await replica.run(2_000);
  t.match(ownRules(cluster)[0]?.spec.deviceSelector, { pool: node, device: 'gpu-7' });
  await replica.run(62_000, 1_000);
  t.same(ownRules(cluster), []);
  t.equal(cluster.ruleWrites.length, 2);
});

t.test(
  "an administrator's rule about one device ends with a probation, one about all with nothing",
  async t => {
    const { cluster, replica, node } = await start();
    const taint = { key: 'example.com/repair', effect: 'NoSchedule' };
    const ruleOf = (deviceSelector: Record<string, string>): DeviceTaintRule => ({
      metadata: { name: 'by-hand' },
      spec: { deviceSelector, taint },
    });
    cluster.taintRules.set('by-hand', ruleOf({}));
    await replica.run(10_000);
    cluster.taintRules.delete('by-hand');
    await replica.run(10_000);
    t.same(excluded(replica), []);
    cluster.taintRules.set('by-hand', ruleOf({ driver, pool: node, device: 'gpu-6' }));
    await replica.run(5_000);
    cluster.taintRules.delete('by-hand');
    await replica.run(2_000);
    t.equal(ownRules(cluster).length, 1);
    await replica.run(62_000, 1_000);
    t.same([...cluster.taintRules], []);
  },
);

t.test('nothing is written', async t => {
  const cases: readonly {
    readonly when: string;
    readonly settings?: ReplicaOptions['settings'];
    readonly spoil?: (scene: Scene) => void;
    readonly mend?: (scene: Scene) => void;
  }[] = [
    { when: 'in mode observe', settings: { mode: 'observe' } },
    { when: 'in dry run', settings: { dryRun: true } },
    {
      when: 'without the Lease',
      spoil: ({ replica }) => {
        replica.holds = false;
      },
      mend: ({ replica }) => {
        replica.holds = true;
      },
    },
    {
      when: 'before everything was read',
      spoil: ({ replica }) => {
        replica.synced = false;
      },
      mend: ({ replica }) => {
        replica.synced = true;
      },
    },
    {
      when: 'while what is known is old',
      spoil: ({ replica }) => {
        replica.stalestMs = 90_001;
      },
      mend: ({ replica }) => {
        replica.stalestMs = 0;
      },
    },
    {
      when: 'while an administrator has halted it',
      spoil: ({ cluster }) => void cluster.configMaps.set('berth-config', configOf(true)),
      mend: ({ cluster }) => void cluster.configMaps.set('berth-config', configOf(false)),
    },
    {
      when: 'where the API server serves no such rules',
      spoil: ({ cluster }) => {
        cluster.servesTaintRules = false;
      },
    },
  ];
  for (const { when, settings, spoil, mend } of cases)
    await t.test(when, async t => {
      const scene = await start({ ...(settings && { settings }) });
      const { cluster, replica } = scene;
      replica.controller.takeOver();
      spoil?.(scene);
      workerOf(cluster).unhealthy = true;
      await replica.run(20_000, 500);
      t.same(cluster.ruleWrites, []);
      if (mend === undefined) return;
      mend(scene);
      replica.controller.reviewAll();
      await replica.run(8_000);
      t.equal(cluster.ruleWrites.length, 1, 'and it is when that is over');
      spoil?.(scene);
      workerOf(cluster).unhealthy = false;
      await replica.run(80_000, 1_000);
      t.equal(cluster.ruleWrites.length, 1, 'nor is anything deleted');
      mend(scene);
      replica.controller.reviewAll();
      await replica.run(8_000);
      t.same(ownRules(cluster), []);
    });
});

t.test('a process that is killed leaves rules that the next one takes back after a probation', async t => {
  const { cluster, replica } = await start();
  workerOf(cluster).unhealthy = true;
  cluster.interrupt = ({ method, path }, when) => {
    if (when === 'after' && method === 'POST' && path.endsWith('devicetaintrules')) replica.kill();
  };
  await replica.run(5_000);
  t.ok(replica.isDead);
  t.equal(ownRules(cluster).length, 1, 'it was written, and nobody heard of it');
  cluster.interrupt = () => {};
  workerOf(cluster).unhealthy = false;
  const next = new Replica(cluster, { settings });
  await next.run(58_000, 1_000);
  t.equal(ownRules(cluster).length, 1);
  t.equal(excluded(next).length, 1);
  await next.run(4_000);
  t.same(ownRules(cluster), []);
  t.equal(cluster.ruleWrites.length, 2);
});

t.test('an answer that is lost on the way makes no second rule, and refusals are tried again', async t => {
  const { cluster, replica } = await start();
  let failures = 3;
  cluster.interrupt = ({ method, path }, when) => {
    if (!path.includes('devicetaintrules') || method === 'GET' || failures === 0) return;
    if (when === (failures === 1 ? 'after' : 'before')) {
      failures -= 1;
      throw new ApiError({ status: 500, message: 'sorry' });
    }
  };
  workerOf(cluster).unhealthy = true;
  await replica.run(20_000);
  t.equal(failures, 0);
  t.equal(ownRules(cluster).length, 1);
  t.equal(cluster.ruleWrites.length, 1);
});

t.test('fault 26: a refusal of rules is not asked anew because devices change', async t => {
  const { cluster, replica } = await start();
  let asked = 0;
  let isBroken = true;
  cluster.interrupt = ({ method, path }, when) => {
    if (when !== 'before' || method !== 'POST' || !path.includes('devicetaintrules')) return;
    asked += 1;
    if (isBroken) throw new ApiError({ status: 429, message: 'busy', retryAfterMs: 20_000 });
  };
  const worker = workerOf(cluster);
  worker.unhealthy = true;
  const [other = ''] = [...cluster.slices.keys()].filter(node => node !== worker.pod.spec.nodeName);
  for (let second = 0; second < 60; second += 1) {
    await replica.run(1_000, 500);
    cluster.publish(other, deviceNames);
  }
  t.ok(asked >= 2 && asked <= 3, `asked ${asked} times within a minute`);
  isBroken = false;
  await replica.run(25_000, 500);
  t.equal(ownRules(cluster).length, 1);
});

t.test('rules that only look like those of Berth are left alone', async t => {
  const { cluster, replica } = await start();
  const labels = { [berth.excluded]: 'fault' };
  const taint = { key: berth.excluded, effect: 'NoSchedule' };
  const whole = { driver, pool: 'n19', device: 'gpu-0' };
  const strange: readonly DeviceTaintRule[] = [
    { metadata: { name: 'berth-excluded-a' }, spec: { deviceSelector: whole, taint } },
    { metadata: { name: 'mine', labels }, spec: { deviceSelector: whole, taint } },
    { metadata: { name: 'berth-excluded-b', labels }, spec: { deviceSelector: { driver }, taint } },
    {
      metadata: { name: 'berth-excluded-c', labels },
      spec: { deviceSelector: { ...whole, device: 'gpu-1' }, taint: { ...taint, key: 'example.com/x' } },
    },
    {
      metadata: { name: 'berth-excluded-d', labels },
      spec: { deviceSelector: whole, taint: { ...taint, effect: 'NoExecute' } },
    },
  ];
  for (const rule of strange) cluster.taintRules.set(rule.metadata.name ?? '', rule);
  const key = deviceKey(whole);
  const name = exclusionName({ key, uuid: undefined, quarantineUntilMs: undefined });
  const own = { metadata: { name, labels, uid: 'e' } };
  cluster.taintRules.set(name, { ...own, spec: { deviceSelector: whole, taint } });
  await replica.run(70_000, 1_000);
  t.same(cluster.ruleWrites, [`delete ${name}`], 'one of its own is taken back');
});

t.test('a device that comes and goes is put in quarantine by a rule of its own, without a gap', async t => {
  const { cluster, replica, node } = await start({ settings: { quarantineHours: 0.1 } });
  for (let times = 0; times < 3; times += 1) {
    cluster.publish(node, deviceNames, { 'gpu-5': odd });
    await replica.run(5_000);
    cluster.publish(node, deviceNames);
    await replica.run(5_000);
    t.equal(ownRules(cluster).length, 1);
  }
  t.same(
    ownRules(cluster).map(({ metadata }) => metadata.labels),
    [{ [berth.excluded]: 'quarantine' }],
  );
  t.same(
    cluster.ruleWrites.map(write => write.split(' ')[0]),
    ['create', 'create', 'delete'],
  );
  await replica.run(300_000, 5_000);
  t.equal(ownRules(cluster).length, 1, 'long after its probation');
  await releaseByHand(t, cluster, replica);
});

async function releaseByHand(t: Test, cluster: FakeCluster, replica: Replica): Promise<void> {
  const [rule] = ownRules(cluster);
  if (rule === undefined) throw new Error('there is none');
  const annotations = { ...rule.metadata.annotations, [berth.release]: 'new firmware' };
  cluster.taintRules.set(rule.metadata.name ?? '', { ...rule, metadata: { ...rule.metadata, annotations } });
  await replica.run(2_000);
  t.same(ownRules(cluster), [], 'an administrator vouches for it');
  t.same(excluded(replica), []);
}

t.test('a driver that publishes with a word of an administrator gets its device back at once', async t => {
  const { cluster, replica, node } = await start({}, false);
  cluster.publish(node, deviceNames, { 'gpu-5': lost });
  await replica.run(10_000);
  const slice = cluster.slices.get(node);
  if (slice === undefined) throw new Error('there is none');
  const annotations = { [berth.release]: 'gpu-4, gpu-5' };
  cluster.slices.set(node, { ...slice, metadata: { ...slice.metadata, annotations } });
  await replica.run(5_000);
  t.same(excluded(replica), [`${node}/gpu-5`], 'not while its driver taints it');
  cluster.publish(node, deviceNames);
  const healthy = cluster.slices.get(node) ?? slice;
  cluster.slices.set(node, { ...healthy, metadata: { ...healthy.metadata, annotations } });
  await replica.run(1_000);
  t.same(excluded(replica), []);
});

t.test('an eviction goes off the device, which stays excluded when its pod is gone', async t => {
  const { cluster, replica, node } = await start({ settings: { mode: 'evict' } });
  workerOf(cluster).unhealthy = true;
  await replica.run(59_000, 1_000);
  t.same(cluster.destructive, []);
  await replica.run(20_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  await replica.run(300_000, 5_000);
  t.same(excluded(replica), [`${node}/gpu-1`], 'for the kubelet that told of it tells nothing now');
  t.equal(cluster.destructive.length, 1);
  for (let minutes = 0; minutes < 62; minutes += 1) {
    replica.controller.reviewAll();
    await replica.run(60_000, 30_000);
  }
  t.same(excluded(replica), []);
  t.same(ownRules(cluster), []);
});

t.test('while its device cannot be excluded nobody is evicted for a suspicion', async t => {
  // A tenth of 160 devices are 16.
  const { cluster, replica } = await start({ settings: { mode: 'evict', deviceShare: 1 } });
  const spare = ['n18', 'n19'];
  for (const name of spare)
    cluster.publish(name, deviceNames, Object.fromEntries(deviceNames.map(device => [device, odd])));
  await replica.run(5_000);
  t.equal(excluded(replica).length, 16);
  workerOf(cluster).unhealthy = true;
  await replica.run(90_000, 1_000);
  t.same(cluster.destructive, []);
  t.same(replica.brakes, ['exclusion']);
  t.equal(excluded(replica).length, 16);
  cluster.publish('n18', deviceNames);
  await replica.run(75_000, 1_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1'], 'once others have come back');
});

t.test('a group that breaks what it gets is told of, and its devices come back', async t => {
  const { cluster, replica } = await start({
    settings: { mode: 'evict', unhealthyAfterSeconds: 5, restartsPerHour: 50, restartsPerDay: 50 },
  });
  for (let times = 0; times < 5; times += 1) {
    workerOf(cluster).unhealthy = true;
    await replica.run(40_000, 500);
  }
  t.equal(cluster.destructive.length, 4, 'it is evicted as long as there is somewhere to go');
  t.same(replica.brakes, ['exclusion']);
  t.equal(excluded(replica).length, 1, 'all but the last');
  t.equal(replica.poisonous, 1);
  t.equal(replica.told.filter(text => text.startsWith('PoisonWorkload')).length, 1);
  t.equal(ownRules(cluster).length, 1);
});
