import { type BenchContext, scaled } from './context.ts';
import type { Figure, Unit } from './figures.ts';
import { outcomesOfBerth } from './planner-berth.ts';
import { outcomesOfKueueArms } from './planner-kueue.ts';
import { percentile, summarize } from './statistics.ts';
import { largeStream, steadyStream } from './stream-churn.ts';
import { streamFleet } from './stream-fleet.ts';
import type { Outcome, Stream } from './stream-outcomes.ts';

const fullSizes = [500, 2_500, 5_000, 15_000];
const largeSize = 10_000;
const warmUpArrivals = 200;
const fullArrivals = 600;
const fullLargeArrivals = 300;
const part = 'planner';
const unit: Unit = 'ms';

/** The same stream, through Berth and twice through Kueue; only what comes after the warm-up. */
interface Arms {
  readonly berth: readonly Outcome[];
  readonly kueue: readonly Outcome[];
  /** Kueue that remembers which nodes match (WithWorkload). */
  readonly remembering: readonly Outcome[];
}

/**
 * How long a group of 4 whole hosts in one rack takes to be planned, its places to be taken and to be given back, beside
 * Kueue's library on the same stream.
 */
export async function measureLatency(oracle: string, context: BenchContext): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  const medians: number[] = [];
  for (const full of fullSizes) {
    const hosts = scaled(context, full);
    context.say(`planner: groups of 4 on ${hosts} nodes`);
    const stream = steadyStream(hosts, warmUpArrivals + scaled(context, fullArrivals), hosts);
    const arms = await runArms(oracle, hosts, stream, warmUpArrivals);
    sayTimes(arms, context);
    medians.push(percentile(arms.berth.map(wholeMs), 50));
    figures.push(...smallFigures(hosts, arms, full === 5_000));
  }
  const [smallest = 0] = medians;
  const largest = medians.at(-1) ?? 0;
  context.note(
    'Times of groups are those of planning and of taking and giving back places; Kueue is not charged for the snapshot ' +
      'that it takes once in each scheduling cycle, nor Berth for reading the pods.',
  );
  return [
    ...figures,
    {
      part,
      what: 'the same median at the most nodes beside the fewest',
      unit,
      berth: summarize([largest]),
      beside: { name: 'fewest nodes', value: summarize([smallest]) },
      aim: { of: 'ratio', atMost: 2 },
    },
  ];
}

/** The same for groups of 64 in one block, and how long it takes to refuse one that can never fit. */
export async function measureLargeGroups(oracle: string, context: BenchContext): Promise<readonly Figure[]> {
  const hosts = scaled(context, largeSize);
  context.say(`planner: groups of 64 on ${hosts} nodes, and groups that no rack can hold`);
  const warmUp = 50;
  const stream = largeStream(hosts, warmUp + scaled(context, fullLargeArrivals), hosts);
  const arms = await runArms(oracle, hosts, stream, 2 * warmUp);
  const nodes = `${hosts.toLocaleString('en')} nodes`;
  const figuresFor = (what: string, isOne: (outcome: Outcome) => boolean): readonly Figure[] => {
    const of = (outcomes: readonly Outcome[], percent: number) =>
      summarize([percentile(outcomes.filter(isOne).map(wholeMs), percent)]);
    return [50, 99].map(percent => ({
      part,
      what: `${nodes}: ${what}, ${nameOf(percent)}`,
      unit,
      berth: of(arms.berth, percent),
      beside: { name: 'Kueue', value: of(arms.kueue, percent) },
      ...(percent === 99 && { aim: { of: 'value', atMost: 1 } }),
    }));
  };
  return [
    ...figuresFor('plan a group of 64 and take its places', ({ group }) => group.name.startsWith('large')),
    ...figuresFor('refuse an impossible group of 64', ({ group }) => group.name.startsWith('impossible')),
  ];
}

async function runArms(oracle: string, hosts: number, stream: Stream, warmUp: number): Promise<Arms> {
  const fleet = streamFleet(hosts);
  const [kueue = [], remembering = []] = await outcomesOfKueueArms(oracle, [
    { fleet, stream, remembers: false },
    { fleet, stream, remembers: true },
  ]);
  // Go compiles beforehand, V8 while it runs: the first time counts for nothing.
  outcomesOfBerth(fleet, stream);
  const berth = outcomesOfBerth(fleet, stream);
  checkSame(berth, kueue);
  const after = (outcomes: readonly Outcome[]) => outcomes.slice(warmUp);
  return { berth: after(berth), kueue: after(kueue), remembering: after(remembering) };
}

/** Times are compared only where both did the same work. */
function checkSame(berth: readonly Outcome[], kueue: readonly Outcome[]): void {
  for (const [index, { group, nodes }] of berth.entries()) {
    if ((nodes === undefined) !== (kueue[index]?.nodes === undefined)) {
      throw new Error(`Berth and Kueue do not agree whether ${group.name} fits`);
    }
  }
}

function smallFigures(hosts: number, arms: Arms, isAimed: boolean): readonly Figure[] {
  const nodes = `${hosts.toLocaleString('en')} nodes`;
  const what = `${nodes}: plan a group of 4, take its places and give back others`;
  const of = (outcomes: readonly Outcome[], percent: number) =>
    summarize([percentile(outcomes.map(wholeMs), percent)]);
  const beside = (percent: number): Pick<Figure, 'berth' | 'beside'> => ({
    berth: of(arms.berth, percent),
    beside: { name: 'Kueue', value: of(arms.kueue, percent) },
  });
  return [
    {
      part,
      what: `${what}, median`,
      unit,
      ...beside(50),
      ...(isAimed && { aim: { of: 'ratio', atMost: 0.02 } }),
    },
    {
      part,
      what: `${what}, median beside Kueue where it remembers nodes`,
      unit,
      berth: of(arms.berth, 50),
      beside: { name: 'Kueue WithWorkload', value: of(arms.remembering, 50) },
    },
    { part, what: `${what}, p99`, unit, ...beside(99), aim: { of: 'value', atMost: 1 } },
  ];
}

function sayTimes({ berth, kueue, remembering }: Arms, { say }: BenchContext): void {
  const text = (outcomes: readonly Outcome[], pick: (outcome: Outcome) => number) =>
    [50, 99].map(percent => percentile(outcomes.map(pick), percent).toFixed(3)).join(' / ');
  const times = (outcomes: readonly Outcome[]) =>
    `${text(outcomes, ({ planMs }) => planMs)} and ${text(outcomes, ({ applyMs }) => applyMs)}`;
  say(
    `planner: median / p99 in ms to plan and to apply: Berth ${times(berth)}, Kueue ${times(kueue)}, ` +
      `Kueue remembering nodes ${times(remembering)}`,
  );
}

function wholeMs({ planMs, applyMs }: Outcome): number {
  return planMs + applyMs;
}

function nameOf(percent: number): string {
  return percent === 50 ? 'median' : `p${percent}`;
}
