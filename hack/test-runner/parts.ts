import { globSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ChildEnd, Children } from './children.ts';
import { type FailedAssertion, TapReport, type TestFile } from './tap-report.ts';

export const partNames = ['types', 'lint', 'unit', 'oracles', 'bed', 'e2e'] as const;
export type PartName = (typeof partNames)[number];
export const tapParts: readonly PartName[] = ['unit', 'oracles', 'e2e'];

export interface PartContext {
  readonly root: string;
  readonly outFolder: string;
  readonly children: Children;
  /** Patterns for names of tests, level by level; empty for all tests. */
  readonly grep: readonly string[];
  /** Tells how far the part is. */
  readonly note: (text: string) => void;
}

export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** What went wrong, to be printed. */
  readonly failures: readonly string[];
  readonly slowestFiles?: readonly TestFile[];
}

export interface Part {
  readonly name: PartName;
  readonly run: (context: PartContext) => Promise<Outcome>;
}

interface TapOptions {
  readonly name: PartName;
  readonly files: readonly string[];
  readonly jobs: number;
  readonly timeoutSeconds: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Under the folder of logs, without ending. Default: the name of the part. */
  readonly logName?: string;
}

const testFolder = (name: PartName) => `test/${name}/**/*.test.ts`;

/** All parts that this checkout has. End-to-end tests count from the first one on. */
export function availableParts(root: string): readonly Part[] {
  const filesOf = (name: PartName) => globSync(testFolder(name), { cwd: root }).sort();
  const endToEnd = filesOf('e2e');
  const parts: Part[] = [
    { name: 'types', run: context => runCheck(context, 'types', 'tsc', ['--noEmit']) },
    { name: 'lint', run: context => runCheck(context, 'lint', 'biome', ['ci', '--colors=off', '.']) },
    {
      name: 'unit',
      run: context => runTap(context, { name: 'unit', files: filesOf('unit'), jobs: 2, timeoutSeconds: 180 }),
    },
    {
      name: 'oracles',
      run: context =>
        runTap(context, { name: 'oracles', files: filesOf('oracles'), jobs: 1, timeoutSeconds: 1200 }),
    },
  ];
  if (endToEnd.length === 0) return parts;
  return [
    ...parts,
    { name: 'bed', run: buildBed },
    { name: 'e2e', run: context => runEndToEnd(context, endToEnd) },
  ];
}

export function isPartName(text: string): text is PartName {
  return partNames.some(name => name === text);
}

/** A tool that is content or not. */
async function runCheck(
  { root, outFolder, children }: PartContext,
  name: PartName,
  tool: string,
  args: readonly string[],
): Promise<Outcome> {
  const end = await children.run({
    program: join(root, 'node_modules/.bin', tool),
    arguments: args,
    cwd: root,
    logPath: join(outFolder, `${name}.log`),
  });
  return end.exitCode === 0
    ? { passed: 1, failed: 0, failures: [] }
    : { passed: 0, failed: 1, failures: [whole(end.tail)] };
}

/** In a process of its own, for its progress is meant for a terminal that others do not write to. */
async function buildBed({ root, outFolder, children, note }: PartContext): Promise<Outcome> {
  const end = await children.run({
    program: process.execPath,
    arguments: [join(import.meta.dirname, 'build-bed.ts')],
    cwd: root,
    logPath: join(outFolder, 'bed.log'),
    onStderr: line => note(line.replace(/^berth: /, '')),
  });
  return end.exitCode === 0
    ? { passed: 0, failed: 0, failures: [] }
    : { passed: 0, failed: 1, failures: [whole(end.tail)] };
}

/** They mostly wait, for pods to end and Leases to lapse, so two control planes keep two cores busy. */
const endToEndLanes = 2;
/** Begun first, or one of them would run on alone at the end. */
const longFiles = [
  'storm',
  'faults-fabric',
  'restarts',
  'replanning',
  'failure-crashes',
  'brakes',
  'dead-node',
  'failover',
  'pending-group',
];

/** Each lane has a control plane of its own and takes the next file when it is done with one. */
async function runEndToEnd(context: PartContext, files: readonly string[]): Promise<Outcome> {
  const waiting = [...files].sort((a, b) => turnOf(a) - turnOf(b) || (a < b ? -1 : 1));
  const outcomes: Outcome[] = [];
  const tell = () => {
    const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
    context.note(`${outcomes.length} of ${files.length} files, ${passed} passed`);
  };
  const lanes = Array.from({ length: Math.min(endToEndLanes, files.length) }, (_, i) => `e2e-${i + 1}`);
  const ends = await Promise.allSettled(
    lanes.map(lane =>
      runLane(context, lane, waiting, outcome => {
        outcomes.push(outcome);
        tell();
      }),
    ),
  );
  // What one lane leaves the other takes over; without any control plane nothing was tested.
  const broken = ends.flatMap(end => (end.status === 'rejected' ? [String(end.reason)] : []));
  const { passed, failed, failures, slowestFiles } = combined(outcomes);
  if (broken.length > 0)
    return { passed, failed: failed + broken.length, failures: [...failures, ...broken] };
  return { passed, failed, failures, ...(slowestFiles && { slowestFiles }) };
}

async function runLane(
  context: PartContext,
  lane: string,
  waiting: string[],
  onOutcome: (outcome: Outcome) => void,
): Promise<void> {
  const { startCluster } = await import('../bed/cluster.ts');
  const logDirectory = join(context.outFolder, lane);
  rmSync(logDirectory, { recursive: true, force: true });
  const cluster = await startCluster({ nodes: 'many', logDirectory });
  const quiet = { ...context, note: () => {} };
  const env = { BERTH_BED: cluster.stateFile };
  try {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      if (context.children.areEnding) return;
      const logName = join(lane, basename(file, '.test.ts'));
      onOutcome(
        await runTap(quiet, { name: 'e2e', files: [file], jobs: 1, timeoutSeconds: 900, env, logName }),
      );
    }
  } finally {
    await cluster.stop();
  }
}

function turnOf(file: string): number {
  const at = longFiles.indexOf(basename(file, '.test.ts'));
  return at === -1 ? longFiles.length : at;
}

function combined(outcomes: readonly Outcome[]): Outcome {
  const sum = (of: (outcome: Outcome) => number) =>
    outcomes.reduce((total, outcome) => total + of(outcome), 0);
  return {
    passed: sum(outcome => outcome.passed),
    failed: sum(outcome => outcome.failed),
    failures: outcomes.flatMap(outcome => outcome.failures),
    slowestFiles: outcomes
      .flatMap(outcome => outcome.slowestFiles ?? [])
      .sort((a, b) => b.seconds - a.seconds)
      .slice(0, 3),
  };
}

async function runTap(context: PartContext, options: TapOptions): Promise<Outcome> {
  const { root, outFolder, children, grep, note } = context;
  const { name, files, jobs, timeoutSeconds, env = {}, logName = name } = options;
  if (files.length === 0) return { passed: 0, failed: 1, failures: [`no file matches ${testFolder(name)}`] };
  const report = new TapReport();
  const tell = () => note(`${report.files.length} of ${files.length} files, ${report.passedSoFar} passed`);
  tell();
  const end = await children.run({
    program: join(root, 'node_modules/.bin/tap'),
    arguments: [
      'run',
      '--reporter=tap',
      `--jobs=${jobs}`,
      `--timeout=${timeoutSeconds}`,
      // What a pattern leaves out is skipped by intent.
      ...(grep.length === 0 ? ['--fail-skip', '--fail-todo', '--fail-only'] : []),
      ...grep.map(pattern => `--grep=${pattern}`),
      ...files,
    ],
    cwd: root,
    env,
    logPath: join(outFolder, `${logName}.log`),
    onStdout: line => {
      report.read(line);
      tell();
    },
  });
  return outcomeOf(report, end, grep.length > 0);
}

function outcomeOf(report: TapReport, end: ChildEnd, mayBeEmpty: boolean): Outcome {
  const { totals } = report;
  const slowestFiles = [...report.files].sort((a, b) => b.seconds - a.seconds).slice(0, 3);
  if (totals === undefined) {
    const how = end.signal ?? `exit code ${end.exitCode}`;
    return {
      passed: report.passedSoFar,
      failed: Math.max(1, report.failures.length),
      failures: [...report.failures.map(renderFailure), `tap ended early, with ${how}:\n${whole(end.tail)}`],
    };
  }
  const { passed, failed } = totals;
  const failures = report.failures.map(renderFailure);
  const hasFileFailure = report.failures.some(({ path }) => path.length === 1);
  if (hasFileFailure && end.errorTail.length > 0)
    failures.push(`standard error ended with:\n${whole(end.errorTail)}`);
  if (passed + failed === 0 && !mayBeEmpty)
    return { passed, failed: 1, failures: ['no test ran'], slowestFiles };
  if (failed === 0 && end.exitCode !== 0) {
    return {
      passed,
      failed: 1,
      failures: [`tap counted no failure, yet ended with ${end.signal ?? end.exitCode}`],
    };
  }
  return { passed, failed, failures, slowestFiles };
}

function renderFailure({ path, diagnostics }: FailedAssertion): string {
  return [path.join(' > '), ...diagnostics.map(line => `  ${line}`)].join('\n');
}

function whole(lines: readonly string[]): string {
  return lines.join('\n');
}
