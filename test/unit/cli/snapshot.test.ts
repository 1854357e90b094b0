import { readFileSync } from 'node:fs';
import t from 'tap';
import { p4dRacks } from '../../../hack/bed/fleet-presets.ts';
import type { KubernetesObject, Pod } from '../../../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import type { PlanReport } from '../../../src/cli/plan-report.ts';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { podOf } from '../../builders/pods.ts';
import { gpusAndCard } from './device-files.ts';
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
  slices: '/apis/resource.k8s.io/v1/resourceslices',
  classes: '/apis/resource.k8s.io/v1/deviceclasses',
  claims: '/apis/resource.k8s.io/v1/resourceclaims',
  templates: '/apis/resource.k8s.io/v1/resourceclaimtemplates',
  rules: '/apis/resource.k8s.io/v1/devicetaintrules',
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
    [paths.slices]: [],
    [paths.classes]: [],
    [paths.claims]: [],
    [paths.templates]: [],
    [paths.rules]: [],
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
    [paths.slices]: 'ResourceSlice',
    [paths.classes]: 'DeviceClass',
    [paths.claims]: 'ResourceClaim',
    [paths.templates]: 'ResourceClaimTemplate',
    [paths.rules]: 'DeviceTaintRule',
  };
  return Object.entries(lists).flatMap(([path, objects]) =>
    objects.map(object => ({ kind: kinds[path] ?? '', ...object })),
  );
}

/** A rack of two hosts with devices by DRA: a pod has GPU 0 of the first, a group waits, the GPUs of the second are tainted. */
function claimLists(): Lists {
  const { nodes, slices = [], deviceClasses = [] } = p4dRacks({ racks: 1, hostsPerRack: 2 });
  const holder = podOf({ name: 'holder', namespace: 'serving', node: 'r00-h00' });
  const group = new LwsGroup({ size: 3, worker: {}, name: 'dra' });
  const claims = [{ name: 'fabric', resourceClaimTemplateName: 'gpu-efa' }];
  const claiming = (pod: Pod): Pod => ({ ...pod, spec: { ...pod.spec, resourceClaims: claims } });
  const owner = group.owner();
  const { workerTemplate } = owner.spec.leaderWorkerTemplate;
  const set = {
    ...owner,
    spec: {
      ...owner.spec,
      leaderWorkerTemplate: {
        ...owner.spec.leaderWorkerTemplate,
        workerTemplate: { ...workerTemplate, spec: { ...workerTemplate.spec, resourceClaims: claims } },
      },
    },
  };
  const config = [
    { opaque: { driver: 'gpu.nvidia.com', parameters: { kind: 'GpuConfig', token: secret } } },
    {
      opaque: {
        driver: 'compute-domain.nvidia.com',
        parameters: { kind: 'ComputeDomainChannelConfig', domainID: 'd-1', note: secret },
      },
    },
  ];
  const requests = Object.entries(gpusAndCard(2)).map(([name, exactly]) => ({ name, exactly }));
  const noted = { annotations: { 'example.com/note': secret, [berth.steerClaims]: 'false' } };
  const dra = [
    [paths.slices, slices],
    [paths.classes, deviceClasses.map(each => ({ ...each, spec: { ...each.spec, config } }))],
    [
      paths.claims,
      [
        {
          metadata: {
            name: 'holder-gpu',
            namespace: 'serving',
            uid: 'claim-1',
            annotations: { [k8s.podClaimName]: 'gpu', 'example.com/note': secret },
            ownerReferences: [
              { apiVersion: 'v1', kind: 'Pod', name: 'holder', uid: holder.metadata.uid, controller: true },
            ],
          },
          spec: { devices: { requests: [requests[0]], config } },
          status: {
            allocation: {
              devices: {
                results: [{ request: 'gpu', driver: 'gpu.nvidia.com', pool: 'r00-h00', device: 'gpu-0' }],
                config: config.map(each => ({ ...each, source: 'FromClaim' })),
              },
            },
            reservedFor: [{ resource: 'pods', name: 'holder', uid: holder.metadata.uid }],
            devices: [{ driver: 'gpu.nvidia.com', pool: 'r00-h00', device: 'gpu-0', data: { secret } }],
          },
        },
      ],
    ],
    [
      paths.templates,
      [
        {
          metadata: { name: 'gpu-efa', namespace: 'serving' },
          spec: { metadata: noted, spec: { devices: { requests, config: config.slice(0, 1) } } },
        },
      ],
    ],
    [
      paths.rules,
      [
        {
          metadata: { name: 'broken' },
          spec: {
            deviceSelector: { driver: 'gpu.nvidia.com', pool: 'r00-h01' },
            taint: { key: 'k', effect: 'NoSchedule', timeAdded: secret },
          },
          status: { conditions: [{ message: secret }] },
        },
      ],
    ],
  ];
  const lists: unknown = {
    ...clusterLists(),
    [paths.nodes]: nodes.map(node => ({
      ...node,
      status: { ...node.status, conditions: [{ type: 'Ready', status: 'True' }] },
    })),
    [paths.pods]: [holder, claiming(group.leader())].map(withSecrets),
    [paths.sets]: [set],
    [paths.statefulSets]: [],
    ...Object.fromEntries(dra),
  };
  // The wire types name only what Berth reads.
  return lists as Lists;
}

t.test(
  'a dump holds slices, classes, claims, templates and taint rules, and nothing for drivers',
  async t => {
    const lists = claimLists();
    const { code, out, err } = await runCli(['snapshot'], { client: clientOf(lists) });
    t.equal(code, 0);
    t.match(err, /^\d+ objects\n$/);
    t.notMatch(out, new RegExp(secret));
    const objects = out
      .trim()
      .split('\n')
      .map(line => JSON.parse(line));
    const ofKind = (kind: string) => objects.filter(object => object.kind === kind);
    t.same(
      ofKind('ResourceSlice').map(({ spec }) => spec),
      lists[paths.slices]?.map(slice => 'spec' in slice && slice.spec),
      'slices stay whole',
    );
    t.equal(ofKind('DeviceClass').length, 2);
    t.match(ofKind('ResourceClaim'), [
      {
        metadata: { annotations: { [k8s.podClaimName]: 'gpu' } },
        spec: { devices: { config: [{ opaque: { parameters: { domainID: 'd-1' } } }] } },
        status: {
          allocation: { devices: { results: [{ device: 'gpu-0' }] } },
          reservedFor: [{ name: 'holder' }],
        },
      },
    ]);
    t.match(ofKind('ResourceClaimTemplate'), [
      { spec: { metadata: { annotations: { [berth.steerClaims]: 'false' } }, spec: { devices: {} } } },
    ]);
    t.match(ofKind('DeviceTaintRule'), [
      { spec: { taint: { key: 'k' }, deviceSelector: { pool: 'r00-h01' } } },
    ]);

    const file = filesFor(t, { 'cluster.json': listOf(kindly(lists)) });
    const planOf = async (fleet: readonly string[], stdin: string): Promise<PlanReport> => {
      const args = ['plan', '--fleet', ...fleet, '--levels', rackLevels, '-o', 'json'];
      return JSON.parse((await runCli(args, { stdin })).out);
    };
    const replayed = await planOf(['-'], out);
    t.strictSame(replayed, await planOf([file('cluster.json')], ''));
    t.match(replayed.requests, [
      {
        name: 'serving/dra-0',
        outcome: 'fits',
        ranks: [{ node: 'r00-h00', devices: { length: 3 } }, {}, {}],
      },
    ]);
    const devices = replayed.requests[0]?.ranks?.flatMap(rank => rank.devices?.map(({ device }) => device));
    t.notOk(devices?.includes('gpu-0'), 'it is taken');
  },
);

t.test('a cluster without DRA, or without device taint rules, is dumped without', async t => {
  const { [paths.rules]: _rules, ...withoutRules } = claimLists();
  const some = await runCli(['snapshot'], { client: clientOf(withoutRules) });
  t.equal(some.code, 0);
  t.match(some.err, /^note: no DeviceTaintRule read: status 404.*\n\d+ objects\n$/);
  t.match(some.out, /"ResourceSlice"/);
  const { slices, classes, claims, templates } = paths;
  const lists = Object.fromEntries(
    Object.entries(withoutRules).filter(
      ([path]) => ![slices, classes, claims, templates].some(p => p === path),
    ),
  );
  const none = await runCli(['snapshot'], { client: clientOf(lists) });
  t.equal(none.code, 0);
  t.notMatch(none.out, /resource\.k8s\.io/);
});

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
