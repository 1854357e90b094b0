import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { type Intent, isIntentError, parseIntent } from '../../../src/failure/intent.ts';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { FakeCluster, type Workload } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

// Longer than it takes by far: machines may be busy.
t.setTimeout(400_000);

interface Parts {
  readonly kind?: Workload['kind'];
  readonly name?: string;
  readonly size?: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A leader and its workers, each made by a controller of its own: what KServe makes of a model on several hosts. */
function addGroup(
  cluster: FakeCluster,
  { kind = 'ReplicaSet', name = 'g', size = 3, annotations }: Parts = {},
) {
  const labels = (rank: number) => ({
    [berth.group]: name,
    [berth.groupSize]: String(size),
    [berth.groupRank]: String(rank),
  });
  const more = annotations && { annotations };
  cluster.addWorkload({ kind, name: `${name}-head`, replicas: 1, labels: () => labels(0), ...more });
  cluster.addWorkload({
    kind,
    name: `${name}-worker`,
    replicas: size - 1,
    labels: i => labels(i + 1),
    ...more,
  });
}

async function scene(parts: Parts = {}, settings: Partial<FailureSettings> = {}) {
  const cluster = new FakeCluster([], 16, 4, { gated: true });
  addGroup(cluster, parts);
  addGroup(cluster, { name: 'calm', size: 2 });
  const replica = new Replica(cluster, { places: true, settings });
  await replica.run(5_000);
  return { cluster, replica };
}

function membersOf(cluster: FakeCluster, name = 'g') {
  return [...cluster.pods.values()]
    .filter(({ pod }) => pod.metadata.labels?.[berth.group] === name)
    .sort((a, b) => rankIn(a) - rankIn(b));
}

function rankIn({
  pod,
}: {
  readonly pod: { readonly metadata: { readonly labels?: Readonly<Record<string, string>> } };
}) {
  return Number(pod.metadata.labels?.[berth.groupRank]);
}

const uidsOf = (cluster: FakeCluster, name = 'g') =>
  membersOf(cluster, name).map(({ pod }) => pod.metadata.uid ?? '');
const evictionsOf = (uids: readonly string[]) => uids.map(uid => `evict ${uid}`).sort();

function memberAt(cluster: FakeCluster, rank: number) {
  const member = membersOf(cluster)[rank];
  if (member === undefined) throw new Error(`no rank ${rank}`);
  return member;
}

function isWhole(cluster: FakeCluster, size: number, name = 'g'): boolean {
  const members = membersOf(cluster, name);
  return (
    members.length === size &&
    members.every(({ pod, readyAtMs }) => pod.spec.nodeName !== undefined && cluster.nowMs >= readyAtMs)
  );
}

function intentsOf(cluster: FakeCluster): readonly Intent[] {
  return [...cluster.configMaps.values()].flatMap(({ data }) => {
    const intent = parseIntent(data?.['intent.json'] ?? '');
    return isIntentError(intent) ? [] : [intent];
  });
}

for (const kind of ['ReplicaSet', 'StatefulSet'] as const) {
  t.test(`a group of pods of ${kind}s with a sick device is evicted once, every member of it`, async t => {
    const { cluster, replica } = await scene({ kind });
    t.ok(isWhole(cluster, 3) && isWhole(cluster, 2, 'calm'), 'placed');
    const before = uidsOf(cluster);
    const calm = uidsOf(cluster, 'calm');
    const sick = memberAt(cluster, 1);
    sick.unhealthy = true;
    await replica.run(55_000, 500);
    t.same(cluster.destructive, [], 'not before it has stood for a minute');
    await replica.run(25_000);
    t.same([...cluster.destructive].sort(), evictionsOf(before), 'each once');
    t.equal(
      cluster.destructive[0],
      `evict ${before[0]}`,
      'the leader first: its plan must not call members back',
    );
    t.ok(isWhole(cluster, 3), 'whole again');
    t.notOk(
      membersOf(cluster).some(({ pod }) => pod.spec.nodeName === sick.pod.spec.nodeName),
      'off the bad node',
    );
    t.same(uidsOf(cluster, 'calm'), calm, 'the other group kept all its pods');
    t.match(intentsOf(cluster), [{ shape: 'labelled', group: 'serving/g', outcome: 'recovered' }]);
    t.same(replica.outcomes, ['evicted', 'recovered']);
    await replica.run(120_000, 1_000);
    t.equal(cluster.destructive.length, 3, 'and never again');
  });
}

t.test('when others evict one member, the rest is finished, and only once', async t => {
  for (const [what, kind, rank] of [
    ['a worker', 'ReplicaSet', 2],
    ['a worker', 'StatefulSet', 1],
    ['the leader', 'ReplicaSet', 0],
    ['the leader', 'StatefulSet', 0],
  ] as const) {
    const { cluster, replica } = await scene({ kind });
    const before = uidsOf(cluster);
    cluster.disrupt(before[rank] ?? '', 'EvictionByEvictionAPI');
    await replica.run(20_000);
    const wanted = before.filter((_, at) => at !== rank);
    const evicted = cluster.destructive.filter(call => before.some(uid => call === `evict ${uid}`));
    t.same([...evicted].sort(), evictionsOf(wanted), `${what} of ${kind}`);
    t.equal(new Set(cluster.destructive).size, cluster.destructive.length);
    t.ok(isWhole(cluster, 3), 'whole again');
    t.notOk(
      uidsOf(cluster).some(uid => before.includes(uid)),
      'all new',
    );
    t.equal(intentsOf(cluster).length, 1, 'one record');
    const calls = cluster.destructive.length;
    await replica.run(120_000, 1_000);
    t.equal(cluster.destructive.length, calls, 'the going of the old is no failure of the new');
  }
});

t.test('a worker that is made anew while its group is held is looked at like the others', async t => {
  const { cluster, replica } = await scene();
  cluster.evictionError = new ApiError({
    status: 429,
    message: 'budget',
    causes: [{ reason: 'DisruptionBudget' }],
  });
  memberAt(cluster, 1).unhealthy = true;
  await replica.run(70_000, 500);
  t.match(intentsOf(cluster), [{ phase: 'evicting', hold: /PodDisruptionBudget/ }], 'held');
  cluster.deleteInBackground(uidsOf(cluster)[2] ?? '');
  await replica.run(5_000);
  const remade = memberAt(cluster, 2);
  const node = remade.pod.spec.nodeName ?? '';
  t.ok(isWhole(cluster, 3), 'and made anew');
  remade.unhealthy = true;
  await replica.run(5_000);
  t.ok(replica.cache.excludedNodes.has(node), 'its fault is seen');
  cluster.evictionError = undefined;
  await replica.run(60_000, 500);
  t.ok(isWhole(cluster, 3));
  t.notOk(
    membersOf(cluster).some(({ pod }) => pod.spec.nodeName === node),
    'and its node is not used again',
  );
});

t.test('deletes and scale-downs are no failures', async t => {
  const { cluster, replica } = await scene();
  cluster.deleteInBackground(uidsOf(cluster)[1] ?? '');
  await replica.run(20_000);
  for (const workload of cluster.workloads) workload.replicas = 0;
  for (const uid of uidsOf(cluster)) cluster.deleteInBackground(uid);
  await replica.run(20_000);
  t.same(cluster.destructive, []);
  t.same(replica.outcomes, []);
});

t.test('nobody is evicted whom nobody would make anew', async t => {
  const optIn = { annotations: { [berth.failure]: 'evict' } };
  const cases: readonly (readonly [string, Parts, (cluster: FakeCluster) => void, RegExp])[] = [
    [
      'a bare pod is among them',
      {},
      cluster => {
        const bare = memberAt(cluster, 2);
        const { ownerReferences: _, ...metadata } = bare.pod.metadata;
        bare.pod = { ...bare.pod, metadata };
      },
      /no controller/,
    ],
    ['a Job would pay for it', { kind: 'Job' }, () => {}, /backoffLimit/],
    [
      'their controller is not known',
      {},
      cluster => {
        const other = memberAt(cluster, 2);
        const owner = { apiVersion: 'ray.io/v1', kind: 'RayCluster', name: 'r', uid: 'r', controller: true };
        other.pod = { ...other.pod, metadata: { ...other.pod.metadata, ownerReferences: [owner] } };
      },
      /RayCluster\.ray\.io/,
    ],
  ];
  for (const [when, parts, change, reason] of cases) {
    const { cluster, replica } = await scene(parts);
    change(cluster);
    memberAt(cluster, 1).unhealthy = true;
    await replica.run(90_000, 500);
    t.same(cluster.destructive, [], when);
    t.equal(intentsOf(cluster).length, 0);
    t.same(replica.brakes.includes('remake'), true, `${replica.brakes}`);
    const held = replica.events.filter(event => event.startsWith('EvictionHeld'));
    t.ok(held.length > 0 && held.every(event => reason.test(event)), `${held}`);
  }
  const { cluster, replica } = await scene({ kind: 'Job', ...optIn });
  const before = uidsOf(cluster);
  memberAt(cluster, 1).unhealthy = true;
  await replica.run(90_000, 500);
  t.same([...cluster.destructive].sort(), evictionsOf(before), 'a Job whose template agrees');
});

t.test('a group that its controllers do not want any more is left alone, and is not waited for', async t => {
  const { cluster, replica } = await scene();
  for (const workload of cluster.workloads) if (workload.name === 'g-worker') workload.replicas = 1;
  memberAt(cluster, 1).unhealthy = true;
  await replica.run(90_000, 500);
  t.same(cluster.destructive, [], 'a ReplicaSet of one would not make two');
  for (const workload of cluster.workloads) if (workload.name === 'g-worker') workload.replicas = 2;
  await replica.run(30_000, 500);
  t.equal(cluster.destructive.length, 3, 'once it would');

  const other = await scene();
  other.cluster.interrupt = ({ path }, when) => {
    if (when === 'after' && path.endsWith('/eviction'))
      for (const workload of other.cluster.workloads) workload.replicas = 0;
  };
  memberAt(other.cluster, 1).unhealthy = true;
  await other.replica.run(120_000, 500);
  t.match(intentsOf(other.cluster), [{ phase: 'closed', outcome: 'owner-gone' }]);
});

t.test('PodDisruptionBudgets must allow all members to go, and what is begun is finished', async t => {
  const { cluster, replica } = await scene();
  const selector = { matchLabels: { [berth.group]: 'g' } };
  const budget = { uid: 'b', namespace: 'serving', name: 'one', selector, upToDate: true };
  cluster.budgets.push({ ...budget, disruptionsAllowed: 2 });
  const before = uidsOf(cluster);
  memberAt(cluster, 1).unhealthy = true;
  await replica.run(90_000, 500);
  t.same(cluster.destructive, [], 'two of three is not enough');
  t.ok(replica.brakes.includes('disruption-budget'), `${replica.brakes}`);
  cluster.budgets.splice(0, 1, { ...budget, disruptionsAllowed: 3 });
  const last = membersOf(cluster)[2]?.pod.metadata.name ?? '';
  const causes = [{ reason: 'DisruptionBudget' }];
  cluster.evictionErrors.set(last, new ApiError({ status: 429, message: 'budget', causes }));
  await replica.run(40_000, 500);
  t.same(
    [...cluster.destructive].sort(),
    evictionsOf(before.slice(0, 2)),
    'the budget was used up by others half way',
  );
  t.match(intentsOf(cluster), [{ phase: 'leaving', hold: /PodDisruptionBudget one/ }]);
  cluster.evictionErrors.clear();
  await replica.run(30_000, 500);
  t.same([...cluster.destructive].sort(), evictionsOf(before), 'finished, not undone');
  t.ok(isWhole(cluster, 3));
});

t.test('who opts out when the leader has gone keeps the rest until he opts in again', async t => {
  const { cluster, replica } = await scene();
  const before = uidsOf(cluster);
  const [leader = ''] = before;
  const calm = uidsOf(cluster, 'calm');
  memberAt(cluster, 1).unhealthy = true;
  for (let tenth = 0; tenth < 900 && cluster.destructive.length === 0; tenth += 1)
    await replica.run(100, 100);
  t.same(cluster.destructive, [`evict ${leader}`], 'the leader first');
  const labels = cluster.namespaceLabels;
  cluster.namespaceLabels = { ...labels, [berth.failure]: 'observe' };
  await replica.run(30_000, 500);
  t.same(cluster.destructive, [`evict ${leader}`], 'nobody else');
  cluster.namespaceLabels = labels;
  await replica.run(30_000, 500);
  t.same([...cluster.destructive].sort(), evictionsOf(before));
  t.same(uidsOf(cluster, 'calm'), calm);
});

t.test('a group that another places, or whose pods opt out, is left alone', async t => {
  const foreign = await scene();
  const member = memberAt(foreign.cluster, 2);
  const labels = { ...member.pod.metadata.labels, 'kueue.x-k8s.io/queue-name': 'q' };
  member.pod = { ...member.pod, metadata: { ...member.pod.metadata, labels } };
  memberAt(foreign.cluster, 1).unhealthy = true;
  await foreign.replica.run(90_000, 500);
  t.same(foreign.cluster.destructive, []);
  const out = await scene({ annotations: { [berth.failure]: 'observe' } });
  memberAt(out.cluster, 1).unhealthy = true;
  await out.replica.run(90_000, 500);
  t.same(out.cluster.destructive, []);
  t.same(out.replica.outcomes, ['would-evict']);
});

t.test(
  'killed at any call, the next process finishes what was begun, with one record and nobody twice',
  async t => {
    // Those between are dry runs.
    for (const at of [1, 2, 5, 6, 7, 8]) {
      for (const when of ['before', 'after'] as const) {
        const { cluster, replica } = await scene();
        const before = uidsOf(cluster);
        let calls = 0;
        cluster.interrupt = ({ method, path }, moment) => {
          if (replica.isDead || moment !== when || method === 'GET' || path.includes('/status')) return;
          if (!path.includes('eviction') && !path.includes('configmaps')) return;
          calls += 1;
          if (calls === at) replica.kill();
        };
        memberAt(cluster, 1).unhealthy = true;
        await replica.run(62_000, 500);
        t.ok(replica.isDead, `killed ${when} call ${at}`);
        const next = new Replica(cluster, { places: true, clock: replica.clock });
        await next.run(90_000, 500);
        t.same([...cluster.destructive].sort(), evictionsOf(before), `${when} call ${at}`);
        t.equal(intentsOf(cluster).length, 1);
        t.ok(isWhole(cluster, 3), `whole, killed ${when} call ${at}`);
      }
    }
  },
);
