import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { type Intent, isIntentError, parseIntent } from '../../../src/failure/intent.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import type { Ask } from '../../builders/pods.ts';
import { configOf, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

const settings = { unhealthyAfterSeconds: 2 } as const;

interface Scene {
  readonly cluster: FakeCluster;
  readonly replica: Replica;
  /** Members of llm-0, the group that is hurt. */
  readonly own: readonly string[];
  /** Writes since the scene began. */
  writes(): readonly string[];
}

/** Two groups of two behind a Service that sends requests to leaders, all in service, with or without the gate. */
async function sceneOf(
  ask: Ask = { drained: true },
  more: Readonly<Record<string, unknown>> = {},
): Promise<Scene> {
  const cluster = new FakeCluster(groupsOf(2, 2, 'llm', ask), 16);
  cluster.services.set('front', { leaders: true });
  cluster.services.set('llm', { headless: true });
  const replica = new Replica(cluster, { settings: { ...settings, ...more } });
  await replica.run(3_000);
  const begin = cluster.writes.length;
  const [group] = cluster.groups;
  const own = group === undefined ? [] : cluster.podsOf(group).map(({ pod }) => pod.metadata.uid ?? '');
  return { cluster, replica, own, writes: () => cluster.writes.slice(begin) };
}

function hurt({ cluster }: Scene, unhealthy = true): void {
  for (const state of cluster.pods.values())
    if (state.group === cluster.groups[0] && state.rank === 1) state.unhealthy = unhealthy;
}

function recordsOf({ cluster }: Pick<Scene, 'cluster'>): readonly Intent[] {
  return [...cluster.configMaps.values()].flatMap(({ data }) => {
    const read = parseIntent(data?.['intent.json'] ?? '');
    return isIntentError(read) ? [] : [read];
  });
}

const is = (status: 'True' | 'False', uid: string) => `${berth.inService} ${status} ${uid}`;
const evicted = 'evict uid-llm-0-1';

t.test('a group is taken out of traffic, then evicted, and its successor is put into service', async t => {
  const scene = await sceneOf();
  t.same(scene.cluster.readyPods().length, 4, 'all Ready, for Berth has put them into service');
  hurt(scene);
  await scene.replica.run(30_000);
  const writes = scene.writes();
  t.same(writes.slice(0, 2).sort(), scene.own.map(uid => is('False', uid)).sort());
  t.equal(writes[2], evicted);
  t.same(writes.slice(3).sort(), [is('True', 'uid-llm-0-1-2'), is('True', 'uid-llm-0-2')], 'and no other');
  t.equal(scene.cluster.readyPods().length, 4);
  const [{ times } = {}] = recordsOf(scene);
  const steps = [times?.intent, times?.drain, times?.evicted, times?.gone];
  t.ok(
    steps.every((at, i) => at !== undefined && at >= (steps[i - 1] ?? 0)),
    `recorded in order: ${steps.join(', ')}`,
  );
  const seconds = ((times?.evicted ?? 0) - (times?.drain ?? 0)) / 1000;
  t.equal(scene.replica.steps.get('drain'), seconds);
  t.ok(seconds < 2, 'no longer than the Service needs to tell');
  const sum = ['decide', 'evict', 'drain', 'leave', 'bind', 'ready'].map(
    step => scene.replica.steps.get(step) ?? 0,
  );
  t.equal(
    scene.replica.steps.get('total')?.toFixed(3),
    sum.reduce((all, step) => all + step, 0).toFixed(3),
    'steps add up',
  );
  t.ok(scene.replica.events.some(event => event.startsWith('GroupDraining')));
});

t.test('a group without the gate is evicted at once', async t => {
  const scene = await sceneOf({});
  let asked = 0;
  scene.cluster.interrupt = ({ path }) => {
    if (path.endsWith('/endpointslices')) asked += 1;
  };
  hurt(scene);
  await scene.replica.run(30_000);
  t.same(scene.writes(), [evicted]);
  const [record] = recordsOf(scene);
  t.equal(record?.outcome, 'recovered');
  t.equal(record?.times.drain, undefined);
  t.equal(asked, 0);
  t.notOk(scene.replica.steps.has('drain'));
});

t.test('it waits until the Service has noticed, but not for ever', async t => {
  for (const [lagMs, fromMs, toMs] of [
    [5_000, 5_000, 8_000],
    [600_000, 30_000, 33_000],
  ] as const) {
    const scene = await sceneOf();
    scene.cluster.sliceLagMs = lagMs;
    await scene.replica.run(lagMs, 60_000);
    hurt(scene);
    await scene.replica.run(lagMs === 600_000 ? 60_000 : 20_000);
    const [{ times } = {}] = recordsOf(scene);
    const tookMs = (times?.evicted ?? 0) - (times?.drain ?? 0);
    t.ok(tookMs >= fromMs && tookMs < toMs, `${lagMs} ms until slices change: evicted after ${tookMs} ms`);
  }
});

t.test('where no Service with an address sends requests, two seconds are enough', async t => {
  for (const named of ['none', 'headless', 'forbidden'] as const) {
    const scene = await sceneOf();
    scene.cluster.services.delete('front');
    if (named === 'none') scene.cluster.services.clear();
    if (named === 'forbidden')
      scene.cluster.interrupt = ({ path }) => {
        if (path.includes('endpointslices') || path.includes('inferencepools'))
          throw new ApiError({ status: 403, reason: 'Forbidden', message: 'no right' });
      };
    hurt(scene);
    await scene.replica.run(30_000);
    const [{ times } = {}] = recordsOf(scene);
    const tookMs = (times?.evicted ?? 0) - (times?.drain ?? 0);
    t.ok(tookMs >= 2_000 && tookMs < 4_000, `${named}: ${tookMs} ms`);
  }
});

t.test('the last that answers is not cut off before it goes', async t => {
  const matchLabels = { 'leaderworkerset.sigs.k8s.io/worker-index': '0' };
  for (const kind of ['service', 'pool'] as const) {
    const scene = await sceneOf();
    for (const state of scene.cluster.pods.values())
      if (state.group === scene.cluster.groups[1]) state.readyAtMs = Number.POSITIVE_INFINITY;
    if (kind === 'pool') {
      scene.cluster.services.delete('front');
      scene.cluster.pools = [{ metadata: { name: 'p' }, spec: { selector: { matchLabels } } }];
    }
    await scene.replica.run(1_000);
    hurt(scene);
    await scene.replica.run(30_000);
    t.equal(scene.writes()[0], evicted, kind);
    t.equal(recordsOf(scene)[0]?.times.drain, undefined);
  }
});

t.test('an inference gateway may have seen it or not', async t => {
  const scene = await sceneOf();
  const matchLabels = { 'leaderworkerset.sigs.k8s.io/worker-index': '0' };
  scene.cluster.pools = [{ metadata: { name: 'p' }, spec: { selector: { matchLabels } } }];
  hurt(scene);
  await scene.replica.run(30_000);
  const [{ times } = {}] = recordsOf(scene);
  t.ok((times?.evicted ?? 0) - (times?.drain ?? 0) >= 2_000, 'so two seconds pass though the Service has');
});

t.test('a fault that passes while the group drains costs it nothing', async t => {
  const scene = await sceneOf();
  scene.cluster.sliceLagMs = 20_000;
  await scene.replica.run(20_000);
  hurt(scene);
  await scene.replica.run(5_000);
  t.same(scene.cluster.withCondition(berth.inService, 'False').length, 2, 'out of service');
  t.equal(scene.replica.phases.get('draining'), 1);
  hurt(scene, false);
  await scene.replica.run(3_000);
  t.same(scene.cluster.destructive, []);
  t.match(recordsOf(scene), [{ phase: 'closed', outcome: 'overtaken' }]);
  t.same(scene.cluster.withCondition(berth.inService, 'False'), [], 'back in service');
  t.equal(scene.cluster.readyPods().length, 4);
});

t.test('who is held while it drains goes back into service, and drains again when it may go', async t => {
  const brakes: readonly (readonly [string, (scene: Scene, on: boolean) => void])[] = [
    ['halt', ({ cluster }, on) => cluster.configMaps.set('berth-config', configOf(on))],
    ['stale', ({ replica }, on) => Object.assign(replica, { stalestMs: on ? 200_000 : 0 })],
    [
      'api-health',
      ({ replica }, on) => Object.assign(replica, { calls: { total: 100, failed: on ? 90 : 0 } }),
    ],
    [
      'refused by the API server',
      ({ cluster }, on) => {
        const causes = [{ reason: 'DisruptionBudget' }];
        cluster.evictionError = on ? new ApiError({ status: 429, message: 'budget', causes }) : undefined;
      },
    ],
  ];
  for (const [name, set] of brakes) {
    const scene = await sceneOf();
    scene.cluster.sliceLagMs = 4_000;
    await scene.replica.run(4_000);
    hurt(scene);
    await scene.replica.run(5_000);
    t.same(scene.cluster.withCondition(berth.inService, 'False').length, 2, `${name}: out of service`);
    set(scene, true);
    await scene.replica.run(5_000);
    t.same(scene.cluster.withCondition(berth.inService, 'False'), [], 'back in service');
    const written = scene.writes().length;
    await scene.replica.run(120_000, 1_000);
    t.equal(scene.writes().length, written, 'and not taken out again as long as it is held');
    t.match(recordsOf(scene), [{ phase: 'evicting', hold: /./, times: { drain: undefined } }]);
    t.same(scene.cluster.destructive, []);
    set(scene, false);
    await scene.replica.run(60_000, 500);
    t.same(scene.cluster.destructive, [evicted], name);
    const last = scene.writes().slice(0, scene.writes().indexOf(evicted)).slice(-2);
    t.same([...last].sort(), scene.own.map(uid => is('False', uid)).sort());
  }
});

t.test('nothing is taken out of traffic that would not be evicted', async t => {
  const dry = await sceneOf({ drained: true }, { dryRun: true });
  hurt(dry);
  await dry.replica.run(60_000, 1_000);
  t.same(dry.writes(), []);
  const refused = await sceneOf();
  const causes = [{ reason: 'DisruptionBudget' }];
  refused.cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
  hurt(refused);
  await refused.replica.run(120_000, 1_000);
  t.ok(refused.cluster.refusedEvictions > 3, 'asked for again and again');
  t.same(refused.writes(), []);
});

t.test('a budget that counts the drained members as gone already does not hold them', async t => {
  const scene = await sceneOf();
  scene.cluster.services.delete('llm');
  // The budget has heard of all, Berth not yet.
  for (const state of scene.cluster.pods.values()) state.slowKubelet = state.rank === 1;
  const budget = { uid: 'b', name: 'b', namespace: 'serving', selector: {}, upToDate: true };
  const allow = (disruptionsAllowed: number) =>
    scene.cluster.budgets.splice(0, 1, { ...budget, disruptionsAllowed });
  allow(2);
  scene.cluster.sliceLagMs = 4_000;
  await scene.replica.run(4_000);
  hurt(scene);
  await scene.replica.run(3_500);
  t.equal(scene.replica.phases.get('draining'), 1);
  allow(0);
  await scene.replica.run(5_000);
  t.same(scene.cluster.destructive, [evicted]);
});

t.test(
  'members that become unready one after the other do not make it ask the API server each time',
  async t => {
    const scene = await sceneOf();
    scene.cluster.sliceLagMs = 20_000;
    await scene.replica.run(20_000);
    hurt(scene);
    await scene.replica.run(4_000);
    t.equal(scene.replica.phases.get('draining'), 1);
    let asked = 0;
    scene.cluster.interrupt = ({ path }, when) => {
      if (when === 'before' && path.endsWith('/endpointslices')) asked += 1;
    };
    for (let i = 0; i < 100; i += 1) {
      scene.replica.controller.lookAt('serving/llm-0');
      await scene.replica.clock.advance(10);
    }
    t.ok(asked > 0 && asked <= 6, `100 looks within a second, of which ${asked} asked`);
  },
);

t.test('a leader that is going already is not waited for', async t => {
  const scene = await sceneOf();
  scene.cluster.sliceLagMs = 60_000;
  await scene.replica.run(60_000, 1_000);
  hurt(scene);
  await scene.replica.run(4_000);
  t.equal(scene.replica.phases.get('draining'), 1);
  scene.cluster.disrupt('uid-llm-0-1');
  await scene.replica.run(15_000);
  t.match(recordsOf(scene), [{ outcome: 'recovered' }]);
  t.notOk(scene.cluster.destructive.includes(evicted));
  t.equal(scene.cluster.withCondition(berth.inService, 'True').length, 4);
});

t.test('conditions that cannot be written do not hold an eviction for longer than 30 s', async t => {
  const scene = await sceneOf();
  scene.cluster.interrupt = ({ path, method }) => {
    if (method === 'PATCH' && path.endsWith('/status'))
      throw new ApiError({ status: 500, message: 'internal' });
  };
  hurt(scene);
  await scene.replica.run(31_000);
  t.same(scene.cluster.destructive, []);
  await scene.replica.run(5_000);
  t.same(scene.cluster.destructive, [evicted]);
});

t.test(
  'a single pod is taken out of traffic as soon as it is decided, and put back when that is held',
  async t => {
    const cluster = new FakeCluster([], 16, 4, { gated: true });
    cluster.namespaceLabels = { [berth.mode]: 'pin', [berth.singles]: 'pin' };
    cluster.addWorkload({ kind: 'ReplicaSet', name: 'web', replicas: 2, drained: true });
    cluster.services.set('web', {});
    cluster.sliceLagMs = 1_000;
    const replica = new Replica(cluster, { places: true, settings: { unhealthyAfterSeconds: 5 } });
    await replica.run(8_000);
    const [sick] = cluster.podsMadeBy('web');
    if (sick === undefined) throw new Error('no pod');
    const uid = sick.pod.metadata.uid ?? '';
    cluster.writes.length = 0;
    sick.unhealthy = true;
    await replica.run(12_000, 100);
    t.same(cluster.writes.slice(0, 2), [is('False', uid), `evict ${uid}`]);
  },
);

t.test('pods with the gate are put into service', async t => {
  t.test('in every mode, and those of a namespace that asked for nothing', async t => {
    for (const mode of ['off', 'observe', 'cordon', 'evict'] as const) {
      const cluster = new FakeCluster(groupsOf(2, 2, 'llm', { drained: true }), 16);
      cluster.namespaceLabels = {};
      const replica = new Replica(cluster, { settings: { mode } });
      await replica.run(2_000);
      t.equal(cluster.readyPods().length, 4, mode);
      t.equal(cluster.writes.length, 4, 'each once');
    }
  });

  t.test('those outside groups as well, none that is not bound, and none without the gate', async t => {
    const cluster = new FakeCluster(groupsOf(1, 2, 'llm', { drained: true }), 16, 4, { gated: true });
    cluster.addSingle('bare', 'n8');
    const replica = new Replica(cluster);
    await replica.run(2_000);
    t.same(cluster.writes, []);
    cluster.addSingle('single', 'n9', {}, { drained: true });
    await replica.run(2_000);
    t.same(cluster.writes, [is('True', 'uid-serving-single')]);
  });

  t.test('by the holder of the Lease alone, which looks at all when it takes over', async t => {
    const cluster = new FakeCluster(groupsOf(2, 2, 'llm', { drained: true }), 16);
    const replica = new Replica(cluster);
    replica.holds = false;
    await replica.run(5_000);
    t.same(cluster.writes, []);
    replica.holds = true;
    cluster.interrupt = ({ path }) => {
      if (path.includes('/configmaps')) throw new ApiError({ status: 500, message: 'internal' });
    };
    replica.controller.takeOver();
    await replica.run(1_000);
    t.equal(cluster.readyPods().length, 4, 'records or not');
  });

  t.test('though a first try fails', async t => {
    const cluster = new FakeCluster(groupsOf(2, 2, 'llm', { drained: true }), 16);
    let tries = 0;
    cluster.interrupt = ({ path }) => {
      tries += Number(path.endsWith('/status'));
      if (path.endsWith('/status') && tries < 10) throw new ApiError({ status: 500, message: 'internal' });
    };
    const replica = new Replica(cluster);
    await replica.run(5_000);
    t.equal(cluster.readyPods().length, 4);
  });

  t.test('though the records of evictions cannot be read', async t => {
    const cluster = new FakeCluster(groupsOf(1, 2, 'llm', { drained: true }), 16);
    cluster.interrupt = ({ path }) => {
      if (path.includes('/configmaps')) throw new ApiError({ status: 500, message: 'internal' });
    };
    const replica = new Replica(cluster);
    await replica.run(2_000);
    t.equal(cluster.readyPods().length, 2, 'who was never in service cannot be draining');
    for (const [uid, { conditions }] of cluster.pods) {
      conditions.set(berth.inService, { type: berth.inService, status: 'False' });
      t.ok(uid);
    }
    await replica.run(40_000, 1_000);
    t.equal(cluster.readyPods().length, 0, 'who is out of service may be');
    cluster.interrupt = () => {};
    replica.controller.reviewAll();
    await replica.run(40_000, 1_000);
    t.equal(cluster.readyPods().length, 2);
  });
});

t.test('another replica goes on where the first was killed, and puts nobody back into service', async t => {
  const scene = await sceneOf();
  scene.cluster.sliceLagMs = 10_000;
  await scene.replica.run(10_000);
  hurt(scene);
  await scene.replica.run(5_000);
  t.equal(scene.replica.phases.get('draining'), 1);
  scene.replica.kill();
  const next = new Replica(scene.cluster, { settings, clock: scene.replica.clock });
  await next.run(20_000);
  t.same(scene.cluster.destructive, [evicted]);
  const until = scene.writes().slice(0, scene.writes().indexOf(evicted));
  t.same([...until].sort(), scene.own.map(uid => is('False', uid)).sort());
  t.equal(scene.cluster.readyPods().length, 4);
});

t.test('a record that somebody deletes while the group drains lets it back into service', async t => {
  const scene = await sceneOf();
  scene.cluster.sliceLagMs = 20_000;
  await scene.replica.run(20_000);
  hurt(scene);
  await scene.replica.run(4_000);
  Object.assign(scene.replica, { room: false });
  scene.cluster.configMaps.clear();
  scene.replica.controller.reviewAll();
  await scene.replica.run(4_000);
  t.same(scene.cluster.withCondition(berth.inService, 'False'), []);
  t.same(scene.cluster.destructive, []);
});
