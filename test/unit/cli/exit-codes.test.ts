import { spawn } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { filesFor, listOf, rackLevels, rackNodes, setManifest } from './input-files.ts';

t.setTimeout(120_000);

const checkout = join(import.meta.dirname, '../../..');

interface ProcessRun {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[], input = ''): Promise<ProcessRun> {
  const child = spawn(process.execPath, ['src/main.ts', ...args], { cwd: checkout });
  let out = '';
  let err = '';
  child.stdout.on('data', chunk => {
    out += chunk;
  });
  child.stderr.on('data', chunk => {
    err += chunk;
  });
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', code => resolve({ code, out, err }));
  });
}

t.test('the process ends with the codes that --help tells', async t => {
  const file = filesFor(t, {
    'fleet.json': listOf(rackNodes(1, 2)),
    'fits.yaml': setManifest({ annotations: `${berth.requiredTopology}: rack` }),
    'large.yaml': setManifest({ size: 3 }),
    'wrong.yaml': 'kind: LeaderWorkerSet\nmetadata: {name: a}\nspec: {}\n',
    'berth.yaml': 'topology:\n  levels:\n  - {name: rack, nodeLabel: example.com/rack}\n',
    'typo.yaml': 'topolgy: {}\n',
    kubeconfig: 'apiVersion: v1\nkind: Config\n',
    unreachable: `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`,
  });
  const plan = ['plan', '--fleet', file('fleet.json')];
  const cases: readonly [string, readonly string[], number, RegExp][] = [
    ['all fits', [...plan, '-f', file('fits.yaml'), '--levels', rackLevels], 0, /rack r0/],
    [
      'levels of the configuration',
      [...plan, '-f', file('fits.yaml'), '--config', file('berth.yaml')],
      0,
      /rack r0/,
    ],
    ['something has no place', [...plan, '-f', file('large.yaml')], 3, /3 pods do not fit/],
    ['a manifest at fault', [...plan, '-f', file('wrong.yaml')], 2, /wrong\.yaml:3: LeaderWorkerSet a: spec/],
    ['a configuration at fault', [...plan, '--config', file('typo.yaml')], 2, /unknown key topolgy/],
    ['no fleet', ['plan'], 2, /--fleet/],
    ['help', ['plan', '--help'], 0, /Exit codes: 0 everything fits[\s\S]*Examples:/],
    [
      'a simulation',
      ['simulate', '--preset-fleet', 'flat', '--nodes', '8', '--events', '20'],
      0,
      /flat: 8 nodes/,
    ],
    ['no cluster', ['snapshot', '--kubeconfig', file('kubeconfig')], 2, /names no cluster/],
    ['no kubeconfig', ['snapshot', '--kubeconfig', file('absent')], 2, /ENOENT/],
    ['a cluster that does not answer', ['snapshot', '--kubeconfig', file('unreachable')], 1, /ECONNREFUSED/],
  ];
  const runs = await Promise.all(cases.map(([, args]) => run(args)));
  cases.forEach(([about, , code, said], i) => {
    t.equal(runs[i]?.code, code, about);
    t.match(`${runs[i]?.out}${runs[i]?.err}`, said, about);
  });
});

t.test('reads standard input and keeps notes off standard output', async t => {
  const file = filesFor(t, { 'fleet.json': listOf(rackNodes(1, 2)) });
  const args = ['plan', '--fleet', file('fleet.json'), '-f', '-', '-o', 'json'];
  const { code, out, err } = await run(args, setManifest());
  t.equal(code, 0);
  t.equal(JSON.parse(out).requests[0].outcome, 'fits');
  t.match(err, /^note: no node carries topology\.kubernetes\.io\/zone/);
});
