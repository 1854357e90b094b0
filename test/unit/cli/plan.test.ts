import t from 'tap';
import { parse } from 'yaml';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import type { PlanReport } from '../../../src/cli/plan-report.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { podOf } from '../../builders/pods.ts';
import { drawnFile, filesFor, listOf, rackLevels, rackNodes, setManifest } from './input-files.ts';
import { runCli } from './run-cli.ts';

const requiredRack = `${berth.requiredTopology}: rack`;

async function planned(args: readonly string[], stdin?: string): Promise<PlanReport & { code: number }> {
  const surroundings = stdin === undefined ? {} : { stdin };
  const { code, out } = await runCli(['plan', ...args, '-o', 'json'], surroundings);
  const report: PlanReport = JSON.parse(out);
  return { ...report, code };
}

function placesOf({ requests }: PlanReport): Readonly<Record<string, string>> {
  return Object.fromEntries(
    requests.map(({ name, outcome, ranks }) => [
      name,
      ranks === undefined ? outcome : ranks.map(({ node }) => node).join(' '),
    ]),
  );
}

t.test('prints where every rank goes, what that leaves, and what would make the rest fit', async t => {
  const file = filesFor(t, {
    'fleet.json': listOf(rackNodes(2, 3)),
    'lws.yaml': setManifest({ replicas: 3, annotations: requiredRack }),
  });
  const args = ['plan', '--fleet', file('fleet.json'), '-f', file('lws.yaml'), '--levels', rackLevels];
  const { code, out, err } = await runCli(args);
  t.equal(code, 3);
  t.equal(err, '');
  t.equal(
    out,
    `GROUP OR POD   PRIORITY  SIZE  OUTCOME  WHERE    HOSTS  LEAVES FREE
default/llm-0         0     2  fits     rack r0      2  4 hosts, 1 whole rack
default/llm-1         0     2  fits     rack r1      2  2 hosts, 0 whole rack
default/llm-2         0     2  refused  -            -  -

default/llm-0
  RANK  NODE   RACK  ALIGNMENT
     0  r0-h0  r0    host
     1  r0-h1  r0    host

default/llm-1
  RANK  NODE   RACK  ALIGNMENT
     0  r1-h0  r1    host
     1  r1-h1  r1    host

default/llm-2
  2 pods do not fit in one rack: the best of 2 racks has room for 1 of 2; 4 of 6 nodes cannot take any of them: 4 held for another group
  fits if default/llm-0 ends

FREE                    BEFORE   AFTER
hosts                   6 of 6  2 of 6
whole rack              2 of 2  0 of 2
most hosts in one rack       3       1
`,
  );
});

t.test('draws racks with a letter for each group', async t => {
  const fleet = drawnFile(`
rack r0
  - r0-h0 gpu=8 used=3
  - r0-h1 gpu=8
rack r1
  - r1-h0 gpu=8
  - r1-h1 gpu=8 cordoned
  - r1-h2 cpu=64`);
  const file = filesFor(t, { 'fleet.json': fleet, 'lws.yaml': setManifest({ gpus: 4 }) });
  const args = ['plan', '--fleet', file('fleet.json'), '-f', file('lws.yaml'), '--levels', rackLevels];
  const { code, out } = await runCli([...args, '-o', 'picture']);
  t.equal(code, 0);
  t.equal(
    out.split('\n\nGROUP OR POD')[0],
    `├─ rack r0
│  ▕▒▒▒·····▏     ▕AAAAAAAA▏ 0,1
└─ rack r1
   ▕········▏ ▕××××××××▏ ▕·▏

A default/llm-0
▒ taken by others   · free   × not usable; numbers are ranks
`.trimEnd(),
  );
});

t.test('colours a terminal, and not where NO_COLOR is set', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 2)), 'lws.yaml': setManifest() });
  const args = ['plan', '--fleet', file('fleet.json'), '-f', file('lws.yaml'), '-o', 'picture'];
  const plain = await runCli(args);
  const coloured = await runCli(args, { outIsTerminal: true });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the marks that a terminal takes
  const marks = /\u001b\[\d+m/g;
  t.match(coloured.out, marks);
  t.equal(coloured.out.replaceAll(marks, ''), plain.out);
  t.equal((await runCli(args, { outIsTerminal: true, env: { NO_COLOR: '1' } })).out, plain.out);
  t.equal((await runCli(args, { outIsTerminal: true, env: { TERM: 'dumb' } })).out, plain.out);
});

t.test('YAML and JSON say the same, with domains and alignment by rank', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 2)), 'lws.yaml': setManifest() });
  const args = ['--fleet', file('fleet.json'), '-f', file('lws.yaml'), '--levels', rackLevels];
  const { code, ...report } = await planned(args);
  t.equal(code, 0);
  t.same(report.requests[0]?.ranks?.[1], {
    rank: 1,
    node: 'r0-h1',
    domains: { rack: 'r0' },
    alignment: 'host',
  });
  t.match(report.requests[0], { outcome: 'fits', level: 'rack', domain: ['r0'], hosts: 2 });
  t.same(report.after, {
    freeHosts: 0,
    hosts: 2,
    levels: [{ level: 'rack', domains: 1, whole: 0, largest: 0 }],
  });
  const { out } = await runCli(['plan', ...args, '-o', 'yaml']);
  t.same(parse(out), report);
});

t.test('a higher priority goes first, then the order of the manifests', async t => {
  const priorityClass = JSON.stringify({ kind: 'PriorityClass', metadata: { name: 'high' }, value: 7 });
  const file = filesFor(t, {
    'fleet.json': listOf(rackNodes(1, 2)),
    'a.yaml': `${setManifest({ name: 'first' })}---\n${setManifest({ name: 'second' })}`,
    'b.yaml': `${setManifest({ name: 'urgent', priorityClass: 'high' })}---\n${priorityClass}\n`,
    'c.yaml': setManifest({ name: 'system', size: 1, priorityClass: 'system-cluster-critical' }),
  });
  const args = ['--fleet', file('fleet.json'), '--levels', rackLevels];
  const { requests } = await planned([...args, '-f', file('a.yaml'), file('b.yaml'), file('c.yaml')]);
  t.same(
    requests.map(({ name, priority, outcome }) => `${name} ${priority} ${outcome}`),
    [
      'default/system-0 2000000000 fits',
      'default/urgent-0 7 refused',
      'default/first-0 0 refused',
      'default/second-0 0 refused',
    ],
  );
  const { notes } = await planned([...args, '-f', file('b.yaml')]);
  t.same(notes, []);
  const lone = setManifest({ priorityClass: 'unheard-of' });
  const unknown = await planned([...args, '-f', '-'], lone);
  t.match(unknown.notes, ['PriorityClass unheard-of is in none of the files: priority 0 is taken']);
});

t.test(
  'reads the fleet from a folder, the manifest from standard input, both with pods among them',
  async t => {
    const [first, second] = rackNodes(1, 2);
    const file = filesFor(t, {
      'a.yaml': JSON.stringify(first),
      'b.json': listOf([second ?? {}, podOf({ name: 'other', node: 'r0-h0', gpu: 8 })]),
      'c.txt': 'not read',
    });
    const { code, requests } = await planned(['--fleet', file('.'), '-f', '-'], setManifest({ size: 1 }));
    t.equal(code, 0);
    t.equal(requests[0]?.ranks?.[0]?.node, 'r0-h1', 'the other host is taken');
  },
);

t.test('plans labelled groups, late members included, and single pods', async t => {
  const member = (rank: number, size: number) => ({
    kind: 'Pod',
    metadata: {
      name: `g-${rank}`,
      labels: { [berth.group]: 'g', [berth.groupSize]: String(size), [berth.groupRank]: String(rank) },
      annotations: { [berth.requiredTopology]: 'rack' },
    },
    spec: { containers: [{ name: 'c', resources: { limits: { 'nvidia.com/gpu': 8 } } }] },
  });
  const single = {
    kind: 'Pod',
    metadata: { generateName: 'lone-' },
    spec: { containers: [{ name: 'c', resources: { limits: { 'nvidia.com/gpu': 2 } } }] },
  };
  const file = filesFor(t, {
    'fleet.json': listOf(rackNodes(2, 3)),
    'pods.json': listOf([member(1, 3), member(0, 3), single]),
    'headless.json': listOf([member(1, 2)]),
  });
  const args = ['--fleet', file('fleet.json'), '--levels', rackLevels];
  t.same(placesOf(await planned([...args, '-f', file('pods.json')])), {
    'default/g': 'r0-h0 r0-h1 r0-h2',
    'default/lone-1': 'r1-h0',
  });
  const headless = await planned([...args, '-f', file('headless.json')]);
  t.match(headless.requests, [{ outcome: 'invalid', reason: { code: 'LeaderMissing' } }]);
  t.equal(headless.code, 3);
});

t.test('says what is a mistake, what others place, and what is no workload at all', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 2)) });
  const args = ['--fleet', file('fleet.json'), '-f', '-', '--levels', rackLevels];
  const outcomeOf = async (manifest: string) => {
    const { requests, notes, code } = await planned(args, manifest);
    return { ...requests[0], notes, code };
  };
  t.match(await outcomeOf(setManifest({ annotations: `${berth.requiredTopology}: row` })), {
    outcome: 'invalid',
    reason: { code: 'InvalidTopology', field: `metadata.annotations[${berth.requiredTopology}]` },
    code: 3,
  });
  const pod = { kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [{ name: 'c' }] } };
  const claims = { ...pod, spec: { ...pod.spec, resourceClaims: [{ name: 'gpu' }] } };
  t.match(await outcomeOf(JSON.stringify(claims)), { outcome: 'left', reason: { code: 'ResourceClaims' } });
  const set = parse(setManifest());
  set.spec.leaderWorkerTemplate.workerTemplate.spec.resourceClaims = [{ name: 'gpu' }];
  t.match(await outcomeOf(JSON.stringify(set)), { outcome: 'invalid', reason: { code: 'ClaimMissing' } });
  const foreign = { ...pod, spec: { ...pod.spec, schedulerName: 'volcano' } };
  t.match(await outcomeOf(JSON.stringify(foreign)), { outcome: 'left', reason: { code: 'ForeignOwner' } });
  const unreadable = { ...pod, metadata: { name: 'p', labels: { [berth.group]: 'g' } } };
  t.match(await outcomeOf(JSON.stringify(unreadable)), {
    outcome: 'invalid',
    reason: { code: 'InvalidMembership', field: `metadata.labels[${berth.groupSize}]` },
  });
  const others = listOf([
    { kind: 'Job', metadata: {} },
    { kind: 'Service', metadata: {} },
  ]);
  t.match(await outcomeOf(others), {
    notes: ['only LeaderWorkerSets and pods are planned, and not 1 Job'],
    code: 0,
  });
  const observed = `${setManifest()}---\nkind: Namespace\nmetadata: {name: default}\n`;
  t.match(await outcomeOf(observed), { notes: [/namespace default has no label/], outcome: 'fits' });
  const cpu = await outcomeOf(setManifest({ gpus: 0 }));
  t.match(cpu.notes, [/asks for neither devices nor a topology/]);
});

t.test('what waits in the fleet stands in the line, and what has its place keeps it', async t => {
  const running = new LwsGroup({ size: 2, worker: { gpu: 8 }, name: 'old' });
  const bound = [
    running.leader({ gated: false, node: 'r0-h0' }),
    running.worker(1, { gated: false, node: 'r0-h1' }),
  ];
  const waiting = new LwsGroup({ size: 2, worker: { gpu: 8 }, name: 'waits' });
  const sets = [running.workerSet(), running.owner(), waiting.owner()].map((object, i) => ({
    kind: i === 0 ? 'StatefulSet' : lws.kind,
    ...object,
  }));
  const single = podOf({ name: 'single', gated: true, gpu: 8, createdAt: '2025-01-01T00:00:00Z' });
  const file = filesFor(t, {
    'fleet.json': listOf([...rackNodes(2, 3), ...bound, ...sets, waiting.leader(), single]),
    'lws.yaml': setManifest({ name: 'old', replicas: 2 }),
  });
  const args = ['--fleet', file('fleet.json'), '--levels', rackLevels];
  t.same(placesOf(await planned(args)), {
    'serving/single': 'r0-h2',
    'serving/waits-0': 'r1-h0 r1-h1',
  });
  const scaled = await planned([...args, '-f', file('lws.yaml'), '-n', 'serving']);
  t.same(Object.keys(placesOf(scaled)), ['serving/single', 'serving/waits-0', 'serving/old-1']);
  t.equal(placesOf(scaled)['serving/old-1'], 'refused');
  t.match(scaled.notes, ['serving/old-0 is in the fleet already and keeps its place']);
});

t.test(
  'nodes written by hand may leave out what every kubelet reports, and nothing more is taken for granted',
  async t => {
    const bare = (name: string, more: object = {}) => ({
      kind: 'Node',
      metadata: { name },
      status: { capacity: { 'nvidia.com/gpu': 8, cpu: 8 }, ...more },
    });
    const file = filesFor(t, { 'one.json': listOf([bare('a')]) });
    const manifest = setManifest({ size: 1 });
    t.equal(
      (await planned(['--fleet', file('one.json'), '-f', '-'], manifest)).requests[0]?.ranks?.[0]?.node,
      'a',
    );
    const dead = listOf([bare('a', { conditions: [{ type: 'Ready', status: 'False' }] })]);
    const full = listOf([bare('a', { allocatable: { 'nvidia.com/gpu': 8, pods: 0 } })]);
    for (const [fleet, why] of [
      [dead, /1 not ready/],
      [full, /insufficient pods/],
    ] as const) {
      const other = filesFor(t, { 'f.json': fleet });
      const { requests } = await planned(['--fleet', other('f.json'), '-f', '-'], manifest);
      t.match(requests, [{ outcome: 'refused', reason: { message: why } }]);
    }
  },
);

t.test('a fleet of CPU hosts alone is counted too, and beside accelerators it is not', async t => {
  const file = filesFor(t, {
    'cpu.json': drawnFile('rack r0\n  - a cpu=64\n  - b cpu=64 usedCpu=32'),
    'both.json': drawnFile('rack r0\n  - a cpu=64\n  - b gpu=8'),
  });
  const before = async (name: string) =>
    (await planned(['--fleet', file(name), '--levels', rackLevels])).before;
  t.same(await before('cpu.json'), {
    freeHosts: 1,
    hosts: 2,
    levels: [{ level: 'rack', domains: 1, whole: 0, largest: 1 }],
  });
  t.match(await before('both.json'), { freeHosts: 1, hosts: 1, levels: [{ whole: 1 }] });
});

t.test('a level that no node is labelled for is told', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 1)) });
  const { notes, levels } = await planned(['--fleet', file('fleet.json')]);
  t.same(
    levels.map(({ name }) => name),
    ['zone'],
  );
  t.same(notes, ['no node carries topology.kubernetes.io/zone: there is no zone']);
  const { out } = await runCli(['plan', '--fleet', file('fleet.json'), '--levels', rackLevels]);
  t.match(out, /^Nothing asks for a place\./);
});

t.test('the hostname label of a node is what its kubelet would write', async t => {
  const file = filesFor(t, {
    'f.json': listOf([{ kind: 'Node', metadata: { name: 'a' }, status: { allocatable: { cpu: 9 } } }]),
  });
  const pod = {
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { nodeSelector: { [k8s.hostname]: 'a' }, containers: [{ name: 'c' }] },
  };
  t.equal((await planned(['--fleet', file('f.json'), '-f', '-'], JSON.stringify(pod))).code, 0);
});

t.test('rules between groups hold among those that are planned together', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(3, 3)) });
  const args = ['--fleet', file('fleet.json'), '-f', '-', '--levels', rackLevels];
  const racksOf = async (manifest: string) =>
    (await planned(args, manifest)).requests.map(({ domain }) => domain?.[0] ?? 'none');
  const alone = setManifest({ name: 'alone', size: 1, annotations: `${berth.exclusiveTopology}: rack` });
  const others = setManifest({ name: 'others', size: 1, replicas: 3 });
  t.same(await racksOf(`${alone}---\n${others}`), ['r0', 'r1', 'r1', 'r1']);
  const spread = `${berth.spreadTopology}: rack, ${berth.spreadPolicy}: DoNotSchedule`;
  t.same(await racksOf(setManifest({ size: 1, replicas: 4, annotations: spread })), [
    'r0',
    'r1',
    'r2',
    'none',
  ]);
  const near = setManifest({ name: 'decode', size: 2, annotations: `${berth.sameDomainAs}: 'rack:llm'` });
  t.same(await racksOf(`${setManifest({ size: 1 })}---\n${near}`), ['r0', 'r0']);
  t.same(
    await racksOf(`${near}---\n${setManifest({ size: 1 })}`),
    ['r0', 'r0'],
    'also when the other comes later',
  );
  t.same(await racksOf(near), ['none']);
});

t.test('pods that somebody else has to place are told of', async t => {
  const pending = podOf({ name: 'pending', gpu: 8 });
  const file = filesFor(t, { 'fleet.json': listOf([...rackNodes(1, 1), pending]) });
  const { notes, requests } = await planned(['--fleet', file('fleet.json'), '--levels', rackLevels]);
  t.same(notes, ['1 pod of the fleet is pending and not placed by Berth: no room is kept for that']);
  t.same(requests, []);
});
