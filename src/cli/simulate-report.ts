import type { TopologyLevel } from '../cluster/topology.ts';
import type { Quality, RequestCounts } from './simulation-tally.ts';
import { textTable } from './text-table.ts';

/** Of requests, from the waiting leader to its plan taken into the cache. */
export interface Timing {
  readonly requests: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface SimulateReport {
  readonly version: 1;
  readonly fleet: { readonly name: string; readonly nodes: number; readonly devices: number };
  readonly levels: readonly TopologyLevel[];
  readonly stream: {
    /** Absent in a replay. */
    readonly seed?: number;
    readonly load?: number;
    readonly events: number;
    /** Played first and left out of the figures. */
    readonly uncounted: number;
    readonly hours: number;
  };
  readonly quality: Quality;
  /** Not fixed by the seed. */
  readonly timing?: Timing;
}

export function timingOf(planMs: readonly number[]): Timing {
  const sorted = [...planMs].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { requests: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** The report for people. */
export function simulateTable({ fleet, stream, quality, timing }: SimulateReport): string {
  const seed = stream.seed === undefined ? 'replayed' : `seed ${stream.seed}, load ${stream.load}`;
  const parts = [
    [
      `${fleet.name}: ${fleet.nodes} nodes, ${fleet.devices} devices; ${seed}; ` +
        `${stream.events} events in ${stream.hours.toFixed(1)} h, the first ${stream.uncounted} not counted`,
    ],
    requestTable(quality),
    levelTable(quality),
    figures(quality),
  ];
  if (timing !== undefined)
    parts.push([
      `Planning, not fixed by the seed: ${timing.requests} requests, ` +
        `p50 ${timing.p50Ms.toFixed(3)} ms, p99 ${timing.p99Ms.toFixed(3)} ms`,
    ]);
  return `${parts.map(lines => lines.join('\n')).join('\n\n')}\n`;
}

function requestTable({ arrivals, recoveries }: Quality): readonly string[] {
  const row = (name: string, counts: RequestCounts) => [
    name,
    String(counts.requests),
    String(counts.placed),
    String(counts.refused),
    String(counts.fragmented),
    String(counts.undecided),
  ];
  const columns = [
    { title: 'requests' },
    { title: 'asked', right: true },
    { title: 'placed', right: true },
    { title: 'refused', right: true },
    { title: 'of these fragmented', right: true },
    { title: 'undecided', right: true },
  ];
  return textTable(columns, [row('new groups and pods', arrivals), row('after a lost node', recoveries)]);
}

function levelTable({ levels, freeHosts, hostSpanOverFewest }: Quality): readonly string[] {
  const columns = [
    { title: 'level' },
    { title: 'domains', right: true },
    { title: 'whole free', right: true },
    { title: 'most free hosts in one', right: true },
    { title: 'span / fewest', right: true },
  ];
  const rows = levels.map(({ level, domains, whole, largest, spanOverFewest }) => [
    level,
    domains.toFixed(1),
    whole.toFixed(2),
    largest.toFixed(2),
    shown(spanOverFewest, 4),
  ]);
  return textTable(columns, [
    ...rows,
    ['host', '-', freeHosts.toFixed(2), '-', shown(hostSpanOverFewest, 4)],
  ]);
}

function figures(quality: Quality): readonly string[] {
  return textTable(
    [{ title: 'figure' }, { title: 'value', right: true }],
    [
      ['devices taken, time mean', percent(quality.allocationRate)],
      ['devices taken at the first refusal', percent(quality.allocationAtFirstRefusal)],
      ['fragmentation refusals per 1,000 requests', quality.fragmentationPer1000.toFixed(1)],
      ['hosts refused for fragmentation', percent(quality.fragmentedHostShare)],
      ['steps between ring neighbours', shown(quality.hopsPerRingPair, 3)],
      ['steps between any two ranks', shown(quality.hopsPerPair, 3)],
      ['ring / least for so few hosts', shown(quality.ringOverLeast, 3)],
    ],
  );
}

function shown(value: number | undefined, digits: number): string {
  return value === undefined ? '-' : value.toFixed(digits);
}

function percent(share: number | undefined): string {
  return share === undefined ? '-' : `${(100 * share).toFixed(2)} %`;
}
