import type { PodInfo } from '../group/pod-info.ts';
import type { ApiClient } from '../kube/api-client.ts';
import { failureKind } from '../kube/api-errors.ts';
import { deletePod, deleteUnallocatedClaim, getPod, patchPod } from '../kube/writes.ts';
import type { PlacementWrites } from './pod-writer.ts';

/** The placement controller's writes against the API server. */
export function placementWrites(client: ApiClient): PlacementWrites {
  return {
    async patchPod(pod, ops) {
      await patchPod(client, pod, ops);
    },
    async deletePod(pod, propagationPolicy) {
      try {
        if (!(await isAsSeen(client, pod))) return false;
        await deletePod(client, pod, { propagationPolicy });
        return true;
      } catch (error) {
        if (isStale(error)) return false;
        throw error;
      }
    },
    async deleteClaim(claim) {
      try {
        return await deleteUnallocatedClaim(client, claim);
      } catch (error) {
        // Without the right to delete claims the pod gets whatever devices come first, which is no reason to wait.
        if (isStale(error) || failureKind(error) === 'forbidden') return false;
        throw error;
      }
    },
    async isAsSeen(pod) {
      try {
        return await isAsSeen(client, pod);
      } catch (error) {
        if (isStale(error)) return false;
        throw error;
      }
    },
    isStale,
  };
}

/** A live look right before a delete: the cache may lag behind a pod that has just been bound after all. */
async function isAsSeen(client: ApiClient, pod: PodInfo): Promise<boolean> {
  const live = await getPod(client, pod);
  return (
    live.metadata.uid === pod.uid &&
    live.metadata.deletionTimestamp === undefined &&
    (live.spec.nodeName ?? '') === (pod.nodeName ?? '')
  );
}

function isStale(error: unknown): boolean {
  const kind = failureKind(error);
  return kind === 'gone' || kind === 'conflict' || kind === 'changed' || kind === 'invalid';
}
