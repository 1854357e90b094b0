import { execFileSync } from 'node:child_process';
import { Command, InvalidArgumentError } from 'commander';
import { BuildError } from '../bed/go-command.ts';
import type { BenchContext } from './context.ts';
import { assignmentsIn, deployedEnvironment } from './deployed-runtime.ts';
import { type Figure, type PartName, partNames } from './figures.ts';
import { thisMachine } from './machine.ts';
import { runParts } from './parts.ts';
import { renderJson, renderMarkdown } from './report.ts';

interface Options {
  readonly only: readonly PartName[];
  readonly json?: boolean;
  readonly scale: number;
  readonly berthEnv: string;
}

/** Runs what the command line asks for, tells the progress on standard error and prints the figures. */
export async function runCommand(): Promise<number> {
  const options = readOptions();
  const startedMs = performance.now();
  const say = (text: string) => {
    const seconds = Math.round((performance.now() - startedMs) / 1000);
    process.stderr.write(`${String(seconds).padStart(4)} s  ${text}\n`);
  };
  const environment = { ...(await deployedEnvironment()), ...assignmentsIn(options.berthEnv) };
  const told: string[] = [];
  const note = (text: string) => void told.push(text);
  const context: BenchContext = { scale: options.scale, environment, say, note };
  let figures: readonly Figure[];
  try {
    figures = await runParts(options.only, context);
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    process.stderr.write(`berth: ${error.message}\n`);
    return 1;
  }
  const report = {
    command: commandLine(),
    machine: thisMachine(),
    berthCommit: commitOf(),
    seconds: (performance.now() - startedMs) / 1000,
    figures,
    notes: [...notesOf(context), ...told],
  };
  process.stdout.write(options.json ? renderJson(report) : renderMarkdown(report));
  return 0;
}

function readOptions(): Options {
  const program = new Command('npm run bench --')
    .description(
      'Measures Berth on a real control plane on this machine, beside the same without it in the same run. ' +
        'Prints a Markdown table; progress goes to standard error. About 45 minutes on two quiet cores.',
    )
    .option('--only <parts>', `comma-separated: ${partNames.join(', ')}`, parseParts, partNames)
    .option('--json', 'print JSON with every sample in place of the table')
    .option(
      '--scale <fraction>',
      'shrink every size, to try the benchmarks out; such figures mean little',
      parseScale,
      1,
    )
    .option(
      '--berth-env <variables>',
      'KEY=value ... laid over those that deploy/Dockerfile sets, e.g. NODE_OPTIONS=--max-semi-space-size=4',
      '',
    )
    .showHelpAfterError('(npm run bench -- --help shows what there is)');
  return program.parse().opts<Options>();
}

function parseParts(text: string): readonly PartName[] {
  const wanted = text.split(',').map(part => part.trim());
  const unknown = wanted.find(part => !partNames.some(name => name === part));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(`there is no part ${unknown}; parts are ${partNames.join(', ')}.`);
  }
  return partNames.filter(name => wanted.includes(name));
}

function parseScale(text: string): number {
  const scale = Number(text);
  if (!(scale > 0 && scale <= 1)) throw new InvalidArgumentError('must be above 0 and at most 1.');
  return scale;
}

function commandLine(): string {
  const given = process.argv.slice(2);
  const quoted = given.map(argument => (/^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument}'`));
  return ['npm run bench', ...(given.length === 0 ? [] : ['--', ...quoted])].join(' ');
}

/** Empty hands are no reason to fail: a source archive has no git. */
function commitOf(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8', stdio: 'pipe' }).trim();
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : ' with changes');
  } catch {
    return 'an unknown commit';
  }
}

function notesOf({ scale, environment }: BenchContext): readonly string[] {
  const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
  return [
    ...(scale === 1
      ? []
      : [`Sizes were scaled by ${scale}: these figures show only that the benchmarks run.`]),
    `Berth ran with \`${variables.join(' ')}\`.`,
  ];
}
