import type { Outcome, PartName } from './parts.ts';

export interface PartResult extends Outcome {
  readonly name: PartName;
  readonly seconds: number;
}

export interface Summary {
  readonly setUpSeconds: number;
  readonly results: readonly PartResult[];
  /** Whether a part may have run no test, as with a pattern that only some tests match. */
  readonly mayBeEmpty: boolean;
}

/** What failed, then where the time went, then the names of what failed and the counts, for who sees the last lines only. */
export function renderSummary(summary: Summary): string {
  const { results } = summary;
  const failed = results.filter(result => result.failed > 0).map(renderFailures);
  const slowest = results
    .flatMap(({ slowestFiles = [] }) => slowestFiles)
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, 5)
    .map(({ name, seconds }) => `  ${seconds.toFixed(1).padStart(7)} s  ${name}`);
  const blocks = [
    ...failed,
    renderTable(summary),
    ...(slowest.length > 0 ? [`Slowest files:\n${slowest.join('\n')}`] : []),
    ...namesOfFailures(results),
    ...(ranNothing(summary) ? ['No test ran.'] : []),
    lastLine(summary),
  ];
  return `\n${blocks.join('\n\n')}\n`;
}

export function exitCodeOf(summary: Summary): number {
  return countsOf(summary).failed > 0 ? 1 : 0;
}

function lastLine(summary: Summary): string {
  const { passed, failed } = countsOf(summary);
  return `${passed} passed, ${failed} failed`;
}

function countsOf(summary: Summary): { readonly passed: number; readonly failed: number } {
  const passed = summary.results.reduce((sum, result) => sum + result.passed, 0);
  const failed = summary.results.reduce((sum, result) => sum + result.failed, 0);
  return { passed, failed: failed + Number(ranNothing(summary)) };
}

/** A part that must have tests fails by itself; this is for patterns that match nothing anywhere. */
function ranNothing({ results, mayBeEmpty }: Summary): boolean {
  return mayBeEmpty && results.every(({ passed, failed }) => passed + failed === 0);
}

function renderFailures({ name, failures }: PartResult): string {
  const texts = failures.map(text => `  ${text.replaceAll('\n', '\n  ')}`);
  return [
    `FAILED ${name} (all of its output: ${name === 'e2e' ? 'out/e2e-*' : `out/${name}.log`})`,
    ...texts,
  ].join('\n\n');
}

function namesOfFailures(results: readonly PartResult[]): readonly string[] {
  const names = results.flatMap(({ failures }) => failures.map(text => `  ${text.split('\n')[0]}`));
  return names.length > 0 ? [`Failed:\n${names.join('\n')}`] : [];
}

function renderTable({ setUpSeconds, results }: Summary): string {
  const rows = [
    ['part', 'seconds', 'passed', 'failed'],
    ['set-up', setUpSeconds.toFixed(1), '', ''],
    ...results.map(({ name, seconds, passed, failed }) => [
      name,
      seconds.toFixed(1),
      String(passed),
      String(failed),
    ]),
  ];
  return rows
    .map(([name = '', ...numbers]) => name.padEnd(8) + numbers.map(number => number.padStart(9)).join(''))
    .map(line => line.trimEnd())
    .join('\n');
}
