import { type Aim, type Figure, isNever, type Never, ratioOf, reachesAim, type Unit } from './figures.ts';
import type { Machine } from './machine.ts';
import type { Summary } from './statistics.ts';

export interface Report {
  /** What to type for the same. */
  readonly command: string;
  readonly machine: Machine;
  readonly berthCommit: string;
  readonly seconds: number;
  readonly figures: readonly Figure[];
  /** What a reader must know about the figures. */
  readonly notes: readonly string[];
}

/** Markdown, ready for the README. */
export function renderMarkdown({ command, machine, berthCommit, seconds, figures, notes }: Report): string {
  const rows = figures.map(figure => {
    const { what, unit, berth, beside, aim } = figure;
    const ratio = ratioOf(figure);
    return [
      what,
      renderSummary(berth, unit),
      beside === undefined ? '' : `${renderBeside(beside.value, unit)} (${beside.name})`,
      ratio === undefined ? '' : `${ratio.toFixed(2)} x`,
      aim === undefined ? '' : `${renderAim(aim, unit)}${reachesAim(figure) === false ? ', missed' : ''}`,
    ];
  });
  const { cpuModel, cores, memoryGiB, node, system } = machine;
  const lines = [
    table(['', 'with Berth', 'beside it', 'ratio', 'aim'], rows),
    '',
    `\`${command}\` at ${berthCommit}, ${Math.round(seconds / 60)} min on ${cores} cores of ${cpuModel} with ` +
      `${memoryGiB} GiB, ${system}, Node ${node}; control plane, clients and Berth share them.`,
    ...(notes.length === 0 ? [] : ['', ...notes.map(note => `- ${note}`)]),
  ];
  return `${lines.join('\n')}\n`;
}

/** The same for programs, with ratios and every sample. */
export function renderJson(report: Report): string {
  const figures = report.figures.map(figure => ({
    ...figure,
    ratio: ratioOf(figure),
    reachesAim: reachesAim(figure),
  }));
  return `${JSON.stringify({ ...report, figures }, undefined, 2)}\n`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...rows];
  return lines.map(cells => `| ${cells.join(' | ')} |`).join('\n');
}

function renderSummary({ median, min, max, samples }: Summary, unit: Unit): string {
  const spread = samples.length > 1 && max > min ? ` (${amount(min)} to ${amount(max)})` : '';
  return `${amount(median)} ${unit}${spread}`;
}

function renderBeside(value: Summary | Never, unit: Unit): string {
  return isNever(value) ? `never within ${value.waitedSeconds} s` : renderSummary(value, unit);
}

function renderAim(aim: Aim, unit: Unit): string {
  const suffix = aim.of === 'ratio' ? 'x' : unit;
  return 'atMost' in aim ? `at most ${aim.atMost} ${suffix}` : `at least ${aim.atLeast} ${suffix}`;
}

/** Three digits, as many as such measurements can stand for. */
function amount(value: number): string {
  if (Number.isInteger(value) || value >= 100) return String(Math.round(value));
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
