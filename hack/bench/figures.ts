import type { Summary } from './statistics.ts';

export const partNames = [
  'planner',
  'claims',
  'choice',
  'alignment',
  'device-plans',
  'admission',
  'filter',
  'groups',
  'modes',
  'singles',
  'dra',
  'failure',
  'failure-latency',
  'failure-recovery',
  'failure-mass',
  'failure-storm',
  'memory',
] as const;

export type PartName = (typeof partNames)[number];

export type Unit =
  | 'µs'
  | 'ms'
  | 's'
  | 'pods/s'
  | 'claims/s'
  | 'signals/s'
  | 'cores'
  | 'MB'
  | 'MB/min'
  | 'groups'
  | 'evictions'
  | 'racks'
  | '%'
  | 'of fewest';

/** What did not come about while it was waited for. */
export interface Never {
  readonly waitedSeconds: number;
}

/** One line of the result: what Berth needs and, where there is such a thing, what the same costs without it. */
export interface Figure {
  readonly part: PartName;
  readonly what: string;
  readonly unit: Unit;
  readonly berth: Summary;
  readonly beside?: { readonly name: string; readonly value: Summary | Never };
  readonly aim?: Aim;
}

/** Bound of the value, or of its ratio to what stands beside it. */
export type Aim =
  | { readonly of: 'value' | 'ratio'; readonly atMost: number }
  | { readonly of: 'value' | 'ratio'; readonly atLeast: number };

/**
 * Berth's median over the median of what stands beside it; undefined where nothing does, or where that is zero or did not
 * come about.
 */
export function ratioOf({ berth, beside }: Figure): number | undefined {
  if (beside === undefined || isNever(beside.value) || beside.value.median === 0) return undefined;
  return berth.median / beside.value.median;
}

export function isNever(value: Summary | Never): value is Never {
  return 'waitedSeconds' in value;
}

/** Undefined where there is no aim. */
export function reachesAim(figure: Figure): boolean | undefined {
  const { aim, berth } = figure;
  if (aim === undefined) return undefined;
  const measured = aim.of === 'value' ? berth.median : ratioOf(figure);
  if (measured === undefined) return undefined;
  return 'atMost' in aim ? measured <= aim.atMost : measured >= aim.atLeast;
}
