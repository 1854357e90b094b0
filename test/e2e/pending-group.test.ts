import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { readAudit } from '../../hack/bed/audit.ts';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { cpuHosts, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { sentences } from '../../src/extender/verdict.ts';
import {
  conditionOf,
  createLws,
  deleteLws,
  gpuResources,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  singlePod,
  splitGroups,
  until,
  withFleet,
} from './bed.ts';
import { awaitSteering, callsDuring, withExtender } from './extender.ts';

t.setTimeout(400_000);

const groupSize = 4;
const busyMs = 15_000;
const quietMs = 5_000;
const settledMs = 3_000;
const churnEveryMs = 300;
const churnLifetimeMs = 2_000;
const group = {
  name: 'pending',
  size: groupSize,
  gpus: 8,
  annotations: { 'berth.dev/required-topology': 'rack' },
};

t.test('a group that does not fit now, on a half-full, mixed, busy fleet', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, {
    name: 'mixed',
    nodes: [...racks({ racks: 4, hostsPerRack: 4, gpus: 8 }), ...cpuHosts(4)],
  });
  const berth = await runBerth(t, cluster);
  const others = await makeNamespace(t, cluster, {});
  const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin-extender' });
  // Hosts of three racks, some wholly in use, some in part.
  for (const host of ['r00-h00', 'r00-h01', 'r01-h00', 'r01-h01', 'r02-h00'])
    await fill(cluster, others, host, 8);
  for (const host of ['r00-h02', 'r01-h02', 'r02-h01']) await fill(cluster, others, host, 3);

  await t.test('mode pin-extender: a gated group costs kube-scheduler nothing', async t => {
    await withExtender(t, cluster, 'pin-extender', berth);
    const blockers = await createPendingGroup(cluster, { namespace, others });
    const churn = await startChurn(t, cluster, others);
    const busy = await observe(cluster, berth, namespace, busyMs);
    t.comment(`busy: ${describe(busy)}; ${churn.perSecond()} other pods a second`);
    t.equal(busy.calls, 0, 'kube-scheduler never asks for the group');
    t.ok(busy.otherCalls > 0, 'control: it asks for other pods');
    t.strictSame(busy.messages, [], 'the message of PodScheduled does not change');
    await placedOnceThereIsRoom(t, cluster, namespace, blockers);
    await churn.stop();
    await deleteLws(cluster, namespace, group.name);
  });

  await t.test('mode extender: a refused group is asked for once an event, and not without', async t => {
    await cluster.request('PATCH', `/api/v1/namespaces/${namespace}`, {
      metadata: { labels: { 'berth.dev/mode': 'extender' } },
    });
    await withExtender(t, cluster, 'extender', berth);
    await awaitSteering(cluster, berth, namespace);
    const blockers = await createPendingGroup(cluster, { namespace, others });

    const quiet = await observe(cluster, berth, namespace, quietMs);
    t.comment(`quiet: ${describe(quiet)}`);
    t.ok(quiet.calls < (2 * quietMs) / 1000, 'fewer than two calls a second where nothing happens');
    t.strictSame(quiet.messages, [], 'the message of PodScheduled does not change');

    const churn = await startChurn(t, cluster, others);
    const busy = await observe(cluster, berth, namespace, busyMs);
    t.comment(`busy: ${describe(busy)}; ${churn.perSecond()} other pods a second`);
    for (const message of new Set(busy.messages)) t.comment(message);
    // kube-scheduler tries a pod that an extender has refused again on every event of any bound pod, without backoff as
    // long as it has nothing else to do. What we can promise is that we add nothing to it.
    t.ok(busy.calls > 0, 'control: the calls are counted');
    t.ok(
      busy.calls / groupSize <= busy.events + 5,
      'no member is asked for more often than there are events in the cluster',
    );
    t.ok(
      busy.messages.every(message => message.includes(sentences.unplanned)),
      'the message changes in the counts of other plugins only',
    );
    await placedOnceThereIsRoom(t, cluster, namespace, blockers);
    await churn.stop();
  });
});

/** What happened to a waiting group within a span of time. */
interface Observation {
  readonly spanMs: number;
  /** Filter calls for the group: in these tests nothing else is refused everywhere, or planned. */
  readonly calls: number;
  readonly otherCalls: number;
  /** Changes of bound pods and of the group's own, as kube-scheduler hears of them. */
  readonly events: number;
  /** What PodScheduled of a member was changed to. */
  readonly messages: readonly string[];
  /** Of kube-scheduler, to members. */
  readonly writes: number;
}

async function observe(
  cluster: Cluster,
  berth: BerthProcess,
  namespace: string,
  spanMs: number,
): Promise<Observation> {
  const { items, metadata } = await cluster.request<{ items: Pod[]; metadata: { resourceVersion: string } }>(
    'GET',
    '/api/v1/pods',
  );
  const known = new Map(items.map(pod => [pod.metadata.uid, scheduledMessage(pod)]));
  const messages: string[] = [];
  let events = 0;
  const stop = cluster.watch('/api/v1/pods', (_type, object) => {
    const pod = object as unknown as Pod;
    // The watch begins with what is there.
    if (Number(pod.metadata.resourceVersion) <= Number(metadata.resourceVersion)) return;
    const isMember = pod.metadata.namespace === namespace;
    if (isMember || pod.spec.nodeName !== undefined) events++;
    const message = scheduledMessage(pod);
    if (isMember && known.get(pod.metadata.uid) !== message) messages.push(message);
    known.set(pod.metadata.uid, message);
  });
  const { nextOffset } = await readAudit(cluster.auditLogPath);
  const calls = await callsDuring(berth, 'filter', spanMs);
  stop();
  const written = (await readAudit(cluster.auditLogPath, nextOffset)).events.filter(
    event => event.user === 'system:kube-scheduler' && event.namespace === namespace,
  );
  const forGroup = (calls.get('none') ?? 0) + (calls.get('only') ?? 0);
  const all = [...calls.values()].reduce((sum, count) => sum + count, 0);
  return { spanMs, calls: forGroup, otherCalls: all - forGroup, events, messages, writes: written.length };
}

function describe({ spanMs, calls, events, messages, writes }: Observation): string {
  const perSecond = (count: number) => ((count * 1000) / spanMs).toFixed(1);
  return (
    `${calls} filter calls for the group of ${groupSize} in ${spanMs / 1000} s: ${perSecond(calls)} a second, ` +
    `${perSecond(calls / groupSize)} a member; ${perSecond(events)} events a second, ` +
    `${messages.length} changes of a message, ${writes} writes of kube-scheduler`
  );
}

function scheduledMessage(pod: Pod): string {
  return conditionOf(pod, 'PodScheduled')?.message ?? '';
}

interface Place {
  readonly namespace: string;
  readonly others: string;
}

/** Makes the group and what it waits for: two pods in the last rack. Resolves with their paths when it waits. */
async function createPendingGroup(
  cluster: Cluster,
  { namespace, others }: Place,
): Promise<readonly string[]> {
  const blockers = [await fill(cluster, others, 'r03-h00', 1), await fill(cluster, others, 'r03-h01', 8)];
  await createLws(cluster, namespace, group);
  await until('all members to be told that they wait', 30_000, async () => {
    const pods = await listPods(cluster, namespace);
    return pods.length === groupSize && pods.every(pod => scheduledMessage(pod) !== '');
  });
  await until('the leader to be told why', 30_000, async () => {
    const pods = await listPods(cluster, namespace);
    return pods.some(pod => conditionOf(pod, 'berth.dev/Placed')?.status === 'False');
  });
  // What has just been written makes kube-scheduler look once more, sooner or later.
  let [before, sinceMs] = ['', performance.now()];
  await until('what the members are told to stay the same', 60_000, async () => {
    const told = JSON.stringify((await listPods(cluster, namespace)).map(scheduledMessage));
    if (told !== before) [before, sinceMs] = [told, performance.now()];
    return performance.now() - sinceMs > settledMs;
  });
  return blockers;
}

async function placedOnceThereIsRoom(
  t: Test,
  cluster: Cluster,
  namespace: string,
  blockers: readonly string[],
): Promise<void> {
  const boundMs = new Map<string, number>();
  const goneMs: number[] = [];
  const stop = cluster.watch('/api/v1/pods', (type, object) => {
    const { metadata, spec } = object as unknown as Pod;
    const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
    if (type === 'DELETED' && blockers.includes(path)) goneMs.push(performance.now());
    if (metadata.namespace !== namespace || spec.nodeName === undefined || boundMs.has(path)) return;
    boundMs.set(path, performance.now());
  });
  t.ok(
    (await listPods(cluster, namespace)).every(pod => pod.spec.nodeName === undefined),
    'the group still waits',
  );
  for (const path of blockers) await cluster.request('DELETE', path, { gracePeriodSeconds: 0 });
  await until('the group to be bound', 60_000, () => boundMs.size === groupSize);
  stop();
  const tookMs = Math.max(...boundMs.values()) - Math.max(...goneMs);
  t.comment(`all ${groupSize} members bound ${Math.round(tookMs)} ms after room appeared`);
  t.ok(tookMs < 2_000, 'placed within two seconds of room appearing');
  t.strictSame(
    splitGroups(await listPods(cluster, namespace), await listNodes(cluster)),
    [],
    'whole in one rack',
  );
}

interface Churn {
  perSecond(): string;
  /** Resolves when all its pods are gone. */
  stop(): Promise<void>;
}

/** GPU singles outside the last rack, and CPU pods, that come and go through kube-scheduler; steady when it resolves. */
async function startChurn(t: Test, cluster: Cluster, namespace: string): Promise<Churn> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const startedMs = performance.now();
  const ends: Promise<unknown>[] = [];
  let running = true;
  const loop = (async () => {
    for (let number = 0; running; number++) {
      const name = `churn-${process.hrtime.bigint()}`;
      const labels = { churn: '' };
      const pod =
        number % 2 === 0
          ? singlePod(
              namespace,
              name,
              gpuResources(2),
              { nodeSelector: { 'example.com/rack': `r0${number % 3}` } },
              labels,
            )
          : singlePod(namespace, name, { requests: { cpu: '1' } }, {}, labels);
      await cluster.request('POST', path, pod);
      ends.push(delay(churnLifetimeMs).then(() => cluster.request('DELETE', `${path}/${name}`)));
      await delay(churnEveryMs);
    }
  })();
  const stop = async () => {
    running = false;
    await loop;
    await Promise.all(ends);
    await until(
      'the churn to end',
      30_000,
      async () => (await listPods(cluster, namespace, 'churn')).length === 0,
    );
  };
  t.teardown(stop);
  await delay(churnLifetimeMs + 2_000);
  return {
    perSecond: () => ((ends.length * 1000) / (performance.now() - startedMs)).toFixed(1),
    stop,
  };
}

/** Takes GPUs of a host; the path of the pod. */
async function fill(cluster: Cluster, namespace: string, host: string, gpus: number): Promise<string> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const name = `on-${host}`;
  await cluster.request('POST', path, singlePod(namespace, name, gpuResources(gpus), { nodeName: host }));
  return `${path}/${name}`;
}
