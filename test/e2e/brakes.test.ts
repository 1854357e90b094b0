import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startBerthOn } from '../../hack/bed/berth.ts';
import type { BerthProcess } from '../../hack/bed/berth-process.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { ConfigMap, Node, Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  genericTopology,
  groupsOf,
  listEvents,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  sentenceOn,
  until,
  waitForBound,
  waitForReady,
  withFleet,
} from './bed.ts';
import { killNode } from './dead-nodes.ts';
import {
  type DestructiveCalls,
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  watchDestruction,
} from './failures.ts';

t.setTimeout(600_000);

const inOneRack = { 'berth.dev/required-topology': 'rack' };
const notReady = 'bed.berth.test/not-ready';
/** Waits for all that Berth looks at only every 30 s: breakers that close, or that somebody has reset. */
const reviewMs = 60_000;
const configMaps = '/api/v1/namespaces/berth-system/configmaps';
const massFailure = 'berth-breaker-mass-failure';
const domainFailure = 'berth-breaker-domain-failure';

t.test('brakes on a fleet of 16 nodes', async t => {
  const cluster = await openBed(t);
  // One fleet for all: KWOK is slow with nodes that were deleted and made again.
  await withFleet(t, cluster, { name: 'racks-4', nodes: racks({ racks: 4, hostsPerRack: 4, gpus: 8 }) });
  await t.test('10 of 16 nodes fail at once', t => tenOfSixteen(t, cluster));
  await t.test('an administrator halts a storm', t => haltedStorm(t, cluster));
  await t.test(
    'fault 45: modes: whoever opts out, a dry run and a maintenance window are told what would be done',
    t => modes(t, cluster),
  );
  await t.test('fault 18: groups of one rack go one after the other, others do not wait for them', t =>
    oneOfRack(t, cluster),
  );
  await t.test('fault 18: 3 nodes of a rack go at once: left alone until somebody resets the breaker', t =>
    lostRack(t, cluster),
  );
});

async function tenOfSixteen(t: Test, cluster: Cluster): Promise<void> {
  const berth = await runBerth(t, cluster, {
    failure: {
      ...fastFailure,
      inFlightPerOwner: 10,
      // Racks fail with it, and that breaker must not be what holds.
      domainMinNodes: 100,
      badNodeWindowSeconds: 4,
      breakerQuietSeconds: 4,
      excludeMinutes: 0.05,
    },
  });

  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, { name: 'llama', replicas: 5, size: 2 });
  await waitForReady(cluster, namespace, 10);
  await assertEvicts(t, cluster, namespace, 'llama-0');

  const pods = await waitForReady(cluster, namespace, 10);
  t.equal(new Set(pods.map(pod => pod.spec.nodeName)).size, 10, 'groups run on 10 of 16 nodes');
  const calls = await watchDestruction(cluster);
  const faultMs = Date.now();
  await Promise.all(pods.map(pod => reportDevice(cluster, pod, 'Unhealthy')));
  t.comment(`10 nodes reported a fault within ${Date.now() - faultMs} ms`);
  await until('all groups to be held', 20_000, async () => (await heldBy(berth, 'mass-failure')) === 5);
  await until('the breaker to be kept', reviewMs, async () =>
    (await breakers(cluster)).includes(massFailure),
  );
  t.comment(`the breaker is kept ${Date.now() - faultMs} ms after the faults`);
  const told = new Set<string>();
  await until('events on every leader', 10_000, async () => {
    for (const { reason, message, involvedObject } of await listEvents(cluster, namespace))
      if (reason === 'EvictionHeld' && /accelerator nodes has gone bad at once/.test(message))
        told.add(involvedObject.name);
    return pods.filter(isLeader).every(pod => told.has(pod.metadata.name ?? ''));
  });
  t.ok(told.has('llama'), 'an event on the LeaderWorkerSet says why nothing is evicted');
  // Five times the debounce.
  await delay(Math.max(0, faultMs + 10_000 - Date.now()));
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted');

  await Promise.all(pods.map(pod => reportDevice(cluster, pod, 'Healthy')));
  const clearedMs = Date.now();
  await until('nothing to be held any more', 20_000, async () => (await heldBy(berth, 'mass-failure')) === 0);
  await until('the breaker to close', reviewMs, async () => (await breakers(cluster)).length === 0);
  t.comment(`the breaker is closed ${Date.now() - clearedMs} ms after the faults have passed`);
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing was evicted');
  await assertEvicts(t, cluster, namespace, 'llama-1');
}

async function haltedStorm(t: Test, cluster: Cluster): Promise<void> {
  const berth = await runBerth(t, cluster, {
    failure: {
      ...fastFailure,
      inFlightMin: 100,
      inFlightPerOwner: 100,
      inFlightPerDomain: 100,
      domainMinNodes: 100,
      massMinNodes: 100,
      servingEvictionsPerSecond: 1,
      servingBurst: 1,
    },
  });
  t.teardown(() => halt(cluster, null));
  const namespace = await makeNamespace(t, cluster);
  const count = 8;
  await createLws(cluster, namespace, { name: 'llama', replicas: count, size: 2, gpus: 4 });
  const pods = await waitForReady(cluster, namespace, 2 * count);
  const calls = await watchDestruction(cluster);
  await Promise.all(pods.filter(isLeader).map(pod => reportDevice(cluster, pod, 'Unhealthy')));
  await until('the storm to be under way', 30_000, async () => (await evicted(calls)).length >= 3);
  await halt(cluster, 'true');
  const haltedMs = Date.now();
  await until('Berth to see the halt', 10_000, async () => (await heldBy(berth, 'halt')) > 0);
  await delay(Math.max(0, haltedMs + 7_000 - Date.now()));
  const times = (await evictions(calls)).map(({ at }) => at.getTime() - haltedMs);
  const before = times.filter(ms => ms <= 0);
  t.comment(`evictions at ${times.join(', ')} ms, 0 being the halt`);
  t.ok(times.length < count, `${count - times.length} of ${count} hurt groups were left to evict`);
  t.ok(
    times.every(ms => ms <= 2_000),
    'no eviction later than 2 s after the halt',
  );
  const gaps = before.slice(1).map((ms, i) => ms - (before[i] ?? 0));
  t.ok(
    gaps.every(ms => ms > 700),
    `before it they were rate-limited to about one a second: ${gaps.join(', ')} ms apart`,
  );
  await halt(cluster, null);
  const resumedMs = Date.now();
  await until('the rest to be evicted', 60_000, async () => (await evicted(calls)).length === count);
  t.comment(`all ${count} are evicted ${Date.now() - resumedMs} ms after the halt was lifted`);
  t.equal(new Set(await evicted(calls)).size, count, 'every hurt group was evicted, once');
}

async function modes(t: Test, cluster: Cluster): Promise<void> {
  // Mode is left out: observe is the default.
  const { mode: _, ...observe } = fastFailure;
  const berth = await startChangeable(t, cluster, observe);
  t.teardown(() => forgetFailures(cluster));
  const namespace = await makeNamespace(t, cluster);
  const optedOut = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin', 'berth.dev/failure': 'off' });
  for (const place of [namespace, optedOut])
    await createLws(cluster, place, { name: 'llama', size: 2, gpus: 1 });
  const [pods] = await Promise.all([namespace, optedOut].map(place => waitForReady(cluster, place, 2)));
  const victim = pods?.[1];
  const other = (await listPods(cluster, optedOut))[1];
  if (victim === undefined || other === undefined) throw new Error('no rank 1');
  const calls = await watchDestruction(cluster);
  /** A pod that can go nowhere but to the bad node. */
  const probe = (name: string) =>
    createLws(cluster, namespace, {
      name,
      size: 1,
      gpus: 1,
      worker: { nodeSelector: { 'kubernetes.io/hostname': victim.spec.nodeName ?? '' } },
    });
  const ofProbe = (name: string) => `leaderworkerset.sigs.k8s.io/name=${name}`;
  const waitingText = () => sentenceOn(cluster, namespace, 'in-cordon-0');

  await t.test('observe, the default, tells what it would do and does nothing', async t => {
    await reportDevice(cluster, victim, 'Unhealthy');
    await reportDevice(cluster, other, 'Unhealthy');
    await until('it to be told', 20_000, async () => (await wouldEvict(berth.process)) === 1);
    const event = await eventOf(cluster, namespace, 'WouldEvict', 'llama-0');
    t.match(
      event,
      /^the group would be evicted: device gpu-3 .* is unhealthy; failure mode observe does not evict$/,
    );
    await probe('in-observe');
    const [placed] = await waitForReady(cluster, namespace, 1, 20_000, ofProbe('in-observe'));
    t.equal(placed?.spec.nodeName, victim.spec.nodeName, 'the bad node is used for new groups');
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted');
  });

  await t.test('cordon keeps new groups off the node and evicts nothing', async t => {
    await berth.change({ ...fastFailure, mode: 'cordon' });
    await until('it to be told', 20_000, async () => (await wouldEvict(berth.process)) === 1);
    await probe('in-cordon');
    t.match(await waitingText(), /unhealthy/, 'a group that fits nowhere else waits and says why');
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted');
  });

  await t.test('dry run goes as far as it can without evicting', async t => {
    await berth.change({ ...fastFailure, dryRun: true });
    await until('it to be told', 20_000, async () => (await wouldEvict(berth.process)) === 1);
    await delay(2_000);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted');
    t.strictSame(await listIntents(cluster), [], 'nor is there an intent');
    t.match(await waitingText(), /unhealthy/, 'the node is kept off new plans');
  });

  await t.test('in a maintenance window a suspicion goes as far as it can without evicting', async t => {
    await berth.change({ ...fastFailure, maintenanceWindows: [windowOfNow('Asia/Kolkata')] });
    await until('it to be told', 20_000, async () => (await wouldEvict(berth.process)) === 1);
    t.equal(await heldBy(berth.process, 'maintenance-window'), 1);
    t.match(
      await eventOf(cluster, namespace, 'EvictionHeld', 'llama-0'),
      /not evicted: a maintenance window is open, in which only certain failures evict$/,
    );
    await delay(2_000);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted');
    t.strictSame(await listIntents(cluster), [], 'nor is there an intent');
  });

  await t.test(
    'evict evicts, but not in a namespace that has opted out until that is taken back',
    async t => {
      await berth.change(fastFailure);
      await until('the eviction', 20_000, async () => (await evictions(calls)).length > 0);
      // The other group has been hurt for as long.
      await delay(3_000);
      const [done, ...rest] = await evictions(calls);
      t.strictSame(
        [done?.namespace, done?.name, rest.length],
        [namespace, 'llama-0', 0],
        'the fault that was only told of before evicts now',
      );
      const reasons = (await listEvents(cluster, optedOut)).map(({ reason }) => reason);
      t.notOk(reasons.includes('FailureDetected'), 'nothing is told of the failure where it is off');
      const metadata = { labels: { 'berth.dev/failure': null } };
      await cluster.request('PATCH', `/api/v1/namespaces/${optedOut}`, { metadata });
      const labelledMs = Date.now();
      await until('the other eviction', reviewMs, async () => (await evictions(calls)).length > 1);
      t.comment(`evicted ${Date.now() - labelledMs} ms after the label was taken away`);
      t.strictSame(
        (await evictions(calls)).map(call => `${call.namespace}/${call.name}`),
        [`${namespace}/llama-0`, `${optedOut}/llama-0`],
        'each hurt group was evicted once',
      );
    },
  );
}

/** A daily window that opened a minute ago by the clocks of that zone. */
function windowOfNow(timeZone: string) {
  const format = new Intl.DateTimeFormat('en', {
    timeZone,
    hour: 'numeric',
    minute: 'numeric',
    hourCycle: 'h23',
  });
  const parts = format.formatToParts(Date.now() - 60_000);
  const [hour, minute] = (['hour', 'minute'] as const).map(type =>
    Number(parts.find(part => part.type === type)?.value),
  );
  return { cron: `${minute} ${hour} * * *`, durationMinutes: 30, timeZone };
}

async function oneOfRack(t: Test, cluster: Cluster): Promise<void> {
  const berth = await runBerth(t, cluster, {
    failure: { ...fastFailure, inFlightPerDomain: 1, domainMinNodes: 100 },
  });
  const namespace = await makeNamespace(t, cluster);
  // Two fill a rack. What comes back is not Ready before the test says so.
  const shape = { size: 2, annotations: inOneRack, podAnnotations: { [notReady]: 'true' } };
  for (const [i, name] of ['first', 'second', 'third'].entries()) {
    await createLws(cluster, namespace, { name, ...shape });
    await waitForBound(cluster, namespace, 2 * (i + 1));
  }
  for (const pod of await listPods(cluster, namespace)) await letBeReady(cluster, pod);
  const pods = await waitForReady(cluster, namespace, 6);
  const rackOf = rackNamer(await listNodes(cluster));
  const racksOfGroups = [...groupsOf(pods)].map(([name, members]) => [name, rackOf(members[0])]);
  t.comment(`groups stand in ${racksOfGroups.join('; ')}`);
  const [near = '', other = ''] = ['first-0', 'third-0'].map(
    name => racksOfGroups.find(([group]) => group === name)?.[1] ?? '',
  );
  t.not(near, other, 'two groups share a rack, the third stands in another');

  const calls = await watchDestruction(cluster);
  await Promise.all(pods.filter(pod => !isLeader(pod)).map(pod => reportDevice(cluster, pod, 'Unhealthy')));
  await until('one of each rack to be evicted', 30_000, async () => (await evicted(calls)).length === 2);
  await until('the other one to be held', 20_000, async () => (await heldBy(berth, 'in-flight')) === 1);
  const [gone = ''] = (await evicted(calls)).filter(name => name !== 'third-0');
  const waits = gone === 'first-0' ? 'second-0' : 'first-0';
  // A group that is held is looked at every 10 s.
  await delay(11_000);
  t.strictSame([...(await evicted(calls))].sort(), [gone, 'third-0'], 'one of each rack is evicted');
  t.match(
    await eventOf(cluster, namespace, 'EvictionHeld', waits),
    new RegExp(`down at once in rack [^ ]*${near} were evicted and are not Ready again$`),
  );
  const records = await listIntents(cluster);
  t.match(
    records.find(({ leaderName }) => leaderName === gone)?.domains,
    [new RegExp(`${near}$`)],
    'the record tells the rack',
  );

  for (const pod of groupsOf(await listPods(cluster, namespace)).get(gone) ?? [])
    await letBeReady(cluster, pod);
  await until('the next one to go', 40_000, async () => (await evicted(calls)).length === 3);
  t.ok((await evicted(calls)).includes(waits), 'once the first is Ready again the other one goes');
}

async function lostRack(t: Test, cluster: Cluster): Promise<void> {
  // All three are to go before the first one counts.
  const unknownAfterSeconds = 5;
  const berth = await runBerth(t, cluster, {
    failure: { ...fastFailure, nodeUnknownAfterSeconds: unknownAfterSeconds },
  });
  const namespace = await makeNamespace(t, cluster);
  for (const name of ['first', 'second'])
    await createLws(cluster, namespace, { name, size: 3, annotations: inOneRack });
  await waitForReady(cluster, namespace, 6);
  const groups = groupsOf(await listPods(cluster, namespace));
  const calls = await watchDestruction(cluster);

  const [one] = groups.get('first-0') ?? [];
  await killNode(t, cluster, namespace, one?.spec.nodeName ?? '');
  await until(
    'one node that does not report to evict',
    20_000,
    async () => (await evicted(calls)).length === 1,
  );
  t.strictSame(await evicted(calls), ['first-0'], 'one node that does not report evicts');

  const lostMs = Date.now();
  const lost = (groups.get('second-0') ?? []).map(pod => pod.spec.nodeName ?? '');
  await Promise.all(lost.map(name => killNode(t, cluster, namespace, name)));
  t.comment(`${lost.length} nodes of one rack went within ${Date.now() - lostMs} ms`);
  await until('the group to be held', 20_000, async () => (await heldBy(berth, 'domain-failure')) === 1);
  await until('the breaker to be kept', reviewMs, async () =>
    (await breakers(cluster)).includes(domainFailure),
  );
  t.comment(`the breaker is kept ${Date.now() - lostMs} ms after the nodes went`);
  await delay(Math.max(0, lostMs + 2_000 * unknownAfterSeconds - Date.now()));
  t.strictSame(await evicted(calls), ['first-0'], '3 nodes of one rack evict nothing');
  const held = (await listEvents(cluster, namespace)).find(
    ({ reason, involvedObject }) => reason === 'EvictionHeld' && involvedObject.name === 'second-0',
  );
  t.match(held?.message, /not evicted: too many nodes of one domain have gone bad within minutes/);

  await cluster.request('DELETE', `${configMaps}/${domainFailure}`);
  const resetMs = Date.now();
  await until('the group to be evicted', reviewMs, async () => (await evicted(calls)).length === 2);
  t.comment(`evicted ${Date.now() - resetMs} ms after the reset`);
  t.strictSame(await evicted(calls), ['first-0', 'second-0'], 'after the reset it is evicted');
  // The end of the test takes away what cannot end on those nodes.
  await until('all its members to be told to go', 20_000, async () =>
    (await listPods(cluster, namespace))
      .filter(({ spec }) => lost.includes(spec.nodeName ?? ''))
      .every(({ metadata }) => metadata.deletionTimestamp !== undefined),
  );
}

/** The simulated kubelet says Ready once the annotation is gone. */
async function letBeReady(cluster: Cluster, { metadata }: Pod): Promise<void> {
  const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
  await cluster.request('PATCH', path, { metadata: { annotations: { [notReady]: null } } });
}

function rackNamer(nodes: ReadonlyMap<string, Node>): (pod: Pod | undefined) => string {
  return pod => nodes.get(pod?.spec.nodeName ?? '')?.metadata.labels?.['example.com/rack'] ?? '';
}

/** A fault of one device ends with its group evicted once, whole and with no open intent. */
async function assertEvicts(t: Test, cluster: Cluster, namespace: string, group: string): Promise<void> {
  const calls = await watchDestruction(cluster);
  const old = groupsOf(await listPods(cluster, namespace)).get(group) ?? [];
  const [leader, victim] = old;
  if (leader === undefined || victim === undefined) throw new Error(`${group} is not whole`);
  const faultMs = Date.now();
  await reportDevice(cluster, victim, 'Unhealthy');
  await until(`${group} to have recovered`, 60_000, async () =>
    (await listIntents(cluster)).some(
      ({ leaderUid, outcome }) => leaderUid === leader.metadata.uid && outcome === 'recovered',
    ),
  );
  t.comment(`one fault: recovered after ${Date.now() - faultMs} ms`);
  t.strictSame(
    (await calls.byBerth()).map(describeCall),
    [`create pods/eviction ${group} 201`],
    `one fault evicts ${group}`,
  );
}

/** Groups that a brake holds, by Berth's metrics. */
async function heldBy(berth: BerthProcess, brake: string): Promise<number> {
  return sampleOf(await berth.metrics(), `berth_brake_active{brake="${brake}"}`);
}

async function wouldEvict(berth: BerthProcess): Promise<number> {
  return sampleOf(await berth.metrics(), 'berth_evictions_total{class="suspect",outcome="would-evict"}');
}

function sampleOf(metrics: string, series: string): number {
  const line = metrics.split('\n').find(text => text.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? 0);
}

async function breakers(cluster: Cluster): Promise<readonly string[]> {
  const path = `${configMaps}?labelSelector=berth.dev/breaker`;
  const { items } = await cluster.request<{ items: ConfigMap[] }>('GET', path);
  return items.map(({ metadata }) => metadata.name ?? '');
}

async function halt(cluster: Cluster, value: string | null): Promise<void> {
  const metadata = { annotations: { 'berth.dev/halt': value } };
  await cluster.request('PATCH', `${configMaps}/berth-config`, { metadata });
}

/** Berth's evictions that were made. */
async function evictions(calls: DestructiveCalls) {
  return (await calls.byBerth()).filter(({ subresource, code }) => subresource === 'eviction' && code < 300);
}

async function evicted(calls: DestructiveCalls): Promise<readonly string[]> {
  return (await evictions(calls)).map(({ name }) => name);
}

async function eventOf(cluster: Cluster, namespace: string, reason: string, name: string): Promise<string> {
  let message: string | undefined;
  await until(`event ${reason} on ${name}`, 10_000, async () => {
    const events = await listEvents(cluster, namespace);
    message = events.find(event => event.reason === reason && event.involvedObject.name === name)?.message;
    return message !== undefined;
  });
  return message ?? '';
}

function isLeader(pod: Pod): boolean {
  return pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/worker-index'] === '0';
}

interface ChangeableBerth {
  readonly process: BerthProcess;
  /** Starts it anew with other settings. */
  change(failure: Readonly<Record<string, unknown>>): Promise<void>;
}

async function startChangeable(
  t: Test,
  cluster: Cluster,
  first: Readonly<Record<string, unknown>>,
): Promise<ChangeableBerth> {
  const config = { topology: genericTopology };
  let current = await startBerthOn(cluster, { config: { ...config, failure: first } });
  const { webhookPort } = current;
  t.teardown(() => current.stop());
  return {
    get process() {
      return current;
    },
    async change(failure) {
      await current.stop();
      current = await startBerthOn(cluster, { config: { ...config, failure }, install: false, webhookPort });
    },
  };
}
