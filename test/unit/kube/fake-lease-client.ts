import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import type { Lease } from '../../../src/kube/lease-store.ts';

/** One Lease with optimistic concurrency, as the API server has it. Shared by the clients of all electors. */
export class LeaseServer {
  lease: Lease | undefined;
  #version = 0;

  answer({ method, body }: ApiRequest): Lease {
    if (method === 'GET') return this.lease ?? refuse(404, 'NotFound');
    const sent: Lease = JSON.parse(JSON.stringify(body));
    if (method === 'POST' && this.lease) return refuse(409, 'AlreadyExists');
    if (method === 'PUT') {
      if (!this.lease) return refuse(404, 'NotFound');
      if (sent.metadata.resourceVersion !== this.lease.metadata.resourceVersion)
        return refuse(409, 'Conflict');
    }
    this.#version += 1;
    this.lease = { ...sent, metadata: { ...sent.metadata, resourceVersion: String(this.#version) } };
    return this.lease;
  }
}

/** One elector's way to the server, which the test may disturb. */
export class LeaseClient implements ApiClient {
  readonly requests: string[] = [];
  /** Asked before each request: throws, or waits. */
  before: (request: ApiRequest) => void | Promise<void> = () => {};
  /** Asked when the server has done its part: throwing here loses the answer. */
  after: (request: ApiRequest) => void | Promise<void> = () => {};
  readonly #server: LeaseServer;

  constructor(server: LeaseServer) {
    this.#server = server;
  }

  async request<T>(request: ApiRequest): Promise<T> {
    this.requests.push(request.method);
    await this.#orAbort(request, this.before(request));
    const text = JSON.stringify(this.#server.answer(request));
    await this.#orAbort(request, this.after(request));
    const copy: T = JSON.parse(text);
    return copy;
  }

  // biome-ignore lint/correctness/useYield: a Lease is never watched
  async *stream<T>(): AsyncGenerator<T, void, undefined> {
    throw new Error('a Lease is never watched');
  }

  async #orAbort({ signal }: ApiRequest, wait: void | Promise<void>): Promise<void> {
    signal?.throwIfAborted();
    const aborted = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    await Promise.race([wait, aborted]);
  }
}

function refuse(status: number, reason: string): never {
  throw new ApiError({ status, reason, message: reason });
}
