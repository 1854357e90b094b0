import type { KubernetesObject, Pod } from '../src/api/kubernetes.ts';
import { isGoing, type PodBoard } from './demo-pods.ts';
import { belongsTo, leaderWorkerSet, namespaces, seatOf, type Workload } from './demo-scenario.ts';
import { collectionPath, type World } from './demo-world.ts';

/** What people do in the story. */

export function submit(world: World, namespace: string, workload: Workload): Promise<unknown> {
  return world.request('POST', collectionPath(namespace, 'leaderworkersets'), leaderWorkerSet(workload));
}

export async function create(
  world: World,
  namespace: string,
  pods: readonly KubernetesObject[],
): Promise<void> {
  for (const pod of pods) await world.request('POST', collectionPath(namespace, 'pods'), pod);
}

export async function scale(world: World, { name }: Workload, replicas: number): Promise<void> {
  const path = `${collectionPath(namespaces.berth, 'leaderworkersets')}/${name}`;
  await world.request('PATCH', path, { spec: { replicas } });
}

export async function deleteIfThere(world: World, path: string): Promise<void> {
  try {
    await world.request('DELETE', path);
  } catch (error) {
    if (!(error instanceof Error && 'status' in error && error.status === 404)) throw error;
  }
}

/** Pods of a workload in Berth's namespace, those not that are about to go. */
export function membersOf(board: PodBoard, workload: Workload): readonly Pod[] {
  return board
    .pods(namespaces.berth)
    .filter(pod => belongsTo(seatOf(pod)?.group.name ?? '', workload) && !isGoing(pod));
}

export function podsOf({ replicas, size }: Workload): number {
  return replicas * size;
}
