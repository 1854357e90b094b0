import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import type { NodeInfo } from '../../../src/cluster/node-info.ts';
import type { FitMemo } from '../../../src/planner/fit.ts';
import type { PlanInput } from '../../../src/planner/plan.ts';
import { disagreement, type Planner, type Question, questionOf } from './comparison.ts';
import { inputOfInstance } from './instance-input.ts';
import { type Mutant, mutants } from './mutants.ts';

const firstSeed = Number(process.env['BERTH_SEED'] ?? 20260101);
/** After so many instances without a disagreement a mutant counts as not found. */
const most = 12_000;

const source = new URL('../../../src/', import.meta.url);

t.setTimeout(600_000);

interface Asked {
  readonly question: Question;
  readonly input: PlanInput;
}

/** Made once for all mutants; one in four has members of three kinds. */
const asked: Asked[] = [];

function askedAt(at: number): Asked {
  let entry = asked[at];
  if (entry === undefined) {
    const question = questionOf(firstSeed + at, at % 4 === 3 ? 'three kinds' : 'leader and workers');
    entry = { question, input: inputOfInstance(question.instance) };
    asked[at] = entry;
  }
  return entry;
}

/** The planner of a copy of the sources, with its own memo: classes of two copies do not know each other. */
async function plannerOf(folder: string): Promise<Planner> {
  const load = (file: string) => import(pathToFileURL(join(folder, 'planner', file)).href);
  const { planGroup }: { planGroup: Planner } = await load('plan.ts');
  const { FitMemo: Memo }: { FitMemo: new () => FitMemo } = await load('fit.ts');
  return input => {
    const memo = new Memo();
    planGroup({ ...input, memo, snapshot: before(input) });
    return planGroup({ ...input, memo });
  };
}

/** The fleet a moment ago, when every second node was empty: what is remembered of it has to follow. */
function before({ snapshot }: PlanInput): PlanInput['snapshot'] {
  const changes = new Map<number, NodeInfo>();
  let index = 0;
  for (const { record } of snapshot.nodes) {
    const { allocatable } = record;
    if (index % 2 === 0)
      changes.set(index, {
        record,
        free: allocatable,
        freeOfPods: allocatable,
        hostPorts: [],
        untouched: true,
      });
    index++;
  }
  return { ...snapshot, nodes: snapshot.nodes.with(changes) };
}

function firstDisagreement(planner: Planner): { readonly at: number; readonly fault: string } | undefined {
  for (let at = 0; at < most; at++) {
    const { question, input } = askedAt(at);
    const fault = faultAt(planner, question, input);
    if (fault !== undefined) return { at, fault };
  }
  return undefined;
}

function faultAt(planner: Planner, question: Question, input: PlanInput): string | undefined {
  try {
    return disagreement(question, planner(input));
  } catch (error) {
    return `threw ${error}`;
  }
}

async function withCopy<T>(
  change: (folder: string) => Promise<void>,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-mutant-'));
  try {
    for (const part of ['api', 'cluster', 'group', 'planner'])
      await cp(new URL(part, source), join(folder, part), { recursive: true });
    await change(folder);
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function mutate(folder: string, { file, find, replace }: Mutant): Promise<void> {
  const path = join(folder, file);
  const text = await readFile(path, 'utf8');
  const [head = '', tail, ...more] = text.split(find);
  if (tail === undefined || more.length > 0)
    throw new Error(`${file} does not hold this exactly once: ${find}`);
  await writeFile(path, head + replace + tail);
}

t.test('a copy of the planner as it is agrees with the brute force', async t => {
  const fault = await withCopy(
    async () => {},
    async folder => firstDisagreement(await plannerOf(folder)),
  );
  t.equal(fault, undefined);
});

t.test('the brute force finds planners that are wrong', async t => {
  for (const mutant of mutants) {
    const found = await withCopy(
      folder => mutate(folder, mutant),
      async folder => firstDisagreement(await plannerOf(folder)),
    );
    t.ok(found, `${mutant.file}: one that ${mutant.what}, at instance ${found?.at}`);
  }
  t.ok(mutants.length >= 25);
});
