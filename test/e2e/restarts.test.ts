import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { type Fleet, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod, StatefulSet } from '../../src/api/kubernetes.ts';
import {
  createLws,
  groupsOf,
  type LwsShape,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { assertKept, recordHistory } from './history.ts';
import { checkHistory, pinOf, plannedNodes } from './invariants.ts';
import { type MortalBerth, startMortalBerth } from './mortal-berth.ts';
import { seededRandom, seedOf, shuffled } from './seeded-random.ts';

t.setTimeout(900_000);

/** A new process waits this long for the Lease of a killed one. */
const lease = { durationSeconds: 2, renewDeadlineSeconds: 1.5, retryPeriodSeconds: 0.4 };
const inOneRack = { 'berth.dev/required-topology': 'rack' };
const notReady = 'bed.berth.test/not-ready';
const rules = { domainLabel: 'example.com/rack' };
const kills = 20;

t.test('kill -9 between the pin of the leader and the creation of its workers', async t => {
  const cluster = await openBed(t);
  // As many racks as groups: whoever forgets a seat gives it to somebody else.
  await withFleet(t, cluster, fleetOf(4));
  const berth = await startMortalBerth(t, cluster, { lease });

  await t.test('exclusive topology: after a restart workers land exactly where the plan says', t =>
    workersLandAsPlanned(t, cluster, berth, {
      shape: { annotations: { 'leaderworkerset.sigs.k8s.io/exclusive-topology': 'example.com/rack' } },
      // LWS makes the workers as soon as their leader is bound.
      holdWorkers: () => cluster.stopComponent('kube-scheduler'),
      letWorkersCome: () => cluster.startComponent('kube-scheduler'),
    }),
  );

  await t.test('startupPolicy LeaderReady: after a restart workers land exactly where the plan says', t =>
    workersLandAsPlanned(t, cluster, berth, {
      shape: {
        annotations: inOneRack,
        podAnnotations: { [notReady]: 'true' },
        spec: { startupPolicy: 'LeaderReady' },
      },
      holdWorkers: async () => {},
      letWorkersCome: async leaders => {
        await Promise.all(leaders.map(leader => annotate(cluster, leader, { [notReady]: null })));
      },
    }),
  );
});

interface LateWorkers {
  readonly shape: Partial<LwsShape>;
  readonly holdWorkers: () => Promise<void>;
  readonly letWorkersCome: (leaders: readonly Pod[]) => Promise<void>;
}

async function workersLandAsPlanned(
  t: Test,
  cluster: Cluster,
  berth: MortalBerth,
  { shape, holdWorkers, letWorkersCome }: LateWorkers,
): Promise<void> {
  const namespace = await makeNamespace(t, cluster);
  const history = recordHistory(t, cluster);
  await holdWorkers();
  await createLws(cluster, namespace, { name: 'late', replicas: 3, size: 4, ...shape });
  await until('three leaders with a plan', 60_000, async () => {
    const pods = await listPods(cluster, namespace);
    return pods.filter(pod => plannedNodes(pod) !== undefined).length === 3;
  });
  await berth.kill();
  const leaders = await listPods(cluster, namespace);
  t.strictSame(
    leaders.map(pod => [pod.metadata.name, pinOf(pod) !== '']),
    [
      ['late-0', true],
      ['late-1', true],
      ['late-2', true],
    ],
    'when Berth is killed, leaders are pinned and no worker exists',
  );

  await letWorkersCome(leaders);
  // A rival for the room of those workers: it fits nowhere but in the fourth rack.
  await createLws(cluster, namespace, { name: 'rival', size: 3, annotations: inOneRack });
  await until('StatefulSets of the workers', 60_000, async () => {
    const sets = await cluster.request<{ items: unknown[] }>(
      'GET',
      `/apis/apps/v1/namespaces/${namespace}/statefulsets`,
    );
    return sets.items.length === 5;
  });
  t.equal((await listPods(cluster, namespace)).length, 3, 'without Berth no worker is admitted');

  const startedMs = Date.now();
  await berth.start();
  await until('all members to be bound', 90_000, async () => {
    const pods = await listPods(cluster, namespace);
    return pods.length === 15 && pods.every(pod => pod.spec.nodeName !== undefined);
  });
  t.comment(`all members bound ${Date.now() - startedMs} ms after the restart began`);
  const pods = await listPods(cluster, namespace);
  for (const leader of leaders) {
    const nodes = plannedNodes(leader);
    const group = groupsOf(pods).get(leader.metadata.name ?? '') ?? [];
    t.strictSame(
      group.map(pod => [rankOf(pod), pod.spec.nodeName]),
      nodes?.map((node, rank) => [rank, node]),
      `${leader.metadata.name}: ranks are where the plan from before the kill says`,
    );
    const now = group.find(pod => rankOf(pod) === 0);
    t.equal(
      now?.metadata.annotations?.['berth.dev/plan'],
      leader.metadata.annotations?.['berth.dev/plan'],
      'that plan is still in force',
    );
  }
  t.strictSame(splitGroups(pods, await listNodes(cluster)), [], 'no group is split');
  await history.catchUp();
  assertKept(t, checkHistory(history.changes, rules));
}

t.test(`kill -9 at ${kills} random moments of a burst of 20 groups: all are whole in the end`, async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, fleetOf(18));
  const nodes = await listNodes(cluster);
  const berth = await startMortalBerth(t, cluster, {
    lease: { durationSeconds: 1, renewDeadlineSeconds: 0.8, retryPeriodSeconds: 0.2 },
  });
  const seed = seedOf(20_261_123);
  const random = seededRandom(seed);
  t.comment(`seed ${seed}`);
  const namespace = await makeNamespace(t, cluster);
  const history = recordHistory(t, cluster);

  // 8 fours, 6 threes and 6 twos, in any order: 17 racks of four at best, 62 pods.
  const sizes = shuffled([...Array(8).fill(4), ...Array(6).fill(3), ...Array(6).fill(2)], random);
  const create = (size: number, i: number) =>
    createLws(cluster, namespace, {
      name: `burst-${i}`,
      size,
      annotations: inOneRack,
      ...(i % 3 === 0 && { spec: { startupPolicy: 'LeaderReady' } }),
    });
  const startedMs = Date.now();
  let midway = 0;
  let killed = 0;
  for (const [i, size] of sizes.entries()) {
    // Most are killed at work, some while they wait for the Lease of their predecessor.
    if (random() < 0.75) await until('the Lease to be taken over', 30_000, () => isHolder(berth));
    const afterMs = random() * 400;
    await Promise.all([create(size, i), delay(afterMs)]);
    const before = countPods([...history.pods.values()], namespace);
    await berth.kill();
    killed += 1;
    const wanted = sizes.slice(0, i + 1).reduce((sum, n) => sum + n, 0);
    if (before.bound < wanted) midway += 1;
    t.comment(
      `kill ${killed} after ${Date.now() - startedMs} ms: ${wanted} pods of ${i + 1} groups wanted, ${before.planned} groups planned, pods ${before.gated} gated, ${before.pinned} pinned, ${before.bound} bound`,
    );
    await berth.start();
  }
  t.equal(killed, kills, 'Berth was killed as often as the name says');
  t.ok(midway >= kills / 2, `${midway} of the kills came while groups were not complete`);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const stop = rouseStatefulSets(cluster, namespace);
  const pods = await waitForReady(cluster, namespace, total, 180_000).catch((error: Error) => {
    t.fail(error.message);
    return listPods(cluster, namespace);
  });
  await stop();
  t.comment(`${total} pods ready after ${Date.now() - startedMs} ms`);
  t.strictSame(splitGroups(pods, nodes), [], 'every group is in one rack');
  t.equal(groupsOf(pods).size, 20, 'all groups are there');
  await history.catchUp();
  assertKept(t, checkHistory(history.changes, rules));
});

interface Sized extends StatefulSet {
  readonly spec: { readonly replicas: number };
  readonly status: { readonly replicas?: number };
}

/**
 * A controller that was refused pods comes back later each time, after minutes in the end; a change of the StatefulSet has
 * it try at once.
 */
function rouseStatefulSets(cluster: Cluster, namespace: string): () => Promise<void> {
  const path = `/apis/apps/v1/namespaces/${namespace}/statefulsets`;
  const ended = new AbortController();
  const loop = (async () => {
    for (let round = 0; !ended.signal.aborted; round += 1) {
      const { items } = await cluster.request<{ items: Sized[] }>('GET', path);
      const short = items.filter(({ spec, status }) => (status.replicas ?? 0) < spec.replicas);
      for (const { metadata } of short)
        await cluster.request('PATCH', `${path}/${metadata.name}`, {
          metadata: { annotations: { 'example.com/roused': String(round) } },
        });
      await delay(5_000, undefined, { signal: ended.signal }).catch(() => {});
    }
  })();
  return async () => {
    ended.abort();
    await loop;
  };
}

async function isHolder(berth: MortalBerth): Promise<boolean> {
  return /^berth_lease_holder 1$/m.test(await berth.process.metrics());
}

function fleetOf(count: number): Fleet {
  return { name: `racks-${count}`, nodes: racks({ racks: count, hostsPerRack: 4, gpus: 8 }) };
}

function countPods(pods: readonly Pod[], namespace: string) {
  const own = pods.filter(pod => pod.metadata.namespace === namespace);
  const unbound = own.filter(pod => pod.spec.nodeName === undefined);
  return {
    planned: own.filter(pod => plannedNodes(pod) !== undefined).length,
    gated: unbound.filter(pod => (pod.spec.schedulingGates ?? []).length > 0).length,
    pinned: unbound.filter(pod => pinOf(pod) !== '').length,
    bound: own.length - unbound.length,
  };
}

async function annotate(
  cluster: Cluster,
  pod: Pod,
  annotations: Readonly<Record<string, string | null>>,
): Promise<void> {
  const { namespace, name } = pod.metadata;
  await cluster.request('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, {
    metadata: { annotations },
  });
}
