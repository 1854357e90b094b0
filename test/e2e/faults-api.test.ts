import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { installBerth, startBerthOn, webhookUrlOf } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { freePorts } from '../../hack/bed/ports.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  genericTopology,
  groupsOf,
  isReady,
  listPods,
  makeNamespace,
  openBed,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { createBudget, readBudget } from './budgets.ts';
import { present } from './device-scenes.ts';
import {
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  watchDestruction,
} from './failures.ts';
import { type FaultProxy, type ProxiedRequest, type ProxyFault, startFaultProxy } from './fault-proxy.ts';

t.setTimeout(400_000);

const size = 2;
const retryAfterSeconds = 3;
const failure = {
  ...fastFailure,
  // One after the other, so that a budget that was charged twice would hold the next one.
  inFlightPerOwner: 1,
  // Brakes of their own, for other tests.
  domainMinNodes: 1_000,
  massMinNodes: 1_000,
  apiMinCalls: 10_000,
};

interface Scene {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly proxy: FaultProxy;
}

type Request = Pick<ProxiedRequest, 'method' | 'path'>;

const isEviction = ({ method, path }: Request) => method === 'POST' && path.endsWith('/eviction');
const isNewIntent = ({ method, path }: Request) => method === 'POST' && path.endsWith('/configmaps');
const isIntentUpdate = ({ method, path }: Request) =>
  method === 'PUT' && path.includes('/configmaps/berth-intent-');

t.test('the API server does not do what it is asked, or does not tell', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'racks-20', nodes: racks({ racks: 5, hostsPerRack: 4, gpus: 8 }) });
  const [webhookPort = 0] = await freePorts(1);
  await installBerth(cluster, { webhookUrl: webhookUrlOf(webhookPort) });
  const proxy = await startFaultProxy(t, cluster);
  const berth = await startBerthOn(cluster, {
    config: { topology: genericTopology, shutdownDelaySeconds: 0, failure },
    install: false,
    webhookPort,
    kubeconfigPath: proxy.kubeconfigPath,
  });
  t.teardown(() => berth.stop());
  t.teardown(() => forgetFailures(cluster));
  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, { name: 'llama', replicas: 5, size });
  await waitForReady(cluster, namespace, 5 * size);
  // A second eviction before the group is back would be refused by it.
  await createBudget(cluster, namespace, 'llama', 'leader', { maxUnavailable: 1 });
  const scene = { cluster, namespace, proxy };

  await t.test('fault 26: 429 with Retry-After is waited for, whatever changes meanwhile', async t => {
    const answer = { status: 429, reason: 'TooManyRequests', retryAfterSeconds };
    const created = proxy.inject({ meets: isNewIntent, answer, times: 2 });
    const evicted = proxy.inject({ meets: isEviction, answer, times: 1 });
    await evictedOnce(t, scene, 0, { isRestless: true });
    for (const [what, { met }, times, matches] of [
      ['intent', created, 2, isNewIntent],
      ['eviction', evicted, 1, isEviction],
    ] as const) {
      const gaps = gapsFrom(proxy, met(), matches);
      t.comment(`${what}: asked again after ${gaps.join(', ')} ms`);
      t.equal(gaps.length, times, `the ${what} was refused, and asked for again`);
      t.ok(
        gaps.every(ms => ms >= retryAfterSeconds * 1_000 - 50),
        `the ${what} waits as long as it is told to`,
      );
    }
  });

  await t.test('fault 26: 500 is asked again after more and more time', async t => {
    const times = 2;
    const answer = { status: 500, reason: 'InternalError' };
    const created = proxy.inject({ meets: isNewIntent, answer, times: 1 });
    const evicted = proxy.inject({ meets: isEviction, answer, times });
    await evictedOnce(t, scene, 1, { isRestless: true });
    t.equal(created.met().length, 1);
    const gaps = gapsFrom(proxy, evicted.met(), isEviction);
    t.comment(`asked again after ${gaps.join(', ')} ms`);
    t.equal(gaps.length, times);
    t.ok(
      gaps.every((ms, i) => ms >= 900 * 2 ** i),
      'after a second, and then after two',
    );
  });

  await t.test('fault 26: 409 has it look again, and then go on', async t => {
    const faults = [isNewIntent, isEviction, isIntentUpdate].map(meets =>
      proxy.inject({ meets, answer: { status: 409, reason: 'Conflict' }, times: 2 }),
    );
    const exists = { status: 409, reason: 'AlreadyExists' };
    faults.push(proxy.inject({ meets: isNewIntent, answer: exists, times: 1 }));
    await evictedOnce(t, scene, 2);
    t.strictSame(
      faults.map(({ met }) => met().length),
      [2, 2, 2, 1],
      'all of them were met',
    );
  });

  await t.test('fault 26: each step is done once, though its answer is lost', async t => {
    let asked = 0;
    const isStep = (request: Request) => isNewIntent(request) || isIntentUpdate(request);
    const evicted = proxy.inject({ meets: isEviction, answer: 'lost', times: 1 });
    const meets: ProxyFault['meets'] = request => isStep(request) && asked++ % 2 === 0;
    const lost = proxy.inject({ meets, answer: 'lost', times: 5 });
    await evictedOnce(t, scene, 3);
    t.comment(
      `lost: ${lost
        .met()
        .map(({ method, path }) => `${method} ${path}`)
        .join(', ')}`,
    );
    t.equal(evicted.met().length, 1, 'that of the eviction was lost');
    t.ok(lost.met().length >= 3, `${lost.met().length} answers were lost`);
    t.ok(lost.met().some(isNewIntent), 'that of the intent among them');
  });

  await t.test('fault 26: an eviction is not made again that was made, but never answered', async t => {
    const silent = proxy.inject({ meets: isEviction, answer: 'silent', times: 1 });
    const started = Date.now();
    await evictedOnce(t, scene, 4);
    t.equal(silent.met().length, 1);
    t.equal(
      proxy.requests().filter(request => isEviction(request) && request.atMs >= started).length,
      1,
      'it was asked for once',
    );
  });
});

/** A device of a group fails: it is evicted once and whole again, by one intent, and the budgets are charged once. */
async function evictedOnce(
  t: Test,
  { cluster, namespace }: Scene,
  index: number,
  { isRestless = false } = {},
): Promise<void> {
  const group = `llama-${index}`;
  const before = groupsOf(await listPods(cluster, namespace));
  const old = before.get(group) ?? [];
  const leader = present(old[0]);
  const calls = await watchDestruction(cluster);
  const faultMs = Date.now();
  await reportDevice(cluster, present(old[1]), 'Unhealthy');
  const rest = isRestless ? keepChanging(cluster, leader) : () => Promise.resolve();
  const oldUids = new Set(old.map(({ metadata }) => metadata.uid));
  const intentsOfIt = async () =>
    (await listIntents(cluster)).filter(intent => intent.group === `${namespace}/${group}`);
  let mostCharged = 0;
  try {
    await until(`${group} to be new and whole`, 60_000, async () => {
      const { disruptedPods = {} } = (await readBudget(cluster, namespace, 'llama')).status ?? {};
      mostCharged = Math.max(mostCharged, Object.keys(disruptedPods).length);
      const members = groupsOf(await listPods(cluster, namespace)).get(group) ?? [];
      const fresh = members.filter(pod => !oldUids.has(pod.metadata.uid) && isReady(pod));
      return fresh.length === size && (await intentsOfIt()).every(({ phase }) => phase === 'closed');
    });
  } finally {
    await rest();
  }
  t.comment(`new and whole ${Date.now() - faultMs} ms after the fault`);
  t.strictSame((await calls.byBerth()).map(describeCall), [`create pods/eviction ${group} 201`]);
  t.match(
    await intentsOfIt(),
    [{ leaderUid: leader.metadata.uid, phase: 'closed', outcome: 'recovered' }],
    'one intent, and it is closed',
  );
  t.equal((await intentsOfIt()).length, 1);
  t.ok(mostCharged <= 1, 'the PodDisruptionBudget was charged once');
  await until('the PodDisruptionBudget to be as before', 30_000, async () => {
    const { status } = await readBudget(cluster, namespace, 'llama');
    return status?.disruptionsAllowed === 1;
  });
  const after = groupsOf(await listPods(cluster, namespace));
  const others = (groups: ReadonlyMap<string, readonly Pod[]>) =>
    [...groups]
      .flatMap(([key, pods]) => (key === group ? [] : pods.map(({ metadata }) => metadata.uid)))
      .sort();
  t.strictSame(others(after), others(before), 'other groups kept all UIDs');
}

/**
 * Changes a pod ten times a second until it is told to go, for KWOK counts its end from the last change. What it returns
 * ends that, too.
 */
function keepChanging(cluster: Cluster, { metadata }: Pod): () => Promise<void> {
  const stop = new AbortController();
  const changing = (async () => {
    const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
    while (!stop.signal.aborted) {
      // Berth keeps labels of pods, so that it hears of this.
      const labels = { 'example.com/change': String(Date.now()) };
      const body = { metadata: { uid: metadata.uid, labels } };
      const changed = await cluster.request<Pod>('PATCH', path, body).catch(() => undefined);
      if (changed === undefined || changed.metadata.deletionTimestamp !== undefined) return;
      await delay(100);
    }
  })();
  return async () => {
    stop.abort();
    await changing;
  };
}

/** Milliseconds from each refused request to the next one of its kind. */
function gapsFrom(
  proxy: FaultProxy,
  refused: readonly ProxiedRequest[],
  matches: (request: Request) => boolean,
): readonly number[] {
  return refused.flatMap(({ atMs }) => {
    const next = proxy.requests().find(request => matches(request) && request.atMs > atMs);
    return next === undefined ? [] : [next.atMs - atMs];
  });
}
