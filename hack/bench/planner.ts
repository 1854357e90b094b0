import { buildKueueOracle } from '../../test/oracles/kueue/kueue-oracle.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { measureEvents } from './planner-events.ts';
import { measureLargeGroups, measureLatency } from './planner-latency.ts';
import { measurePlannerMemory } from './planner-memory.ts';
import { measureRefusals } from './planner-refusals.ts';
import { measureSpans } from './planner-spans.ts';

type Measure = (oracle: string, context: BenchContext, seeds: number) => Promise<readonly Figure[]>;

const questions: Readonly<Record<string, Measure>> = {
  latency: measureLatency,
  large: measureLargeGroups,
  refusals: measureRefusals,
  spans: measureSpans,
  events: measureEvents,
  memory: measurePlannerMemory,
};

const fullSeeds = 30;

/**
 * Berth's planner beside Kueue's topology-aware scheduling, both as libraries without the API around them.
 *
 * `BENCH_PLANNER=latency,refusals` asks only some of the questions; `BENCH_SEEDS=3` takes fewer seeds.
 *
 * @throws Error for a question that is none, or no number of seeds
 */
export async function measurePlanner(context: BenchContext): Promise<readonly Figure[]> {
  const wanted = process.env['BENCH_PLANNER']?.split(',') ?? Object.keys(questions);
  const seeds = Number(process.env['BENCH_SEEDS'] ?? scaled(context, fullSeeds));
  if (!Number.isInteger(seeds) || seeds < 1)
    throw new Error('BENCH_SEEDS must be a whole number of at least 1');
  context.say('planner: building the Kueue library, which takes minutes the first time');
  const oracle = await buildKueueOracle();
  const figures: Figure[] = [];
  for (const name of wanted) {
    const measure = questions[name];
    if (measure === undefined) {
      throw new Error(`BENCH_PLANNER names ${name}; there are ${Object.keys(questions).join(', ')}`);
    }
    figures.push(...(await measure(oracle, context, seeds)));
  }
  context.note(
    'Planners ran as libraries: Berth in the process of the benchmark, without the variables named here, and Kueue ' +
      'v0.19.2 in one of its own, both on one thread but for the collection of garbage.',
  );
  return figures;
}
