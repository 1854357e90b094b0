import { type BenchContext, scaled } from './context.ts';
import type { Aim, Figure, Unit } from './figures.ts';
import { outcomesOfBerth } from './planner-berth.ts';
import { confidenceInterval, type Interval } from './planner-intervals.ts';
import { outcomesOfKueueArms } from './planner-kueue.ts';
import { type Quality, qualityOf } from './planner-quality.ts';
import { summarize } from './statistics.ts';
import { churnStream, ownLeaders, wholeHosts } from './stream-churn.ts';
import { streamFleet } from './stream-fleet.ts';

const fullHosts = 1_024;
const loads = [0.85, 0.9, 0.95];
const fullArrivals = 2_000;
/** Several lifetimes, so that it does not matter that the fleet was empty. */
const warmUpShare = 0.5;
const part = 'planner';

interface Arms {
  readonly berth: readonly Quality[];
  readonly kueue: readonly Quality[];
}

const decks = {
  'whole hosts': { deck: wholeHosts, ofGpus: 'hosts refused' },
  'leaders of their own': { deck: ownLeaders, ofGpus: 'GPUs refused' },
} as const;

type DeckName = keyof typeof decks;

/** One deck at one load. */
interface Case {
  readonly name: DeckName;
  readonly load: number;
}

/**
 * How many groups of many sizes are refused where they come and go at a high load, with the same arrivals and lifetimes
 * for both, over `seeds` seeds.
 */
export async function measureRefusals(
  oracle: string,
  context: BenchContext,
  seeds: number,
): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const name of ['whole hosts', 'leaders of their own'] as const) {
    for (const load of loads) {
      const arms = await runSeeds(oracle, context, { name, load }, seeds);
      figures.push(...figuresOf({ name, load }, arms));
      context.note(noteOf({ name, load }, arms));
    }
  }
  return figures;
}

async function runSeeds(
  oracle: string,
  context: BenchContext,
  { name, load }: Case,
  seeds: number,
): Promise<Arms> {
  const hosts = scaled(context, fullHosts);
  const fleet = streamFleet(hosts);
  const counted = scaled(context, fullArrivals);
  const warmUp = Math.round(counted * warmUpShare);
  const berth: Quality[] = [];
  const kueue: Quality[] = [];
  for (let seed = 1; seed <= seeds; seed++) {
    if (seed % 5 === 1) context.say(`planner: ${textOf({ name, load })}, seed ${seed} of ${seeds}`);
    const stream = churnStream({ deck: decks[name].deck, hosts, load, arrivals: warmUp + counted, seed });
    const [theirs = []] = await outcomesOfKueueArms(oracle, [{ fleet, stream, remembers: true }]);
    berth.push(qualityOf(hosts, stream, outcomesOfBerth(fleet, stream), warmUp));
    kueue.push(qualityOf(hosts, stream, theirs, warmUp));
  }
  return { berth, kueue };
}

function figuresOf(of: Case, arms: Arms): readonly Figure[] {
  const figure = (what: string, unit: Unit, pick: (quality: Quality) => number, aim?: Aim): Figure => ({
    part,
    what: `${textOf(of)}: ${what}`,
    unit,
    berth: summarize(arms.berth.map(pick)),
    beside: { name: 'Kueue', value: summarize(arms.kueue.map(pick)) },
    ...(aim && { aim }),
  });
  const aim: Aim = { of: 'ratio', atMost: of.load === 0.9 ? 0.8 : 1 };
  return [
    figure('groups refused', '%', ({ refusedGroups }) => refusedGroups, aim),
    figure(decks[of.name].ofGpus, '%', ({ refusedGpus }) => refusedGpus, aim),
    figure('groups refused though enough GPUs were free', '%', ({ fragmentation }) => fragmentation),
    figure('whole racks free', 'racks', ({ freeRacks }) => freeRacks),
    figure('GPUs in use', '%', ({ usedGpus }) => usedGpus),
  ];
}

function noteOf(of: Case, { berth, kueue }: Arms): string {
  if (berth.length < 2) return `For ${textOf(of)} one seed gives no interval.`;
  const compare = (what: string, pick: (quality: Quality) => number) => {
    const [ours, theirs] = [berth.map(pick), kueue.map(pick)];
    const fewer = confidenceInterval(ours.map((value, seed) => (theirs[seed] ?? 0) - value));
    const [our, their] = [confidenceInterval(ours), confidenceInterval(theirs)];
    const share = ((100 * fewer.mean) / their.mean).toFixed(0);
    return `${what} ${text(our)} beside ${text(their)}, seed by seed ${text(fewer)} fewer, which is ${share} %`;
  };
  const groups = compare('groups', ({ refusedGroups }) => refusedGroups);
  const gpus = compare(decks[of.name].ofGpus.replace(' refused', ''), ({ refusedGpus }) => refusedGpus);
  return (
    `${textOf(of)}, percent refused by Berth and by Kueue over ${berth.length} seeds, ` +
    `means with 95 % intervals: ${groups}; ${gpus}.`
  );
}

function text({ mean, low, high }: Interval): string {
  return `${mean.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}

function textOf({ name, load }: Case): string {
  return `${Math.round(100 * load)} % load, ${name}`;
}
