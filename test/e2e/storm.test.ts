import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { installBerth, webhookUrlOf } from '../../hack/bed/berth.ts';
import { type Fleet, p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  groupsOf,
  isReady,
  listEvents,
  listPods,
  nudger,
  openBed,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { claiming, createClaimTemplate, deviceNamespaces, exactly } from './devices.ts';
import { forgetExclusions, forgetFailures, listIntents } from './failures.ts';
import { startFaultProxy } from './fault-proxy.ts';
import { startReplicas } from './replicas.ts';
import { seededRandom, seedOf } from './seeded-random.ts';
import { StormFaults, type StormScene } from './storm-faults.ts';
import { StormHardships } from './storm-hardships.ts';
import { recordStorm } from './storm-history.ts';
import { judgeStorm } from './storm-judge.ts';
import { type FaultKind, faultKinds, type Planned, planStorm } from './storm-plan.ts';
import { scaledFailure } from './time-scale.ts';

t.setTimeout(900_000);

const wantedFaults = Number(process.env['BERTH_FAULTS'] ?? 200);
const msPerFault = 1_100;
/** A fault that finds nobody to hurt waits, but not longer than so long after the planned end. */
const lateMs = 60_000;
const slowMs = 20_000;
/** After the last repair every group must be whole within so long. */
const calmMs = 90_000;
/** Long enough for a machine that has more to do, short enough that many are killed while they hold it. */
const lease = { durationSeconds: 6, renewDeadlineSeconds: 5, retryPeriodSeconds: 1 };
const size = 3;
const owners = ['amber', 'blue', 'coral', 'dusk'];
const racksInStorm = 8;
const weather = 'example.com/weather';

/** They must bite now and then, and let through what there is. */
const limits = {
  servingEvictionsPerSecond: 0.5,
  servingBurst: 2,
  brokenEvictionsPerSecond: 1,
  brokenBurst: 2,
  inFlightMin: 3,
  inFlightPerOwner: 1,
};
/** Faults rain on eight groups: breakers and what counts by hours would see nothing but a cluster that burns down. */
const open = {
  domainMinNodes: 1_000,
  massMinNodes: 1_000,
  deviceMinCount: 1_000,
  deviceMassMinCount: 1_000,
  poisonDevices: 1_000,
  poisonNodes: 1_000,
  restartsPerHour: 1_000,
  restartsPerDay: 1_000,
  flapCount: 1_000,
  excludeMinutes: 0.25,
  probationSeconds: 5,
};

t.test(
  `fault 44: a storm of ${wantedFaults} faults, while Berth is killed and its watches are cut`,
  async t => {
    const cluster = await openBed(t);
    const fleet = stormFleet();
    await withFleet(t, cluster, fleet);
    const seed = seedOf(20_261_130);
    t.comment(`seed ${seed}`);
    const failure = scaledFailure(t, 1 / 30, { mode: 'evict', ...open, ...limits });
    // For its service account; the replicas tell their address when they start.
    await installBerth(cluster, { webhookUrl: webhookUrlOf(1) });
    const proxy = await startFaultProxy(t, cluster);
    t.teardown(() => forgetFailures(cluster));
    t.teardown(() => forgetExclusions(cluster));
    const { kubeconfigPath } = proxy;
    const replicas = await startReplicas(t, cluster, { lease, failure, kubeconfigPath });
    t.teardown(() => proxy.releaseWatches());

    const history = await recordStorm(t, cluster);
    const namespace = await deviceNamespaces(t, cluster)(t);
    await createClaimTemplate(cluster, namespace, 'gpus', [exactly('gpu', 'gpu.nvidia.com', { count: 3 })]);
    await createClaimTemplate(cluster, namespace, 'gpu', [exactly('gpu', 'gpu.nvidia.com', { count: 1 })]);
    const place = (name: string, replicas: number, members: number, template: string, where: string) =>
      createLws(cluster, namespace, {
        name,
        replicas,
        size: members,
        annotations: { 'berth.dev/required-topology': 'rack' },
        worker: { ...claiming({ templates: { gpus: template } }), nodeSelector: { [weather]: where } },
      });
    // One is out of the way, the other shares a node with groups that are hurt.
    await place('bystander', 1, size, 'gpus', 'calm');
    await place('neighbour', 1, 2, 'gpu', 'storm');
    const innocents = await waitForReady(cluster, namespace, size + 2);
    for (const name of owners) await place(name, 2, size, 'gpus', 'storm');
    await waitForReady(cluster, namespace, size + 2 + 2 * size * owners.length);
    const neighbours = innocents.filter(({ metadata }) => metadata.name?.startsWith('neighbour'));
    const gentleNodes = new Set(neighbours.map(({ spec }) => spec.nodeName ?? ''));

    const scene: StormScene = {
      cluster,
      namespace,
      history,
      victims: owners,
      fleet: new Map(fleet.nodes.map(node => [node.metadata.name ?? '', node])),
      gentleNodes,
    };
    const faults = new StormFaults(scene);
    const hardships = new StormHardships(cluster, replicas, proxy);
    const stormMs = wantedFaults * msPerFault;
    const plan = planStorm(seededRandom(seed), wantedFaults, stormMs);
    const stopKubelets = keepKubelets(scene, faults);
    t.teardown(stopKubelets);
    const startedMs = Date.now();
    const endsMs = startedMs + stormMs + lateMs;
    const counts = new Map<FaultKind, number>();
    await Promise.all([
      ...plan.faults.map(async fault => {
        await delay(fault.atMs);
        await befall(faults, fault, endsMs);
        counts.set(fault.kind, (counts.get(fault.kind) ?? 0) + 1);
      }),
      ...plan.hardships.map(async hardship => {
        await delay(hardship.atMs);
        await hardships.play(hardship);
      }),
    ]);
    const calmSinceMs = Date.now();
    t.comment(`${wantedFaults} faults in ${calmSinceMs - startedMs} ms: ${JSON.stringify([...counts])}`);
    await t.test('no group is stuck when it is over', t => calmDown(t, scene));
    t.comment(`all whole ${Date.now() - calmSinceMs} ms after the last repair`);
    await stopKubelets();

    await history.catchUp();
    const findings = judgeStorm({
      changes: history.changes,
      calls: await history.calls(),
      halts: hardships.halts,
      innocents: new Set(innocents.map(({ metadata }) => metadata.uid ?? '')),
      size,
      // A share of ten groups is less.
      limits: { ...limits, inFlight: limits.inFlightMin },
    });
    const { violations, ...figures } = findings;
    t.comment(JSON.stringify({ ...figures, ...hardships.counts, halts: hardships.halts.length }));
    t.strictSame(violations, [], 'every promise was kept at every moment');
    await controls(t, scene, { counts, hardships, findings });
  },
);

/** One fault, from its moment to its repair. */
async function befall(
  faults: StormFaults,
  { kind, pick, lastsMs }: Planned<FaultKind>,
  endsMs: number,
): Promise<void> {
  let repair = await faults.inject(kind, pick);
  while (repair === undefined) {
    if (Date.now() > endsMs) throw new Error(`there was nobody whom "${kind}" could happen to`);
    await delay(500);
    repair = await faults.inject(kind, pick);
  }
  await delay(lastsMs);
  // On a slow machine what nobody but Berth acts on stands longer, or there would be little to judge.
  while (repair.isSettled?.() === false && Date.now() < endsMs - lateMs + slowMs) await delay(500);
  await repair();
}

async function calmDown(t: Test, { cluster, namespace, victims }: StormScene): Promise<void> {
  let stuck: readonly string[] = ['nothing was looked at'];
  const look = async () => {
    const groups = groupsOf(await listPods(cluster, namespace));
    const wanted = victims.flatMap(name => [`${name}-0`, `${name}-1`]);
    const open = (await listIntents(cluster)).filter(({ phase }) => phase !== 'closed');
    stuck = [
      ...wanted.flatMap(name => {
        const pods = groups.get(name) ?? [];
        const well = pods.filter(pod => isReady(pod) && pod.metadata.deletionTimestamp === undefined);
        return well.length === size && pods.length === size
          ? []
          : [`${name}: ${pods.map(describe).join(', ')}`];
      }),
      ...open.map(({ group, phase, hold }) => `the record of ${group} is ${phase}, ${hold ?? 'not held'}`),
    ];
    return stuck.length === 0;
  };
  await until(() => `all to be whole: ${stuck.join('; ')}`, calmMs, look).catch((error: Error) =>
    t.comment(error.message),
  );
  t.strictSame(stuck, [], `within ${calmMs / 1_000} s`);
}

/** What was put to the test at all. */
async function controls(
  t: Test,
  { cluster, namespace }: StormScene,
  {
    counts,
    hardships,
    findings,
  }: {
    readonly counts: ReadonlyMap<FaultKind, number>;
    readonly hardships: StormHardships;
    readonly findings: ReturnType<typeof judgeStorm>;
  },
): Promise<void> {
  if (wantedFaults >= faultKinds.length)
    t.equal(counts.size, faultKinds.length, 'there was every kind of fault');
  const { kills, killsOfHolder, watchesCut, holds } = hardships.counts;
  t.ok(kills > 0, `Berth was killed ${kills} times`);
  t.ok(watchesCut > 0, `${watchesCut} of its watches were cut`);
  t.ok(holds > 0, `they were held ${holds} times`);
  t.ok(hardships.halts.length > 0, `all evictions were halted ${hardships.halts.length} times`);
  if (wantedFaults < 100) return;
  t.ok(killsOfHolder > 1, `of those killed ${killsOfHolder} held the Lease`);
  t.ok(findings.evictions > wantedFaults / 50, `${findings.evictions} groups were evicted`);
  t.ok(findings.heldMoments > 0, `in ${findings.heldMoments} seconds of halt somebody was hurt`);
  t.ok(findings.mostInFlight > 1, `${findings.mostInFlight} serving groups were in flight at once`);
  const held = (await listEvents(cluster, namespace)).filter(({ reason }) => reason === 'EvictionHeld');
  const why = Map.groupBy(held, ({ message }) => message.split('not evicted: ')[1] ?? 'other');
  for (const [message, of] of why) t.comment(`${of.length} x held: ${message}`);
  const budgets = /other groups were evicted only just now|may be down at once|another group of its owner/;
  t.ok(
    held.some(({ message }) => budgets.test(message)),
    'budgets have held some',
  );
}

/** A real kubelet lists its pods; KWOK looks at one again when it changes. Returns its end. */
function keepKubelets({ history, namespace, cluster }: StormScene, faults: StormFaults): () => Promise<void> {
  const stop = new AbortController();
  const nudge = nudger(cluster);
  const goingSince = new Map<string, number>();
  const beat = async () => {
    while (!stop.signal.aborted) {
      const pods = [...history.pods.values()].filter(({ metadata }) => metadata.namespace === namespace);
      const onWell = pods.filter(({ spec }) => !faults.isAway(spec.nodeName ?? ''));
      await nudge(onWell.filter(({ metadata }) => metadata.deletionTimestamp === undefined));
      for (const pod of onWell.filter(({ metadata }) => metadata.deletionTimestamp !== undefined))
        await endAgain(pod);
      await delay(1_000, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  };
  const endAgain = async ({ metadata }: Pod) => {
    const { uid = '', name } = metadata;
    const since = goingSince.get(uid) ?? Date.now();
    goingSince.set(uid, since);
    if (Date.now() - since < 6_000) return;
    goingSince.set(uid, Date.now());
    const body = { metadata: { annotations: { 'example.com/nudged': String(Date.now()) } } };
    await cluster
      .request('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, body)
      .catch(() => undefined);
  };
  const beating = beat();
  return async () => {
    stop.abort();
    await beating;
  };
}

function describe(pod: Pod): string {
  const { name, deletionTimestamp } = pod.metadata;
  const state = deletionTimestamp !== undefined ? 'going' : isReady(pod) ? 'ready' : 'not ready';
  return `${name} on ${pod.spec.nodeName ?? 'no node'} is ${state}`;
}

/** Eight racks in the storm and one out of it. */
function stormFleet(): Fleet {
  const { nodes, ...rest } = p4dRacks({ racks: racksInStorm + 1, hostsPerRack: 4 });
  const labelled = nodes.map(node => {
    const rack = node.metadata.labels?.['example.com/rack'] ?? '';
    const labels = {
      ...node.metadata.labels,
      [weather]: Number(rack.slice(1)) < racksInStorm ? 'storm' : 'calm',
    };
    return { ...node, metadata: { ...node.metadata, labels } };
  });
  return { name: 'storm', nodes: labelled, ...rest };
}
