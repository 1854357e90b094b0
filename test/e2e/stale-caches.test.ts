import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type BerthProcess, installBerth, startBerthOn, webhookUrlOf } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { freePorts } from '../../hack/bed/ports.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  genericTopology,
  groupsOf,
  listEvents,
  listPods,
  lwsPath,
  makeNamespace,
  openBed,
  singlePod,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { createBudget, evictionAnswer, keepUnready, readBudget, setBudget } from './budgets.ts';
import {
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  watchDestruction,
} from './failures.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';

t.setTimeout(300_000);

const lease = { durationSeconds: 3, renewDeadlineSeconds: 2, retryPeriodSeconds: 0.5 };
/** Anything Berth watches changes this often, so that a view older than a few of these is an old one. */
const pulseMs = 500;

t.test('two replicas whose watches are held back by a proxy', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'racks-of-5', nodes: racks({ racks: 4, hostsPerRack: 5, gpus: 8 }) });
  t.teardown(() => forgetFailures(cluster));

  await t.test('fault 28: a view that is too old: nothing is evicted before it is fresh again', async t => {
    // The failure counts only when the view is too old already.
    const scene = await makeScene(t, cluster, { unhealthyAfterSeconds: 6, staleAfterSeconds: 3 });
    const { namespace, proxy, group, victim } = scene;
    keepPulse(t, cluster, namespace);
    const calls = await watchDestruction(cluster);
    await reportDevice(cluster, victim, 'Unhealthy');
    await seenBy(scene);
    proxy.holdWatches();
    const heldMs = Date.now();
    await until('Berth to say that its view is too old', 40_000, async () =>
      (await listEvents(cluster, namespace)).some(
        ({ reason, message }) =>
          reason === 'EvictionHeld' && message.includes("Berth's view of the cluster is too old"),
      ),
    );
    t.comment(`held ${Date.now() - heldMs} ms after the watches fell silent`);
    await delay(6_000);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'no destructive call');
    t.strictSame(await intentsOf(scene), [], 'no intent');
    t.strictSame(uidsOf(await groupNow(scene)), uidsOf(group), 'the group is what it was');

    const releasedMs = Date.now();
    proxy.releaseWatches();
    await untilNew(scene);
    t.comment(`whole again ${Date.now() - releasedMs} ms after the watches went on`);
    t.strictSame(
      (await calls.byBerth()).map(describeCall),
      ['create pods/eviction llama-0 201'],
      'with a fresh view it is evicted',
    );
  });

  await t.test(
    'fault 27: a device healed where the watch does not show it: the live look cancels',
    async t => {
      const scene = await makeScene(t, cluster, { unhealthyAfterSeconds: 3, staleAfterSeconds: 3_600 });
      const { proxy, group, victim } = scene;
      const calls = await watchDestruction(cluster);
      await reportDevice(cluster, victim, 'Unhealthy');
      await seenBy(scene);
      proxy.holdWatches();
      const heldMs = Date.now();
      await reportDevice(cluster, victim, 'Healthy');
      await liveLooks(scene, victim, heldMs, 3);
      t.comment(`3 live looks at the member within ${Date.now() - heldMs} ms`);
      t.strictSame((await calls.byBerth()).map(describeCall), [], 'no destructive call');
      t.strictSame(await intentsOf(scene), [], 'no intent');
      proxy.releaseWatches();
      t.strictSame(uidsOf(await groupNow(scene)), uidsOf(group), 'the group is what it was');

      await reportDevice(cluster, victim, 'Unhealthy');
      await untilNew(scene);
      t.strictSame(
        (await calls.byBerth()).map(describeCall),
        ['create pods/eviction llama-0 201'],
        'what stays Unhealthy is evicted',
      );
    },
  );

  await t.test('a group replaced where the watch does not show it: no budget is charged', async t => {
    // Without gates, so that the new group runs though Berth does not see it.
    const scene = await makeScene(t, cluster, { staleAfterSeconds: 3_600 }, 'extender');
    const { namespace, proxy, group, victim } = scene;
    const [leader] = group;
    if (leader === undefined) throw new Error('llama-0 has no leader');
    await keepUnready(cluster, leader);
    await createBudget(cluster, namespace, 'llama', 'leader', { minAvailable: 1 });
    const calls = await watchDestruction(cluster);
    await reportDevice(cluster, victim, 'Unhealthy');
    await until('the Eviction API to have refused', 30_000, async () =>
      (await calls.byBerth()).some(({ code }) => code === 429),
    );
    proxy.holdWatches();
    // After a refusal Berth asks again only 10 s later: time to replace the group behind its back.
    const refused = (await calls.byBerth()).length;
    await until('another refusal', 30_000, async () => (await calls.byBerth()).length > refused);
    await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods/llama-0`, {
      propagationPolicy: 'Foreground',
    });
    await untilNew(scene);
    await setBudget(cluster, namespace, 'llama', { minAvailable: 0 });
    await until(
      'the budget to allow one',
      20_000,
      async () => (await readBudget(cluster, namespace, 'llama')).status?.disruptionsAllowed === 1,
    );
    const freedMs = Date.now();
    await liveLooks(scene, leader, freedMs, 2);
    t.comment(`2 live looks at the leader within ${Date.now() - freedMs} ms`);
    const budget = await readBudget(cluster, namespace, 'llama');
    t.equal(budget.status?.disruptionsAllowed, 1, 'the budget allows as much as before');
    t.strictSame(budget.status?.disruptedPods ?? {}, {}, 'and knows of no disruption');
    t.strictSame(
      [...new Set((await calls.byBerth()).map(describeCall))],
      ['create pods/eviction llama-0 429'],
      'nothing but what was refused',
    );
    const next = uidsOf(await groupNow(scene));
    proxy.releaseWatches();
    await until('the intent to be closed', 20_000, async () =>
      (await intentsOf(scene)).every(({ phase }) => phase === 'closed'),
    );
    t.match(await intentsOf(scene), [{ leaderUid: leader.metadata.uid, outcome: 'recovered' }]);
    t.strictSame(uidsOf(await groupNow(scene)), next, 'the new group stays');

    t.equal(
      await evictionAnswer(cluster, leader.metadata, { dryRun: false }),
      409,
      'whoever asks with the old UID',
    );
    const charged = await readBudget(cluster, namespace, 'llama');
    t.equal(charged.status?.disruptionsAllowed, 0, 'charges the budget');
  });
});

interface Scene {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly proxy: FaultProxy;
  readonly replicas: readonly BerthProcess[];
  readonly group: readonly Pod[];
  /** Rank 2. */
  readonly victim: Pod;
}

/** Two replicas behind one proxy, and a group of four that is Ready. */
async function makeScene(
  t: Test,
  cluster: Cluster,
  failure: Readonly<Record<string, number>>,
  mode = 'pin',
): Promise<Scene> {
  const [webhookPort = 0] = await freePorts(1);
  await installBerth(cluster, { webhookUrl: webhookUrlOf(webhookPort) });
  const proxy = await startFaultProxy(t, cluster);
  const config = { topology: genericTopology, lease, failure: { ...fastFailure, ...failure } };
  const { kubeconfigPath } = proxy;
  const replicas = await Promise.all(
    ['berth-a', 'berth-b'].map((name, i) =>
      startBerthOn(cluster, {
        config,
        name,
        install: false,
        kubeconfigPath,
        ...(i === 0 && { webhookPort }),
      }),
    ),
  );
  t.teardown(async () => {
    proxy.releaseWatches();
    await Promise.all(replicas.map(replica => replica.stop()));
  });
  const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': mode });
  await createLws(cluster, namespace, {
    name: 'llama',
    size: 4,
    annotations: { 'berth.dev/required-topology': 'rack' },
  });
  const group = groupsOf(await waitForReady(cluster, namespace, 4)).get('llama-0') ?? [];
  const victim = group[2];
  if (victim === undefined) throw new Error('llama-0 has no rank 2');
  return { cluster, namespace, proxy, replicas, group, victim };
}

/** Waits until the holder of the Lease has seen the failure. */
async function seenBy({ replicas }: Scene): Promise<void> {
  await until('a replica to see the failure', 20_000, async () => {
    const texts = await Promise.all(replicas.map(replica => replica.metrics()));
    return texts.some(text => /^berth_failures\{signal="DeviceUnhealthy"\} 1$/m.test(text));
  });
}

/** Waits until Berth has read a pod so often from the API server itself. */
async function liveLooks({ proxy }: Scene, { metadata }: Pod, sinceMs: number, count: number): Promise<void> {
  const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
  await until(`${count} live looks at ${metadata.name}`, 40_000, () => {
    const looks = proxy
      .requests()
      .filter(request => request.method === 'GET' && request.path === path && request.atMs >= sinceMs);
    return looks.length >= count;
  });
}

/** Changes one object of each kind that Berth watches, again and again, as a busy cluster does. */
function keepPulse(t: Test, cluster: Cluster, namespace: string): void {
  const paths = [
    '/api/v1/nodes/r03-h04',
    `/api/v1/namespaces/${namespace}`,
    `/api/v1/namespaces/${namespace}/pods/pulse`,
    lwsPath(namespace, 'llama'),
    `/apis/apps/v1/namespaces/${namespace}/statefulsets/llama`,
    `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets/pulse`,
    ...draObjects(namespace).map(({ path }) => `${path}/pulse`),
  ];
  const stop = new AbortController();
  const beating = beat();
  t.teardown(async () => {
    stop.abort();
    await beating;
    for (const { path } of draObjects(namespace))
      await cluster.request('DELETE', `${path}/pulse`).catch(() => undefined);
  });

  async function beat(): Promise<void> {
    await createBudget(cluster, namespace, 'pulse', 'group', { minAvailable: 0 });
    // Nobody schedules it. A member's end would be put off with each of its changes, for KWOK counts from the last one.
    const pod = singlePod(namespace, 'pulse', {}, { schedulerName: 'nobody' });
    await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
    for (const { path, kind, spec } of draObjects(namespace)) {
      const metadata = { name: 'pulse' };
      await cluster.request('POST', path, { apiVersion: 'resource.k8s.io/v1', kind, metadata, spec });
    }
    while (!stop.signal.aborted) {
      const metadata = { annotations: { 'example.com/pulse': String(Date.now()) } };
      await Promise.all(
        paths.map(path => cluster.request('PATCH', path, { metadata }).catch(() => undefined)),
      );
      await delay(pulseMs, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  }
}

/** One of each kind of DRA, which none of the groups has anything to do with. */
function draObjects(namespace: string) {
  const api = '/apis/resource.k8s.io/v1';
  const devices = { requests: [{ name: 'r', exactly: { deviceClassName: 'pulse' } }] };
  const pool = { name: 'pulse', generation: 1, resourceSliceCount: 1 };
  const slice = { driver: 'pulse.example.com', pool, nodeName: 'r03-h04', devices: [{ name: 'd' }] };
  const taint = { key: 'example.com/pulse', effect: 'None' };
  return [
    { path: `${api}/deviceclasses`, kind: 'DeviceClass', spec: {} },
    { path: `${api}/resourceslices`, kind: 'ResourceSlice', spec: slice },
    { path: `${api}/devicetaintrules`, kind: 'DeviceTaintRule', spec: { taint } },
    {
      path: `${api}/namespaces/${namespace}/resourceclaimtemplates`,
      kind: 'ResourceClaimTemplate',
      spec: { spec: { devices } },
    },
    { path: `${api}/namespaces/${namespace}/resourceclaims`, kind: 'ResourceClaim', spec: { devices } },
  ];
}

/** Waits until all members are new and bound. */
async function untilNew(scene: Scene): Promise<void> {
  const old = uidsOf(scene.group);
  await until('llama-0 to be new and bound', 60_000, async () => {
    const pods = await groupNow(scene);
    return (
      pods.length === 4 &&
      pods.every(({ metadata, spec }) => !old.includes(metadata.uid ?? '') && spec.nodeName !== undefined)
    );
  });
  await waitForReady(scene.cluster, scene.namespace, 4, 60_000, 'leaderworkerset.sigs.k8s.io/name=llama');
}

async function groupNow({ cluster, namespace }: Scene): Promise<readonly Pod[]> {
  return groupsOf(await listPods(cluster, namespace)).get('llama-0') ?? [];
}

async function intentsOf({ cluster, namespace }: Scene) {
  return (await listIntents(cluster)).filter(({ group }) => group.startsWith(`${namespace}/`));
}

function uidsOf(pods: readonly Pod[]): readonly string[] {
  return pods.map(({ metadata }) => metadata.uid ?? '');
}
