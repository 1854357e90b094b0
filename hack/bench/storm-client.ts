import type { ApiClient, ApiRequest, StreamRequest } from '../../src/kube/api-client.ts';
import { ApiError } from '../../src/kube/api-errors.ts';
import { JsonLines } from '../../src/kube/json-lines.ts';
import { parseApiPath } from '../simulator/api-paths.ts';
import { answer } from '../simulator/api-server.ts';
import type { Change } from '../simulator/object-store.ts';
import { Refusal } from '../simulator/refusal.ts';
import type { ResourceApi } from '../simulator/resource-api.ts';

/**
 * A simulated API server reached without a network: watches bring the bytes that a real one sends, and requests go out and
 * come back as JSON.
 */
export class StormClient implements ApiClient {
  readonly #api: ResourceApi;
  #requests = 0;
  #unread = 0;

  constructor(api: ResourceApi) {
    this.#api = api;
  }

  /** Requests without answer and watch events that nobody has taken yet. */
  get pending(): number {
    return this.#requests + this.#unread;
  }

  async request<T>({ method, path, query = {}, body, contentType = '' }: ApiRequest): Promise<T> {
    // Nobody reads them here, and they would fill the memory: a real API server forgets them after an hour.
    if (method === 'POST' && path.endsWith('/events')) return copyOf<T>(body);
    this.#requests += 1;
    try {
      const search = new URLSearchParams();
      for (const [name, value] of Object.entries(query))
        if (value !== undefined) search.set(name, String(value));
      const sent = body === undefined ? undefined : copyOf(body);
      const object = await answer(this.#api, { method, path: `${path}?${search}`, contentType, body: sent });
      return copyOf<T>(object);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status, reason, message, causes } = error;
      throw new ApiError({ status, reason, message, causes });
    } finally {
      this.#requests -= 1;
    }
  }

  async *stream<T>({ path, query = {}, onOpen }: StreamRequest): AsyncGenerator<T, void, undefined> {
    const resource = parseApiPath(path)?.type.resource;
    const chunks: Buffer[] = [];
    let wake = () => {};
    const tell = (change: Change) => {
      if (change.resource !== resource) return;
      this.#unread += 1;
      chunks.push(Buffer.from(`{"type":"${change.type}","object":${change.text}}\n`));
      wake();
    };
    for (const change of this.#api.store.changesAfter(Number(query['resourceVersion'])) ?? []) tell(change);
    this.#api.store.subscribe(tell);
    onOpen?.();
    const lines = new JsonLines<T>();
    for (;;) {
      for (const chunk of chunks.splice(0)) {
        for (const value of lines.push(chunk)) yield value;
        this.#unread -= 1;
      }
      await new Promise<void>(resolve => {
        wake = resolve;
        if (chunks.length > 0) resolve();
      });
    }
  }
}

function copyOf<T>(value: unknown): T {
  const copy: T = JSON.parse(JSON.stringify(value));
  return copy;
}
