import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { Children } from './children.ts';
import {
  availableParts,
  isPartName,
  type Outcome,
  type Part,
  type PartContext,
  type PartName,
  partNames,
  tapParts,
} from './parts.ts';
import { Progress } from './progress.ts';
import { exitCodeOf, type PartResult, renderSummary } from './summary.ts';

interface Options {
  readonly only?: readonly PartName[];
  readonly grep?: readonly string[];
}

/** Parts of one lane run one after the other, the lanes beside each other; what uses both cores comes alone, at last. */
const lanes: readonly (readonly PartName[])[] = [['types', 'lint', 'unit', 'oracles'], ['bed']];
const last: readonly PartName[] = ['e2e'];

/**
 * Runs what the command line asks for and prints the summary.
 * @param setUpSeconds what setting up took until now
 * @returns the exit code
 */
export async function runCommand(root: string, setUpSeconds: number): Promise<number> {
  const options = readOptions();
  const available = availableParts(root);
  const absent = (options.only ?? []).filter(name => !available.some(part => part.name === name));
  if (absent.length > 0) {
    process.stderr.write(`berth: there are no tests for ${absent.join(', ')}\n`);
    return 1;
  }
  const parts = selectParts(available, options);
  const outFolder = join(root, 'out');
  mkdirSync(outFolder, { recursive: true });
  const children = new Children();
  endWithSignals(children);
  const grep = options.grep ?? [];
  const results = await runParts(parts, { root, outFolder, children, grep });
  const summary = { setUpSeconds, results, mayBeEmpty: grep.length > 0 };
  process.stdout.write(renderSummary(summary));
  return exitCodeOf(summary);
}

/** @returns the results in the order of the parts */
async function runParts(
  parts: readonly Part[],
  context: Omit<PartContext, 'note'>,
): Promise<readonly PartResult[]> {
  const progress = new Progress(process.stdout);
  const results = new Map<PartName, PartResult>();
  const runAll = async (names: readonly PartName[]) => {
    for (const part of parts.filter(({ name }) => names.includes(name))) {
      if (context.children.areEnding) return;
      progress.start(part.name);
      const startedMs = performance.now();
      const outcome = await outcomeOf(part, { ...context, note: text => progress.note(part.name, text) });
      const seconds = (performance.now() - startedMs) / 1000;
      const result = { name: part.name, seconds, ...outcome };
      results.set(part.name, result);
      progress.finish(result);
    }
  };
  progress.begin();
  await Promise.all(lanes.map(runAll));
  if ((results.get('bed')?.failed ?? 0) > 0) {
    const failures = ['not run, for the test bed could not be built'];
    results.set('e2e', { name: 'e2e', seconds: 0, passed: 0, failed: 1, failures });
  } else {
    await runAll(last);
  }
  progress.end();
  return parts.flatMap(({ name }) => results.get(name) ?? []);
}

/** A part that breaks down has failed; the others go on. */
async function outcomeOf(part: Part, context: PartContext): Promise<Outcome> {
  try {
    return await part.run(context);
  } catch (error) {
    return { passed: 0, failed: 1, failures: [crashOf(error)] };
  }
}

function crashOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function readOptions(): Options {
  return new Command('hack/test')
    .description(
      'Checks and tests Berth. The first run builds a Kubernetes control plane from its Go modules.',
    )
    .option(
      '--only <parts>',
      `run these parts only, separated by commas: ${partNames.join(', ')}`,
      parseParts,
    )
    .option(
      '--grep <pattern...>',
      'run only those tests whose top-level name matches; a second pattern is for the level below',
    )
    .addHelpText(
      'after',
      `
Parts:
  types     tsc --noEmit
  lint      biome ci .
  unit      test/unit
  oracles   test/oracles: the same inputs given to the Go originals; needs Go
  bed       builds etcd, kube-apiserver and the like; needs Go when they are not in the cache
  e2e       test/e2e, on two control planes that are started for all of them

Output of each part stays in out/<part>.log, of end-to-end tests in out/e2e-<n>/<file>.log. The last line is "<n> passed, <n> failed".`,
    )
    .showHelpAfterError('(hack/test --help shows what there is)')
    .parse()
    .opts<Options>();
}

function parseParts(text: string): readonly PartName[] {
  return text.split(',').map(name => {
    if (isPartName(name)) return name;
    throw new InvalidArgumentError(`${name} is none of ${partNames.join(', ')}.`);
  });
}

function selectParts(available: readonly Part[], { only, grep }: Options): readonly Part[] {
  const names = only ?? (grep === undefined ? partNames : tapParts);
  const wanted = names.includes('e2e') ? [...names, 'bed'] : names;
  return available.filter(({ name }) => wanted.includes(name));
}

/** The control plane of the end-to-end tests watches this process and ends with it. */
function endWithSignals(children: Children): void {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, async () => {
      process.stderr.write(`\nberth: ${signal}, stopping\n`);
      await children.end();
      process.exit(code);
    });
  }
}
