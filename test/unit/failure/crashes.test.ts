import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { isIntentError, parseIntent } from '../../../src/failure/intent.ts';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import { FakeClock } from '../kube/fake-clock.ts';
import { FakeCluster, groupsOf } from './fake-cluster.ts';
import { randomOf } from './random-faults.ts';
import { Replica } from './replica.ts';

// Longer than it takes by far: machines may be busy.
t.setTimeout(240_000);

/** Limits out of the way and times short: here it is about steps, not about brakes. */
const settings = {
  unhealthyAfterSeconds: 2,
  nodeUnknownAfterSeconds: 2,
  nodeGoneAfterSeconds: 1,
  fencingAfterSeconds: 5,
  foreignGraceSeconds: 1,
  domainMinNodes: 100,
  massMinNodes: 100,
  servingEvictionsPerSecond: 10,
  servingBurst: 10,
  brokenEvictionsPerSecond: 10,
  brokenBurst: 10,
  inFlightMin: 10,
  inFlightPerOwner: 10,
  inFlightPerDomain: 10,
  restartsPerHour: 100,
  restartsPerDay: 100,
} as const;

interface Story {
  readonly cluster: FakeCluster;
  readonly kills: number;
  readonly log: readonly string[];
}

/** @param drained pods have the readiness gate, and a Service with slow slices stands before all */
async function story(seed: number, drained = false): Promise<Story> {
  const random = randomOf(seed);
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const cluster = new FakeCluster(groupsOf(4, 3, 'llm', { drained }), 24);
  if (drained) {
    cluster.services.set('front', { leaders: true });
    cluster.services.set('llm', { headless: true });
    cluster.sliceLagMs = 1_500;
  }
  const clock = new FakeClock();
  const log: string[] = [];
  let replica = new Replica(cluster, { settings, clock });
  let kills = 0;
  let calm = false;
  cluster.interrupt = ({ method, path }, when) => {
    if (calm || replica.isDead) return;
    // The calls that matter most fail most.
    const isDestructive =
      path.endsWith('/eviction') || path.includes('/statefulsets/') || path.endsWith('/status');
    const dice = random() / (isDestructive ? 4 : 1);
    if (dice < 0.05) {
      log.push(`kill ${when} ${method} ${path}`);
      kills += 1;
      replica.kill();
      throw new ApiUnreachable('killed');
    }
    if (dice < 0.1) throw new ApiUnreachable('no answer');
    if (dice < 0.12 && when === 'before') throw new ApiError({ status: 500, message: 'internal' });
  };
  // The last group is never hurt.
  const victims = cluster.groups.slice(0, 3);
  const faults: readonly (() => void)[] = [
    () => {
      const state = pick(victims.flatMap(group => cluster.podsOf(group)));
      if (state !== undefined) state.unhealthy = true;
    },
    () => {
      const state = pick(victims.flatMap(group => cluster.podsOf(group)));
      if (state !== undefined) cluster.disrupt(state.pod.metadata.uid ?? '');
    },
    () => {
      const state = pick(victims.flatMap(group => cluster.podsOf(group)));
      const node = state?.pod.spec.nodeName;
      if (node === undefined) return;
      cluster.setReady(node, 'Unknown');
      const down = node;
      fences.push({ node: down, atMs: cluster.nowMs + 15_000 });
    },
    () => {
      cluster.lwsMissesWorkers = !cluster.lwsMissesWorkers;
    },
  ];
  const fences: { node: string; atMs: number }[] = [];
  const step = async () => {
    if (replica.isDead) replica = new Replica(cluster, { settings, clock });
    for (const { node, atMs } of fences.splice(0)) {
      if (cluster.nowMs < atMs) fences.push({ node, atMs });
      else cluster.setTaint(node, 'node.kubernetes.io/out-of-service');
    }
    await replica.run(500, 250);
    // The watch lags: calls go on against what the cache shows still.
    await clock.advance(100);
  };
  for (let i = 0; i < 120; i += 1) {
    if (random() < 0.04) pick(faults)?.();
    await step();
  }
  calm = true;
  cluster.lwsMissesWorkers = false;
  // Failed calls back off to 30 s; the reviews of the process come every 30 s.
  for (let i = 0; i < 160; i += 1) {
    if (i % 60 === 0) replica.controller.reviewAll();
    await step();
  }
  return { cluster, kills, log };
}

/** What is wrong after a story: nothing, if all went well. */
function faultsOf({ cluster }: Story): Readonly<Record<string, readonly unknown[]>> {
  const broken = cluster.groups.filter(group => {
    const pods = cluster.podsOf(group);
    return (
      pods.length !== 3 ||
      new Set(pods.map(pod => pod.incarnation)).size !== 1 ||
      pods.some(pod => pod.terminatingAtMs !== undefined || pod.unhealthy)
    );
  });
  const open = [...cluster.configMaps.values()].filter(
    map => map.data?.['intent.json']?.includes('"phase":"closed"') === false,
  );
  const ready = new Set(cluster.readyPods());
  return {
    twice: cluster.destructive.filter((call, at) => cluster.destructive.indexOf(call) !== at),
    broken: broken.map(group => group.key),
    open: open.map(map => map.data?.['intent.json']),
    innocent: [...cluster.pods.values()].filter(
      pod => pod.group === cluster.groups[3] && pod.incarnation !== 1,
    ),
    unready: [...cluster.pods.keys()].filter(uid => !ready.has(uid)),
  };
}

const noFaults = { twice: [], broken: [], open: [], innocent: [], unready: [] };

t.test('a crash between any two steps leaves one eviction per incarnation and whole groups', async t => {
  let kills = 0;
  let evictions = 0;
  let deletes = 0;
  for (let seed = 1; seed <= 10; seed += 1) {
    const told = await story(seed);
    kills += told.kills;
    evictions += told.cluster.destructive.filter(call => call.startsWith('evict')).length;
    deletes += told.cluster.destructive.filter(call => call.startsWith('delete')).length;
    const faults = faultsOf(told);
    if (JSON.stringify(faults) !== JSON.stringify(noFaults))
      t.same(faults, noFaults, `seed ${seed}: ${told.log.join('; ')}`);
  }
  t.ok(kills > 20, `processes were killed ${kills} times`);
  t.ok(evictions > 5, `groups were evicted ${evictions} times`);
  t.ok(deletes > 0, `workers were told ${deletes} times`);
});

t.test('and nobody out of service, where groups drain first', async t => {
  let kills = 0;
  let drained = 0;
  let tooSoon = 0;
  for (let seed = 1; seed <= 5; seed += 1) {
    const told = await story(seed, true);
    kills += told.log.filter(line => line.includes('PATCH') && line.startsWith('kill')).length;
    const faults = faultsOf(told);
    if (JSON.stringify(faults) !== JSON.stringify(noFaults))
      t.same(faults, noFaults, `seed ${seed}: ${told.log.join('; ')}`);
    for (const { data } of told.cluster.configMaps.values()) {
      const intent = parseIntent(data?.['intent.json'] ?? '');
      if (isIntentError(intent) || intent.times.drain === undefined) continue;
      const { writes } = told.cluster;
      const eviction = writes.indexOf(`evict ${intent.leaderUid}`);
      if (eviction === -1) continue;
      drained += 1;
      const last = writes.slice(0, eviction).findLast(write => write.endsWith(` ${intent.leaderUid}`));
      if (last !== `${berth.inService} False ${intent.leaderUid}`) tooSoon += 1;
    }
  }
  t.ok(kills > 10, `processes were killed ${kills} times as they wrote conditions`);
  t.ok(drained > 3, `groups were drained and evicted ${drained} times`);
  t.equal(tooSoon, 0, 'none while its leader was in service');
});
