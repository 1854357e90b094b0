import type { ResourceClaim } from '../api/dra.ts';
import type { KubernetesObject, Pod, PodCondition } from '../api/kubernetes.ts';
import type { ApiClient } from './api-client.ts';

/** A namespaced object; with `uid`, this incarnation of it and no later one. */
export interface ObjectRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string | undefined;
}

export type PropagationPolicy = 'Foreground' | 'Background' | 'Orphan';

export type JsonPatchOp =
  | { readonly op: 'add' | 'replace' | 'test'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string }
  | { readonly op: 'move' | 'copy'; readonly from: string; readonly path: string };

export interface RemoveOptions {
  readonly propagationPolicy?: PropagationPolicy | undefined;
  readonly gracePeriodSeconds?: number | undefined;
  /** The server checks everything, budgets and rights included, and changes nothing. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const jsonPatch = 'application/json-patch+json';
const strategicMergePatch = 'application/strategic-merge-patch+json';

/** Any object by its path; undefined fields of T are the caller's business. Kind `gone` when it does not exist. */
export function getObject<T extends KubernetesObject>(
  client: ApiClient,
  path: string,
  signal?: AbortSignal,
): Promise<T> {
  return client.request<T>({ method: 'GET', path, signal });
}

/** The pod of that name, whichever incarnation: compare its UID. */
export function getPod(client: ApiClient, pod: ObjectRef, signal?: AbortSignal): Promise<Pod> {
  return getObject<Pod>(client, podPath(pod), signal);
}

/**
 * Applies all operations or none. With `pod.uid` the first of them tests the UID; that or any other failing `test`,
 * and a path that is not there, is kind `changed`.
 */
export function patchPod(
  client: ApiClient,
  pod: ObjectRef,
  operations: readonly JsonPatchOp[],
  signal?: AbortSignal,
): Promise<Pod> {
  const body = [...uidTest(pod), ...operations];
  return client.request<Pod>({ method: 'PATCH', path: podPath(pod), body, contentType: jsonPatch, signal });
}

/**
 * Sets one condition of a pod and leaves the others alone: conditions are merged by type. With `pod.uid` another
 * incarnation is refused (kind `conflict` or `changed`).
 */
export function patchPodCondition(
  client: ApiClient,
  pod: ObjectRef,
  condition: PodCondition,
  signal?: AbortSignal,
): Promise<Pod> {
  const identity = pod.uid === undefined ? {} : { metadata: { uid: pod.uid } };
  return client.request<Pod>({
    method: 'PATCH',
    path: `${podPath(pod)}/status`,
    body: { ...identity, status: { conditions: [condition] } },
    contentType: strategicMergePatch,
    signal,
  });
}

/** Deletes without asking any PodDisruptionBudget. Kind `conflict` when the pod of that name has another UID. */
export function deletePod(client: ApiClient, pod: ObjectRef, options: RemoveOptions = {}): Promise<unknown> {
  const { signal } = options;
  const body = deleteOptions(pod, options);
  return client.request<unknown>({ method: 'DELETE', path: podPath(pod), body, signal });
}

/**
 * Asks for an eviction. Kind `budget` when a PodDisruptionBudget holds it back. A UID that is no longer true is
 * refused as `conflict`, but only after the budget was charged: compare the live UID first.
 */
export function evictPod(client: ApiClient, pod: ObjectRef, options: RemoveOptions = {}): Promise<unknown> {
  return client.request<unknown>({
    method: 'POST',
    path: `${podPath(pod)}/eviction`,
    // The body alone would do; the query shows it in audit logs, too.
    ...(options.dryRun && { query: { dryRun: 'All' } }),
    body: {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { namespace: pod.namespace, name: pod.name },
      deleteOptions: deleteOptions(pod, options),
    },
    signal: options.signal,
  });
}

/**
 * Deletes a claim unless it has devices, or is not what it was. A look at the live claim comes first, and the delete is for
 * that very version of it: kube-scheduler may be about to allocate.
 */
export async function deleteUnallocatedClaim(client: ApiClient, claim: ObjectRef): Promise<boolean> {
  const path = `/apis/resource.k8s.io/v1/namespaces/${claim.namespace}/resourceclaims/${claim.name}`;
  const live = await getObject<ResourceClaim>(client, path);
  const { uid, resourceVersion } = live.metadata;
  if (uid !== claim.uid || live.status?.allocation !== undefined) return false;
  if ((live.status?.reservedFor ?? []).length > 0) return false;
  await client.request<unknown>({
    method: 'DELETE',
    path,
    body: { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid, resourceVersion } },
  });
  return true;
}

function podPath({ namespace, name }: ObjectRef): string {
  return `/api/v1/namespaces/${namespace}/pods/${name}`;
}

function uidTest({ uid }: ObjectRef): JsonPatchOp[] {
  return uid === undefined ? [] : [{ op: 'test', path: '/metadata/uid', value: uid }];
}

function deleteOptions({ uid }: ObjectRef, options: RemoveOptions): Record<string, unknown> {
  const { propagationPolicy, gracePeriodSeconds, dryRun } = options;
  return {
    apiVersion: 'v1',
    kind: 'DeleteOptions',
    ...(uid !== undefined && { preconditions: { uid } }),
    ...(propagationPolicy !== undefined && { propagationPolicy }),
    ...(gracePeriodSeconds !== undefined && { gracePeriodSeconds }),
    ...(dryRun && { dryRun: ['All'] }),
  };
}
