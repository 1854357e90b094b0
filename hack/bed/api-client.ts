import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import type { KeyPair } from './certificates.ts';

/** The API server refused a request. */
export class ApiFailure extends Error {
  readonly status: number;
  /** Usually a Status object of Kubernetes; the raw text where it was no JSON. */
  readonly body: unknown;

  constructor(method: string, path: string, status: number, body: unknown) {
    super(`${method} ${path} answered ${status}: ${messageOf(body)}`);
    this.name = 'ApiFailure';
    this.status = status;
    this.body = body;
  }
}

/** An object as a watch delivers it, status and all. */
export type WatchedObject = KubernetesObject & { readonly [field: string]: unknown };

/** Type is ADDED, MODIFIED or DELETED. */
export type WatchListener = (type: string, object: WatchedObject) => void;

interface WatchEvent {
  readonly type: string;
  readonly object: WatchedObject;
}

const maxSockets = 64;
const rewatchDelayMs = 200;
/** The API server closes what was idle for 90 s, and a request sent at that moment would be lost. */
export const idleSocketMs = 45_000;

/** A client of the API server with a client certificate: raw JSON in and out. */
export class ApiClient {
  readonly #server: URL;
  readonly #agent: Agent;
  readonly #closing = new AbortController();

  constructor(server: string, caPem: string, pair: KeyPair) {
    this.#server = new URL(server);
    this.#agent = new Agent({
      keepAlive: true,
      timeout: idleSocketMs,
      maxSockets,
      ca: caPem,
      cert: pair.certificatePem,
      key: pair.keyPem,
    });
  }

  /**
   * One request. A body that is a string is sent as it is, anything else as JSON.
   *
   * @throws ApiFailure for an answer other than 2xx; network errors come as they are
   */
  async request<T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
    const { status, text } = await this.#send(method, path, body, contentType ?? defaultContentType(method));
    const answer = parsed(text);
    if (status < 200 || status > 299) throw new ApiFailure(method, path, status, answer);
    return answer;
  }

  /** Whether a GET of the path answers 200; false as well when nothing listens. */
  async answers(path: string): Promise<boolean> {
    return this.#send('GET', path, undefined, 'application/json').then(
      ({ status }) => status === 200,
      () => false,
    );
  }

  /**
   * Watches a collection, first as ADDED what is there already. A broken watch goes on where it was; when that place is
   * no longer known (410), all objects come as ADDED again, and what was deleted meanwhile stays untold.
   *
   * @param path of the collection, with selectors as query if wanted
   * @returns stops the watch
   */
  watch(path: string, onEvent: WatchListener): () => void {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#closing.signal]);
    void this.#watchOn(path, onEvent, signal);
    return () => stop.abort();
  }

  /** Ends all watches and connections. */
  close(): void {
    this.#closing.abort();
    this.#agent.destroy();
  }

  async #watchOn(path: string, onEvent: WatchListener, signal: AbortSignal): Promise<void> {
    let resourceVersion: string | undefined;
    while (!signal.aborted) {
      try {
        for await (const event of this.#watchOnce(path, resourceVersion, signal)) {
          if (event.type === 'ERROR') {
            resourceVersion = undefined;
            break;
          }
          resourceVersion = event.object.metadata.resourceVersion;
          if (event.type !== 'BOOKMARK') onEvent(event.type, event.object);
        }
      } catch (error) {
        if (error instanceof ApiFailure && error.status === 410) resourceVersion = undefined;
      }
      if (!signal.aborted) await delay(rewatchDelayMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async *#watchOnce(
    path: string,
    resourceVersion: string | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    const query = new URLSearchParams({ watch: '1', allowWatchBookmarks: 'true' });
    if (resourceVersion !== undefined) query.set('resourceVersion', resourceVersion);
    const fullPath = `${path}${path.includes('?') ? '&' : '?'}${query}`;
    const response = await this.#open('GET', fullPath, undefined, { signal });
    if (response.statusCode !== 200) {
      throw new ApiFailure('GET', fullPath, response.statusCode ?? 0, parsed(await textOf(response)));
    }
    let rest = '';
    for await (const chunk of response.setEncoding('utf8')) {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const event: WatchEvent = JSON.parse(line);
        yield event;
      }
    }
  }

  async #send(method: string, path: string, body: unknown, contentType: string) {
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const headers =
      text === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(text) };
    const response = await this.#open(method, path, text, { headers });
    return { status: response.statusCode ?? 0, text: await textOf(response) };
  }

  #open(
    method: string,
    path: string,
    body: string | undefined,
    extra: RequestOptions,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#server;
      const request = httpsRequest({ ...extra, method, path, hostname, port, agent: this.#agent }, resolve);
      request.on('error', reject);
      request.end(body);
    });
  }
}

function defaultContentType(method: string): string {
  return method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return text;
}

function parsed(text: string) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function messageOf(body: unknown): string {
  if (typeof body === 'object' && body !== null && 'message' in body) return String(body.message);
  return typeof body === 'string' ? body : JSON.stringify(body);
}
