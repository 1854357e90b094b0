import type { Cluster } from '../bed/cluster.ts';
import type { Fleet } from '../bed/fleet-presets.ts';
import type { BerthArm } from './berth-arm.ts';
import { BindWatch, type BoundPod } from './bind-watch.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { type Arm, clearNamespace, makeNamespace } from './namespaces.ts';
import { summarize } from './statistics.ts';
import { type GroupsShape, groupsObject } from './workloads.ts';

/** Each arm as often first as last, should the control plane slow down over the time. */
const order: readonly Arm[] = ['stock', 'pin', 'pin', 'stock'];
const fullGroups = 100;
const groupSize = 4;
const timeoutMs = 180_000;
const level = { name: 'rack', nodeLabel: 'example.com/rack' };

interface Run {
  /** From the creation of the LWS to the binding of its last pod. */
  readonly seconds: number;
  readonly groupsInOneRack: number;
}

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
  const racks = new Map(
    fleet.nodes.map(({ metadata }) => [metadata.name ?? '', metadata.labels?.[level.nodeLabel]]),
  );
  const figures: Figure[] = [];
  for (const gpusPerPod of [8, 2]) {
    const shape = { name: 'bench', groups: scaled(context, fullGroups), size: groupSize, gpusPerPod };
    const runs: Record<Arm, Run[]> = { stock: [], pin: [] };
    for (const arm of order) {
      await berth.switch(arm === 'pin');
      const run = await bindGroups(cluster, arm, shape, racks);
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

function figuresOf(shape: GroupsShape, runs: Readonly<Record<Arm, readonly Run[]>>): Figure[] {
  const { groups, size, gpusPerPod } = shape;
  const what = `${groups} groups of ${size} pods with ${gpusPerPod} GPUs each`;
  const summaries = (of: (run: Run) => number) => ({
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

async function bindGroups(
  cluster: Cluster,
  arm: Arm,
  shape: GroupsShape,
  racks: ReadonlyMap<string, string | undefined>,
): Promise<Run> {
  const namespace = await makeNamespace(cluster, arm);
  const object = groupsObject(shape, arm === 'pin' ? level.name : undefined);
  const watch = new BindWatch(cluster, namespace);
  const all = watch.all(shape.groups * shape.size, timeoutMs);
  all.catch(() => {});
  const startedMs = performance.now();
  const path = `/apis/${object.apiVersion}/namespaces/${namespace}/leaderworkersets`;
  await cluster.request('POST', path, object);
  const bound = await all;
  const seconds = ((bound.at(-1)?.atMs ?? Number.NaN) - startedMs) / 1000;
  await clearNamespace(cluster, namespace);
  return { seconds, groupsInOneRack: countInOneRack(bound, racks) };
}

function countInOneRack(bound: readonly BoundPod[], racks: ReadonlyMap<string, string | undefined>): number {
  const groups = Map.groupBy(
    bound,
    ({ pod }) => pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/group-index'],
  );
  return [...groups.values()].filter(
    members => new Set(members.map(({ node }) => racks.get(node))).size === 1,
  ).length;
}
