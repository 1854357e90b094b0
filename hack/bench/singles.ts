import type { Cluster } from '../bed/cluster.ts';
import type { BerthArm } from './berth-arm.ts';
import { BindWatch } from './bind-watch.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { inLanes, numbers } from './lanes.ts';
import { type Arm, clearNamespace, makeNamespace } from './namespaces.ts';
import { summarize } from './statistics.ts';
import { singleGpuPod } from './workloads.ts';

/** Each arm as often first as last, should the control plane slow down over the time. */
const order: readonly Arm[] = ['stock', 'pin', 'pin', 'stock', 'stock', 'pin'];
const fullPods = 1_500;
const createLanes = 32;
const timeoutMs = 180_000;

interface Rates {
  /** Pods over the time from the first create request to the last binding. */
  readonly overall: number;
  /** Pods over the time from the first binding to the last. */
  readonly binding: number;
}

/** How fast single pods with a GPU are bound by kube-scheduler alone and when Berth pins them first. */
export async function measureSingles(
  cluster: Cluster,
  berth: BerthArm,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const pods = scaled(context, fullPods);
  const rates: Record<Arm, Rates[]> = { stock: [], pin: [] };
  for (const arm of order) {
    await (arm === 'pin' ? berth.on() : berth.off());
    const rate = await bindSingles(cluster, arm, pods);
    context.say(
      `singles, ${arm}: ${rate.overall.toFixed(0)} pods/s, while binding ${rate.binding.toFixed(0)} pods/s`,
    );
    rates[arm].push(rate);
  }
  const figure = (what: string, rateOf: (rates: Rates) => number): Figure => ({
    part: 'singles',
    what,
    unit: 'pods/s',
    berth: summarize(rates.pin.map(rateOf)),
    beside: { name: 'stock', value: summarize(rates.stock.map(rateOf)) },
  });
  const shown = pods.toLocaleString('en');
  return [
    {
      ...figure(`${shown} single GPU pods bound, from the first create on`, rate => rate.overall),
      aim: { of: 'ratio', atLeast: 1.5 },
    },
    figure(`${shown} single GPU pods bound, from the first binding on`, rate => rate.binding),
  ];
}

async function bindSingles(cluster: Cluster, arm: Arm, count: number): Promise<Rates> {
  const namespace = await makeNamespace(cluster, arm);
  const watch = new BindWatch(cluster, namespace);
  const all = watch.all(count, timeoutMs);
  all.catch(() => {});
  const startedMs = performance.now();
  await inLanes(numbers(count), createLanes, index =>
    cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, singleGpuPod(`single-${index}`)),
  );
  const createdMs = performance.now();
  const bound = await all;
  const firstMs = bound.at(0)?.atMs ?? Number.NaN;
  const lastMs = bound.at(-1)?.atMs ?? Number.NaN;
  if (process.env['BENCH_DEBUG'])
    console.error({
      arm,
      createS: (createdMs - startedMs) / 1000,
      first: (firstMs - startedMs) / 1000,
      last: (lastMs - startedMs) / 1000,
    });
  await clearNamespace(cluster, namespace);
  return { overall: (count * 1000) / (lastMs - startedMs), binding: (count * 1000) / (lastMs - firstMs) };
}
