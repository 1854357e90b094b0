import { type BerthProcess, schedulerConfigFor } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import type { Fleet } from '../bed/fleet-presets.ts';
import type { BerthArm } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { bindGroups, type GroupRun } from './group-run.ts';
import type { Arm } from './namespaces.ts';
import { summarize } from './statistics.ts';
import type { GroupsShape } from './workloads.ts';

const arms: readonly Arm[] = ['stock', 'pin', 'pin-extender', 'extender'];
/** Forth and back: each arm as often early as late, should the control plane slow down over the time. */
const order: readonly Arm[] = [...arms, ...arms.toReversed(), ...arms, ...arms.toReversed()];
const fullGroups = 50;
const groupSize = 4;
const gpusPerPod = 2;
const stockConfiguration = '{}';

/**
 * How fast groups are bound in each mode, with the configuration of kube-scheduler that deploy/ ships for it, beside
 * kube-scheduler alone.
 */
export async function measureModes(
  cluster: Cluster,
  fleet: Fleet,
  berthArm: BerthArm,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const shape = { name: 'bench', groups: scaled(context, fullGroups), size: groupSize, gpusPerPod };
  const runs: Readonly<Record<Arm, GroupRun[]>> = { stock: [], pin: [], 'pin-extender': [], extender: [] };
  let berthRan: boolean | undefined;
  for (const arm of order) {
    // A kube-scheduler that asks a Berth that is gone would schedule nothing.
    if (arm === 'stock') await cluster.restartScheduler(stockConfiguration);
    const berth = await berthArm.switch(arm !== 'stock');
    if (berth !== undefined)
      await cluster.restartScheduler(await schedulerConfiguration(cluster, arm, berth));
    const runsNow = berth !== undefined;
    // What has only just been started, or stopped, is not yet what it is most of the time.
    if (runsNow !== berthRan) await bindGroups(cluster, fleet, arm, shape);
    berthRan = runsNow;
    const run = await bindGroups(cluster, fleet, arm, shape);
    context.say(
      `modes, ${arm}: ${podsPerSecond(shape, run).toFixed(0)} pods/s, ` +
        `${run.groupsInOneRack} of ${shape.groups} groups in one rack`,
    );
    runs[arm].push(run);
  }
  await cluster.restartScheduler(stockConfiguration);
  return arms.filter(arm => arm !== 'stock').flatMap(arm => figuresOf(shape, arm, runs[arm], runs.stock));
}

function schedulerConfiguration(cluster: Cluster, arm: Arm, berth: BerthProcess): Promise<string> | string {
  return arm === 'pin-extender' || arm === 'extender'
    ? schedulerConfigFor(cluster, arm, berth)
    : stockConfiguration;
}

function figuresOf(
  shape: GroupsShape,
  arm: Arm,
  runs: readonly GroupRun[],
  stock: readonly GroupRun[],
): Figure[] {
  const { groups, size } = shape;
  const what = `mode ${arm}, ${groups} groups of ${size} pods with ${gpusPerPod} GPUs each`;
  const summaries = (of: (run: GroupRun) => number) => ({
    berth: summarize(runs.map(of)),
    beside: { name: 'stock', value: summarize(stock.map(of)) },
  });
  return [
    {
      part: 'modes',
      what: `${what}: bound, from the first create on`,
      unit: 'pods/s',
      ...summaries(run => podsPerSecond(shape, run)),
    },
    {
      part: 'modes',
      what: `${what}: whole in one rack`,
      unit: 'groups',
      ...summaries(run => run.groupsInOneRack),
      aim: { of: 'value', atLeast: groups },
    },
  ];
}

function podsPerSecond({ groups, size }: GroupsShape, { seconds }: GroupRun): number {
  return (groups * size) / seconds;
}
