import { randomUUID } from 'node:crypto';
import type { Container, KubernetesObject, ObjectMeta, Pod } from '../../src/api/kubernetes.ts';
import type { Admission } from './admission.ts';
import { type ResourceType, resourceTypes } from './api-paths.ts';
import type { DeleteOptions } from './delete-options.ts';
import type { ObjectName, ObjectStore } from './object-store.ts';
import { patched } from './patches.ts';
import { conflict, notFound, Refusal } from './refusal.ts';

/** Parts of requests that the API server treats apart. */
export type Subresource = 'status';

/** An object with what belongs to its status subresource, if it has one. */
interface Stateful extends KubernetesObject {
  readonly status?: unknown;
}

/** An object that may be about to go. */
interface Mortal extends KubernetesObject {
  readonly metadata: ObjectMeta & { readonly deletionGracePeriodSeconds?: number };
}

interface Patch {
  readonly contentType: string;
  readonly body: unknown;
}

/** Keeps its owner until all that the owner controls is gone. */
export const foregroundDeletion = 'foregroundDeletion';

/** Default of terminationGracePeriodSeconds. */
const podGraceSeconds = 30;

/** What the admission plugin DefaultTolerationSeconds gives to pods. */
const defaultTolerations = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].map(key => ({
  key,
  operator: 'Exists',
  effect: 'NoExecute',
  tolerationSeconds: 300,
}));

/** What the API server does with objects: admission, defaults, identity, conflicts. */
export class ResourceApi {
  readonly store: ObjectStore;
  readonly #admission: Admission;

  constructor(store: ObjectStore, admission: Admission) {
    this.store = store;
    this.#admission = admission;
  }

  async create<T extends KubernetesObject>(
    type: ResourceType,
    object: T,
    {
      namespace,
      dryRun = false,
    }: { readonly namespace?: string | undefined; readonly dryRun?: boolean } = {},
  ): Promise<T> {
    const named = identified(type, object, namespace);
    const admitted = isPod(type, named) ? await this.#admitPod(named, dryRun) : named;
    const name = nameOf(admitted);
    if (namespace !== undefined && !this.store.read('namespaces', { name: namespace })) {
      throw notFound(`namespace ${namespace}`);
    }
    if (this.store.read(type.resource, name)) {
      throw new Refusal(409, 'AlreadyExists', `${type.resource} ${name.name} already exists`);
    }
    const creationTimestamp = now();
    const metadata = { ...admitted.metadata, uid: randomUUID(), creationTimestamp };
    const born = { ...admitted, metadata };
    return dryRun ? born : this.store.write<T>(type.resource, born);
  }

  /** @throws Refusal 404 */
  get<T extends KubernetesObject>(type: ResourceType, name: ObjectName): T {
    const found = this.store.read<T>(type.resource, name);
    if (found === undefined) throw notFound(`${type.resource} ${name.name}`);
    return found;
  }

  /** What the API server has given to an object stays, whatever the new one says. */
  replace<T extends Stateful>(type: ResourceType, name: ObjectName, object: T): T {
    const current = this.get<T>(type, name);
    const { resourceVersion, uid } = object.metadata;
    const isStale = resourceVersion !== undefined && resourceVersion !== current.metadata.resourceVersion;
    if (isStale || (uid !== undefined && uid !== current.metadata.uid)) throw conflict(name.name);
    const metadata = { ...object.metadata, ...identityOf(current) };
    return this.store.write(type.resource, withStatusOf({ ...object, metadata }, current));
  }

  /** A patch of the object leaves its status alone, and a patch of its status all else. */
  patch<T extends Stateful>(
    type: ResourceType,
    name: ObjectName,
    patch: Patch,
    subresource: Subresource | undefined,
  ): T {
    const current = this.get<T>(type, name);
    const result = patched(current, patch.contentType, patch.body);
    const [object, status] = subresource === 'status' ? [current, result] : [result, current];
    return this.store.write(type.resource, withStatusOf(object, status));
  }

  /** @throws Refusal 409 when the object is not the one that is meant */
  checkPreconditions({ metadata }: KubernetesObject, { uid, resourceVersion }: DeleteOptions): void {
    const isOther = uid !== undefined && uid !== metadata.uid;
    const isChanged = resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion;
    if (isOther || isChanged) throw conflict(metadata.name ?? '');
  }

  /**
   * Deletes, or marks for deletion: a bound pod goes when its kubelet deletes it without grace, and whatever is deleted
   * in foreground when the garbage collector has taken away what it controls.
   */
  remove(type: ResourceType, name: ObjectName, options: DeleteOptions = {}): void {
    const current = this.get<Mortal>(type, name);
    this.checkPreconditions(current, options);
    if (options.isDryRun) return;
    const { deletionTimestamp, deletionGracePeriodSeconds, finalizers = [] } = current.metadata;
    const isBound = isPod(type, current) && current.spec.nodeName !== undefined;
    const graceSeconds = isBound ? (options.gracePeriodSeconds ?? podGraceSeconds) : 0;
    const isForeground = options.propagationPolicy === 'Foreground' && deletionTimestamp === undefined;
    const metadata = {
      ...current.metadata,
      deletionTimestamp: deletionTimestamp ?? now(),
      deletionGracePeriodSeconds: Math.min(graceSeconds, deletionGracePeriodSeconds ?? graceSeconds),
      finalizers: isForeground ? [...finalizers, foregroundDeletion] : finalizers,
    };
    if (deletionTimestamp !== undefined && metadata.deletionGracePeriodSeconds === deletionGracePeriodSeconds)
      return;
    this.#settle(type, { ...current, metadata });
  }

  /** Takes a finalizer off an object, which goes when that was the last thing to wait for. */
  dropFinalizer(type: ResourceType, name: ObjectName, finalizer: string): void {
    const current = this.get<Mortal>(type, name);
    const finalizers = (current.metadata.finalizers ?? []).filter(known => known !== finalizer);
    this.#settle(type, { ...current, metadata: { ...current.metadata, finalizers } });
  }

  #settle(type: ResourceType, object: Mortal): void {
    const { deletionTimestamp, deletionGracePeriodSeconds, finalizers = [] } = object.metadata;
    const isOver = deletionTimestamp !== undefined && deletionGracePeriodSeconds === 0;
    if (isOver && finalizers.length === 0) this.store.remove(type.resource, nameOf(object));
    else this.store.write(type.resource, object);
  }

  /** Defaults come before admission, status after it. */
  async #admitPod<T extends Pod>(pod: T, dryRun: boolean): Promise<T> {
    const spec = {
      schedulerName: 'default-scheduler',
      ...pod.spec,
      tolerations: [...(pod.spec.tolerations ?? []), ...defaultTolerations],
      containers: pod.spec.containers.map(withRequests),
    };
    const admitted = await this.#admission.admit({ ...pod, spec }, pod.metadata.namespace ?? '', dryRun);
    const isGated = (admitted.spec.schedulingGates?.length ?? 0) > 0;
    const gated = { type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' };
    return { ...pod, ...admitted, status: { phase: 'Pending', conditions: isGated ? [gated] : [] } };
  }
}

export function nameOf({ metadata }: KubernetesObject): ObjectName {
  return { namespace: metadata.namespace, name: metadata.name ?? '' };
}

/** As the API server writes times: in whole seconds. */
export function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, 'Z');
}

function identityOf({ metadata }: KubernetesObject): ObjectMeta {
  const { name, namespace, uid, creationTimestamp, deletionTimestamp } = metadata;
  return {
    ...(name !== undefined && { name }),
    ...(namespace !== undefined && { namespace }),
    ...(uid !== undefined && { uid }),
    ...(creationTimestamp !== undefined && { creationTimestamp }),
    ...(deletionTimestamp !== undefined && { deletionTimestamp }),
  };
}

function withStatusOf<T extends Stateful>(object: T, { status }: T): T {
  return { ...object, status };
}

function isPod(type: ResourceType, _object: KubernetesObject): _object is Pod {
  return type === resourceTypes.pods;
}

function identified<T extends KubernetesObject>(
  { apiVersion, kind }: ResourceType,
  object: T,
  namespace: string | undefined,
): T {
  const { generateName } = object.metadata;
  const name = object.metadata.name ?? `${generateName ?? ''}${randomUUID().slice(0, 5)}`;
  const metadata = { ...object.metadata, name, ...(namespace !== undefined && { namespace }) };
  return { ...object, apiVersion, kind, metadata };
}

/** Limits stand in for requests that are not given. */
function withRequests(container: Container): Container {
  const { resources } = container;
  if (resources?.limits === undefined) return container;
  const requests = { ...resources.limits, ...resources.requests };
  return { ...container, resources: { ...resources, requests } };
}
