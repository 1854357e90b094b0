import { readFileSync } from 'node:fs';
import t from 'tap';
import type { KubernetesObject, Pod } from '../../../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import type { PlanReport } from '../../../src/cli/plan-report.ts';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { podOf } from '../../builders/pods.ts';
import { filesFor, listOf, rackLevels, rackNodes } from './input-files.ts';
import { runCli } from './run-cli.ts';

type Lists = Readonly<Record<string, readonly KubernetesObject[]>>;

/** Answers list requests by path, in pages of two; what has no list is not there. */
function clientOf(lists: Lists, refused: Readonly<Record<string, number>> = {}): ApiClient {
  const answer = ({ path, query }: ApiRequest): unknown => {
    const status = refused[path] ?? (lists[path] === undefined ? 404 : undefined);
    if (status !== undefined) throw new ApiError({ status, message: `status ${status} for ${path}` });
    const items = lists[path] ?? [];
    const start = Number(query?.['continue'] ?? 0);
    const token = start + 2 < items.length ? String(start + 2) : '';
    // Items of lists come without kind and version.
    const bare = items.slice(start, start + 2).map(({ kind: _kind, apiVersion: _version, ...rest }) => rest);
    return {
      kind: 'List',
      apiVersion: 'v1',
      metadata: { resourceVersion: '7', continue: token },
      items: bare,
    };
  };
  return {
    async request<T>(request: ApiRequest): Promise<T> {
      const page = answer(request);
      return page as T;
    },
    // biome-ignore lint/correctness/useYield: a snapshot does not watch
    async *stream() {
      throw new Error('a snapshot does not watch');
    },
  };
}

const paths = {
  nodes: '/api/v1/nodes',
  namespaces: '/api/v1/namespaces',
  pods: '/api/v1/pods',
  sets: '/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets',
  statefulSets: '/apis/apps/v1/statefulsets',
  priorityClasses: '/apis/scheduling.k8s.io/v1/priorityclasses',
} as const;

const secret = 'hunter2';

function withSecrets(pod: Pod): Pod {
  const container = {
    env: [{ name: 'TOKEN', value: secret }],
    envFrom: [{ secretRef: { name: secret } }],
    command: [secret],
    args: [secret],
    image: `${secret}/image`,
    volumeMounts: [{ name: 'v', mountPath: `/${secret}` }],
    ports: [{ containerPort: 80, name: secret }],
  };
  const containers = pod.spec.containers.map(c => ({ ...c, ...container }));
  const annotations = { ...pod.metadata.annotations, 'kubectl.kubernetes.io/last-applied': secret };
  const volumes = [{ name: 'v', secret: { secretName: secret } }];
  const full: unknown = {
    ...pod,
    metadata: { ...pod.metadata, annotations, finalizers: [secret] },
    spec: {
      ...pod.spec,
      containers,
      initContainers: containers,
      volumes,
      imagePullSecrets: [{ name: secret }],
    },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: 'True', message: secret }],
      containerStatuses: [{ name: 'main', state: { waiting: { message: secret } } }],
    },
  };
  // The wire types name only what Berth reads.
  return full as Pod;
}

const running = new LwsGroup({
  size: 2,
  worker: { gpu: 8 },
  name: 'old',
  annotations: { [berth.requiredTopology]: 'rack', 'example.com/note': secret },
});
const waiting = new LwsGroup({
  size: 3,
  worker: { gpu: 8, annotations: { 'example.com/note': secret } },
  annotations: { [berth.requiredTopology]: 'rack' },
});

function clusterLists(): Lists {
  const nodes = rackNodes(3, 3).map(node => ({
    ...node,
    metadata: { ...node.metadata, annotations: { 'example.com/note': secret } },
    status: { ...node.status, images: [{ names: [secret] }], nodeInfo: { machineID: secret } },
  }));
  const sets = [running.owner(), waiting.owner()].map(owner => ({
    ...owner,
    metadata: { ...owner.metadata, managedFields: [{ manager: secret }] },
  }));
  return {
    [paths.nodes]: nodes,
    [paths.namespaces]: [{ metadata: { name: 'serving', labels: { [berth.mode]: 'pin' } } }],
    [paths.pods]: [
      running.leader({ gated: false, node: 'r0-h0' }),
      running.worker(1, { gated: false, node: 'r0-h1' }),
      podOf({ name: 'stranger', node: 'r1-h1', gpu: 1, namespace: 'others' }),
      waiting.leader(),
    ].map(withSecrets),
    [paths.sets]: sets,
    [paths.statefulSets]: [running.workerSet()],
    [paths.priorityClasses]: [{ metadata: { name: 'high' }, value: 10 } as KubernetesObject],
  };
}

t.test('a dump holds what planning reads and no secret, in either form', async t => {
  const file = filesFor(t, {});
  const client = clientOf(clusterLists());
  const { code, out, err } = await runCli(['snapshot'], { client });
  t.equal(code, 0);
  t.equal(err, '18 objects\n');
  t.notMatch(out, new RegExp(secret));
  const objects = out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
  const leader = objects.find(({ metadata }) => metadata.name === 'llm-0');
  t.match(leader, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { labels: { [lws.name]: 'llm' }, annotations: { [lws.size]: '3' } },
    spec: { schedulingGates: [{ name: berth.placementGate }], priority: undefined },
  });
  t.same(Object.keys(leader.metadata.annotations), [lws.size]);
  t.same(Object.keys(leader.spec.containers[0]), ['name', 'resources']);
  t.notOk('volumes' in leader.spec);
  const set = objects.find(({ kind, metadata }) => kind === lws.kind && metadata.name === 'old');
  t.same(set.metadata.annotations, { [berth.requiredTopology]: 'rack' });

  for (const name of ['dump.json', 'dump.jsonl']) {
    const written = await runCli(['snapshot', '-o', file(name)], { client });
    t.match(written, { code: 0, out: '', err: /^18 objects written to / });
    const text = readFileSync(file(name), 'utf8');
    const read = name.endsWith('l')
      ? text
          .trim()
          .split('\n')
          .map(line => JSON.parse(line))
      : JSON.parse(text).items;
    t.strictSame(read, objects, name);
  }
});

t.test('a dump is planned like the cluster itself', async t => {
  const file = filesFor(t, { 'cluster.json': listOf(kindly(clusterLists())) });
  const { out: dump } = await runCli(['snapshot'], { client: clientOf(clusterLists()) });
  const planOf = async (fleet: readonly string[], stdin: string): Promise<PlanReport> => {
    const args = ['plan', '--fleet', ...fleet, '--levels', rackLevels, '-o', 'json'];
    return JSON.parse((await runCli(args, { stdin })).out);
  };
  const replayed = await planOf(['-'], dump);
  t.strictSame(replayed, await planOf([file('cluster.json')], ''));
  t.match(replayed.requests, [{ name: 'serving/llm-0', outcome: 'fits', domain: ['r2'] }]);
  const simulated = await runCli(['simulate', '--fleet', '-', '--events', '20', '--levels', rackLevels], {
    stdin: dump,
  });
  t.equal(simulated.code, 0);
});

/** As kubectl prints them: with kind and version. */
function kindly(lists: Lists): readonly KubernetesObject[] {
  const kinds: Readonly<Record<string, string>> = {
    [paths.nodes]: 'Node',
    [paths.namespaces]: 'Namespace',
    [paths.pods]: 'Pod',
    [paths.sets]: lws.kind,
    [paths.statefulSets]: 'StatefulSet',
    [paths.priorityClasses]: 'PriorityClass',
  };
  return Object.entries(lists).flatMap(([path, objects]) =>
    objects.map(object => ({ kind: kinds[path] ?? '', ...object })),
  );
}

t.test('a cluster without LWS, or without the right to read it, is dumped without', async t => {
  const { [paths.sets]: _sets, ...lists } = clusterLists();
  const refused = { [paths.priorityClasses]: 403 };
  const { code, err } = await runCli(['snapshot'], { client: clientOf(lists, refused) });
  t.equal(code, 0);
  t.match(err, /note: no LeaderWorkerSet read: status 404/);
  t.match(err, /note: no PriorityClass read: status 403/);
});

t.test('a cluster that does not let its pods be read is no dump', async t => {
  const client = clientOf(clusterLists(), { [paths.pods]: 403 });
  await t.rejects(runCli(['snapshot'], { client }), { name: 'ApiError', status: 403 });
  const wrong = await runCli(['snapshot', '-o', '/'], { client: clientOf(clusterLists()) });
  t.match(wrong, { code: 2, err: /--output: \/ cannot be written/ });
});

t.test('a mirror pod stays one that nobody places', async t => {
  const mirror = podOf({ name: 'proxy', annotations: { [k8s.mirrorPod]: 'x' }, gated: true });
  const lists = { ...clusterLists(), [paths.pods]: [mirror] };
  const { out } = await runCli(['snapshot'], { client: clientOf(lists) });
  t.match(out, new RegExp(k8s.mirrorPod));
});
