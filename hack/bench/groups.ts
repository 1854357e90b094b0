import type { Cluster } from '../bed/cluster.ts';
import type { Fleet } from '../bed/fleet-presets.ts';
import type { BerthArm } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { bindGroups, type GroupRun } from './group-run.ts';
import type { WebhookArm } from './namespaces.ts';
import { summarize } from './statistics.ts';
import type { GroupsShape } from './workloads.ts';

/** Each arm as often first as last, should the control plane slow down over the time. */
const order: readonly WebhookArm[] = ['stock', 'pin', 'pin', 'stock'];
const fullGroups = 100;
const groupSize = 4;

/**
 * How long an LWS of many groups takes until all its pods are bound: beside kube-scheduler alone, which puts them
 * anywhere, with Berth, which keeps every group in one rack.
 */
export async function measureGroups(
  cluster: Cluster,
  fleet: Fleet,
  berth: BerthArm,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const gpusPerPod of [8, 2]) {
    const shape = { name: 'bench', groups: scaled(context, fullGroups), size: groupSize, gpusPerPod };
    const runs: Record<WebhookArm, GroupRun[]> = { stock: [], pin: [] };
    for (const arm of order) {
      await berth.switch(arm === 'pin');
      const run = await bindGroups(cluster, fleet, arm, shape);
      context.say(
        `groups of ${gpusPerPod} GPUs a pod, ${arm}: ${run.seconds.toFixed(2)} s, ` +
          `${run.groupsInOneRack} of ${shape.groups} groups in one rack`,
      );
      runs[arm].push(run);
    }
    figures.push(...figuresOf(shape, runs));
  }
  return figures;
}

function figuresOf(shape: GroupsShape, runs: Readonly<Record<WebhookArm, readonly GroupRun[]>>): Figure[] {
  const { groups, size, gpusPerPod } = shape;
  const what = `${groups} groups of ${size} pods with ${gpusPerPod} GPUs each`;
  const summaries = (of: (run: GroupRun) => number) => ({
    berth: summarize(runs.pin.map(of)),
    beside: { name: 'stock', value: summarize(runs.stock.map(of)) },
  });
  return [
    {
      part: 'groups',
      what: `${what}: time until all are bound`,
      unit: 's',
      ...summaries(run => run.seconds),
      aim: { of: 'ratio', atMost: 1 },
    },
    {
      part: 'groups',
      what: `${what}: whole in one rack`,
      unit: 'groups',
      ...summaries(run => run.groupsInOneRack),
      aim: { of: 'value', atLeast: groups },
    },
  ];
}
