import t from 'tap';
import { parse, stringify } from 'yaml';
import { filesFor, listOf, rackLevels, rackNodes, setManifest } from './input-files.ts';
import { runCli } from './run-cli.ts';

/** A manifest with one field set to something. */
function setWith(change: (set: Record<string, never>) => void): string {
  const set = parse(setManifest());
  change(set);
  return JSON.stringify(set, null, 2);
}

t.test('a manifest at fault is told with file, line and field', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 2)) });
  const wrong: readonly [string, string, RegExp][] = [
    [
      'a size of 0',
      setManifest({ size: 0 }),
      /<stdin>:8: LeaderWorkerSet llm: spec.leaderWorkerTemplate.size: /,
    ],
    [
      'replicas as text',
      setManifest().replace('replicas: 1', 'replicas: one'),
      /<stdin>:6: .*spec.replicas: /,
    ],
    ['too many replicas', setManifest({ replicas: 20_000 }), /spec.replicas: at most 10000 are planned/],
    [
      'no worker template',
      setManifest().replace('workerTemplate', 'workers'),
      /spec.leaderWorkerTemplate.workerTemplate: /,
    ],
    [
      'a label that is a number',
      setManifest().replace('  name: llm', '  name: llm\n  labels: {a: 1}'),
      /<stdin>:5: .*metadata.labels.a: must be text; put it in quotes/,
    ],
    [
      'an amount that is none',
      setManifest().replace('gpu: 8', 'gpu: many'),
      /default\/llm-0|nvidia.com\/gpu.*"many"/,
    ],
    [
      'a negative amount',
      setManifest().replace('gpu: 8', 'gpu: -8'),
      /nvidia.com\/gpu.* must not be negative/,
    ],
    [
      'an amount that is a list',
      setManifest().replace('gpu: 8', 'gpu: [8]'),
      /limits\[nvidia.com\/gpu\]: must be a quantity/,
    ],
    ['no name', setManifest().replace('  name: llm\n', '  namespace: x\n'), /metadata.name: /],
    [
      'the same twice',
      `${setManifest()}---\n${setManifest()}`,
      /<stdin>:\d+: LeaderWorkerSet llm is there already, at <stdin>:1/,
    ],
    [
      'containers that are none',
      setWith(set =>
        Object.assign(set, {
          spec: { leaderWorkerTemplate: { workerTemplate: { spec: { containers: {} } } } },
        }),
      ),
      /<stdin>:\d+: .*containers: /,
    ],
    [
      'a pod without name',
      JSON.stringify({ kind: 'Pod', metadata: {}, spec: { containers: [] } }),
      /<stdin>:1: metadata.name is missing/,
    ],
  ];
  for (const [about, stdin, want] of wrong) {
    const args = ['plan', '--fleet', file('fleet.json'), '-f', '-', '--levels', rackLevels];
    const { code, out, err } = await runCli(args, { stdin });
    t.equal(code, 2, about);
    t.equal(out, '', about);
    t.match(err, want, about);
  }
});

t.test('a fleet at fault is told with file, line and field', async t => {
  const node = (status: object) => JSON.stringify({ kind: 'Node', metadata: { name: 'a' }, status }, null, 1);
  const file = filesFor(t, {
    'cut.json': '{"kind": "Node",\n',
    'amount.json': node({ allocatable: { cpu: 'much' } }),
    'type.json': node({ allocatable: { cpu: true } }),
    'twin.json': listOf([...rackNodes(1, 1), ...rackNodes(1, 1)]),
    'nodeless.json': listOf([]),
    'pod.yaml': 'kind: Pod\nmetadata: {name: p}\nspec:\n  containers: none\n',
  });
  const wrong: readonly [string, RegExp][] = [
    ['cut.json', /cut\.json:\d: /],
    ['amount.json', /amount\.json:1: Node a: status\.allocatable\[cpu\]: "much" is no quantity/],
    ['type.json', /type\.json:\d: Node a: status\.allocatable\.cpu: must be a quantity/],
    ['twin.json', /Node r0-h0 is there already/],
    ['nodeless.json', /--fleet: there is no Node in .*nodeless\.json/],
    ['pod.yaml', /pod\.yaml:4: Pod p: spec\.containers: /],
    ['absent.json', /absent\.json cannot be read: ENOENT/],
  ];
  for (const command of ['plan', 'simulate'])
    for (const [name, want] of wrong) {
      const { code, err } = await runCli([command, '--fleet', file(name)]);
      t.equal(code, 2, `${command} ${name}`);
      t.match(err, want, `${command} ${name}`);
    }
});

t.test('an object of DRA at fault is told with file, line and field', async t => {
  const object = (kind: string, spec: object, more: object = {}) =>
    stringify({ apiVersion: 'resource.k8s.io/v1', kind, metadata: { name: 'x' }, spec, ...more });
  const request = (body: object) => ({ devices: { requests: [{ name: 'r', ...body }] } });
  const claimOf = (body: object) => object('ResourceClaim', request({ exactly: body }));
  const pool = { name: 'n', resourceSliceCount: 1 };
  const sliceOf = (device: object) =>
    object('ResourceSlice', { driver: 'd', pool, nodeName: 'n', devices: [device] });
  const wrong: readonly [string, string, RegExp][] = [
    ['a claim without spec', 'kind: ResourceClaim\nmetadata: {name: x}\n', /:1: ResourceClaim x: spec: /],
    ['no class', claimOf({ count: 1 }), /:\d+: ResourceClaim x: .*requests\[0\]\.exactly\.deviceClassName: /],
    ['a count as text', claimOf({ deviceClassName: 'g', count: 'two' }), /:11: .*exactly\.count: /],
    [
      'an allocation mode that is none',
      claimOf({ deviceClassName: 'g', allocationMode: 'Some' }),
      /exactly\.allocationMode: /,
    ],
    [
      'an amount that is none',
      claimOf({ deviceClassName: 'g', capacity: { requests: { memory: 'much' } } }),
      /capacity\.requests\.memory: must be a quantity/,
    ],
    [
      'neither one request nor alternatives',
      object('ResourceClaimTemplate', { spec: request({}) }),
      /ResourceClaimTemplate x: spec\.spec\.devices\.requests\[0\]: must have either exactly or firstAvailable/,
    ],
    [
      'a result without device',
      object(
        'ResourceClaim',
        {},
        {
          status: { allocation: { devices: { results: [{ request: 'r', driver: 'd', pool: 'p' }] } } },
        },
      ),
      /status\.allocation\.devices\.results\[0\]\.device: /,
    ],
    [
      'a pool that does not tell its slices',
      object('ResourceSlice', { driver: 'd', pool: { name: 'n' } }),
      /ResourceSlice x: spec\.pool\.resourceSliceCount: /,
    ],
    [
      'an attribute that is no integer',
      sliceOf({ name: 'a', attributes: { size: { int: 'x' } } }),
      /dra\.yaml:1: ResourceSlice x: spec\.devices\[0\]\.attributes\[size\]/,
    ],
    [
      'a capacity that is none',
      sliceOf({ name: 'a', capacity: { memory: { value: 'much' } } }),
      /ResourceSlice x: spec\.devices\[0\]\.capacity\[memory\]\.value: "much" is no quantity/,
    ],
    [
      'a selector without expression',
      object('DeviceClass', { selectors: [{ cel: {} }] }),
      /DeviceClass x: spec\.selectors\[0\]\.cel\.expression: /,
    ],
    ['a rule without taint', object('DeviceTaintRule', {}), /DeviceTaintRule x: spec\.taint: /],
    [
      'a version with other fields',
      claimOf({ deviceClassName: 'g' }).replace('k8s.io/v1', 'k8s.io/v1beta1'),
      /:1: ResourceClaim x: apiVersion: resource\.k8s\.io\/v1beta1 has other fields than resource\.k8s\.io\/v1, /,
    ],
  ];
  for (const [about, text, want] of wrong) {
    const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 1)), 'dra.yaml': text });
    const asFleet = await runCli(['plan', '--fleet', file('fleet.json'), file('dra.yaml')]);
    t.equal(asFleet.code, 2, about);
    t.match(asFleet.err, want, about);
    t.match(asFleet.err, /dra\.yaml:/, about);
    if (about.includes('attribute') || about.includes('capacity that')) continue;
    const beside = await runCli(['plan', '--fleet', file('fleet.json'), '-f', file('dra.yaml')]);
    t.match(beside, { code: 2, err: want }, `${about}, beside a workload`);
  }
  const newer = claimOf({ deviceClassName: 'g' }).replace('k8s.io/v1', 'k8s.io/v1beta2');
  const foreign = 'apiVersion: example.com/v1\nkind: ResourceClaim\nmetadata: {name: theirs}\n';
  for (const stdin of [newer, foreign]) {
    const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 1)) });
    t.equal((await runCli(['plan', '--fleet', file('fleet.json'), '-f', '-'], { stdin })).code, 0);
  }
});

t.test('a command line at fault names the option', async t => {
  const arrival = {
    kind: 'arrive',
    atSeconds: 0,
    owner: 'a',
    replicas: 1,
    ask: {
      kind: 'group',
      size: 1,
      devices: 1,
      leaderDevices: 1,
      topology: { wish: 'required', level: 'row' },
    },
  };
  const departs = (atSeconds: number) => JSON.stringify({ kind: 'depart', atSeconds, owner: 'a' });
  const file = filesFor(t, {
    'fleet.json': listOf(rackNodes(1, 2)),
    'lost.jsonl': JSON.stringify({ kind: 'node-lost', atSeconds: 1, node: 'nobody' }),
    'late.jsonl': `${departs(2)}\n${departs(1)}\n`,
    'what.jsonl': JSON.stringify({ kind: 'explode', atSeconds: 1 }),
    'cut.jsonl': `${departs(2)}\n{"kind":\n`,
    'row.jsonl': JSON.stringify(arrival),
    'ask.jsonl': JSON.stringify({ ...arrival, ask: { ...arrival.ask, size: 0 } }),
  });
  const fleet = ['--fleet', file('fleet.json')];
  const flat = ['--preset-fleet', 'flat'];
  const wrong: readonly [string, readonly string[], RegExp][] = [
    ['plan', [], /--fleet/],
    ['plan', [...fleet, '--nonsense'], /--nonsense/],
    ['plan', [...fleet, '-o', 'xml'], /--output: xml is none of table, json, yaml, picture/],
    ['plan', [...fleet, '--preset', 'moon'], /--preset: moon is none of zone, gke/],
    ['plan', [...fleet, '--preset', 'gke', '--levels', rackLevels], /exclude each other/],
    ['plan', [...fleet, '--levels', 'rack'], /--levels: "rack" is not like/],
    ['plan', [...fleet, '--levels', 'a=x,a=y'], /two levels have the same name/],
    ['plan', [...fleet, '--levels', 'a=x,b=x'], /two levels have the same node label/],
    ['plan', [...fleet, '--levels', 'host=x'], /--levels: host is implied/],
    ['plan', ['--fleet', '-', '-f', '-'], /standard input \(-\) can be read once/],
    ['simulate', [], /by --fleet or by --preset-fleet, not both/],
    ['simulate', [...fleet, ...flat], /not both/],
    ['simulate', [...fleet, '--nodes', '4'], /--nodes goes with --preset-fleet only/],
    ['simulate', ['--preset-fleet', 'moon'], /--preset-fleet: moon is none of superpod/],
    ['simulate', [...flat, '--nodes', '0'], /--nodes: "0" is no whole number from 1/],
    ['simulate', [...flat, '--seed', 'x'], /--seed: "x"/],
    ['simulate', [...flat, '--events', '1.5'], /--events: "1.5" is no whole number/],
    ['simulate', [...flat, '--load', '3'], /--load: "3" is no number from 0.01 to 2/],
    ['simulate', [...flat, '--warm-up', '2'], /--warm-up/],
    ['simulate', [...flat, '--deck', '2,big'], /--deck: "big"/],
    ['simulate', [...flat, '--deck', '2x9'], /--deck: 2x9: no host of the fleet has 9 devices/],
    ['simulate', [...flat, '--mix', 'rack=1'], /--mix: "rack=1" is not like single, any, zone, prefer-zone/],
    ['simulate', [...flat, '--mix', 'any=0'], /--mix: all shares are 0/],
    [
      'simulate',
      [...fleet, '--replay', file('lost.jsonl')],
      /lost\.jsonl:1: node: nobody is not in the fleet/,
    ],
    ['simulate', [...fleet, '--replay', file('late.jsonl')], /late\.jsonl:2: atSeconds: is earlier/],
    ['simulate', [...fleet, '--replay', file('what.jsonl')], /what\.jsonl:1: kind: /],
    ['simulate', [...fleet, '--replay', file('cut.jsonl')], /cut\.jsonl:2: the line is no JSON/],
    [
      'simulate',
      [...fleet, '--replay', file('row.jsonl')],
      /row\.jsonl:1: ask\.topology\.level: there is no level row/,
    ],
    ['simulate', [...fleet, '--replay', file('ask.jsonl')], /ask\.jsonl:1: ask\.size: /],
    ['simulate', [...flat, '--replay', file('absent')], /--replay: .*absent cannot be read/],
    ['simulate', [...flat, '--nodes', '2', '--events', '1', '--trace', '/'], /--trace: \/ cannot be written/],
  ];
  for (const [command, args, want] of wrong) {
    const { code, out, err } = await runCli([command, ...args]);
    t.equal(code, 2, args.join(' '));
    t.equal(out, '', args.join(' '));
    t.match(err, want, args.join(' '));
  }
});

t.test('an empty folder is no fleet', async t => {
  const folder = filesFor(t, { 'readme.txt': '' });
  const { code, err } = await runCli(['plan', '--fleet', folder('.')]);
  t.equal(code, 2);
  t.match(err, /the folder holds no \.yaml/);
});

t.test('every command tells its exit codes and examples', async t => {
  for (const command of ['plan', 'simulate', 'snapshot']) {
    const { code, out } = await runCli([command, '--help']);
    t.equal(code, 0, command);
    t.match(out, /Exit codes: 0 [\s\S]*\nExamples:\n {2}(berth|kubectl) /, command);
  }
});
