import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import {
  decodeLeaderWorkerSet,
  decodeNamespace,
  decodeStatefulSet,
  type PlacementMode,
} from '../../../src/group/owner.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { cacheOf, drawFleet, type Fleet } from '../../builders/fleet.ts';
import type { LwsGroup } from '../../builders/lws-group.ts';
import { gpuName } from '../../builders/pods.ts';

/** Two racks of two hosts with 8 GPUs each. */
export const fleet: Fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8
    - d gpu=8
`);

/** A cache of the fleet with some pods, in which namespace `serving` is in a mode. */
export function worldIn(mode: PlacementMode | undefined, pods: readonly Pod[] = []): ClusterCache {
  const cache = cacheOf(fleet, pods);
  setMode(cache, 'serving', mode);
  return cache;
}

export function setMode(
  cache: ClusterCache,
  namespace: string,
  mode: PlacementMode | undefined,
  more: Readonly<Record<string, string>> = {},
): void {
  const labels = { [k8s.namespaceName]: namespace, ...(mode && { [berth.mode]: mode }), ...more };
  cache.namespaces.upsert(decodeNamespace({ metadata: { name: namespace, labels } }));
}

/** Shows the cache the owner of a group and its worker StatefulSet. */
export function addOwner(cache: ClusterCache, group: LwsGroup, incarnation = 1): void {
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet(incarnation)));
}

/** A plan that gives ranks nodes, 8 GPUs for each. */
export function planOf(leaderUid: string, nodes: readonly string[], generation = 1): PlanAnnotation {
  const requests = nodes.map(() => new Map(Object.entries({ [gpuName]: 8, pods: 1 })));
  return { leaderUid, generation, nodes, requests };
}

/** The annotations of a leader that carries a plan. */
export function planned(leaderUid: string, nodes: readonly string[]): Readonly<Record<string, string>> {
  return { [berth.plan]: formatPlanAnnotation(planOf(leaderUid, nodes)) };
}
