import type { BerthProcess } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import type { BerthArm } from './berth-arm.ts';
import { BindWatch } from './bind-watch.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure, Unit } from './figures.ts';
import { inLanes, numbers } from './lanes.ts';
import { clearNamespace, makeNamespace, type WebhookArm } from './namespaces.ts';
import { cpuBetween, cpuSeconds, describeCpu, totalOf } from './process-facts.ts';
import { summarize } from './statistics.ts';
import { until } from './waiting.ts';
import { singleGpuPod } from './workloads.ts';

/** Each arm as often first as last, should the control plane slow down over the time. */
const liveOrder: readonly WebhookArm[] = ['stock', 'pin', 'pin', 'stock', 'stock', 'pin'];
const backlogOrder: readonly WebhookArm[] = ['pin', 'stock', 'stock', 'pin'];
const fullPods = 1_500;
const createLanes = 32;
const timeoutMs = 180_000;

interface LiveRun {
  /** Pods over the time from the first create request to the last binding. */
  readonly overallRate: number;
  /** Pods over the time from the first binding to the last. */
  readonly bindingRate: number;
  /** Processor time of all components per pod. */
  readonly cpuMs: number;
}

interface Shape {
  readonly cluster: Cluster;
  readonly arm: WebhookArm;
  /** Undefined while it does not run. */
  readonly berth: BerthProcess | undefined;
  readonly pods: number;
}

/**
 * How fast single pods with a GPU are bound by kube-scheduler alone, and when Berth pins them first: while they come,
 * and as a backlog that waits for kube-scheduler, which shows kube-scheduler's own pace.
 */
export async function measureSingles(
  cluster: Cluster,
  berthArm: BerthArm,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const pods = scaled(context, fullPods);
  const live: Record<WebhookArm, LiveRun[]> = { stock: [], pin: [] };
  const backlog: Record<WebhookArm, number[]> = { stock: [], pin: [] };
  const shapeOf = async (arm: WebhookArm): Promise<Shape> => {
    return { cluster, arm, berth: await berthArm.switch(arm === 'pin'), pods };
  };
  for (const arm of liveOrder) live[arm].push(await bindAsTheyCome(await shapeOf(arm), context));
  for (const arm of backlogOrder) backlog[arm].push(await bindBacklog(await shapeOf(arm), context));
  const figure = (
    text: string,
    unit: Unit,
    samples: Readonly<Record<WebhookArm, readonly number[]>>,
  ): Figure => ({
    part: 'singles',
    what: `${pods.toLocaleString('en')} single GPU pods: ${text}`,
    unit,
    berth: summarize(samples.pin),
    beside: { name: 'stock', value: summarize(samples.stock) },
  });
  const each = (of: (run: LiveRun) => number) => ({ stock: live.stock.map(of), pin: live.pin.map(of) });
  return [
    {
      ...figure(
        'bound, from the first create on',
        'pods/s',
        each(run => run.overallRate),
      ),
      aim: { of: 'ratio', atLeast: 1.5 },
    },
    figure(
      'bound, from the first binding on',
      'pods/s',
      each(run => run.bindingRate),
    ),
    figure("bound from a backlog, kube-scheduler's own pace", 'pods/s', backlog),
    figure(
      'processor time of control plane, KWOK and Berth for each',
      'ms',
      each(run => run.cpuMs),
    ),
  ];
}

async function bindAsTheyCome(shape: Shape, { say }: BenchContext): Promise<LiveRun> {
  const { cluster, arm, berth, pods } = shape;
  const namespace = await makeNamespace(cluster, arm);
  const all = new BindWatch(cluster, namespace).all(pods, timeoutMs);
  all.catch(() => {});
  const cpuBefore = await cpuSeconds(cluster, berth?.pid);
  const startedMs = performance.now();
  await createPods(shape, namespace);
  const createdMs = performance.now();
  const { firstMs, lastMs } = endsOf(await all);
  const cpu = cpuBetween(cpuBefore, await cpuSeconds(cluster, berth?.pid));
  await clearNamespace(cluster, namespace);
  const overallRate = (pods * 1000) / (lastMs - startedMs);
  say(
    `singles, ${arm}: ${overallRate.toFixed(0)} pods/s (all created after ` +
      `${((createdMs - startedMs) / 1000).toFixed(1)} of ${((lastMs - startedMs) / 1000).toFixed(1)} s); ` +
      `processor seconds: ${describeCpu(cpu)}`,
  );
  return {
    overallRate,
    bindingRate: (pods * 1000) / (lastMs - firstMs),
    cpuMs: (totalOf(cpu) * 1000) / pods,
  };
}

/** Pods per second, from the first binding to the last. */
async function bindBacklog(shape: Shape, { say }: BenchContext): Promise<number> {
  const { cluster, arm, berth, pods } = shape;
  const namespace = await makeNamespace(cluster, arm);
  await cluster.stopComponent('kube-scheduler');
  const pinnedBefore = await pinnedSingles(berth);
  await createPods(shape, namespace);
  await until(
    'Berth to pin all pods',
    timeoutMs,
    async () => berth === undefined || (await pinnedSingles(berth)) - pinnedBefore >= pods,
  );
  const all = new BindWatch(cluster, namespace).all(pods, timeoutMs);
  all.catch(() => {});
  await cluster.startComponent('kube-scheduler');
  const { firstMs, lastMs } = endsOf(await all);
  await clearNamespace(cluster, namespace);
  const rate = (pods * 1000) / (lastMs - firstMs);
  say(`singles from a backlog, ${arm}: ${rate.toFixed(0)} pods/s`);
  return rate;
}

async function createPods({ cluster, pods }: Shape, namespace: string): Promise<void> {
  await inLanes(numbers(pods), createLanes, index =>
    cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, singleGpuPod(`single-${index}`)),
  );
}

async function pinnedSingles(berth: BerthProcess | undefined): Promise<number> {
  const metrics = (await berth?.metrics()) ?? '';
  return Number(/^berth_singles_pinned_total (\d+)$/m.exec(metrics)?.[1] ?? 0);
}

function endsOf(bound: readonly { readonly atMs: number }[]): { firstMs: number; lastMs: number } {
  return { firstMs: bound.at(0)?.atMs ?? Number.NaN, lastMs: bound.at(-1)?.atMs ?? Number.NaN };
}
