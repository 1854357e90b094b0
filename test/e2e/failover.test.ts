import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import {
  createLws,
  groupsOf,
  listNodes,
  listPods,
  lwsPath,
  makeNamespace,
  openBed,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { assertKept, recordHistory } from './history.ts';
import { checkHistory, plannedNodes } from './invariants.ts';
import type { MortalBerth } from './mortal-berth.ts';
import { holderOf, holderPid, startReplicas } from './replicas.ts';
import { seededRandom, seedOf, shuffled } from './seeded-random.ts';

t.setTimeout(900_000);

const lease = { durationSeconds: 3, renewDeadlineSeconds: 2, retryPeriodSeconds: 0.5 };
const inOneRack = { 'berth.dev/required-topology': 'rack' };
const rules = { domainLabel: 'example.com/rack' };
/** Longer than the Lease lasts and the other one needs to take over. */
const stoppedMs = 6_000;

t.test('two replicas behind a balancer, the Lease holder lost during a burst of 20 groups', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'racks-18', nodes: racks({ racks: 18, hostsPerRack: 4, gpus: 8 }) });
  const replicas = await startReplicas(t, cluster, { lease });
  const seed = seedOf(20_261_124);
  const random = seededRandom(seed);
  t.comment(`seed ${seed}`);

  const kill = async (holder: MortalBerth) => {
    await holder.kill();
    // As a Deployment would.
    return () => holder.start();
  };
  const suspend = async (holder: MortalBerth) => {
    holder.process.kill('SIGSTOP');
    return async () => {
      await delay(stoppedMs);
      holder.process.kill('SIGCONT');
    };
  };

  await t.test('SIGKILL of the Lease holder: no split, no overcommit', t =>
    loseHolderInBurst(t, cluster, replicas, { random, lose: kill, roomAfterMs: 0 }),
  );
  await t.test('SIGKILL of the Lease holder while groups wait for room: no split, no overcommit', t =>
    loseHolderInBurst(t, cluster, replicas, { random, lose: kill, roomAfterMs: 4_000 }),
  );
  await t.test('SIGSTOP for longer than the Lease, then SIGCONT: no split, no overcommit', t =>
    loseHolderInBurst(t, cluster, replicas, { random, lose: suspend, roomAfterMs: 0 }),
  );
  // KWOK takes 1.5 s to let pods go: the room comes when both replicas run again and groups wait for it.
  await t.test('SIGSTOP, and SIGCONT right when room comes free: no split, no overcommit', t =>
    loseHolderInBurst(t, cluster, replicas, { random, lose: suspend, roomAfterMs: stoppedMs - 1_500 }),
  );
});

interface Loss {
  readonly random: () => number;
  /** What it returns brings the holder back. */
  readonly lose: (holder: MortalBerth) => Promise<() => Promise<void>>;
  /** When groups that stand in the way of the burst begin to go, counted from the loss. */
  readonly roomAfterMs: number;
}

/** Takes the holder away somewhere in the middle of a burst. */
async function loseHolderInBurst(
  t: Test,
  cluster: Cluster,
  replicas: readonly MortalBerth[],
  { random, lose, roomAfterMs }: Loss,
): Promise<void> {
  const nodes = await listNodes(cluster);
  const namespace = await makeNamespace(t, cluster);
  const planned = new Set<string>();
  const history = recordHistory(t, cluster, (_type, pod) => {
    if (pod.metadata.namespace === namespace && plannedNodes(pod) !== undefined)
      planned.add(pod.metadata.uid ?? '');
  });
  // A third of the fleet is taken until `roomAfterMs`, so some of the burst has to wait.
  await createLws(cluster, namespace, { name: 'early', replicas: 6, size: 4, annotations: inOneRack });
  await waitForReady(cluster, namespace, 24);
  const holder = await holderOf(cluster, replicas);
  const other = replicas.find(replica => replica !== holder);
  planned.clear();

  // 8 fours, 6 threes and 6 twos need 17 of the 18 racks, whatever their order.
  const sizes = shuffled([...Array(8).fill(4), ...Array(6).fill(3), ...Array(6).fill(2)], random);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const startedMs = Date.now();
  const creating = Promise.all(
    sizes.map((size, i) =>
      createLws(cluster, namespace, {
        name: `burst-${i}`,
        size,
        annotations: inOneRack,
        // Their workers come late: until then nothing but the plan keeps their seats.
        ...(i % 3 === 0 && { spec: { startupPolicy: 'LeaderReady' } }),
      }),
    ),
  );
  const enough = 1 + Math.floor(random() * 8);
  await until(`${enough} groups to be planned`, 60_000, () => planned.size >= enough);
  const lostMs = Date.now();
  const bringBack = await lose(holder);
  const plannedAtLoss = planned.size;
  const returning = bringBack();
  await Promise.all([creating, delay(roomAfterMs)]);
  await cluster.request('PATCH', lwsPath(namespace, 'early'), { spec: { replicas: 0 } });
  await until('the other replica to hold the Lease', 60_000, async () => {
    return other !== undefined && (await holderPid(cluster)) === other.process.pid;
  });
  t.comment(
    `holder lost ${lostMs - startedMs} ms into the burst with ${plannedAtLoss} of 20 groups planned;`,
  );
  t.comment(`the other one holds the Lease ${Date.now() - lostMs} ms later`);
  await returning;
  // What went wrong shows in the history rather than in who was left over.
  const pods = await waitForReady(cluster, namespace, total, 120_000).catch((error: Error) => {
    t.fail(error.message);
    return listPods(cluster, namespace);
  });
  t.comment(`${total} pods ready ${Date.now() - startedMs} ms after the burst began`);
  t.ok(plannedAtLoss < 20, `${plannedAtLoss} of 20 groups were planned when the holder was lost`);
  t.equal(groupsOf(pods).size, 20, 'all groups are there');
  t.strictSame(splitGroups(pods, nodes), [], 'every group is in one rack');
  await history.catchUp();
  assertKept(t, checkHistory(history.changes, rules));
}
