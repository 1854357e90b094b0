import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Container, Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  deleteLws,
  domainsOf,
  gpuResources,
  groupsOf,
  isGatedByBerth,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { runForeignWebhook } from './foreign-webhook.ts';

t.setTimeout(400_000);

const model = 'registry.example.com/models/llama:70b';
const revisionLabel = 'leaderworkerset.sigs.k8s.io/template-revision-hash';
const podAnnotations = { 'berth.dev/model': model, 'berth.dev/model-mount-path': '/weights' };
/** A server, a sidecar of both kinds, and an entry of the user that builds on an injected one. */
const podSpec = {
  initContainers: [
    { name: 'prepare', image: 'prepare' },
    { name: 'proxy', image: 'proxy', restartPolicy: 'Always' },
  ],
  containers: [
    {
      name: 'main',
      image: 'model-server',
      resources: gpuResources(8),
      env: [
        { name: 'NCCL_DEBUG', value: 'INFO' },
        { name: 'RENDEZVOUS', value: '$(MASTER_ADDR):$(MASTER_PORT)' },
        { name: 'NNODES', value: 'mine' },
      ],
    },
    { name: 'exporter', image: 'exporter', env: [{ name: 'MASTER_PORT', value: '1234' }] },
  ],
};
const inOneRack = { 'berth.dev/required-topology': 'rack' };
const served = {
  name: 'served',
  replicas: 2,
  size: 4,
  annotations: inOneRack,
  podAnnotations,
  leader: podSpec,
  worker: podSpec,
};

t.test('addresses, ranks and model weights in pods that the real API server has admitted', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'three-racks', nodes: racks({ racks: 3, hostsPerRack: 5, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  const berth = await runBerth(t, cluster);

  await t.test('LWS group: each name once, the model in the accelerator container only', async t => {
    const namespace = await makeNamespace(t, cluster);
    await createLws(cluster, namespace, served);
    const pods = await waitForReady(cluster, namespace, 8);
    t.strictSame(splitGroups(pods, nodes), [], 'whole, too');
    for (const [key, members] of groupsOf(pods)) {
      for (const pod of members) {
        const address = `${key}.served.${namespace}`;
        checkEnv(t, pod, { address, size: 4, rank: rankOf(pod) });
        checkModel(t, pod);
      }
    }

    const plain = await makeNamespace(t, cluster, {});
    await createLws(cluster, plain, { ...served, replicas: 1 });
    await until('a leader without Berth', 20_000, async () => (await listPods(cluster, plain)).length > 0);
    const revisions = [...pods, ...(await listPods(cluster, plain))].map(
      pod => pod.metadata.labels?.[revisionLabel],
    );
    t.equal(new Set(revisions).size, 1, 'the template revision is that of the same manifest without Berth');
    t.ok(revisions[0], 'and there is one');
    await deleteLws(cluster, plain, 'served');
    await deleteLws(cluster, namespace, 'served');
  });

  await t.test(
    'labelled group: a parallel StatefulSet of 4 lands whole in one rack, addresses and all',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      await createHeadlessService(cluster, namespace, 'ring');
      await cluster.request('POST', `/apis/apps/v1/namespaces/${namespace}/statefulsets`, {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name: 'ring' },
        spec: {
          serviceName: 'ring',
          replicas: 4,
          podManagementPolicy: 'Parallel',
          selector: { matchLabels: { app: 'ring' } },
          template: labelledTemplate('ring', {}),
        },
      });
      const pods = await waitForReady(cluster, namespace, 4);
      t.equal(domainsOf(pods, nodes).size, 1, 'whole in one rack');
      for (const pod of pods) {
        const rank = Number(pod.metadata.labels?.['apps.kubernetes.io/pod-index']);
        checkEnv(t, pod, { address: `ring-0.ring.${namespace}`, size: 4, rank });
        checkModel(t, pod);
      }
    },
  );

  await t.test('labelled group: an Indexed Job of 4 lands whole in one rack, addresses and all', async t => {
    const namespace = await makeNamespace(t, cluster);
    await createHeadlessService(cluster, namespace, 'job');
    await cluster.request('POST', `/apis/batch/v1/namespaces/${namespace}/jobs`, {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'train' },
      spec: {
        completionMode: 'Indexed',
        completions: 4,
        parallelism: 4,
        template: labelledTemplate('job', { subdomain: 'job', restartPolicy: 'Never' }),
      },
    });
    const pods = await waitForReady(cluster, namespace, 4);
    t.equal(domainsOf(pods, nodes).size, 1, 'whole in one rack');
    for (const pod of pods) {
      const rank = Number(pod.metadata.labels?.['batch.kubernetes.io/job-completion-index']);
      checkEnv(t, pod, { address: `train-0.job.${namespace}`, size: 4, rank });
      checkModel(t, pod);
    }
  });

  await t.test(
    'a second admission changes nothing: a later webhook has the API server call Berth again',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      const mutate = (pod: Pod) =>
        pod.metadata.labels?.['example.com/stamped'] === undefined
          ? [{ op: 'add' as const, path: '/metadata/labels/example.com~1stamped', value: 'yes' }]
          : [];
      await runForeignWebhook(t, cluster, { name: 'zzz-stamp', namespace, mutate });
      const before = unchangedReviews(await berth.metrics());
      await createLws(cluster, namespace, served);
      const pods = await waitForReady(cluster, namespace, 8);
      for (const pod of pods) {
        checkEnv(t, pod, { address: addressOf(pod, namespace), size: 4, rank: rankOf(pod) });
        checkModel(t, pod);
      }
      t.ok(
        pods.every(pod => pod.metadata.labels?.['example.com/stamped']),
        'the later webhook saw them all',
      );
      // A worker that is pinned at CREATE is out of scope from then on; leaders and gated workers come again.
      await createLws(cluster, namespace, { ...served, name: 'waiting', replicas: 1, size: 6 });
      const waiting = await gatedPods(cluster, namespace, 'waiting', 6);
      for (const pod of waiting) {
        checkEnv(t, pod, { address: `waiting-0.waiting.${namespace}`, size: 6, rank: rankOf(pod) });
        checkModel(t, pod);
        t.equal(pod.spec.schedulingGates?.length, 1, `${pod.metadata.name}: one gate`);
      }
      const again = unchangedReviews(await berth.metrics()) - before;
      t.ok(
        again >= 2 + 6,
        `Berth was called again for leaders and gated pods, and changed nothing (${again})`,
      );
      await deleteLws(cluster, namespace, 'served');
    },
  );

  await t.test('a second admission changes nothing: what is stored is admitted as it is', async t => {
    const namespace = await makeNamespace(t, cluster);
    // More than a rack has: the group stays gated, and its pods as admission has left them.
    await createLws(cluster, namespace, { ...served, replicas: 1, size: 6 });
    for (const stored of await gatedPods(cluster, namespace, 'served', 6)) {
      const { name, labels, annotations, ownerReferences } = stored.metadata;
      // The name is taken; another one with the same ordinal makes the same member.
      const metadata = { name: `again-${name}`, labels, annotations, ownerReferences };
      const again = await cluster.request<Pod>('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata,
        spec: stored.spec,
      });
      t.strictSame(withoutAddress(again.spec), withoutAddress(stored.spec), `${name}: the spec`);
      t.strictSame(again.metadata.annotations, annotations, `${name}: the annotations`);
    }
  });
});

async function gatedPods(cluster: Cluster, namespace: string, lws: string, count: number): Promise<Pod[]> {
  let pods: Pod[] = [];
  await until(`${count} gated pods`, 20_000, async () => {
    pods = await listPods(cluster, namespace, `leaderworkerset.sigs.k8s.io/name=${lws}`);
    return pods.length === count && pods.every(isGatedByBerth);
  });
  return pods;
}

function labelledTemplate(name: string, spec: Readonly<Record<string, unknown>>) {
  return {
    metadata: {
      labels: { app: name, 'berth.dev/group': name, 'berth.dev/group-size': '4' },
      annotations: { ...inOneRack, ...podAnnotations },
    },
    spec: { terminationGracePeriodSeconds: 1, ...podSpec, ...spec },
  };
}

async function createHeadlessService(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await cluster.request('POST', `/api/v1/namespaces/${namespace}/services`, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { clusterIP: 'None', selector: { app: name } },
  });
}

interface Expected {
  readonly address: string;
  readonly size: number;
  readonly rank: number;
}

/** Compares all containers at once, so that a pod is one line of the report. */
function checkEnv(t: Test, pod: Pod, { address, size, rank }: Expected): void {
  const injected = {
    LWS_LEADER_ADDRESS: address,
    LWS_GROUP_SIZE: String(size),
    LWS_WORKER_INDEX: String(rank),
    MASTER_ADDR: address,
    MASTER_PORT: '29500',
    NNODES: String(size),
    NODE_RANK: String(rank),
  };
  const own = { NCCL_DEBUG: 'INFO', RENDEZVOUS: '$(MASTER_ADDR):$(MASTER_PORT)', NNODES: 'mine' };
  const wanted = {
    prepare: injected,
    proxy: injected,
    main: { ...injected, ...own },
    exporter: { ...injected, MASTER_PORT: '1234' },
  };
  const containers = containersOf(pod);
  const found = Object.fromEntries(containers.map(({ name, env = [] }) => [name, envOf(env)]));
  t.same(found, wanted, `${pod.metadata.name}: names and values`);
  const names = containers.flatMap(({ name, env = [] }) => env.map(entry => `${name}/${entry.name}`));
  const twice = names.filter((name, index) => names.indexOf(name) !== index);
  t.strictSame(twice, [], `${pod.metadata.name}: each name once`);
  const main = containers.find(({ name }) => name === 'main')?.env?.map(entry => entry.name) ?? [];
  t.ok(
    main.indexOf('MASTER_ADDR') < main.indexOf('RENDEZVOUS'),
    `${pod.metadata.name}: before the entries that refer to them`,
  );
}

function checkModel(t: Test, pod: Pod): void {
  const volumes = pod.spec.volumes?.filter(volume => volume.image !== undefined) ?? [];
  const image = { reference: model, pullPolicy: 'IfNotPresent' };
  t.strictSame(
    volumes.map(volume => volume.image),
    [image],
    `${pod.metadata.name}: one image volume`,
  );
  const mounts = containersOf(pod).flatMap(({ name, volumeMounts = [] }) =>
    volumeMounts
      .filter(mount => mount.name === volumes[0]?.name)
      .map(({ mountPath, readOnly }) => ({ name, mountPath, readOnly })),
  );
  t.strictSame(
    mounts,
    [{ name: 'main', mountPath: '/weights', readOnly: true }],
    `${pod.metadata.name}: mounted read-only in the accelerator container alone`,
  );
}

function containersOf({ spec }: Pod): readonly Container[] {
  return [...(spec.initContainers ?? []), ...spec.containers];
}

function envOf(env: NonNullable<Container['env']>): Record<string, string | undefined> {
  return Object.fromEntries(env.map(({ name, value }) => [name, value]));
}

function addressOf(pod: Pod, namespace: string): string {
  return `served-${pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/group-index']}.served.${namespace}`;
}

/** LWS derives its address from the pod's name, which is another one here. */
function withoutAddress(spec: Pod['spec']): unknown {
  return JSON.parse(JSON.stringify(spec).replaceAll('again-', ''));
}

function unchangedReviews(metrics: string): number {
  const found =
    /^berth_admission_duration_seconds_count\{.*webhook="pods".*outcome="unchanged".*\} (\d+)$/m.exec(
      metrics,
    );
  return Number(found?.[1] ?? 0);
}
