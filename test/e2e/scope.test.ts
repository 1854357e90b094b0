import t from 'tap';
import { readAudit } from '../../hack/bed/audit.ts';
import { startBerthOn } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { cpuHosts, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  genericTopology,
  isGatedByBerth,
  listEvents,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  splitGroups,
  uninstallBerth,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { bindCpuPods, type PodTimings, quantile } from './cpu-pods.ts';

t.setTimeout(400_000);

const podsPerArm = 100;
const lease = { durationSeconds: 4, renewDeadlineSeconds: 3, retryPeriodSeconds: 1 };
const wholeRack = { size: 4, gpus: 8, annotations: { 'berth.dev/required-topology': 'rack' } };

/** What makes a pod of a group none of Berth's, one reason each; the names end up in pod names. */
const untouchables: Readonly<Record<string, PodPart>> = {
  'with-a-node': { spec: { nodeName: 'r00-h00' } },
  'of-a-daemonset': { metadata: { ownerReferences: [ownerOf('apps/v1', 'DaemonSet')] } },
  'of-a-node': { metadata: { ownerReferences: [ownerOf('v1', 'Node')] } },
  'mirror-pod': {
    metadata: { annotations: { 'kubernetes.io/config.mirror': 'hash' } },
    spec: { nodeName: 'r00-h01' },
  },
  'of-another-scheduler': { spec: { schedulerName: 'volcano' } },
  'pinned-by-name': { spec: { affinity: affinityTo('r00-h02') } },
  'pinned-in-two-terms': { spec: { affinity: affinityTo('r00-h02', 'r00-h03') } },
  'of-kueue-by-admission-gate': gatedBy('kueue.x-k8s.io/admission'),
  'of-kueue-by-topology-gate': gatedBy('kueue.x-k8s.io/topology'),
  'of-kueue-by-queue': labelled('kueue.x-k8s.io/queue-name', 'team-a'),
  'of-kueue-managed': labelled('kueue.x-k8s.io/managed', 'true'),
  'of-grove-by-gate': gatedBy('grove.io/podgang-pending-creation'),
  'of-grove-by-podgang': labelled('grove.io/podgang', 'gang-0'),
  'of-kai': labelled('kai.scheduler/queue', 'team-a'),
  'of-volcano': { metadata: { annotations: { 'scheduling.k8s.io/group-name': 'podgroup' } } },
  'observed-by-annotation': { metadata: { annotations: { 'berth.dev/mode': 'observe' } } },
};

/** Those of them that are a running group like any other once they are bound. */
const adoptable = new Set(['with-a-node-0', 'pinned-by-name-0', 'pinned-in-two-terms-0']);

/** Pods of an opted-in namespace that belong to no group. */
const singles: Readonly<Record<string, PodPart>> = {
  'single-of-cpu': { spec: { containers: [{ name: 'main', image: 'web' }] } },
  'single-with-gpus': {},
};

interface PodPart {
  readonly metadata?: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly unknown[];
  };
  readonly spec?: Readonly<Record<string, unknown>>;
}

const members = { labelled: labelledMember, LWS: lwsMember };

t.test('Berth touches only what has opted in', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, {
    name: 'two-racks',
    nodes: [...racks({ racks: 2, hostsPerRack: 4, gpus: 8 }), ...cpuHosts(4)],
  });
  await uninstallBerth(cluster);
  const elsewhere = await makeNamespace(t, cluster, {});
  await bindCpuPods(cluster, elsewhere, 'warm-up', podsPerArm);
  const baseline = await bindCpuPods(cluster, elsewhere, 'without', podsPerArm);
  let berth = await runBerth(t, cluster, { lease });
  const arms: [string, PodTimings][] = [['not installed', baseline]];

  await t.test('a pod that is another owner’s to place is admitted as if Berth were not there', async t => {
    const opted = await makeNamespace(t, cluster);
    const before = reviewsOf(await berth.metrics());
    const cases = [
      ...Object.entries(untouchables).flatMap(([name, part]) =>
        Object.entries(members).map(([kind, member]) => ({
          name,
          kind,
          pod: podOf(name, member('g'), part),
        })),
      ),
      ...Object.entries(singles).map(([name, part]) => ({
        name,
        kind: 'single',
        pod: podOf(name, {}, part),
      })),
    ];
    for (const { name, kind, pod } of cases) {
      const there = await dryRun(cluster, opted, pod);
      const here = await dryRun(cluster, elsewhere, pod);
      t.strictSame(comparable(there, opted), comparable(here, elsewhere), `${name} (${kind})`);
    }
    t.equal(reviewsOf(await berth.metrics()), before, 'the API server did not even call Berth for them');
    for (const member of Object.values(members)) {
      const control = podOf('control', member('g'), {});
      t.ok(isGatedByBerth(await dryRun(cluster, opted, control)), 'control: a plain member is gated there');
      t.notOk(isGatedByBerth(await dryRun(cluster, elsewhere, control)), 'control: and not elsewhere');
    }
    t.ok(reviewsOf(await berth.metrics()) > before, 'control: for these Berth was called');
  });

  await t.test('what Berth has not admitted it does not write to later either', async t => {
    const opted = await makeNamespace(t, cluster);
    const from = (await readAudit(cluster.auditLogPath)).nextOffset;
    const path = `/api/v1/namespaces/${opted}/pods`;
    for (const [name, part] of [...Object.entries(untouchables), ...Object.entries(singles)]) {
      // The garbage collector deletes pods at once whose owners do not exist.
      if (part.metadata?.ownerReferences !== undefined) continue;
      const group = name in singles ? {} : labelledMember(name);
      await cluster.request('POST', path, podOf(name, group, part));
    }
    await createLws(cluster, opted, { name: 'control', size: 2, gpus: 1 });
    await waitForReady(cluster, opted, 2, 30_000, 'leaderworkerset.sigs.k8s.io/name=control');
    const { events } = await readAudit(cluster.auditLogPath, from);
    const own = events.filter(
      event => event.user === 'system:serviceaccount:berth-system:berth' && event.namespace === opted,
    );
    t.ok(
      own.some(event => event.verb === 'patch' && event.name === 'control-0'),
      'control: the audit log shows what Berth writes',
    );
    const strangers = own.filter(event => !event.name.startsWith('control-'));
    t.strictSame(
      strangers.filter(event => !adoptable.has(event.name)).map(({ verb, name }) => `${verb} ${name}`),
      [],
      'pods that others place are not written to',
    );
    // A group may run already when its namespace opts in: where it runs is written down, and nothing else.
    for (const name of new Set(strangers.map(event => event.name))) {
      const pod = await cluster.request<Pod>('GET', `${path}/${name}`);
      t.strictSame(
        Object.keys(pod.metadata.annotations ?? {}),
        ['berth.dev/plan'],
        `${name} is adopted only`,
      );
      t.notOk(isGatedByBerth(pod), `${name} has no gate`);
    }
  });

  await t.test('members whose leader another places are let go, and an event says so', async t => {
    const opted = await makeNamespace(t, cluster);
    const path = `/api/v1/namespaces/${opted}/pods`;
    await cluster.request(
      'POST',
      path,
      podOf('foreign', labelledMember('f'), { spec: { schedulerName: 'volcano' } }),
    );
    const labels = { 'berth.dev/group-rank': '1' };
    await cluster.request('POST', path, podOf('own', labelledMember('f'), { metadata: { labels } }));
    await waitForReady(cluster, opted, 1, 30_000, 'berth.dev/group-rank=1');
    const released = (await listEvents(cluster, opted)).find(event => event.reason === 'GroupReleased');
    t.match(released?.message, /its leader is placed by volcano/, 'the event names the other owner');
  });

  await t.test('CPU pods do not feel Berth, whether it runs, is killed or stands still', async t => {
    const opted = await makeNamespace(t, cluster);
    arms.push(['runs', await bindCpuPods(cluster, elsewhere, 'running', podsPerArm)]);
    arms.push(['runs, opted in', await bindCpuPods(cluster, opted, 'running', podsPerArm)]);

    berth.kill('SIGKILL');
    let ended = false;
    void berth.ended.then(() => {
      ended = true;
    });
    await until('Berth to be gone', 5_000, () => ended);
    arms.push(['killed', await bindCpuPods(cluster, elsewhere, 'killed', podsPerArm)]);
    arms.push(['killed, opted in', await bindCpuPods(cluster, opted, 'killed', podsPerArm)]);
    t.match(
      await refusalOf(cluster, opted),
      /failed calling webhook "groups.pods.berth.dev"/,
      'a member of a group is refused meanwhile',
    );
    await createLws(cluster, opted, { name: 'made-while-killed', ...wholeRack });
    const { webhookPort } = berth;
    berth = await startBerthOn(cluster, {
      config: { topology: genericTopology, lease },
      install: false,
      webhookPort,
    });
    t.teardown(() => berth.stop());
    const startedMs = performance.now();
    const selector = 'leaderworkerset.sigs.k8s.io/name=made-while-killed';
    const pods = await waitForReady(cluster, opted, 4, 60_000, selector);
    t.comment(
      `the LWS made meanwhile is whole ${Math.round(performance.now() - startedMs)} ms after the start`,
    );
    t.strictSame(splitGroups(pods, await listNodes(cluster)), [], 'it is whole in one rack');

    berth.kill('SIGSTOP');
    arms.push(['stands still', await bindCpuPods(cluster, elsewhere, 'stopped', podsPerArm)]);
    arms.push(['stands still, opted in', await bindCpuPods(cluster, opted, 'stopped', podsPerArm)]);
    const askedMs = performance.now();
    t.match(
      await refusalOf(cluster, opted),
      /failed calling webhook "groups.pods.berth.dev"/,
      'a member of a group is refused meanwhile',
    );
    const refusedAfterMs = performance.now() - askedMs;
    t.ok(
      refusedAfterMs > 2_000 && refusedAfterMs < 6_000,
      `after the 3 s of the webhook (${refusedAfterMs | 0} ms)`,
    );
    await createLws(cluster, opted, { name: 'made-while-stopped', ...wholeRack });
    await until('the refusal to be told', 20_000, async () => {
      return (await listEvents(cluster, opted)).some(
        ({ reason, message }) => reason === 'FailedCreate' && message.includes('made-while-stopped'),
      );
    });
    berth.kill('SIGCONT');
    const stopped = await waitForReady(
      cluster,
      opted,
      4,
      60_000,
      'leaderworkerset.sigs.k8s.io/name=made-while-stopped',
    );
    t.strictSame(
      splitGroups(stopped, await listNodes(cluster)),
      [],
      'the LWS made meanwhile is whole in one rack',
    );
    t.equal(
      (await listPods(cluster, opted)).filter(isGatedByBerth).length,
      0,
      'nobody is left behind a gate',
    );

    t.comment(table(arms));
    const limitMs = 5 * quantile(baseline.createMs, 0.5) + 50;
    for (const [name, timings] of arms) {
      t.equal(timings.bound, podsPerArm, `${name}: all are bound`);
      t.ok(quantile(timings.createMs, 0.5) <= limitMs, `${name}: the median CREATE is not slower`);
      t.ok(timings.allBoundMs <= 5 * baseline.allBoundMs + 2_000, `${name}: they are bound as fast`);
    }
  });
});

/** LWS's own webhook wants an ordinal at the end of the name. */
function podOf(name: string, group: PodPart, { metadata = {}, spec = {} }: PodPart): object {
  const resources = { limits: { 'nvidia.com/gpu': '1' } };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${name}-0`,
      ...metadata,
      labels: { ...group.metadata?.labels, ...metadata.labels },
      annotations: { ...group.metadata?.annotations, ...metadata.annotations },
    },
    spec: {
      // Its volume has a random name.
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'main', image: 'model-server', resources }],
      ...spec,
    },
  };
}

function labelledMember(group: string): PodPart {
  const labels = { 'berth.dev/group': group, 'berth.dev/group-size': '4', 'berth.dev/group-rank': '0' };
  return { metadata: { labels } };
}

/** As the StatefulSet controller makes a leader; LWS's own webhook adds the rest. */
function lwsMember(name: string): PodPart {
  const labels = {
    'leaderworkerset.sigs.k8s.io/name': name,
    'leaderworkerset.sigs.k8s.io/worker-index': '0',
    'leaderworkerset.sigs.k8s.io/template-revision-hash': 'r1',
  };
  return { metadata: { labels, annotations: { 'leaderworkerset.sigs.k8s.io/size': '4' } } };
}

function ownerOf(apiVersion: string, kind: string) {
  return { apiVersion, kind, name: 'owner', uid: '00000000-0000-4000-8000-000000000001', controller: true };
}

function affinityTo(...names: string[]) {
  const nodeSelectorTerms = names.map(name => ({
    matchFields: [{ key: 'metadata.name', operator: 'In', values: [name] }],
  }));
  return { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } };
}

function gatedBy(name: string): PodPart {
  return { spec: { schedulingGates: [{ name }] } };
}

function labelled(key: string, value: string): PodPart {
  return { metadata: { labels: { [key]: value } } };
}

function dryRun(cluster: Cluster, namespace: string, pod: object): Promise<Pod> {
  return cluster.request<Pod>('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, pod);
}

/** What the API server says to a member of a group; empty when it admits it. */
async function refusalOf(cluster: Cluster, namespace: string): Promise<string> {
  return dryRun(cluster, namespace, podOf('member', labelledMember('g'), {})).then(
    () => '',
    (error: Error) => error.message,
  );
}

/** Spec and metadata without what differs between two namespaces or moments. */
function comparable({ metadata, spec }: Pod, namespace: string): unknown {
  const { uid: _uid, creationTimestamp: _made, namespace: _namespace, ...rest } = metadata;
  const { 'leaderworkerset.sigs.k8s.io/group-key': _hash, ...labels } = rest.labels ?? {};
  const text = JSON.stringify({ metadata: { ...rest, labels, managedFields: undefined }, spec });
  return JSON.parse(text.replaceAll(namespace, '<namespace>'));
}

function reviewsOf(metrics: string): number {
  return [...metrics.matchAll(/^berth_admission_duration_seconds_count\{.*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}

function table(arms: readonly [string, PodTimings][]): string {
  const rows = arms.map(([name, { createMs, allBoundMs, bound }]) => {
    const [median = '', p90 = '', worst = ''] = [0.5, 0.9, 1].map(share =>
      quantile(createMs, share).toFixed(1),
    );
    return `${name.padEnd(24)}${median.padStart(8)}${p90.padStart(8)}${worst.padStart(8)}${String(Math.round(allBoundMs)).padStart(12)}${String(bound).padStart(7)}`;
  });
  const head = `${'Berth'.padEnd(24)}${'median'.padStart(8)}${'p90'.padStart(8)}${'worst'.padStart(8)}${'all bound'.padStart(12)}${'bound'.padStart(7)}`;
  return [`${podsPerArm} CPU pods, CREATE and create-to-bound in ms`, head, ...rows].join('\n');
}
