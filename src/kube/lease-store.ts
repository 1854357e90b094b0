import type { KubernetesObject } from '../api/kubernetes.ts';
import type { ApiClient } from './api-client.ts';
import { failureKind } from './api-errors.ts';

export interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  /** MicroTime */
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

export interface Lease extends KubernetesObject {
  readonly spec?: LeaseSpec;
}

export interface LeaseStoreOptions {
  readonly client: ApiClient;
  readonly namespace: string;
  readonly name: string;
  /** Per request. */
  readonly timeoutMs: number;
}

/** Reads and writes of one Lease; all throw as `ApiClient.request` does. */
export class LeaseStore {
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #name: string;
  readonly #timeoutMs: number;

  constructor({ client, namespace, name, timeoutMs }: LeaseStoreOptions) {
    this.#client = client;
    this.#namespace = namespace;
    this.#name = name;
    this.#timeoutMs = timeoutMs;
  }

  /** Undefined when there is none. */
  async read(signal?: AbortSignal): Promise<Lease | undefined> {
    try {
      return await this.#client.request<Lease>({ method: 'GET', path: this.#path, ...this.#limits(signal) });
    } catch (error) {
      if (failureKind(error) === 'gone') return undefined;
      throw error;
    }
  }

  /** Fails with kind `exists` when somebody was faster. */
  create(spec: LeaseSpec, signal?: AbortSignal): Promise<Lease> {
    return this.#client.request<Lease>({
      method: 'POST',
      path: this.#collection,
      body: {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { namespace: this.#namespace, name: this.#name },
        spec,
      },
      ...this.#limits(signal),
    });
  }

  /** Replaces the spec of `lease` as it was read; fails with kind `conflict` when it has changed since. */
  write(lease: Lease, spec: LeaseSpec, signal?: AbortSignal): Promise<Lease> {
    return this.#client.request<Lease>({
      method: 'PUT',
      path: this.#path,
      body: { ...lease, spec },
      ...this.#limits(signal),
    });
  }

  get #collection(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.#namespace}/leases`;
  }

  get #path(): string {
    return `${this.#collection}/${this.#name}`;
  }

  #limits(signal: AbortSignal | undefined): { timeoutMs: number; signal: AbortSignal | undefined } {
    return { timeoutMs: this.#timeoutMs, signal };
  }
}

/** metav1.MicroTime: exactly six digits of a second, or the API server refuses it. */
export function microTime(wallMs: number): string {
  return new Date(wallMs).toISOString().replace('Z', '000Z');
}
