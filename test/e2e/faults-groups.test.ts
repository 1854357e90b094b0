import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { createFleet } from '../../hack/bed/fleets.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  deleteLws,
  groupsOf,
  isGatedByBerth,
  isReady,
  listEvents,
  listPods,
  lwsPath,
  makeNamespace,
  openBed,
  rankOf,
  removeNamespace,
  runBerth,
  until,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';
import { createBudget, evictionAnswer } from './budgets.ts';
import {
  describeCall,
  fastFailure,
  listIntents,
  maintenance,
  reportDevice,
  taintNode,
  watchDestruction,
} from './failures.ts';

t.setTimeout(600_000);

const inOneRack = { 'berth.dev/required-topology': 'rack' };
const failure = {
  ...fastFailure,
  domainMinNodes: 100,
  massMinNodes: 100,
  // The whole fleet is needed again soon after.
  excludeMinutes: 0.25,
};
/** Three times what a fault must stand here. */
const patienceMs = 6_000;
const revisionLabel = 'leaderworkerset.sigs.k8s.io/template-revision-hash';

t.test('groups in the middle of something fail', async t => {
  const cluster = await openBed(t);
  const fleet = { name: 'racks-4', nodes: racks({ racks: 4, hostsPerRack: 4, gpus: 8 }) };
  await withFleet(t, cluster, fleet);
  await runBerth(t, cluster, { failure });

  await t.test('fault 32: a group that is half started is evicted at once', t => halfStarted(t, cluster));
  await t.test('fault 33: the owner goes while its group is away: the record is closed', t =>
    ownerGoes(t, cluster),
  );
  await t.test('fault 39: a drain takes one pod a second: the group goes once, as a whole', t =>
    drained(t, cluster),
  );
  await t.test('fault 43: a device fails during a rolling update: only its group goes, to its revision', t =>
    rolling(t, cluster),
  );
  await t.test('fault 35: LWS and its webhooks do not answer while a group is away: it comes back later', t =>
    withoutLws(t, cluster),
  );
  await t.test('fault 37: no other place: who may wait serves on, who cannot waits gated', t =>
    nowhereToGo(t, cluster),
  );
  // KWOK is slow with a node that was deleted and made again.
  await t.test('fault 22: a node is deleted and one of that name returns: one eviction', t =>
    nodeReturns(t, cluster, fleet.nodes),
  );
});

async function nodeReturns(t: Test, cluster: Cluster, nodes: readonly Node[]): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, { name: 'llama', replicas: 2, size: 2, annotations: inOneRack });
  const before = groupsOf(await waitForReady(cluster, namespace, 4));
  const [leader, worker] = before.get('llama-0') ?? [];
  const lost = worker?.spec.nodeName ?? '';
  const calls = await watchDestruction(cluster);
  await cluster.request('DELETE', `/api/v1/nodes/${lost}`);
  await until('the eviction', 20_000, async () => (await calls.byBerth()).length > 0);
  const again = nodes.filter(({ metadata }) => metadata.name === lost);
  await createFleet(cluster, { name: 'the node', nodes: again });
  await until('the old worker to have ended', 60_000, async () => {
    const left = (await listPods(cluster, namespace)).some(
      ({ metadata }) => metadata.uid === worker?.metadata.uid,
    );
    if (left) await touch(cluster, namespace, worker?.metadata.name ?? '');
    return !left;
  });
  await untilNew(cluster, namespace, 'llama-0', [leader, worker]);
  await assertOneEviction(t, cluster, { namespace, group: 'llama-0', before, calls });
  await createLws(cluster, namespace, {
    name: 'probe',
    size: 1,
    gpus: 8,
    worker: { nodeSelector: { 'kubernetes.io/hostname': lost } },
  });
  await until('the new node to be used', 30_000, async () =>
    (await listPods(cluster, namespace)).some(
      ({ metadata, spec }) => metadata.name === 'probe-0' && spec.nodeName === lost,
    ),
  );
  await delay(patienceMs);
  await assertOneEviction(t, cluster, { namespace, group: 'llama-0', before, calls });
}

/** A real kubelet lists its pods when it comes back; KWOK looks at one when it changes. */
async function touch(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await delay(2_000);
  const metadata = { annotations: { 'example.com/nudged': String(Date.now()) } };
  await cluster
    .request('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, { metadata })
    .catch(() => {});
}

/** A group whose leader never becomes Ready, so that LWS makes no workers. */
async function createHalf(cluster: Cluster, namespace: string): Promise<Pod> {
  await createLws(cluster, namespace, {
    name: 'half',
    size: 2,
    gpus: 1,
    podAnnotations: { 'bed.berth.test/not-ready': 'true' },
    leader: {},
    spec: { startupPolicy: 'LeaderReady' },
  });
  return boundHalf(cluster, namespace, undefined);
}

async function boundHalf(cluster: Cluster, namespace: string, old: Pod | undefined): Promise<Pod> {
  let found: Pod | undefined;
  await until('a leader alone, bound', 60_000, async () => {
    const pods = groupsOf(await listPods(cluster, namespace)).get('half-0') ?? [];
    found = pods.find(
      ({ metadata, spec }) => metadata.uid !== old?.metadata.uid && spec.nodeName !== undefined,
    );
    return pods.length === 1 && found !== undefined;
  });
  if (found === undefined) throw new Error('no leader');
  return found;
}

async function halfStarted(t: Test, cluster: Cluster): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  const leader = await createHalf(cluster, namespace);
  await createBudget(cluster, namespace, 'half', 'leader', {
    maxUnavailable: 0,
    unhealthyPodEvictionPolicy: 'AlwaysAllow',
  });
  const before = groupsOf(await listPods(cluster, namespace));
  const calls = await watchDestruction(cluster);
  await reportDevice(cluster, leader, 'Unhealthy');
  const next = await boundHalf(cluster, namespace, leader);
  t.not(next.spec.nodeName, leader.spec.nodeName, 'on another node');
  await assertOneEviction(t, cluster, { namespace, group: 'half-0', before, calls, phase: 'returning' });
}

async function ownerGoes(t: Test, cluster: Cluster): Promise<void> {
  const [scaled, deleted] = [await makeNamespace(t, cluster), await makeNamespace(t, cluster)];
  const calls = await watchDestruction(cluster);
  for (const namespace of [scaled, deleted]) {
    const leader = await createHalf(cluster, namespace);
    await reportDevice(cluster, leader, 'Unhealthy');
    await boundHalf(cluster, namespace, leader);
  }
  const phases = async () =>
    (await listIntents(cluster))
      .filter(({ group }) => [scaled, deleted].some(namespace => group.startsWith(`${namespace}/`)))
      .map(({ phase, outcome }) => `${phase} ${outcome}`);
  t.strictSame(await phases(), ['returning undefined', 'returning undefined'], 'both records are open');
  await cluster.request('PATCH', lwsPath(scaled, 'half'), { spec: { replicas: 0 } });
  await removeNamespace(cluster, deleted);
  await until('the records to be closed', 40_000, async () =>
    (await phases()).every(text => text === 'closed owner-gone'),
  );
  await delay(2_000);
  t.strictSame(await listPods(cluster, scaled), [], 'nothing is made again');
  t.strictSame(
    (await calls.byBerth()).map(({ namespace, name }) => `${namespace}/${name}`).sort(),
    [`${deleted}/half-0`, `${scaled}/half-0`].sort(),
    'each was evicted once',
  );
}

async function drained(t: Test, cluster: Cluster): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  const uids = uidsSeen(t, cluster, namespace);
  // Two members on each node.
  for (const name of ['llama', 'other'])
    await createLws(cluster, namespace, { name, size: 4, gpus: 4, annotations: inOneRack });
  const before = groupsOf(await waitForReady(cluster, namespace, 8));
  const group = before.get('llama-0') ?? [];
  const node = group[0]?.spec.nodeName ?? '';
  t.teardown(() => cluster.request('PATCH', `/api/v1/nodes/${node}`, { spec: { unschedulable: null } }));
  const calls = await watchDestruction(cluster);
  await cluster.request('PATCH', `/api/v1/nodes/${node}`, { spec: { unschedulable: true } });
  const onNode = group.filter(({ spec }) => spec.nodeName === node).sort((a, b) => rankOf(b) - rankOf(a));
  t.ok(onNode.length > 1, `${onNode.length} members are on the node`);
  for (const { metadata } of onNode) {
    t.comment(`${metadata.name}: ${await evictionAnswer(cluster, metadata, { dryRun: false })}`);
    await delay(1_000);
  }
  await untilNew(cluster, namespace, 'llama-0', group);
  await delay(patienceMs);
  const ofGroup = [...uids].filter(([name]) => name.startsWith('llama'));
  t.strictSame(
    ofGroup.map(([name, seen]) => `${name} ${seen.size}`).sort(),
    group.map(({ metadata }) => `${metadata.name} 2`).sort(),
    'every member was made anew once',
  );
  const after = groupsOf(await listPods(cluster, namespace));
  t.notOk(
    after.get('llama-0')?.some(({ spec }) => spec.nodeName === node),
    'off the drained node',
  );
  t.strictSame(uidsOf(after.get('other-0')), uidsOf(before.get('other-0')), 'the other group kept all UIDs');
  const { spec } = await cluster.request<Node>('GET', `/api/v1/nodes/${node}`);
  t.equal((spec as { unschedulable?: boolean }).unschedulable, true, 'the cordon is left alone');
  t.ok((await calls.byAnybody(namespace)).length > 0, 'what the drain did is seen');
  t.notOk(
    (await calls.byBerth()).some(({ subresource }) => subresource === 'eviction'),
    'Berth evicted nobody besides',
  );
}

async function rolling(t: Test, cluster: Cluster): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  const rollingUpdateConfiguration = { partition: 1, maxUnavailable: 1, maxSurge: 0 };
  await createLws(cluster, namespace, {
    name: 'llama',
    replicas: 2,
    size: 2,
    annotations: inOneRack,
    spec: { rolloutStrategy: { type: 'RollingUpdate', rollingUpdateConfiguration } },
  });
  const first = groupsOf(await waitForReady(cluster, namespace, 4));
  const calls = await watchDestruction(cluster);
  await cluster.request(
    'PATCH',
    lwsPath(namespace, 'llama'),
    [
      {
        op: 'replace',
        path: '/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image',
        value: 'model-server:2',
      },
    ],
    'application/json-patch+json',
  );
  await untilNew(cluster, namespace, 'llama-1', first.get('llama-1') ?? []);
  const before = groupsOf(await waitForReady(cluster, namespace, 4));
  await delay(2_000);
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'the update is no failure');
  t.strictSame(await intentsOf(cluster, namespace), [], 'nor is there a record of it');
  const [, victim] = before.get('llama-0') ?? [];
  if (victim === undefined) throw new Error('llama-0 has no worker');
  await reportDevice(cluster, victim, 'Unhealthy');
  await untilNew(cluster, namespace, 'llama-0', before.get('llama-0') ?? []);
  await assertOneEviction(t, cluster, { namespace, group: 'llama-0', before, calls });
  const after = groupsOf(await listPods(cluster, namespace));
  const revisions = (pods: readonly Pod[] = []) => [
    ...new Set(pods.map(({ metadata }) => metadata.labels?.[revisionLabel])),
  ];
  t.strictSame(revisions(after.get('llama-0')), revisions(first.get('llama-0')), 'at the revision it had');
  t.strictNotSame(revisions(after.get('llama-1')), revisions(first.get('llama-1')), 'unlike the updated one');
}

async function withoutLws(t: Test, cluster: Cluster): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, { name: 'llama', replicas: 2, size: 2, annotations: inOneRack });
  const before = groupsOf(await waitForReady(cluster, namespace, 4));
  const [, worker] = before.get('llama-0') ?? [];
  if (worker === undefined) throw new Error('llama-0 has no worker');
  const calls = await watchDestruction(cluster);
  cluster.signal('lws', 'SIGSTOP');
  t.teardown(() => cluster.signal('lws', 'SIGCONT'));
  await reportDevice(cluster, worker, 'Unhealthy');
  await until('the eviction', 40_000, async () => (await calls.byBerth()).length > 0);
  await delay(2 * patienceMs);
  const uids = new Set(uidsOf(before.get('llama-0')));
  const now = groupsOf(await listPods(cluster, namespace)).get('llama-0') ?? [];
  t.notOk(
    now.some(pod => isReady(pod) && !uids.has(pod.metadata.uid)),
    'it is not back',
  );
  t.strictSame((await calls.byBerth()).map(describeCall), ['create pods/eviction llama-0 201']);
  t.equal((await intentsOf(cluster, namespace)).filter(({ phase }) => phase !== 'closed').length, 1);
  cluster.signal('lws', 'SIGCONT');
  await untilNew(cluster, namespace, 'llama-0', before.get('llama-0') ?? []);
  await assertOneEviction(t, cluster, { namespace, group: 'llama-0', before, calls });
  const after = groupsOf(await listPods(cluster, namespace)).get('llama-0') ?? [];
  t.notOk(
    after.some(({ spec }) => spec.nodeName === worker.spec.nodeName),
    'where its plan says, off the bad node',
  );
}

async function nowhereToGo(t: Test, cluster: Cluster): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  for (const name of ['doubtful', 'sure', 'filler', 'stuffing'])
    await createLws(cluster, namespace, { name, size: 4, annotations: inOneRack });
  const before = groupsOf(await waitForReady(cluster, namespace, 16, 90_000));
  const [, worker] = before.get('doubtful-0') ?? [];
  const sick = before.get('sure-0')?.[0]?.spec.nodeName ?? '';
  if (worker === undefined) throw new Error('no worker');
  const calls = await watchDestruction(cluster);
  await reportDevice(cluster, worker, 'Unhealthy');
  t.teardown(() => taintNode(cluster, sick, []));
  await taintNode(cluster, sick, [maintenance]);
  await until('the certain one to wait gated', 40_000, async () => {
    const pods = groupsOf(await listPods(cluster, namespace)).get('sure-0') ?? [];
    return (
      pods.length > 0 && pods.every(isGatedByBerth) && uidsOf(pods)[0] !== uidsOf(before.get('sure-0'))[0]
    );
  });
  await until('the suspect one to be held', 20_000, async () =>
    (await listEvents(cluster, namespace)).some(
      ({ reason, message, involvedObject }) =>
        reason === 'EvictionHeld' &&
        involvedObject.name === 'doubtful-0' &&
        message.includes('there is no other place for it'),
    ),
  );
  await delay(patienceMs);
  const held = groupsOf(await listPods(cluster, namespace));
  t.strictSame(uidsOf(held.get('doubtful-0')), uidsOf(before.get('doubtful-0')), 'what is suspect serves on');
  t.notOk(
    (await calls.byBerth()).some(({ name }) => name === 'doubtful-0'),
    'Berth did not touch it',
  );
  for (const name of ['filler', 'stuffing']) await deleteLws(cluster, namespace, name);
  await untilNew(cluster, namespace, 'sure-0', before.get('sure-0') ?? []);
  await untilNew(cluster, namespace, 'doubtful-0', before.get('doubtful-0') ?? []);
  t.strictSame(
    (await calls.byBerth()).filter(({ name }) => name === 'doubtful-0').map(describeCall),
    ['create pods/eviction doubtful-0 201'],
    'it is evicted once there is a place',
  );
  const after = await waitForReady(cluster, namespace, 8);
  t.notOk(
    after.some(({ spec }) => spec.nodeName === sick || spec.nodeName === worker.spec.nodeName),
    'off the bad nodes',
  );
  t.equal((await intentsOf(cluster, namespace)).length, 2, 'one record each');
}

/** Waits until the group is whole without any of its old members. */
async function untilNew(
  cluster: Cluster,
  namespace: string,
  group: string,
  old: readonly (Pod | undefined)[],
): Promise<void> {
  const uids = new Set(old.map(pod => pod?.metadata.uid));
  await until(`${group} to be new and whole`, 90_000, async () => {
    const pods = groupsOf(await listPods(cluster, namespace)).get(group) ?? [];
    return (
      pods.length === old.length &&
      pods.every(({ metadata, spec }) => !uids.has(metadata.uid) && spec.nodeName !== undefined)
    );
  });
}

/** Berth evicted that group once and did nothing else, by one record; other groups are what they were. */
async function assertOneEviction(
  t: Test,
  cluster: Cluster,
  {
    namespace,
    group,
    before,
    calls,
    phase = 'closed',
  }: {
    readonly namespace: string;
    readonly group: string;
    readonly before: ReadonlyMap<string, readonly Pod[]>;
    readonly calls: Awaited<ReturnType<typeof watchDestruction>>;
    readonly phase?: string;
  },
): Promise<void> {
  await until(`the record to be ${phase}`, 30_000, async () =>
    (await intentsOf(cluster, namespace)).every(intent => intent.phase === phase),
  );
  t.strictSame((await calls.byBerth()).map(describeCall), [`create pods/eviction ${group} 201`]);
  t.equal((await intentsOf(cluster, namespace)).length, 1, 'one record');
  const after = groupsOf(await listPods(cluster, namespace));
  for (const [other, pods] of before)
    if (other !== group) t.strictSame(uidsOf(after.get(other)), uidsOf(pods), `${other} kept all UIDs`);
}

async function intentsOf(cluster: Cluster, namespace: string) {
  return (await listIntents(cluster)).filter(({ group }) => group.startsWith(`${namespace}/`));
}

/** UIDs of each pod name, from now on. */
function uidsSeen(t: Test, cluster: Cluster, namespace: string): ReadonlyMap<string, ReadonlySet<string>> {
  const seen = new Map<string, Set<string>>();
  watchPods(t, cluster, namespace, (_, { metadata: { name = '', uid = '' } }) => {
    seen.set(name, (seen.get(name) ?? new Set()).add(uid));
  });
  return seen;
}

function uidsOf(pods: readonly Pod[] = []): readonly (string | undefined)[] {
  return pods.map(({ metadata }) => metadata.uid);
}
