import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { ConfigMap, Pod } from '../../src/api/kubernetes.ts';
import { parsePreemption } from '../../src/failure/preemption.ts';
import {
  conditionOf,
  createLws,
  createPod,
  gpuResources,
  groupsOf,
  isGatedByBerth,
  isReady,
  listEvents,
  listNodes,
  listPods,
  makeNamespace,
  makePriorityClass,
  openBed,
  runBerth,
  sentenceOn,
  singlePod,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { setBudget } from './budgets.ts';
import { describeCall, forgetFailures, listIntents, watchDestruction } from './failures.ts';

t.setTimeout(300_000);

const requiredRack = { 'berth.dev/required-topology': 'rack' };
const fast = { failure: { newHolderSeconds: 0 }, preemption: { mode: 'evict', afterSeconds: 5 } };

t.test('a full fleet, and a group of higher priority', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'two-racks', nodes: racks({ racks: 2, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  const low = await makePriorityClass(t, cluster, 'low', 10);
  const high = await makePriorityClass(t, cluster, 'high', 1_000);
  const off = await runBerth(t, cluster);
  t.teardown(() => forgetRecords(cluster));
  const namespace = await makeNamespace(t, cluster);

  // Two pods outside groups have half of the second rack, so that three groups of two take the rest.
  for (const [i, nodeName] of ['r01-h02', 'r01-h03'].entries()) {
    const spec = { nodeName, priorityClassName: low };
    await createPod(cluster, singlePod(namespace, `single-${i}`, gpuResources(8), spec, { app: `s${i}` }));
  }
  const lowClass = { priorityClassName: low };
  await createLws(cluster, namespace, {
    name: 'low',
    replicas: 3,
    size: 2,
    annotations: requiredRack,
    worker: lowClass,
  });
  const before = await waitForReady(cluster, namespace, 8);
  const racksBefore = new Map([...groupsOf(before)].map(([key, pods]) => [key, rackOf(pods, nodes)]));
  const inFirst = [...racksBefore].filter(([, rack]) => rack === 'r00').map(([key]) => key);
  const inSecond = [...racksBefore].filter(([, rack]) => rack === 'r01').map(([key]) => key);
  t.strictSame([inFirst.length, inSecond.length], [2, 1], 'the fleet is full');

  const calls = await watchDestruction(cluster);
  const highClass = { priorityClassName: high };
  const big = { size: 4, annotations: requiredRack, worker: highClass };
  await createLws(cluster, namespace, { name: 'big', ...big });
  await t.test('off: it waits, and nobody is evicted', async t => {
    t.match(await sentenceOn(cluster, namespace, 'big-0'), /4 pods do not fit in one rack/);
    await delay(8_000);
    t.strictSame((await calls.byAnybody(namespace)).map(describeCall), []);
    t.equal((await listRecords(cluster)).length, 0);
  });
  await off.stop();

  const startMs = Date.now();
  const berth = await runBerth(t, cluster, fast);
  await t.test('on: exactly the least set of whole groups leaves, and it is placed whole', async t => {
    await untilReady(cluster, namespace, 'big', 4);
    t.comment(`placed ${Date.now() - startMs} ms after the start, 5 s of them patience`);
    await until('the record to be closed', 20_000, async () =>
      (await listRecords(cluster)).every(({ ended }) => ended !== undefined),
    );
    t.strictSame(
      (await calls.byBerth()).map(describeCall).sort(),
      inFirst.map(leader => `create pods/eviction ${leader} 201`).sort(),
      'the leaders of the two groups that share a rack, each once',
    );
    const pods = await listPods(cluster, namespace);
    t.strictSame(splitGroups(pods, nodes), []);
    t.equal(rackOf(groupsOf(pods).get('big-0') ?? [], nodes), 'r00');
    const spared = new Set(before.map(pod => pod.metadata.uid));
    const kept = pods.filter(pod => spared.has(pod.metadata.uid)).map(pod => pod.metadata.name);
    const [group = ''] = inSecond;
    t.strictSame(
      kept.sort(),
      [group, `${group}-1`, 'single-0', 'single-1'].sort(),
      'all others kept their UIDs',
    );
    const [record] = await listRecords(cluster);
    t.match(record, { group: `${namespace}/big-0`, priority: 1_000, ended: { outcome: 'placed' } });
    await until('the intents to be closed', 20_000, async () =>
      (await listIntents(cluster)).every(({ phase }) => phase === 'closed'),
    );
    t.strictSame(
      (await listIntents(cluster)).map(({ signal, outcome }) => `${signal} ${outcome}`),
      ['Preempted preempted', 'Preempted preempted'],
    );
  });

  await t.test('the others come back gated and wait with a reason', async t => {
    const isBack = (leader: Pod | undefined) => {
      const placed = leader === undefined ? undefined : conditionOf(leader, 'berth.dev/Placed');
      return placed?.status === 'False' && placed.reason === 'NoRoom';
    };
    await until('the two groups to wait', 30_000, async () => {
      const pods = await listPods(cluster, namespace);
      return inFirst.every(name => isBack(pods.find(({ metadata }) => metadata.name === name)));
    });
    const pods = (await listPods(cluster, namespace)).filter(pod =>
      inFirst.some(name => pod.metadata.name?.startsWith(name)),
    );
    t.ok(pods.length > 0 && pods.every(isGatedByBerth), 'none of them has a node');
    t.match(await sentenceOn(cluster, namespace, inFirst[0] ?? ''), /2 pods do not fit in one rack/);
    const events = await listEvents(cluster, namespace);
    const told = (reason: string, name: string) =>
      events.find(event => event.reason === reason && event.involvedObject.name === name)?.message ?? '';
    for (const name of inFirst)
      t.equal(told('Preempted', name), `preempted by group ${namespace}/big-0 of priority 1000`);
    t.match(
      told('Preempting', 'big-0'),
      new RegExp(`waits for ${namespace}/low-. of priority 10 and .* to leave`),
    );
  });

  await t.test('groups and pods outside groups go together, and a budget holds all of them', async t => {
    await cluster.request('POST', `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`, {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { namespace, name: 'keep' },
      spec: { selector: { matchLabels: { app: 's0' } }, minAvailable: 1 },
    });
    await setBudget(cluster, namespace, 'keep', { minAvailable: 1 });
    const calls = await watchDestruction(cluster);
    await createLws(cluster, namespace, { name: 'huge', ...big });
    await until('the budget to be named', 30_000, async () =>
      /it would have to evict .*single-0, but PodDisruptionBudget keep/.test(
        await sentenceOn(cluster, namespace, 'huge-0'),
      ),
    );
    t.strictSame((await calls.byBerth()).map(describeCall), []);
    await setBudget(cluster, namespace, 'keep', { minAvailable: 0 });
    await untilReady(cluster, namespace, 'huge', 4, 90_000);
    const [group = ''] = inSecond;
    t.strictSame(
      (await calls.byBerth()).map(describeCall),
      ['single-0', 'single-1', group].map(name => `create pods/eviction ${name} 201`),
      'the pods first, for the API server may still refuse those',
    );
    const pods = await listPods(cluster, namespace);
    t.equal(rackOf(groupsOf(pods).get('huge-0') ?? [], nodes), 'r01');
    t.equal(rackOf(groupsOf(pods).get('big-0') ?? [], nodes), 'r00', 'one of its own priority is spared');
  });

  const metrics = await (await fetch(`${berth.adminUrl}/metrics`)).text();
  t.match(metrics, /berth_preemptions_total\{outcome="placed"\} 2/);
  t.match(metrics, /berth_preemption_victims_total\{kind="group"\} 3/);
});

async function untilReady(
  cluster: Cluster,
  namespace: string,
  name: string,
  count: number,
  timeoutMs = 60_000,
): Promise<void> {
  const selector = `leaderworkerset.sigs.k8s.io/name=${name}`;
  await until(`${name} to be Ready`, timeoutMs, async () => {
    const pods = await listPods(cluster, namespace, selector);
    return pods.length === count && pods.every(isReady);
  });
}

function rackOf(pods: readonly Pod[], nodes: Awaited<ReturnType<typeof listNodes>>): string {
  const found = new Set(
    pods.map(pod => nodes.get(pod.spec.nodeName ?? '')?.metadata.labels?.['example.com/rack']),
  );
  return [...found].join(' ');
}

async function listRecords(cluster: Cluster) {
  const path = '/api/v1/namespaces/berth-system/configmaps?labelSelector=berth.dev/preemption';
  const { items } = await cluster.request<{ items: ConfigMap[] }>('GET', path);
  return items.map(map => {
    const record = parsePreemption(map.data?.['preemption.json'] ?? '');
    if ('code' in record) throw new Error(`${map.metadata.name}: ${record.message}`);
    return record;
  });
}

async function forgetRecords(cluster: Cluster): Promise<void> {
  const path = '/api/v1/namespaces/berth-system/configmaps';
  const selector = 'labelSelector=berth.dev/preemption';
  const { items } = await cluster.request<{ items: ConfigMap[] }>('GET', `${path}?${selector}`);
  for (const { metadata } of items) await cluster.request('DELETE', `${path}/${metadata.name}`);
  await forgetFailures(cluster);
}
