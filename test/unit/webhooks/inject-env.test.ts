import fc from 'fast-check';
import t from 'tap';
import type { EnvVar, LeaderWorkerSet, Pod } from '../../../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import { isMembershipError, membershipOf } from '../../../src/group/membership.ts';
import { type EnvContext, envOps } from '../../../webhooks/inject-env.ts';
import { isRefusal } from '../../../webhooks/review.ts';
import { admitByLws, groupPods } from './lws-pods.ts';
import { buildPod, memberPod, namespace, patched } from './pod-builders.ts';

const noLeader: EnvContext = { leader: undefined };

function inject(pod: Pod, context: EnvContext = noLeader) {
  const membership = membershipOf(pod.metadata, namespace);
  if (membership === undefined || isMembershipError(membership)) throw new Error('not a member');
  return envOps(pod, membership, context);
}

function injected(pod: Pod, context: EnvContext = noLeader): { pod: Pod; warnings: readonly string[] } {
  const result = inject(pod, context);
  if (isRefusal(result)) throw new Error(result.message);
  return { pod: patched(pod, result.ops), warnings: result.warnings };
}

function mainEnv(pod: Pod): readonly EnvVar[] {
  return pod.spec.containers[0]?.env ?? [];
}

function lines(env: readonly EnvVar[]): readonly string[] {
  return env.map(({ name, value, valueFrom }) =>
    valueFrom === undefined ? `${name}=${value}` : `${name}<-`,
  );
}

function buildSet(env: readonly EnvVar[] = [], size = 3): LeaderWorkerSet {
  const template = { spec: { containers: [{ name: 'main', ...(env.length > 0 && { env }) }] } };
  return { metadata: { name: 'vllm' }, spec: { leaderWorkerTemplate: { size, workerTemplate: template } } };
}

t.test('gives an LWS pod the same environment whichever webhook runs first', async t => {
  const user: EnvVar[] = [{ name: 'URL', value: 'tcp://$(MASTER_ADDR):$(MASTER_PORT)' }];
  for (const uniqueSubdomain of [false, true]) {
    for (const [rank, pod] of groupPods(buildSet(user), { group: 1, uniqueSubdomain }).entries()) {
      const subdomain = uniqueSubdomain ? 'vllm-1' : 'vllm';
      const want = [
        `LWS_LEADER_ADDRESS=vllm-1.${subdomain}.serving`,
        'LWS_GROUP_SIZE=3',
        `LWS_WORKER_INDEX=${rank}`,
        `MASTER_ADDR=vllm-1.${subdomain}.serving`,
        'MASTER_PORT=29500',
        'NNODES=3',
        `NODE_RANK=${rank}`,
        'URL=tcp://$(MASTER_ADDR):$(MASTER_PORT)',
      ];
      const after = injected(admitByLws(pod)).pod;
      t.same(lines(mainEnv(after)), want, 'after LWS');
      const before = admitByLws(injected(pod).pod);
      t.same(lines(mainEnv(before)), want, 'before LWS');
      t.same(inject(before), { ops: [], warnings: [] }, 'and has nothing to add when called again');
    }
  }
});

t.test('repeats the address that LWS has published, wherever it comes from', async t => {
  const [pod] = groupPods(buildSet());
  if (pod === undefined) throw new Error('no pod');
  const own = [
    { name: lws.envLeaderAddress, value: 'leader.of.lws' },
    { name: lws.envGroupSize, value: '3' },
    { name: lws.envWorkerIndex, value: '0' },
  ];
  const admitted = { ...pod, spec: { ...pod.spec, containers: [{ name: 'main', env: own }] } };
  t.match(lines(mainEnv(injected(admitted).pod)), { 3: 'MASTER_ADDR=leader.of.lws' });
});

t.test('does not believe an address in an LWS pod that LWS is going to replace', async t => {
  const [pod] = groupPods(buildSet([{ name: lws.envLeaderAddress, value: 'by-hand' }]));
  if (pod === undefined) throw new Error('no pod');
  t.same(lines(mainEnv(admitByLws(injected(pod).pod))).slice(0, 4), [
    'LWS_LEADER_ADDRESS=vllm-0.vllm.serving',
    'LWS_GROUP_SIZE=3',
    'LWS_WORKER_INDEX=0',
    'MASTER_ADDR=vllm-0.vllm.serving',
  ]);
});

t.test('waits for LWS where a leader has no name yet', async t => {
  const labels = { [lws.name]: 'vllm', [lws.workerIndex]: '0' };
  const nameless: Pod = {
    metadata: { generateName: 'vllm-', labels, annotations: { [lws.size]: '2' } },
    spec: { subdomain: 'vllm', containers: [{ name: 'main' }] },
  };
  const first = injected(nameless);
  t.same(lines(mainEnv(first.pod)), ['MASTER_PORT=29500', 'NNODES=2', 'NODE_RANK=0']);
  t.same(first.warnings, [], 'without a warning: the address is going to be there');
  const own = [
    { name: lws.envLeaderAddress, value: 'vllm-x7k2p.vllm.serving' },
    { name: lws.envGroupSize, value: '2' },
    { name: lws.envWorkerIndex, value: '0' },
  ];
  const byLws = {
    ...first.pod,
    spec: { ...first.pod.spec, containers: [{ name: 'main', env: [...own, ...mainEnv(first.pod)] }] },
  };
  t.match(lines(mainEnv(injected(byLws).pod)), {
    3: 'MASTER_ADDR=vllm-x7k2p.vllm.serving',
    4: 'MASTER_PORT=29500',
  });
});

t.test('derives the address of rank 0 in groups without LWS', async t => {
  const index = (value: string) => ({ [k8s.podIndex]: value });
  const cases: { name: string; pod: Pod; context?: EnvContext; want: string | undefined; warns?: RegExp }[] =
    [
      {
        name: 'from the annotation before all else',
        pod: memberPod(1, { annotations: { [berth.leaderAddress]: '10.0.0.7' }, spec: { subdomain: 's' } }),
        want: '10.0.0.7',
      },
      {
        name: 'from the hostname of a StatefulSet pod',
        pod: memberPod(2, { labels: index('2'), spec: { hostname: 'web-2', subdomain: 's' } }),
        want: 'web-0.s.serving',
      },
      {
        name: 'with ordinals that do not start at 0',
        pod: memberPod(2, { labels: index('12'), spec: { hostname: 'web-12', subdomain: 's' } }),
        want: 'web-10.s.serving',
      },
      {
        name: 'from the hostname of an Indexed Job pod',
        pod: memberPod(3, {
          name: 'train-3-x8k2f',
          labels: { [k8s.jobCompletionIndex]: '3' },
          spec: { hostname: 'train-3', subdomain: 's' },
        }),
        want: 'train-0.s.serving',
      },
      {
        name: 'from its own hostname at rank 0',
        pod: memberPod(0, { spec: { hostname: 'head', subdomain: 's' } }),
        want: 'head.s.serving',
      },
      {
        name: 'from its own name at rank 0',
        pod: memberPod(0, { spec: { subdomain: 's' } }),
        want: 'g-0.s.serving',
      },
      {
        name: 'from the live leader of bare pods',
        pod: memberPod(1),
        context: { leader: { name: 'head', subdomain: 'heads' } },
        want: 'head.heads.serving',
      },
      {
        name: 'not from a leader without subdomain',
        pod: memberPod(1),
        context: { leader: { name: 'head', hostname: 'h' } },
        want: undefined,
        warns: /pod head is empty.*berth\.dev\/leader-address/,
      },
      {
        name: 'not before the leader of bare pods is known',
        pod: memberPod(1),
        want: undefined,
        warns: /rank 0 is not known/,
      },
      {
        name: 'not without a subdomain of its own',
        pod: memberPod(1, { labels: index('1'), spec: { hostname: 'web-1' } }),
        want: undefined,
        warns: /spec\.subdomain is empty: set spec\.subdomain/,
      },
      {
        name: 'not from an index below its rank',
        pod: memberPod(2, { labels: index('1'), spec: { hostname: 'web-1', subdomain: 's' } }),
        want: undefined,
        warns: /rank 0 is not known/,
      },
      {
        name: 'with a warning where the live leader is of another workload',
        pod: memberPod(1, { labels: index('1'), spec: { hostname: 'work-1', subdomain: 's' } }),
        context: { leader: { name: 'head-0', hostname: 'head-0', subdomain: 's' } },
        want: 'work-0.s.serving',
        warns: /head-0\.s\.serving.*berth\.dev\/leader-address/,
      },
    ];
  for (const { name, pod, context, want, warns } of cases) {
    const { pod: result, warnings } = injected(pod, context);
    const rank = pod.metadata.labels?.[berth.groupRank];
    t.same(
      lines(mainEnv(result)),
      [
        ...(want === undefined ? [] : [`LWS_LEADER_ADDRESS=${want}`]),
        'LWS_GROUP_SIZE=4',
        `LWS_WORKER_INDEX=${rank}`,
        ...(want === undefined ? [] : [`MASTER_ADDR=${want}`]),
        'MASTER_PORT=29500',
        'NNODES=4',
        `NODE_RANK=${rank}`,
      ],
      name,
    );
    if (warns === undefined) t.same(warnings, [], name);
    else t.match(warnings, [warns], name);
    t.ok(
      warnings.every(warning => warning.length <= 256),
      'warnings are short enough for the API server',
    );
  }
});

t.test('leaves to the user what the user sets', async t => {
  const env: EnvVar[] = [
    { name: 'FIRST', value: '1' },
    { name: 'NODE_RANK', valueFrom: { fieldRef: { fieldPath: "metadata.labels['rank']" } } },
    { name: 'MASTER_PORT', value: '' },
    { name: lws.envLeaderAddress, value: 'mine' },
  ];
  const pod = memberPod(1, { spec: { containers: [{ name: 'main', env }, { name: 'other' }] } });
  const { pod: result, warnings } = injected(pod);
  t.same(lines(mainEnv(result)), [
    'LWS_GROUP_SIZE=4',
    'LWS_WORKER_INDEX=1',
    'MASTER_ADDR=mine',
    'NNODES=4',
    'FIRST=1',
    'NODE_RANK<-',
    'MASTER_PORT=',
    'LWS_LEADER_ADDRESS=mine',
  ]);
  t.match(warnings, [/no leader address/], 'the other container lacks the address still');
  const alone = injected(memberPod(1, { spec: { containers: [{ name: 'main', env }] } }));
  t.same(alone.warnings, [], 'no warning when no container lacks it');
});

t.test('does not copy an address that needs expansion', async t => {
  const env: EnvVar[] = [{ name: lws.envLeaderAddress, value: '$(HEAD).s' }];
  const pod = memberPod(0, { spec: { subdomain: 's', containers: [{ name: 'main', env }] } });
  t.match(lines(mainEnv(injected(pod).pod)), {
    0: 'LWS_LEADER_ADDRESS=$(HEAD).s',
    3: 'MASTER_ADDR=g-0.s.serving',
  });
});

t.test('reaches init containers and sidecars, and leaves everything else', async t => {
  const spec = {
    subdomain: 's',
    initContainers: [{ name: 'fetch' }, { name: 'proxy', restartPolicy: 'Always', env: [] }],
    containers: [{ name: 'a' }, { name: 'b', env: [{ name: 'X', value: 'x' }] }],
    ephemeralContainers: [{ name: 'debug' }],
  };
  const { pod } = injected(memberPod(0, { spec }));
  const names = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].map(
    ({ env = [] }) => env.length,
  );
  t.same(names, [7, 7, 7, 8]);
  const stripEnv = (containers: readonly object[] = []) =>
    containers.map(container => ({ ...container, env: undefined }));
  t.same(
    {
      ...pod.spec,
      initContainers: stripEnv(pod.spec.initContainers),
      containers: stripEnv(pod.spec.containers),
    },
    { ...spec, initContainers: stripEnv(spec.initContainers), containers: stripEnv(spec.containers) },
  );
});

t.test('obeys its annotations and names the one that cannot be read', async t => {
  const withAnnotation = (key: string, value: string) =>
    memberPod(0, { annotations: { [key]: value }, spec: { subdomain: 's' } });
  t.same(inject(withAnnotation(berth.injectEnv, 'false')), { ops: [], warnings: [] });
  t.match(lines(mainEnv(injected(withAnnotation(berth.masterPort, '12345')).pod)), {
    4: 'MASTER_PORT=12345',
  });
  const refused: [string, string][] = [
    [berth.injectEnv, 'no'],
    ...['', '0', '65536', '1e3', ' 80', '-1', '$(X)'].map((port): [string, string] => [
      berth.masterPort,
      port,
    ]),
    ...['', 'a b', '-a', 'http://a', 'a..b', '$(X)', `${'a'.repeat(64)}.b`].map((host): [string, string] => [
      berth.leaderAddress,
      host,
    ]),
  ];
  for (const [key, value] of refused) {
    const result = inject(withAnnotation(key, value));
    t.match(result, { code: 'InvalidField', field: `metadata.annotations[${key}]` }, `${key}=${value}`);
    t.match(result, { message: JSON.stringify(value) }, 'and quotes it');
  }
  for (const host of ['head', 'head.s.ns.svc.cluster.local', '10.1.2.3', 'fd00::1', 'Head-0']) {
    t.match(lines(mainEnv(injected(withAnnotation(berth.leaderAddress, host)).pod)), {
      0: `LWS_LEADER_ADDRESS=${host}`,
    });
  }
});

t.test('warns of references to LWS keys that nobody sets', async t => {
  const reading = (path: string): EnvVar => ({ name: 'V', valueFrom: { fieldRef: { fieldPath: path } } });
  const warningsFor = (path: string) => {
    const [pod] = groupPods(buildSet([reading(path)]));
    return pod === undefined ? [] : injected(pod).warnings;
  };
  const key = (name: string) => `leaderworkerset.sigs.k8s.io/${name}`;
  for (const name of ['leader-address', 'group-size']) {
    t.same(warningsFor(`metadata.annotations['${key(name)}']`), [
      `env V of container main reads annotations['${key(name)}'], which LeaderWorkerSet never sets`,
    ]);
  }
  t.equal(warningsFor(`metadata.labels['${key('size')}']`).length, 1, 'an annotation is no label');
  for (const name of [
    'size',
    'leader-name',
    'subgroup-size',
    'leader-requests-tpus',
    'replicas',
    'subdomainPolicy',
  ]) {
    t.same(warningsFor(`metadata.annotations['${key(name)}']`), [], name);
  }
  for (const name of [
    'name',
    'worker-index',
    'group-index',
    'group-key',
    'subgroup-index',
    'template-revision-hash',
  ]) {
    t.same(warningsFor(`metadata.labels['${key(name)}']`), [], name);
  }
  for (const path of ['metadata.name', "metadata.annotations['example.com/x']"])
    t.same(warningsFor(path), [], path);
  const labelled = memberPod(0, {
    annotations: { [key('x')]: 'set by hand' },
    spec: {
      subdomain: 's',
      containers: [
        {
          name: 'main',
          env: [
            reading(`metadata.annotations['${key('size')}']`),
            { ...reading(`metadata.annotations['${key('x')}']`), name: 'W' },
          ],
        },
      ],
    },
  });
  t.match(injected(labelled).warnings, [/env V .*\/size/], 'without LWS no such key is set, unless by hand');
});

t.test('holds for any environment: once each, the user’s in order, nothing at the second time', async () => {
  const ours = [
    'MASTER_ADDR',
    'MASTER_PORT',
    'NNODES',
    'NODE_RANK',
    'LWS_LEADER_ADDRESS',
    'LWS_GROUP_SIZE',
    'LWS_WORKER_INDEX',
  ];
  const entry = fc
    .record({ name: fc.constantFrom(...ours, 'A', 'B', 'C') })
    .chain(({ name }) =>
      fc.constantFrom<EnvVar>(
        { name },
        { name, value: 'v' },
        { name, value: '$(A)' },
        { name, valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      ),
    );
  const env = fc.option(fc.uniqueArray(entry, { selector: ({ name }) => name, maxLength: 8 }), {
    nil: undefined,
  });
  const container = env.map(list => ({ name: 'main', ...(list && { env: list }) }));
  const pods = fc.record({
    rank: fc.integer({ min: 0, max: 3 }),
    isLws: fc.boolean(),
    containers: fc.array(container, { minLength: 1, maxLength: 3 }),
    initContainers: fc.option(fc.array(container, { maxLength: 2 }), { nil: undefined }),
    subdomain: fc.constantFrom('', 's'),
  });
  fc.assert(
    fc.property(pods, ({ rank, isLws, containers, initContainers, subdomain }) => {
      const spec = { containers, subdomain, ...(initContainers && { initContainers }) };
      const labels = { [lws.name]: 'x', [lws.workerIndex]: String(rank) };
      const annotations = { [lws.size]: '4', [lws.leaderName]: 'x-0' };
      const pod = isLws ? buildPod({ name: 'x-0', labels, annotations, spec }) : memberPod(rank, { spec });
      const after = injected(pod).pod;
      const envs = (of: Pod) =>
        [...(of.spec.initContainers ?? []), ...of.spec.containers].map(c => c.env ?? []);
      const before = envs(pod);
      for (const [index, list] of envs(after).entries()) {
        const names = list.map(({ name }) => name);
        const users = before[index] ?? [];
        if (new Set(names).size !== names.length) return false;
        if (
          JSON.stringify(list.filter(e => users.includes(e) || users.some(u => u.name === e.name))) !==
          JSON.stringify(users)
        )
          return false;
        if (!['MASTER_PORT', 'NNODES', 'NODE_RANK'].every(name => names.includes(name))) return false;
      }
      const again = inject(after);
      return !isRefusal(again) && again.ops.length === 0;
    }),
    { numRuns: 300 },
  );
});
