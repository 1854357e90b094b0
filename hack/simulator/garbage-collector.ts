import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { resourceTypes } from './api-paths.ts';
import { parseObject } from './object-store.ts';
import { nameOf, type ResourceApi } from './resource-api.ts';

/** Deletes what a deleted object controlled, in the background, like kube-controller-manager's collector. */
export function startGarbageCollector(api: ResourceApi): () => void {
  return api.store.subscribe(({ type, text }) => {
    if (type !== 'DELETED') return;
    const { uid } = parseObject(text).metadata;
    // Not inside the write that told us.
    if (uid !== undefined) setImmediate(() => collect(api, uid));
  });
}

function collect(api: ResourceApi, ownerUid: string): void {
  for (const type of [resourceTypes.statefulsets, resourceTypes.pods]) {
    for (const object of api.store.list(type.resource)) {
      if (isControlledBy(object, ownerUid)) api.remove(type, nameOf(object));
    }
  }
}

function isControlledBy({ metadata }: KubernetesObject, ownerUid: string): boolean {
  return metadata.ownerReferences?.some(({ uid, controller }) => controller && uid === ownerUid) ?? false;
}
