import { rungs } from '../cluster/devices/alignment.ts';
import type { Colours } from './colours.ts';
import { deviceLine } from './device-report.ts';
import type { FreeRoom } from './free-room.ts';
import type { PlanReport, RankReport, RequestReport } from './plan-report.ts';
import { indented, textTable } from './text-table.ts';

/** The report for people. */
export function planTable(report: PlanReport, colours: Colours): string {
  const parts: (readonly string[])[] = [];
  if (report.requests.length === 0) parts.push(['Nothing asks for a place.']);
  else parts.push(summary(report, colours));
  for (const request of report.requests)
    if (request.kind === 'group' && request.ranks !== undefined) parts.push(ranks(request, report));
  parts.push(...refusals(report));
  parts.push(freeTable(report.before, report.after));
  return `${parts.map(lines => lines.join('\n')).join('\n\n')}\n`;
}

function summary({ requests }: PlanReport, { good, bad }: Colours): readonly string[] {
  const withClaims = requests.some(({ alignment }) => alignment !== undefined);
  const rows = requests.map(request => {
    const { name, priority, size, outcome, hosts } = request;
    return [
      name,
      String(priority),
      size === undefined ? '-' : String(size),
      outcome,
      whereOf(request),
      hosts === undefined ? '-' : String(hosts),
      ...(withClaims ? [alignmentOf(request)] : []),
      leavesOf(request.leaves),
    ];
  });
  const columns = [
    { title: 'group or pod' },
    { title: 'priority', right: true },
    { title: 'size', right: true },
    { title: 'outcome' },
    { title: 'where' },
    { title: 'hosts', right: true },
    ...(withClaims ? [{ title: 'alignment' }] : []),
    { title: 'leaves free' },
  ];
  // Painted after all is measured: the marks have no width.
  return textTable(columns, rows).map((line, i) => {
    const outcome = requests[i - 1]?.outcome;
    if (outcome === undefined) return line;
    const paint = outcome === 'fits' ? good : bad;
    return line.replace(`  ${outcome} `, `  ${paint(outcome)} `);
  });
}

function whereOf({ kind, level, domain, ranks: places }: RequestReport): string {
  if (level === undefined || domain === undefined) return '-';
  if (kind === 'single') return places?.[0]?.node ?? '-';
  return domain.length === 0 ? 'cluster' : `${level} ${domain.join('/')}`;
}

function alignmentOf({ alignment }: RequestReport): string {
  const counts = rungs.flatMap(rung => {
    const members = alignment?.[rung];
    return members === undefined ? [] : [`${members} ${rung}`];
  });
  return counts.length === 0 ? '-' : counts.join(', ');
}

function leavesOf(room: FreeRoom | undefined): string {
  if (room === undefined) return '-';
  const whole = room.levels.map(({ level, whole: count }) => `${count} whole ${level}`).reverse();
  return [`${room.freeHosts} hosts`, ...whole].join(', ');
}

function ranks({ name, ranks: places = [] }: RequestReport, { levels }: PlanReport): readonly string[] {
  const withClaims = places.some(({ devices }) => devices !== undefined);
  const columns = [
    { title: 'rank', right: true },
    { title: 'node' },
    ...levels.map(level => ({ title: level.name })),
    { title: 'alignment' },
    ...(withClaims ? [{ title: 'devices' }] : []),
  ];
  const rowOf = ({ rank, node, domains, alignment, devices }: RankReport) => [
    String(rank),
    node,
    ...levels.map(level => domains[level.name] ?? '-'),
    alignment ?? '-',
    ...(withClaims ? [deviceLine(devices, node)] : []),
  ];
  return [name, ...indented(textTable(columns, places.map(rowOf)))];
}

/** Replicas are refused alike: their names stand above one sentence. */
function refusals({ requests }: PlanReport): readonly (readonly string[])[] {
  const refused = requests.filter(({ reason }) => reason !== undefined);
  const alike = Map.groupBy(refused, ({ reason, unblock }) =>
    JSON.stringify([reason?.message, unblock?.message]),
  );
  return [...alike.values()].map(group => {
    const [first] = group;
    const why = [`  ${first?.reason?.message ?? ''}`];
    if (first?.unblock !== undefined) why.push(`  ${first.unblock.message}`);
    return [...wrappedNames(group.map(({ name }) => name)), ...why];
  });
}

const namesPerLine = 6;

function wrappedNames(names: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (let at = 0; at < names.length; at += namesPerLine)
    lines.push(names.slice(at, at + namesPerLine).join(', '));
  return lines;
}

function freeTable(before: FreeRoom, after: FreeRoom): readonly string[] {
  const rows = [['hosts', `${before.freeHosts} of ${before.hosts}`, `${after.freeHosts} of ${after.hosts}`]];
  before.levels.forEach((was, i) => {
    const is = after.levels[i] ?? was;
    const { level, domains } = was;
    rows.push([`whole ${level}`, `${was.whole} of ${domains}`, `${is.whole} of ${domains}`]);
    rows.push([`most hosts in one ${level}`, String(was.largest), String(is.largest)]);
  });
  const columns = [{ title: 'free' }, { title: 'before', right: true }, { title: 'after', right: true }];
  return textTable(columns, rows);
}
