import type { ConfigMap } from '../api/kubernetes.ts';
import type { ApiClient } from './api-client.ts';
import { failureKind } from './api-errors.ts';
import { readPagedList } from './paged-list.ts';

export interface RecordMapsOptions {
  readonly client: ApiClient;
  /** Berth's own. */
  readonly namespace: string;
  /** Per request. */
  readonly timeoutMs: number;
}

/**
 * ConfigMaps of Berth's namespace, in which it keeps what it has decided. Every read asks the API server for the latest
 * state (no resourceVersion, so a quorum read); all methods throw as `ApiClient.request` does.
 */
export class RecordMaps {
  readonly namespace: string;
  readonly #options: RecordMapsOptions;

  constructor(options: RecordMapsOptions) {
    this.#options = options;
    this.namespace = options.namespace;
  }

  /** All that bear a label, whatever its value. */
  async list(label: string): Promise<readonly ConfigMap[]> {
    const objects: ConfigMap[] = [];
    await readPagedList<ConfigMap>({
      client: this.#options.client,
      path: this.#path(''),
      query: { labelSelector: label },
      pageSize: 200,
      timeoutMs: this.#options.timeoutMs,
      signal: new AbortController().signal,
      onObject: raw => objects.push(raw),
    });
    return objects;
  }

  get(name: string): Promise<ConfigMap> {
    return this.#request('GET', name);
  }

  create(object: ConfigMap): Promise<ConfigMap> {
    return this.#request('POST', '', object);
  }

  /** With a resourceVersion in the object: fails with kind `conflict` when it has changed since. */
  replace(object: ConfigMap): Promise<ConfigMap> {
    return this.#request('PUT', object.metadata.name ?? '', object);
  }

  /** False when it is gone already, or has changed since that resourceVersion. */
  async remove(name: string, resourceVersion?: string): Promise<boolean> {
    const preconditions = resourceVersion === undefined ? {} : { preconditions: { resourceVersion } };
    try {
      await this.#request('DELETE', name, { apiVersion: 'v1', kind: 'DeleteOptions', ...preconditions });
      return true;
    } catch (error) {
      const kind = failureKind(error);
      if (kind === 'gone' || kind === 'conflict') return false;
      throw error;
    }
  }

  #request(method: 'GET' | 'POST' | 'PUT' | 'DELETE', name: string, body?: unknown): Promise<ConfigMap> {
    const { client, timeoutMs } = this.#options;
    return client.request<ConfigMap>({
      method,
      path: this.#path(name),
      timeoutMs,
      ...(body !== undefined && { body }),
    });
  }

  #path(name: string): string {
    const collection = `/api/v1/namespaces/${this.#options.namespace}/configmaps`;
    return name === '' ? collection : `${collection}/${name}`;
  }
}
