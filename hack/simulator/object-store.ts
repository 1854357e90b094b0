import type { KubernetesObject } from '../../src/api/kubernetes.ts';

/** What happened to an object, as watches tell it. */
export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** Plural name, such as `pods`. */
  readonly resource: string;
  readonly resourceVersion: number;
  /** The object as JSON; of a deleted one its last state. */
  readonly text: string;
}

export interface ObjectName {
  /** Absent for cluster-scoped objects. */
  readonly namespace?: string | undefined;
  readonly name: string;
}

const rememberedByDefault = 20_000;

/**
 * Objects in memory with one resourceVersion for all, like etcd's revision. They are kept as JSON: each reader gets a
 * copy of its own, and nobody can change what is stored but by a write.
 */
export class ObjectStore {
  readonly #texts = new Map<string, Map<string, string>>();
  readonly #changes: Change[] = [];
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #remembered: number;
  #resourceVersion = 1;

  /** @param remembered beyond so many the oldest changes are forgotten, and watches from there on have expired */
  constructor(remembered = rememberedByDefault) {
    this.#remembered = remembered;
  }

  get resourceVersion(): number {
    return this.#resourceVersion;
  }

  /** T is the caller's word for what is stored under that name. */
  read<T extends KubernetesObject>(resource: string, name: ObjectName): T | undefined {
    const text = this.#texts.get(resource)?.get(keyOf(name));
    return text === undefined ? undefined : parseObject<T>(text);
  }

  /** Sorted by namespace and name, as the API server lists. */
  list<T extends KubernetesObject>(resource: string, namespace?: string): T[] {
    const entries = [...(this.#texts.get(resource) ?? [])].filter(
      ([key]) => namespace === undefined || key.startsWith(`${namespace}/`),
    );
    return entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => parseObject<T>(text));
  }

  /** Creates or replaces; what comes back has the new resourceVersion. */
  write<T extends KubernetesObject>(resource: string, object: T): T {
    const texts = this.#texts.get(resource) ?? new Map<string, string>();
    this.#texts.set(resource, texts);
    const key = keyOf({ ...object.metadata, name: object.metadata.name ?? '' });
    const type = texts.has(key) ? 'MODIFIED' : 'ADDED';
    const { written, text } = this.#stamped(object);
    texts.set(key, text);
    this.#publish(type, resource, text);
    return written;
  }

  remove(resource: string, name: ObjectName): void {
    const last = this.read(resource, name);
    if (last === undefined) return;
    this.#texts.get(resource)?.delete(keyOf(name));
    this.#publish('DELETED', resource, this.#stamped(last).text);
  }

  /** Every change after a resourceVersion; undefined when some of them are forgotten. */
  changesAfter(resourceVersion: number): readonly Change[] | undefined {
    const oldest = this.#changes[0]?.resourceVersion ?? this.#resourceVersion + 1;
    if (this.#changes.length === this.#remembered && resourceVersion < oldest - 1) return undefined;
    return this.#changes.filter(change => change.resourceVersion > resourceVersion);
  }

  /** Called at every change, in order. Returns the end of it. */
  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #stamped<T extends KubernetesObject>(object: T): { written: T; text: string } {
    this.#resourceVersion += 1;
    const resourceVersion = String(this.#resourceVersion);
    const written = { ...object, metadata: { ...object.metadata, resourceVersion } };
    return { written, text: JSON.stringify(written) };
  }

  #publish(type: Change['type'], resource: string, text: string): void {
    const change = { type, resource, resourceVersion: this.#resourceVersion, text };
    this.#changes.push(change);
    if (this.#changes.length > this.#remembered) this.#changes.shift();
    for (const listener of this.#listeners) listener(change);
  }
}

export function parseObject<T extends KubernetesObject>(text: string): T {
  const object: T = JSON.parse(text);
  return object;
}

function keyOf({ namespace, name }: ObjectName): string {
  return `${namespace ?? ''}/${name}`;
}
