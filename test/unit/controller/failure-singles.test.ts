import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { countSingles, groupsHitBy } from '../../../src/controller/device-facts.ts';
import { singleShape } from '../../../src/controller/shapes/single-shape.ts';
import { type Intent, isIntentError, parseIntent } from '../../../src/failure/intent.ts';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import { FakeCluster, type FakeClusterOptions, groupsOf, type Workload } from '../failure/fake-cluster.ts';
import { intentOf } from '../failure/intents.ts';
import { Replica } from '../failure/replica.ts';

// Longer than it takes by far: machines may be busy.
t.setTimeout(180_000);

const pinned = { [berth.mode]: 'pin', [berth.singles]: 'pin' };
const unpinned = { [berth.mode]: 'pin' };

interface Parts extends Partial<Workload> {
  readonly namespace?: Readonly<Record<string, string>>;
  readonly cluster?: FakeClusterOptions;
  readonly servesTaintRules?: boolean;
  readonly settings?: Partial<FailureSettings>;
}

/** Pods outside groups with a node each. */
async function scene({
  namespace = pinned,
  cluster: options,
  settings = {},
  servesTaintRules = false,
  ...workload
}: Parts = {}) {
  const cluster = new FakeCluster([], 16, 4, { gated: true, ...options });
  cluster.namespaceLabels = namespace;
  cluster.servesTaintRules = servesTaintRules;
  cluster.addWorkload({ kind: 'ReplicaSet', name: 'web', replicas: 2, ...workload });
  const replica = new Replica(cluster, { places: true, settings });
  await replica.run(5_000);
  return { cluster, replica };
}

const uidsOf = (cluster: FakeCluster) => cluster.podsMadeBy('web').map(({ pod }) => pod.metadata.uid ?? '');

function podAt(cluster: FakeCluster, at: number) {
  const pod = cluster.podsMadeBy('web')[at];
  if (pod === undefined) throw new Error(`no pod ${at}`);
  return pod;
}

function intentsOf(cluster: FakeCluster): readonly Intent[] {
  return [...cluster.configMaps.values()].flatMap(({ data }) => {
    const intent = parseIntent(data?.['intent.json'] ?? '');
    return isIntentError(intent) ? [] : [intent];
  });
}

const isUp = (cluster: FakeCluster, count: number) =>
  cluster.podsMadeBy('web').length === count &&
  cluster
    .podsMadeBy('web')
    .every(({ pod, readyAtMs }) => pod.spec.nodeName !== undefined && cluster.nowMs >= readyAtMs);

for (const kind of ['ReplicaSet', 'StatefulSet'] as const) {
  t.test(`a pod of a ${kind} with a sick device is evicted once and made anew elsewhere`, async t => {
    const { cluster, replica } = await scene({ kind });
    t.ok(isUp(cluster, 2), 'placed');
    const [sickUid = '', calm = ''] = uidsOf(cluster);
    const sick = podAt(cluster, 0);
    sick.unhealthy = true;
    await replica.run(55_000, 500);
    t.same(cluster.destructive, [], 'not before it has stood for a minute');
    await replica.run(25_000);
    t.same(cluster.destructive, [`evict ${sickUid}`]);
    t.ok(isUp(cluster, 2));
    t.ok(uidsOf(cluster).includes(calm), 'the other stayed');
    t.notOk(
      cluster.podsMadeBy('web').some(({ pod }) => pod.spec.nodeName === sick.pod.spec.nodeName),
      'off the bad node',
    );
    t.match(intentsOf(cluster), [
      { shape: 'single', group: `serving/${kind}/web`, outcome: 'recovered', plan: undefined },
    ]);
    t.same(replica.outcomes, ['evicted', 'recovered']);
    t.ok(replica.events.some(event => event.startsWith('GroupRecovered')));
    await replica.run(120_000, 1_000);
    t.equal(cluster.destructive.length, 1, 'and never again');
  });
}

t.test('pods that serve go one after the other, and each closes its own record', async t => {
  const { cluster, replica } = await scene({ replicas: 3 });
  const [first = '', second = ''] = uidsOf(cluster);
  podAt(cluster, 0).unhealthy = true;
  podAt(cluster, 1).unhealthy = true;
  await replica.run(61_000);
  t.equal(cluster.destructive.length, 1, 'one of its owner in flight');
  await replica.run(60_000, 500);
  t.same([...cluster.destructive].sort(), [`evict ${first}`, `evict ${second}`].sort());
  t.match(intentsOf(cluster), [{ outcome: 'recovered' }, { outcome: 'recovered' }]);
  t.ok(isUp(cluster, 3));
});

t.test('a record does not close on the pod that another record has closed on', async t => {
  const cluster = new FakeCluster([], 16, 4);
  cluster.namespaceLabels = pinned;
  cluster.addWorkload({ kind: 'ReplicaSet', name: 'web', replicas: 1 });
  cluster.tick(2_000);
  const [first = ''] = uidsOf(cluster);
  // Both pods of before are gone, and one of two successors is there.
  const remaker = { kind: 'ReplicaSet', name: 'web', uid: 'u', pods: ['old-a', 'old-b'] } as const;
  const recordOf = (leaderUid: string, intentMs: number, more: Partial<Intent> = {}) =>
    intentOf({
      shape: 'single',
      group: 'serving/ReplicaSet/web',
      leaderUid,
      remakers: [remaker],
      phase: 'returning',
      ...more,
      times: { intent: intentMs, evicted: 3_000, gone: 4_000 },
    });
  const [a, b] = [recordOf('a', 1_000), recordOf('b', 2_000)];
  const nextOf = (intent: Intent, ...all: readonly Intent[]) =>
    singleShape.next(cluster.cache(), intent, () => all)?.leaderUid;
  t.equal(nextOf(a, a, b), first, 'the one whose turn it is');
  t.equal(nextOf(b, a, b), undefined);
  const closed = recordOf('a', 1_000, { phase: 'closed', outcome: 'recovered', nextUid: first });
  t.equal(nextOf(b, closed, b), undefined, 'nor once the other is closed');
  for (const { pod } of cluster.podsMadeBy('web')) cluster.deleteInBackground(pod.metadata.uid ?? '');
  cluster.tick(2_000);
  const [second = ''] = uidsOf(cluster);
  t.not(second, first);
  t.equal(nextOf(b, closed, b), second, 'but on its own');
});

t.test('what a controller makes goes only so often', async t => {
  const { cluster, replica } = await scene({
    replicas: 1,
    settings: { restartsPerHour: 2, domainMinNodes: 100, massMinNodes: 100 },
  });
  for (let i = 0; i < 4; i += 1) {
    podAt(cluster, 0).unhealthy = true;
    await replica.run(100_000, 1_000);
  }
  t.ok(replica.brakes.includes('restart-budget'), `${replica.brakes}`);
  t.ok(cluster.destructive.length <= 3, `${cluster.destructive.length}`);
});

t.test('a pod stays whose successor could have the same bad thing again', async t => {
  const { cluster, replica } = await scene({ namespace: unpinned });
  const [sick = ''] = uidsOf(cluster);
  podAt(cluster, 0).unhealthy = true;
  await replica.run(90_000, 500);
  t.same(cluster.destructive, [], 'kube-scheduler knows nothing of the node');
  t.ok(replica.brakes.includes('exclusion'), `${replica.brakes}`);
  t.ok(replica.events.some(event => /EvictionHeld.*same node/.test(event)));
  cluster.namespaceLabels = { [berth.mode]: 'pin-extender' };
  await replica.run(40_000, 500);
  t.same(cluster.destructive, [`evict ${sick}`], 'the extender keeps pods with devices off it');

  const tainted = await scene({ namespace: unpinned });
  const [uid = ''] = uidsOf(tainted.cluster);
  tainted.cluster.setTaint(podAt(tainted.cluster, 0).pod.spec.nodeName ?? '', 'example.com/sick');
  await tainted.replica.run(40_000, 500);
  t.same(tainted.cluster.destructive, [`evict ${uid}`], 'a taint does');
});

t.test('of a device of a claim a taint must tell kube-scheduler', async t => {
  const claims = { namespace: unpinned, cluster: { claims: true } };
  const { cluster, replica } = await scene(claims);
  const [sick = ''] = uidsOf(cluster);
  const node = podAt(cluster, 0).pod.spec.nodeName;
  podAt(cluster, 0).unhealthy = true;
  await replica.run(90_000, 500);
  t.same(cluster.destructive, [], 'nothing does, for no DeviceTaintRules are served');
  t.ok(replica.brakes.includes('exclusion'), `${replica.brakes}`);

  const served = await scene({ ...claims, servesTaintRules: true });
  podAt(served.cluster, 0).unhealthy = true;
  await served.replica.run(90_000, 500);
  t.same(served.cluster.destructive, [`evict ${sick}`], "Berth's own rule does");
  t.notOk(served.cluster.podsMadeBy('web').some(({ pod }) => pod.spec.nodeName === node));
});

t.test('nobody is evicted whom nobody would make anew, or who is not wanted there', async t => {
  const bare = new FakeCluster([], 16, 4);
  bare.namespaceLabels = pinned;
  bare.addSingle('alone', 'n3');
  const replica = new Replica(bare);
  const [state] = bare.pods.values();
  if (state !== undefined) state.unhealthy = true;
  await replica.run(90_000, 500);
  t.same(bare.destructive, []);
  t.ok(
    replica.events.some(event => /EvictionHeld.*no controller/.test(event)),
    `${replica.events}`,
  );

  const cases: readonly (readonly [string, Parts, RegExp | undefined])[] = [
    ['a Job would pay for it', { kind: 'Job' }, /EvictionHeld.*backoffLimit/],
    ['its namespace has not opted in', { namespace: {}, cluster: { gated: false } }, undefined],
    [
      'its namespace only wants to be told',
      { namespace: { ...pinned, [berth.failure]: 'observe' } },
      /WouldEvict/,
    ],
    ['another places it', { labels: () => ({ 'kueue.x-k8s.io/queue-name': 'q' }) }, undefined],
    ['there is no other place', {}, /EvictionHeld.*no other place/],
  ];
  for (const [when, parts, told] of cases) {
    const { cluster, replica: other } = await scene(parts);
    other.room = when !== 'there is no other place';
    podAt(cluster, 0).unhealthy = true;
    await other.run(90_000, 500);
    t.same(cluster.destructive, [], when);
    if (told === undefined) t.same(other.events, [], when);
    else
      t.ok(
        other.events.some(event => told.test(event)),
        `${when}: ${other.events}`,
      );
  }
  const agreed = await scene({ kind: 'Job', annotations: { [berth.failure]: 'evict' } });
  podAt(agreed.cluster, 0).unhealthy = true;
  await agreed.replica.run(90_000, 500);
  t.equal(agreed.cluster.destructive.length, 1, 'control: a Job whose template agrees');
});

t.test('drains and deletes of single pods are nothing to finish', async t => {
  const { cluster, replica } = await scene();
  const [first = '', second = ''] = uidsOf(cluster);
  cluster.disrupt(first, 'EvictionByEvictionAPI');
  cluster.deleteInBackground(second);
  await replica.run(30_000);
  t.same(cluster.destructive, []);
  t.same(replica.outcomes, []);
  t.ok(isUp(cluster, 2));
});

t.test('a budget of disruptions holds it', async t => {
  const { cluster, replica } = await scene({ labels: () => ({ app: 'web' }) });
  const selector = { matchLabels: { app: 'web' } };
  cluster.budgets.push({
    uid: 'b',
    namespace: 'serving',
    name: 'none',
    selector,
    disruptionsAllowed: 0,
    upToDate: true,
  });
  podAt(cluster, 0).unhealthy = true;
  await replica.run(90_000, 500);
  t.same(cluster.destructive, []);
  t.ok(replica.brakes.includes('disruption-budget'), `${replica.brakes}`);
});

t.test('what one object hits is counted pod by pod', async t => {
  const { cluster } = await scene({ replicas: 5, cluster: { claims: true }, namespace: unpinned });
  const selector = { driver: 'gpu.example.com' };
  const taint = { key: 'example.com/all', effect: 'NoSchedule' as const };
  cluster.taintRules.set('all', {
    metadata: { name: 'all', uid: 'all' },
    spec: { deviceSelector: selector, taint },
  });
  const cache = cluster.cache();
  t.equal(groupsHitBy(cache, { kind: 'rule', name: 'all', isNarrow: false }), 5);
  t.equal(countSingles(cache), 5);
  cluster.namespaceLabels = {};
  t.equal(countSingles(cluster.cache()), 0, 'not where Berth has no say');
});

t.test('killed at any call, the next process finishes what was begun, and nobody goes twice', async t => {
  for (let at = 1; at <= 5; at += 1) {
    for (const when of ['before', 'after'] as const) {
      const { cluster, replica } = await scene({ replicas: 1 });
      const [sick = ''] = uidsOf(cluster);
      let calls = 0;
      cluster.interrupt = ({ method, path }, moment) => {
        if (replica.isDead || moment !== when || method === 'GET') return;
        if (!path.includes('eviction') && !path.includes('configmaps')) return;
        calls += 1;
        if (calls === at) replica.kill();
      };
      podAt(cluster, 0).unhealthy = true;
      await replica.run(62_000, 500);
      const next = new Replica(cluster, { places: true, clock: replica.clock });
      replica.kill();
      await next.run(90_000, 500);
      t.same(cluster.destructive, [`evict ${sick}`], `${when} call ${at}`);
      t.match(intentsOf(cluster), [{ outcome: 'recovered' }]);
      t.ok(isUp(cluster, 1));
    }
  }
});

t.test('many single pods do not let more groups be down at once', async t => {
  const cluster = new FakeCluster(
    ['a', 'b', 'c'].flatMap(name => groupsOf(1, 2, name)),
    100,
    2,
  );
  for (let at = 20; at < 100; at += 1) cluster.addSingle(`single-${at}`, `n${at}`);
  const settings = { domainMinNodes: 100, servingBurst: 10, inFlightPerDomain: 10 };
  const replica = new Replica(cluster, { settings });
  const leaders = cluster.groups.flatMap(group => cluster.podsOf(group).slice(0, 1));
  for (const { pod } of leaders) cluster.setTaint(pod.spec.nodeName ?? '', 'example.com/sick');
  await replica.run(1_000, 100);
  t.equal(cluster.destructive.length, 2, 'as with three groups alone');
  t.ok(replica.brakes.includes('in-flight'));
});
