import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { presetFleet } from '../../../src/cli/fleets.ts';
import type { PlanReport } from '../../../src/cli/plan-report.ts';
import { corpusFolder } from '../webhooks/lws-pods.ts';
import { filesFor, listOf } from './input-files.ts';
import { runCli } from './run-cli.ts';

/** Helm values and models of other tools: no Kubernetes objects, or an object that kubectl refuses, too. */
const unreadable: Readonly<Record<string, RegExp>> = {
  C36: /Map keys must be unique/,
  C54: /is no Kubernetes object/,
  C75: /is no Kubernetes object/,
  C109: /is no Kubernetes object/,
};

t.test('real manifests are planned, or refused for a reason that names their own constraint', async t => {
  if (!existsSync(corpusFolder)) {
    t.comment(`NOT CHECKED against real manifests: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`);
    return;
  }
  const nodes = presetFleet('gke-a3', { nodes: 24, seed: 1 })?.nodes ?? [];
  const tpus = presetFleet('tpu-v6e', { nodes: 24, seed: 1 })?.nodes ?? [];
  const file = filesFor(t, { 'fleet.json': listOf([...nodes, ...tpus]) });
  const wanted: Readonly<Record<string, readonly string[]>> = {
    C1: ['2 fits', '2 fits'],
    C3: ['2 fits', '2 fits'],
    C14: ['2 fits', '2 fits'],
    C50: ['4 fits', '4 fits', '2 fits'],
    C115: ['65 refused NoNodeMatches'],
    C24: ['2 refused NoNodeMatches'],
    C38: ['- invalid ClaimMissing'],
    C94: ['1 fits'],
  };
  for (const folder of readdirSync(corpusFolder, { withFileTypes: true })) {
    if (!folder.isDirectory()) continue;
    const entry = folder.name.split('-')[0] ?? '';
    const manifests = join(corpusFolder, folder.name);
    const args = ['plan', '--fleet', file('fleet.json'), '-f', manifests, '--preset', 'gke', '-o', 'json'];
    const { code, out, err } = await runCli(args);
    const fault = unreadable[entry];
    if (fault !== undefined) {
      t.equal(code, 2, folder.name);
      t.match(err, fault, folder.name);
      continue;
    }
    const report: PlanReport = JSON.parse(out);
    const outcomes = report.requests.map(
      ({ size, outcome, reason }) =>
        `${size ?? '-'} ${outcome}${reason === undefined ? '' : ` ${reason.code}`}`,
    );
    t.equal(code, outcomes.every(outcome => outcome.endsWith(' fits')) ? 0 : 3, folder.name);
    if (wanted[entry] !== undefined) t.same(outcomes.slice(0, 3), wanted[entry], folder.name);
    for (const { outcome, reason } of report.requests)
      t.ok(outcome === 'fits' || (reason?.message ?? '') !== '', `${folder.name} says why`);
  }
});
