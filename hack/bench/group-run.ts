import { lws } from '../../src/api/names.ts';
import type { Cluster } from '../bed/cluster.ts';
import type { Fleet } from '../bed/fleet-presets.ts';
import { BindWatch, type BoundPod } from './bind-watch.ts';
import { type Arm, clearNamespace, makeNamespace } from './namespaces.ts';
import { type GroupsShape, groupsObject } from './workloads.ts';

/** How groups came to their nodes, once. */
export interface GroupRun {
  /** From the creation of the LWS to the binding of its last pod. */
  readonly seconds: number;
  readonly groupsInOneRack: number;
}

const timeoutMs = 180_000;
const level = { name: 'rack', nodeLabel: 'example.com/rack' };

/**
 * Creates an LWS in a namespace of its own, waits until all its pods are bound, and removes it. With Berth each group must
 * lie in one rack; kube-scheduler alone knows no such wish.
 */
export async function bindGroups(
  cluster: Cluster,
  fleet: Fleet,
  arm: Arm,
  shape: GroupsShape,
): Promise<GroupRun> {
  const namespace = await makeNamespace(cluster, arm);
  const object = groupsObject(shape, arm === 'stock' ? undefined : level.name);
  const watch = new BindWatch(cluster, namespace);
  const all = watch.all(shape.groups * shape.size, timeoutMs);
  all.catch(() => {});
  const startedMs = performance.now();
  const path = `/apis/${object.apiVersion}/namespaces/${namespace}/leaderworkersets`;
  await cluster.request('POST', path, object);
  const bound = await all;
  const seconds = ((bound.at(-1)?.atMs ?? Number.NaN) - startedMs) / 1000;
  await clearNamespace(cluster, namespace);
  return { seconds, groupsInOneRack: countInOneRack(bound, racksOf(fleet)) };
}

function racksOf({ nodes }: Fleet): ReadonlyMap<string, string | undefined> {
  return new Map(nodes.map(({ metadata }) => [metadata.name ?? '', metadata.labels?.[level.nodeLabel]]));
}

function countInOneRack(bound: readonly BoundPod[], racks: ReadonlyMap<string, string | undefined>): number {
  const groups = Map.groupBy(bound, ({ pod }) => pod.metadata.labels?.[lws.groupIndex]);
  return [...groups.values()].filter(
    members => new Set(members.map(({ node }) => racks.get(node))).size === 1,
  ).length;
}
