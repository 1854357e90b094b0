import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { FailureBook } from '../../../src/controller/failure-book.ts';
import { defaultFailureSettings } from '../../../src/failure/settings.ts';
import type { ApiClient } from '../../../src/kube/api-client.ts';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import { IntentStore } from '../../../src/kube/intent-store.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { configOf, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

// Longer than it takes by far: machines may be busy.
t.setTimeout(180_000);

function hurtWorker(cluster: FakeCluster, at = 0, rank = 1) {
  const group = cluster.groups[at];
  const state = group === undefined ? undefined : cluster.podsOf(group).find(pod => pod.rank === rank);
  if (state === undefined) throw new Error('no such member');
  state.unhealthy = true;
  return state;
}

t.test('a group with an unhealthy device is evicted once, as a whole, and the intent is closed', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 16);
  const replica = new Replica(cluster);
  const before = [...cluster.pods.keys()];
  const sick = hurtWorker(cluster);
  await replica.run(55_000);
  t.same(cluster.destructive, [], 'not before it has stood for a minute');
  await replica.run(20_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  const after = [...cluster.pods.keys()];
  t.equal(after.filter(uid => before.includes(uid)).length, 3, 'the other group kept all its pods');
  t.equal(after.length, 6);
  t.same(replica.outcomes, ['evicted', 'recovered']);
  t.ok(replica.cache.excludedNodes.has(sick.pod.spec.nodeName ?? ''), 'the node is kept off new plans');
  t.ok(replica.events.some(event => event.startsWith('FailureDetected')));
  t.ok(replica.events.some(event => event.startsWith('GroupRecovered')));
});

t.test('what is evicted was told as detected before, though it ripens while it is judged', async t => {
  for (let msPerLook = 26; msPerLook <= 38; msPerLook++) {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const replica = new Replica(cluster, { msPerLook });
    hurtWorker(cluster);
    await replica.run(75_000);
    const reasons = replica.events.map(event => event.slice(0, event.indexOf(':')));
    t.same(reasons.slice(0, 2), ['FailureDetected', 'GroupEvicted'], `${msPerLook} ms`);
  }
});

t.test('nothing destructive is called', async t => {
  const cases: readonly {
    readonly when: string;
    readonly brake: string;
    readonly settings?: ConstructorParameters<typeof Replica>[1];
    readonly set: (replica: Replica, cluster: FakeCluster) => void;
    readonly unset: (replica: Replica, cluster: FakeCluster) => void;
  }[] = [
    {
      when: 'unsynced',
      brake: 'stale',
      set: replica => Object.assign(replica, { synced: false }),
      unset: replica => Object.assign(replica, { synced: true }),
    },
    {
      when: 'stale',
      brake: 'stale',
      set: replica => Object.assign(replica, { stalestMs: 91_000 }),
      unset: replica => Object.assign(replica, { stalestMs: 0 }),
    },
    {
      when: 'another replica holds the Lease',
      brake: '',
      set: replica => {
        replica.holds = false;
        replica.controller.standDown();
      },
      unset: replica => {
        replica.holds = true;
        replica.controller.takeOver();
      },
    },
    {
      when: 'evictions are halted',
      brake: 'halt',
      set: (_, cluster) => cluster.configMaps.set('berth-config', configOf(true)),
      unset: (_, cluster) => cluster.configMaps.set('berth-config', configOf(false)),
    },
    {
      when: 'the namespace only wants to be told',
      brake: 'mode',
      set: (_, cluster) => {
        cluster.namespaceLabels = { [berth.mode]: 'pin', [berth.failure]: 'observe' };
      },
      unset: (_, cluster) => {
        cluster.namespaceLabels = { [berth.mode]: 'pin' };
      },
    },
    {
      when: 'Berth does not place the group',
      brake: 'mode',
      set: (_, cluster) => {
        cluster.namespaceLabels = {};
      },
      unset: (_, cluster) => {
        cluster.namespaceLabels = { [berth.mode]: 'pin' };
      },
    },
    {
      when: 'there is no other place for a group that serves',
      brake: 'plan-first',
      set: replica => Object.assign(replica, { room: false }),
      unset: replica => Object.assign(replica, { room: true }),
    },
    {
      when: 'calls to the API server fail',
      brake: 'api-health',
      set: replica => Object.assign(replica, { calls: { total: 20, failed: 10 } }),
      unset: replica => Object.assign(replica, { calls: { total: 20, failed: 0 } }),
    },
  ];
  for (const { when, brake, set, unset } of cases) {
    await t.test(`when ${when}, and is once that is over`, async t => {
      const cluster = new FakeCluster(groupsOf(1, 3), 16);
      const replica = new Replica(cluster);
      set(replica, cluster);
      hurtWorker(cluster);
      await replica.run(120_000, 500);
      t.same(cluster.destructive, []);
      t.equal([...cluster.configMaps.keys()].filter(name => name.includes('intent')).length, 0);
      if (brake !== '') t.ok(replica.brakes.includes(brake), `${replica.brakes}`);
      unset(replica, cluster);
      await replica.run(80_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1']);
    });
  }
});

t.test('in dry run it is told what would be done, once', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster, { settings: { dryRun: true } });
  hurtWorker(cluster);
  await replica.run(120_000, 500);
  t.same(cluster.destructive, []);
  t.same(replica.outcomes, ['would-evict']);
  t.equal(replica.events.filter(event => event.startsWith('WouldEvict')).length, 1);
});

t.test('a new holder of the Lease waits before it evicts', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  hurtWorker(cluster);
  const replica = new Replica(cluster, { settings: { newHolderSeconds: 90 } });
  await replica.run(85_000, 500);
  t.same(cluster.destructive, []);
  await replica.run(15_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('what passes before it is ripe evicts nobody', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  const state = hurtWorker(cluster);
  await replica.run(50_000, 500);
  state.unhealthy = false;
  await replica.run(5_000, 500);
  state.unhealthy = true;
  await replica.run(50_000, 500);
  t.same(cluster.destructive, []);
});

t.test('a fault that has passed while the watch lags evicts nobody', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  const state = hurtWorker(cluster);
  await replica.run(58_000, 500);
  state.unhealthy = false;
  await replica.clock.advance(30_000);
  t.same(cluster.destructive, []);
});

t.test('a node that offers all its devices again while the watch lags costs nobody a group', async t => {
  const cluster = new FakeCluster(groupsOf(1, 2), 8);
  const replica = new Replica(cluster, { settings: { nodeShortAfterSeconds: 20 } });
  await replica.run(1_000);
  const whole = cluster.nodes.get('n1');
  if (whole === undefined) throw new Error('no node');
  const half = nodeOf({ name: 'n1', labels: whole.metadata.labels ?? {}, gpu: 4 });
  cluster.nodes.set('n1', half);
  await replica.run(10_000);
  cluster.nodes.set('n1', whole);
  await replica.clock.advance(15_000);
  t.same(cluster.destructive, [], 'the cache still has the node with half of its devices');
  cluster.nodes.set('n1', half);
  await replica.run(5_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1'], 'as one does that lacks them still');
});

t.test('when others delete the leader in background, its workers are told at once', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  await replica.run(1_000);
  cluster.disrupt('uid-llm-0-1', 'DeletionByDeviceTaintManager');
  await replica.run(20_000);
  t.same(cluster.destructive, ['delete-set uid-workers-llm-0-1']);
  t.ok(replica.outcomes.includes('joined'));
  t.ok(replica.outcomes.includes('recovered'));
});

t.test('when others delete a worker, LWS remakes the group and Berth evicts nobody', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  await replica.run(1_000);
  cluster.disrupt('uid-llm-0-1-1');
  await replica.run(20_000);
  t.same(cluster.destructive, []);
  t.notOk(cluster.pods.has('uid-llm-0-1'), 'LWS has remade it');
});

t.test('when others delete a worker and LWS misses it, Berth finishes the group after a moment', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  cluster.lwsMissesWorkers = true;
  const replica = new Replica(cluster);
  await replica.run(1_000);
  cluster.disrupt('uid-llm-0-1-1');
  await replica.run(1_250);
  t.same(cluster.destructive, [], 'LWS has its chance');
  await replica.run(20_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.same(replica.outcomes, ['evicted', 'recovered']);
});

t.test('scale-down, rolling updates and deletes are no failures', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 16);
  const replica = new Replica(cluster);
  await replica.run(1_000);
  cluster.deleteInBackground('uid-llm-0-1');
  await replica.run(20_000);
  const owner = cluster.owners.get('llm');
  if (owner !== undefined) cluster.owners.set('llm', { ...owner, spec: { ...owner.spec, replicas: 1 } });
  await replica.run(20_000);
  cluster.owners.delete('llm');
  await replica.run(20_000);
  t.equal(cluster.pods.size, 0);
  t.same(cluster.destructive, []);
  t.same(replica.outcomes, []);
});

t.test(
  'members on a dead node are left for fencing, with the commands, and it goes on afterwards',
  async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const replica = new Replica(cluster);
    await replica.run(1_000);
    cluster.setReady('n1', 'Unknown');
    await replica.run(110_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
    t.equal(cluster.pods.size, 2, 'the leader and the member on the dead node are left');
    const told = replica.events.filter(event => event.startsWith('FencingNeeded'));
    t.equal(told.length, 1);
    t.match(told[0], /kubectl delete node n1/);
    t.match(told[0], /node\.kubernetes\.io\/out-of-service/);
    cluster.setTaint('n1', 'node.kubernetes.io/out-of-service');
    await replica.run(20_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1'], 'nothing was forced');
    t.ok(replica.outcomes.includes('recovered'));
  },
);

t.test(
  'when most nodes go silent at once nobody is evicted, and coming back evicts nobody either',
  async t => {
    const cluster = new FakeCluster(groupsOf(4, 3), 16);
    const replica = new Replica(cluster);
    await replica.run(1_000);
    for (const name of cluster.nodes.keys()) cluster.setReady(name, 'Unknown');
    await replica.run(300_000, 2_000);
    t.same(cluster.destructive, []);
    replica.controller.reviewAll();
    await replica.run(4_000, 2_000);
    t.ok(cluster.configMaps.has('berth-breaker-mass-failure'));
    for (const name of cluster.nodes.keys()) cluster.setReady(name, 'True');
    await replica.run(300_000, 2_000);
    t.same(cluster.destructive, []);
  },
);

t.test('an administrator resets a breaker by deleting its ConfigMap', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 16);
  const replica = new Replica(cluster);
  await replica.run(1_000);
  for (const name of ['n1', 'n2', 'n3']) cluster.setReady(name, 'Unknown');
  await replica.run(30_000, 1_000);
  replica.controller.reviewAll();
  await replica.run(60_000, 1_000);
  t.ok(replica.brakes.includes('domain-failure'), `${replica.brakes}`);
  t.ok(cluster.configMaps.has('berth-breaker-domain-failure'));
  t.same(cluster.destructive, []);
  cluster.configMaps.delete('berth-breaker-domain-failure');
  replica.controller.reviewAll();
  await replica.run(30_000, 1_000);
  t.notSame(cluster.destructive, []);
  t.notOk(cluster.configMaps.has('berth-breaker-domain-failure'), 'the same nodes do not trip it again');
});

t.test('a tripped breaker is found again by the next holder', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 16);
  const first = new Replica(cluster);
  await first.run(1_000);
  for (const name of ['n1', 'n2', 'n3']) cluster.setReady(name, 'Unknown');
  await first.run(5_000);
  first.controller.reviewAll();
  await first.run(1_000);
  first.kill();
  for (const name of ['n2', 'n3']) cluster.setReady(name, 'True');
  const second = new Replica(cluster);
  await second.run(120_000, 1_000);
  t.same(cluster.destructive, []);
  t.ok(second.brakes.includes('domain-failure'));
});

t.test('fault 26: an eviction whose answer is lost is not made again, though the watch lags', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  let lost = 0;
  cluster.interrupt = ({ path }, when) => {
    if (when === 'before' || !path.endsWith('/eviction')) return;
    lost += 1;
    throw new ApiUnreachable('no answer');
  };
  hurtWorker(cluster);
  await replica.run(59_000, 500);
  await replica.clock.advance(5_000);
  t.equal(lost, 1);
  await replica.run(20_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.ok(replica.outcomes.includes('recovered'));
});

t.test('what a PodDisruptionBudget refuses is held and never deleted instead', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  const causes = [{ reason: 'DisruptionBudget' }];
  cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
  hurtWorker(cluster);
  for (let second = 0; second < 120; second += 1) {
    await replica.run(1_000, 500);
    // Changes of the group are no reason to ask sooner.
    replica.cache.setExcludedNodes(new Map());
    replica.controller.reviewAll();
  }
  t.same(cluster.destructive, []);
  t.equal(replica.events.filter(event => event.startsWith('EvictionHeld')).length, 1);
  t.ok(
    cluster.refusedEvictions >= 3 && cluster.refusedEvictions <= 7,
    `asked once in ten seconds: ${cluster.refusedEvictions} times in the minute since it is ripe`,
  );
  cluster.evictionError = undefined;
  await replica.run(30_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('an eviction that was held for long is decided anew, under all brakes', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const replica = new Replica(cluster);
  const causes = [{ reason: 'DisruptionBudget' }];
  cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
  hurtWorker(cluster);
  await replica.run(90_000, 500);
  t.ok(cluster.refusedEvictions > 0, 'decided, and refused by the API server');
  Object.assign(replica, { room: false });
  await replica.run(11 * 60_000, 5_000);
  cluster.evictionError = undefined;
  await replica.run(60_000, 1_000);
  t.same(cluster.destructive, [], 'meanwhile there is no other place for it');
  Object.assign(replica, { room: true });
  await replica.run(60_000, 1_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('what the book knows', async t => {
  const cluster = new FakeCluster(groupsOf(1, 2), 16);
  hurtWorker(cluster);
  await new Replica(cluster).run(62_000, 500);
  const client: ApiClient = {
    request: request => cluster.request(request),
    stream: () => cluster.stream(),
  };
  const names = { namespace: 'berth-system', configMapName: 'berth-config' };
  const { intents } = await new IntentStore({ client, ...names, timeoutMs: 1_000 }).list();
  const [stored] = intents;
  if (stored === undefined) throw new Error('no intent was made');
  const trial = { ...stored.intent, phase: 'evicting' as const, outcome: undefined };
  const resets: string[] = [];
  let holds = true;
  let tripped = [{ name: 'mass-failure' as const, trippedAtMs: 0, lastBadAtMs: 0, reason: 'many' }];
  const book = new FailureBook({
    store: {
      create: () => Promise.reject(new Error('not asked here')),
      update: () => Promise.reject(new Error('not asked here')),
      list: () => Promise.resolve({ intents: [{ ...stored, intent: trial }], bad: [] }),
      prune: () => Promise.resolve(0),
      breakers: () => Promise.resolve(tripped),
      trip: () => Promise.resolve(),
      reset: () => Promise.resolve(),
      isHalted: () => Promise.resolve(false),
    },
    settings: defaultFailureSettings,
    wallMs: () => trial.times.intent + 1_000,
    mayAct: () => holds,
    readings: () => [
      { name: 'mass-failure', reason: undefined, lastBadAtMs: 0, anyBad: true },
      { name: 'domain-failure', reason: undefined, lastBadAtMs: 0, anyBad: true },
    ],
    isFresh: () => true,
    onReset: name => resets.push(name),
  });
  await book.refresh();
  t.equal(book.breakerStates()['mass-failure'], 'tripped', 'one trial at a time');
  t.equal(book.breakerStates(trial.leaderUid)['mass-failure'], 'half-open', 'which may go on itself');
  book.expire();
  t.equal(book.isRead, false, 'another term of the Lease decides nothing before it has read');
  t.equal(book.intents.length, 1, 'and keeps off the nodes that it knew of until then');

  await book.refresh();
  tripped = [];
  holds = false;
  await book.refresh();
  t.same(resets, [], 'a breaker that the holder has closed was not reset by an administrator');
  tripped = [{ name: 'mass-failure', trippedAtMs: 0, lastBadAtMs: 0, reason: 'many' }];
  await book.refresh();
  tripped = [];
  holds = true;
  await book.refresh();
  t.same(resets, ['mass-failure'], 'the holder knows that it did not close it');
});

t.test('serving groups of one owner are taken down one after the other', async t => {
  const cluster = new FakeCluster(groupsOf(3, 2), 40, 40);
  const replica = new Replica(cluster, { settings: { domainMinNodes: 30 } });
  await replica.run(1_000);
  for (const at of [0, 1, 2]) hurtWorker(cluster, at);
  await replica.run(62_000);
  t.equal(cluster.destructive.length, 1);
  await replica.run(40_000);
  t.equal(cluster.destructive.length, 3);
});

t.test('a group that is hurt again while it comes back is in flight until it serves', async t => {
  const cluster = new FakeCluster(groupsOf(2, 2), 16);
  const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 1, servingBurst: 10 } });
  const [first] = cluster.groups;
  if (first === undefined) throw new Error('no group');
  const load = async (forMs: number, isDone = false) => {
    for (let passed = 0; passed < forMs; passed += 500) {
      for (const state of cluster.podsOf(first))
        if (state.incarnation > 1) state.readyAtMs = isDone ? cluster.nowMs : Number.POSITIVE_INFINITY;
      await replica.run(500);
    }
  };
  hurtWorker(cluster);
  await load(10_000);
  hurtWorker(cluster, 1);
  await load(10_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1'], 'one of the owner is in flight');
  hurtWorker(cluster);
  await load(30_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1', 'evict uid-llm-0-2'], 'and is so still');
  await load(20_000, true);
  t.same(cluster.destructive.slice(2), ['evict uid-llm-1-1']);
});

t.test('of two records of one group the later one says which place is kept', async t => {
  const cluster = new FakeCluster(groupsOf(1, 2), 16);
  const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 1, reserveMinutes: 0.5 } });
  const [group] = cluster.groups;
  if (group === undefined) throw new Error('no group');
  const run = async (forMs: number) => {
    for (let passed = 0; passed < forMs; passed += 500) {
      for (const state of cluster.podsOf(group))
        if (state.incarnation > 1) state.readyAtMs = Number.POSITIVE_INFINITY;
      await replica.run(500);
    }
  };
  hurtWorker(cluster);
  await run(35_000);
  const causes = [{ reason: 'DisruptionBudget' }];
  cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
  hurtWorker(cluster);
  await run(5_000);
  t.equal(replica.phases.get('evicting'), 1, 'the second one is decided, and held');
  t.equal(replica.phases.get('returning'), 1, 'while the first one is not over');
  const kept: number[] = [];
  replica.cache.reservePlace = (_, seats) => kept.push(seats.length);
  await run(15_000);
  t.ok(kept.length > 3, `kept ${kept.length} times`);
  t.ok(
    kept.every(count => count === 2),
    `places for ${kept} members`,
  );
});

t.test('an intent that cannot be read blocks its leader and nothing else', async t => {
  const cluster = new FakeCluster(groupsOf(2, 2), 16);
  const first = new Replica(cluster);
  hurtWorker(cluster);
  await first.run(61_000, 500);
  t.equal(cluster.destructive.length, 1);
  first.kill();
  const [name = ''] = [...cluster.configMaps.keys()].filter(key => key.includes('intent'));
  const map = cluster.configMaps.get(name);
  cluster.configMaps.set(name, {
    ...map,
    metadata: { ...map?.metadata },
    data: { 'intent.json': '{"version":1}' },
  });
  const second = new Replica(cluster);
  hurtWorker(cluster, 1);
  await second.run(90_000, 500);
  t.equal(cluster.destructive.length, 2);
  t.equal(new Set(cluster.destructive).size, 2);
});
