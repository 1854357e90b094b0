import type { ApiClient, ApiRequest, StreamRequest } from '../../src/kube/api-client.ts';
import { ApiError } from '../../src/kube/api-errors.ts';
import { JsonLines } from '../../src/kube/json-lines.ts';
import { parseApiPath } from '../simulator/api-paths.ts';
import { answer } from '../simulator/api-server.ts';
import type { Change } from '../simulator/object-store.ts';
import { Refusal } from '../simulator/refusal.ts';
import type { ResourceApi } from '../simulator/resource-api.ts';

/** Work of another process than Berth's, of which the processor time is not Berth's. */
export type OfOthers = <T>(work: () => T) => T;

/**
 * A simulated API server reached without a network: watches bring the bytes that a real one sends, and requests go out and
 * come back as JSON. What the server does with a request is the work of others; to write and to read what is sent is not.
 */
export class StormClient implements ApiClient {
  readonly #api: ResourceApi;
  readonly #ofOthers: OfOthers;
  #requests = 0;
  #unread = 0;

  constructor(api: ResourceApi, ofOthers: OfOthers) {
    this.#api = api;
    this.#ofOthers = ofOthers;
  }

  /** Requests without answer and watch events that nobody has taken yet. */
  get pending(): number {
    return this.#requests + this.#unread;
  }

  async request<T>({ method, path, query = {}, body, contentType = '' }: ApiRequest): Promise<T> {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    // Nobody reads them here, and they would fill the memory: a real API server forgets them after an hour.
    if (method === 'POST' && path.endsWith('/events')) return readJson<T>(sent ?? 'null');
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) search.set(name, String(value));
    const answered = (read: unknown) =>
      answer(this.#api, { method, path: `${path}?${search}`, contentType, body: read });
    this.#requests += 1;
    try {
      const object = await this.#ofOthers(() => answered(sent === undefined ? undefined : readJson(sent)));
      return readJson<T>(this.#ofOthers(() => JSON.stringify(object)));
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

function readJson<T>(text: string): T {
  const value: T = JSON.parse(text);
  return value;
}
