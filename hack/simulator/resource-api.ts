import { randomUUID } from 'node:crypto';
import type { Container, KubernetesObject, Pod } from '../../src/api/kubernetes.ts';
import type { Admission } from './admission.ts';
import { type ResourceType, resourceTypes } from './api-paths.ts';
import type { ObjectName, ObjectStore } from './object-store.ts';
import { patched } from './patches.ts';
import { conflict, notFound, Refusal } from './refusal.ts';

/** Conditions under which an object may be deleted. */
export interface Preconditions {
  readonly uid?: string | undefined;
}

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

  replace<T extends KubernetesObject>(type: ResourceType, name: ObjectName, object: T): T {
    const current = this.#get<T>(type, name);
    const { resourceVersion, uid } = object.metadata;
    const isStale = resourceVersion !== undefined && resourceVersion !== current.metadata.resourceVersion;
    if (isStale || (uid !== undefined && uid !== current.metadata.uid)) throw conflict(name.name);
    return this.store.write(type.resource, object);
  }

  patch<T extends KubernetesObject>(
    type: ResourceType,
    name: ObjectName,
    patch: { readonly contentType: string; readonly body: unknown },
  ): T {
    const current = this.#get<T>(type, name);
    return this.store.write(type.resource, patched(current, patch.contentType, patch.body));
  }

  /** A bound pod is only marked: its kubelet takes it away. */
  remove(type: ResourceType, name: ObjectName, { uid }: Preconditions = {}): void {
    const current = this.#get(type, name);
    if (uid !== undefined && uid !== current.metadata.uid) throw conflict(name.name);
    if (isPod(type, current) && current.spec.nodeName !== undefined) {
      if (current.metadata.deletionTimestamp !== undefined) return;
      const metadata = { ...current.metadata, deletionTimestamp: now() };
      this.store.write(type.resource, { ...current, metadata });
      return;
    }
    this.store.remove(type.resource, name);
  }

  #get<T extends KubernetesObject>(type: ResourceType, name: ObjectName): T {
    const found = this.store.read<T>(type.resource, name);
    if (found === undefined) throw notFound(`${type.resource} ${name.name}`);
    return found;
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
