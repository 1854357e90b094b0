import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { type ResourceType, resourceTypes } from './api-paths.ts';
import { parseObject } from './object-store.ts';
import { foregroundDeletion, nameOf, type ResourceApi } from './resource-api.ts';

const ownerTypes = [resourceTypes.leaderworkersets, resourceTypes.statefulsets, resourceTypes.pods];
const owners: ReadonlySet<string> = new Set(ownerTypes.map(({ resource }) => resource));
const dependentTypes = [resourceTypes.statefulsets, resourceTypes.pods];

interface Dependent {
  readonly type: ResourceType;
  readonly object: KubernetesObject;
}

/**
 * Deletes what a deleted object controlled, like kube-controller-manager's collector: in background after its owner is
 * gone, in foreground before that. A controller reference is taken to block its owner, as all those of LWS and of the
 * StatefulSet controller do.
 *
 * @param soon runs each piece of its work, but not inside the write that told of it
 */
export function startGarbageCollector(
  api: ResourceApi,
  soon: (work: () => void) => void = setImmediate,
): () => void {
  return api.store.subscribe(({ type, resource, text }) => {
    if (!owners.has(resource)) return;
    const object = parseObject(text);
    if (type === 'DELETED') soon(() => collect(api, object));
    else if (isInForeground(object)) soon(() => advance(api));
  });
}

function collect(api: ResourceApi, { metadata }: KubernetesObject): void {
  for (const { type, object } of dependentsOf(api, metadata.uid)) api.remove(type, nameOf(object));
  advance(api);
}

/** Takes each deletion in foreground one step on. */
function advance(api: ResourceApi): void {
  for (const type of ownerTypes) {
    for (const owner of api.store.list(type.resource).filter(isInForeground)) {
      const dependents = dependentsOf(api, owner.metadata.uid);
      if (dependents.length === 0) api.dropFinalizer(type, nameOf(owner), foregroundDeletion);
      for (const dependent of dependents) removeFirst(api, dependent);
    }
  }
}

/** What controls something itself goes in foreground, too. */
function removeFirst(api: ResourceApi, { type, object }: Dependent): void {
  const { uid, deletionTimestamp } = object.metadata;
  if (deletionTimestamp !== undefined) return;
  const propagationPolicy = dependentsOf(api, uid).length > 0 ? 'Foreground' : 'Background';
  api.remove(type, nameOf(object), { uid, propagationPolicy });
}

function dependentsOf(api: ResourceApi, ownerUid: string | undefined): readonly Dependent[] {
  return dependentTypes.flatMap(type =>
    api.store
      .list(type.resource)
      .filter(({ metadata }) =>
        metadata.ownerReferences?.some(({ uid, controller }) => controller && uid === ownerUid),
      )
      .map(object => ({ type, object })),
  );
}

function isInForeground({ metadata }: KubernetesObject): boolean {
  const { deletionTimestamp, finalizers = [] } = metadata;
  return deletionTimestamp !== undefined && finalizers.includes(foregroundDeletion);
}
