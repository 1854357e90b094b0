import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { EndpointSlice } from '../../src/api/discovery.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  conditionOf,
  createLws,
  createPod,
  deleteLws,
  groupsOf,
  isReady,
  listEvents,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  singlePod,
  until,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';
import {
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  watchDestruction,
} from './failures.ts';

t.setTimeout(300_000);

const gate = 'berth.dev/InService';
const readinessGates = [{ conditionType: gate }];
/** Or the pods would be in no EndpointSlice. */
const podAnnotations = { 'bed.berth.test/ip': 'yes' };

/** A Service in front of the leaders of a LeaderWorkerSet. */
async function createService(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await cluster.request('POST', `/api/v1/namespaces/${namespace}/services`, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: `front-${name}`, namespace },
    spec: {
      selector: {
        'leaderworkerset.sigs.k8s.io/name': name,
        'leaderworkerset.sigs.k8s.io/worker-index': '0',
      },
      ports: [{ port: 80 }],
    },
  });
}

/** UIDs of the pods that a Service sends requests to. */
async function answering(cluster: Cluster, namespace: string, service: string): Promise<readonly string[]> {
  const path = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`;
  const query = `labelSelector=kubernetes.io/service-name=${service}`;
  const { items } = await cluster.request<{ items: EndpointSlice[] }>('GET', `${path}?${query}`);
  return items.flatMap(readyIn);
}

function readyIn({ endpoints }: EndpointSlice): readonly string[] {
  return (endpoints ?? []).filter(e => e.conditions?.ready === true).map(e => e.targetRef?.uid ?? '');
}

/** What happened first to whom, by the revision of the whole cluster at which it was written. */
class Course {
  readonly #revisions = new Map<string, number>();

  constructor(t: Test, cluster: Cluster, namespace: string) {
    watchPods(t, cluster, namespace, (_, pod) => {
      const { name, resourceVersion, deletionTimestamp } = pod.metadata;
      if (conditionOf(pod, gate)?.status === 'False') this.#note(`${name} out of service`, resourceVersion);
      if (deletionTimestamp !== undefined) this.#note(`${name} terminating`, resourceVersion);
    });
    const path = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`;
    t.teardown(
      cluster.watch(path, (_, object) => {
        const slice = object as unknown as EndpointSlice;
        for (const { conditions, targetRef } of slice.endpoints ?? [])
          if (slice.metadata.name?.startsWith('front-') && conditions?.ready === false)
            this.#note(`${targetRef?.name} gets no requests`, slice.metadata.resourceVersion);
      }),
    );
  }

  at(what: string): number {
    return this.#revisions.get(what) ?? Number.NaN;
  }

  #note(what: string, revision = ''): void {
    const known = this.#revisions.get(what);
    this.#revisions.set(what, Math.min(known ?? Number.POSITIVE_INFINITY, Number(revision)));
  }
}

async function evictOnce(
  t: Test,
  cluster: Cluster,
  namespace: string,
  group: string,
  victim: Pod,
): Promise<void> {
  const calls = await watchDestruction(cluster);
  const before = await listPods(cluster, namespace);
  const old = new Set((groupsOf(before).get(group) ?? []).map(pod => pod.metadata.uid));
  await reportDevice(cluster, victim, 'Unhealthy');
  await until(`${group} to be new and Ready`, 90_000, async () => {
    const pods = groupsOf(await listPods(cluster, namespace)).get(group) ?? [];
    return pods.length === old.size && pods.every(pod => !old.has(pod.metadata.uid) && isReady(pod));
  });
  await until('the record to be closed', 20_000, async () =>
    (await listIntents(cluster)).every(intent => intent.phase === 'closed'),
  );
  t.strictSame((await calls.byBerth()).map(describeCall), [`create pods/eviction ${group} 201`]);
}

t.test('groups are taken out of traffic before they are evicted', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 4, hostsPerRack: 2, gpus: 8 }) });
  const berth = await runBerth(t, cluster, { failure: fastFailure });

  await t.test('with the gate: out of service, no requests, then the eviction', async t => {
    const namespace = await makeNamespace(t, cluster);
    await createService(cluster, namespace, 'llama');
    await createLws(cluster, namespace, {
      name: 'llama',
      replicas: 2,
      size: 2,
      podAnnotations,
      worker: { readinessGates },
    });
    const groups = groupsOf(await waitForReady(cluster, namespace, 4));
    await until('both leaders to get requests', 20_000, async () => {
      return (await answering(cluster, namespace, 'front-llama')).length === 2;
    });
    const course = new Course(t, cluster, namespace);
    const victim = groups.get('llama-1')?.[1];
    if (victim === undefined) throw new Error('llama-1 has no worker');
    await evictOnce(t, cluster, namespace, 'llama-1', victim);
    const steps = ['llama-1 out of service', 'llama-1 gets no requests', 'llama-1 terminating'];
    const at = steps.map(step => course.at(step));
    t.ok(
      at.every((revision, i) => revision > (at[i - 1] ?? 0)),
      `in this order: ${steps.map((step, i) => `${step} ${at[i]}`).join(', ')}`,
    );
    t.ok(course.at('llama-1-1 out of service') < course.at('llama-1 terminating'), 'the worker as well');
    t.notOk(course.at('llama-0 out of service'), 'and nobody else');
    t.notOk(course.at('llama-0 gets no requests'));
    const [intent] = await listIntents(cluster);
    const { drain, intent: decided = 0, evicted = 0 } = intent?.times ?? {};
    t.ok(drain !== undefined && drain >= decided && drain <= evicted, 'the record has the time');
    t.comment(`drained for ${evicted - (drain ?? 0)} ms`);
    t.ok((await listEvents(cluster, namespace)).some(({ reason }) => reason === 'GroupDraining'));
    t.match(await berth.metrics(), /berth_recovery_seconds_count\{step="drain"\} 1/);
    const after = await waitForReady(cluster, namespace, 4);
    t.strictSame(
      groupsOf(after)
        .get('llama-0')
        ?.map(pod => pod.metadata.uid),
      groups.get('llama-0')?.map(pod => pod.metadata.uid),
      'the other group kept all UIDs',
    );
    await until('both leaders to get requests again', 20_000, async () => {
      const leaders = after.filter(
        pod => pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/worker-index'] === '0',
      );
      const got = await answering(cluster, namespace, 'front-llama');
      return leaders.every(({ metadata }) => got.includes(metadata.uid ?? ''));
    });
    await deleteLws(cluster, namespace, 'llama');
    await forgetFailures(cluster);
  });

  await t.test('without it: the eviction, while requests come in', async t => {
    const namespace = await makeNamespace(t, cluster);
    await createService(cluster, namespace, 'plain');
    await createLws(cluster, namespace, { name: 'plain', replicas: 2, size: 2, podAnnotations });
    const groups = groupsOf(await waitForReady(cluster, namespace, 4));
    await until('both leaders to get requests', 20_000, async () => {
      return (await answering(cluster, namespace, 'front-plain')).length === 2;
    });
    const course = new Course(t, cluster, namespace);
    const victim = groups.get('plain-0')?.[1];
    if (victim === undefined) throw new Error('plain-0 has no worker');
    await evictOnce(t, cluster, namespace, 'plain-0', victim);
    t.ok(course.at('plain-0 terminating') < course.at('plain-0 gets no requests'));
    t.notOk(course.at('plain-0 out of service'));
    const [intent] = await listIntents(cluster);
    t.equal(intent?.times.drain, undefined);
    await deleteLws(cluster, namespace, 'plain');
  });

  await t.test(
    'pods that come while no Berth runs wait for one, whatever their namespace asks for',
    async t => {
      await berth.stop();
      const namespace = await makeNamespace(t, cluster, {});
      await createPod(
        cluster,
        singlePod(namespace, 'single', { requests: { cpu: '1' } }, { readinessGates }),
      );
      const single = async () => (await listPods(cluster, namespace))[0];
      await until('the pod to run', 30_000, async () => (await single())?.status?.phase === 'Running');
      await delay(3_000);
      const waiting = await single();
      t.notOk(waiting && isReady(waiting), 'not Ready without Berth');
      await runBerth(t, cluster, { failure: { mode: 'off' } });
      await waitForReady(cluster, namespace, 1);
    },
  );
});
