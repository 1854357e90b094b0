import type http from 'node:http';
import type { Logger } from 'pino';
import { type Access, ApiAccess } from './api-access.ts';
import { ApiError, ApiGarbled, ApiUnreachable, type StatusCause } from './api-errors.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Answer, sendExchange, unreachable } from './http-exchange.ts';
import { JsonLines } from './json-lines.ts';
import type { ApiConnection } from './kube-config.ts';

export type HttpMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface ApiRequest {
  readonly method: HttpMethod;
  /** From the root of the API server, without query: `/api/v1/pods`. */
  readonly path: string;
  readonly query?: Query | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default `application/json`; patches need their own. */
  readonly contentType?: string | undefined;
  /** Limit for the whole exchange, waiting for a free connection included. Default 10 s. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface StreamRequest {
  readonly path: string;
  readonly query?: Query | undefined;
  /** Limit until the headers are there. Default 30 s: the API server may queue a watch for some 15 s. */
  readonly timeoutMs?: number | undefined;
  /** The stream fails, with detail `silence`, when no byte comes for so long. */
  readonly inactivityTimeoutMs: number;
  /** Called when the server has accepted, before the first value. */
  readonly onOpen?: (() => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Talks to one API server in raw JSON: what the server sends is what the caller gets, unknown fields included. */
export interface ApiClient {
  /**
   * One request and its parsed answer; T is the caller's word for it and is not checked.
   * Throws ApiError (the server refused), ApiUnreachable, ApiGarbled (not JSON) or the signal's reason.
   */
  request<T>(request: ApiRequest): Promise<T>;
  /**
   * GET whose answer is one JSON value per line, as watches send. Ends when the server ends it between two lines;
   * throws as `request` does, also when the stream is cut or falls silent. Leaving the loop closes the connection.
   */
  stream<T>(request: StreamRequest): AsyncIterable<T>;
}

export interface ApiResponseInfo {
  /** HTTP method, or WATCH. */
  readonly method: HttpMethod | 'WATCH';
  /** Plural resource with subresource (`pods/status`): no names, so safe as a metric label. */
  readonly resource: string;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** Until the answer was complete; for WATCH until its headers. */
  readonly durationMs: number;
}

export interface HttpApiClientOptions {
  readonly connection: ApiConnection;
  readonly log: Logger;
  readonly userAgent?: string;
  /** Connections for ordinary requests; watches have their own. Default 64. */
  readonly maxSockets?: number;
  readonly onResponse?: (info: ApiResponseInfo) => void;
  readonly clock?: Clock;
}

const defaultTimeoutMs = 10_000;
const defaultStreamTimeoutMs = 30_000;

export class HttpApiClient implements ApiClient {
  readonly #access: ApiAccess;
  readonly #base: URL;
  readonly #userAgent: string;
  readonly #onResponse: (info: ApiResponseInfo) => void;
  readonly #clock: Clock;

  constructor({ connection, log, ...options }: HttpApiClientOptions) {
    this.#base = new URL(connection.server);
    refusePlainHttp(this.#base);
    this.#clock = options.clock ?? systemClock;
    this.#access = new ApiAccess({
      connection,
      log,
      clock: this.#clock,
      maxSockets: options.maxSockets ?? 64,
    });
    this.#userAgent = options.userAgent ?? 'berth';
    this.#onResponse = options.onResponse ?? (() => {});
  }

  async request<T>(request: ApiRequest): Promise<T> {
    const { method, path, signal } = request;
    const startedMs = this.#clock.nowMs();
    const deadlineMs = startedMs + (request.timeoutMs ?? defaultTimeoutMs);
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const contentType = request.contentType ?? 'application/json';
    let answer: Answer | undefined;
    try {
      answer = await this.#authorized(access =>
        sendExchange({
          url: this.#url(path, request.query),
          method,
          agent: access.agents.requests,
          headers: {
            ...this.#headers(access),
            ...(body && { 'Content-Type': contentType, 'Content-Length': String(body.length) }),
          },
          body,
          timeoutMs: Math.max(1, deadlineMs - this.#clock.nowMs()),
          signal,
          readsBody: () => true,
          clock: this.#clock,
        }),
      );
    } finally {
      this.#report({ method, path, answer, startedMs });
    }
    if (isFailure(answer.status)) throw errorFromAnswer(answer);
    return parseBody(answer.body);
  }

  async *stream<T>(request: StreamRequest): AsyncGenerator<T, void, undefined> {
    const { path, signal } = request;
    const startedMs = this.#clock.nowMs();
    let answer: Answer | undefined;
    try {
      answer = await this.#authorized(access =>
        sendExchange({
          url: this.#url(path, request.query),
          method: 'GET',
          agent: access.agents.watches,
          headers: this.#headers(access),
          timeoutMs: request.timeoutMs ?? defaultStreamTimeoutMs,
          signal,
          readsBody: isFailure,
          clock: this.#clock,
        }),
      );
    } finally {
      this.#report({ method: 'WATCH', path, answer, startedMs });
    }
    if (isFailure(answer.status)) throw errorFromAnswer(answer);
    request.onOpen?.();
    yield* readLines<T>(answer.response, request, this.#clock);
  }

  /** Closes every connection, those in use included. The client is not used afterwards. */
  close(): void {
    this.#access.close();
  }

  /** Runs an exchange with credentials. A 401 did nothing: it is tried once more with credentials from scratch. */
  async #authorized(exchange: (access: Access) => Promise<Answer>): Promise<Answer> {
    const access = await this.#access.current();
    const answer = await exchange(access);
    if (answer.status !== 401) return answer;
    const reloaded = await this.#access.reload(access);
    return reloaded ? exchange(reloaded) : answer;
  }

  #headers({ credentials }: Access): Record<string, string> {
    return { Accept: 'application/json', 'User-Agent': this.#userAgent, ...credentials.headers };
  }

  #url(path: string, query: Query | undefined): URL {
    const url = new URL(this.#base);
    url.pathname = `${this.#base.pathname.replace(/\/$/, '')}${path}`;
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    return url;
  }

  #report(exchange: {
    readonly method: ApiResponseInfo['method'];
    readonly path: string;
    readonly answer: Answer | undefined;
    readonly startedMs: number;
  }): void {
    this.#onResponse({
      method: exchange.method,
      resource: resourceOfPath(exchange.path),
      status: exchange.answer?.status ?? 0,
      durationMs: this.#clock.nowMs() - exchange.startedMs,
    });
  }
}

/**
 * `/apis/apps/v1/namespaces/ns/statefulsets/s/status` -> `statefulsets/status`; names and namespaces are left out.
 * Paths that name no resource give their first segment (`version`, `readyz`).
 */
export function resourceOfPath(path: string): string {
  const [root, ...segments] = path.split('/').filter(segment => segment !== '');
  const rest = root === 'api' ? segments.slice(1) : root === 'apis' ? segments.slice(2) : undefined;
  if (!rest || rest.length === 0) return root ?? '';
  const scoped = rest[0] === 'namespaces' && rest.length > 2 ? rest.slice(2) : rest;
  const [resource = '', , subresource] = scoped;
  return subresource === undefined ? resource : `${resource}/${subresource}`;
}

/** A bearer token must not travel in the clear; a server on this machine (tests, kubectl proxy) is no network. */
function refusePlainHttp(server: URL): void {
  if (server.protocol === 'https:') return;
  const loopback =
    server.hostname === 'localhost' || server.hostname === '[::1]' || /^127\./.test(server.hostname);
  if (server.protocol !== 'http:' || !loopback) {
    throw new TypeError(`API server ${server.origin}: only https, or http on a loopback address`);
  }
}

function isFailure(status: number): boolean {
  return status < 200 || status >= 300;
}

function parseBody<T>(body: Buffer): T {
  try {
    const value: T = JSON.parse(body.length === 0 ? 'null' : body.toString('utf8'));
    return value;
  } catch (error) {
    throw new ApiGarbled('the body is not JSON', { cause: error });
  }
}

interface StatusBody {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: readonly StatusCause[]; readonly retryAfterSeconds?: number };
}

/** ApiError from a Status object, which failed requests and ERROR events of a watch carry alike. */
export function errorFromStatus(
  httpStatus: number,
  status: StatusBody | null,
  retryAfter?: string,
): ApiError {
  const seconds = Number(retryAfter ?? status?.details?.retryAfterSeconds ?? Number.NaN);
  return new ApiError({
    status: httpStatus,
    reason: status?.reason,
    message: status?.message ?? `HTTP status ${httpStatus}`,
    causes: status?.details?.causes,
    retryAfterMs: seconds > 0 ? seconds * 1000 : undefined,
  });
}

function errorFromAnswer({ status, response, body }: Answer): ApiError {
  return errorFromStatus(status, statusObject(body), response.headers['retry-after']);
}

/** Proxies, and the API server for a path it does not know, answer in plain text or HTML. */
function statusObject(body: Buffer): StatusBody | null {
  try {
    const value: StatusBody | null = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' ? value : null;
  } catch {
    const text = body.toString('utf8').trim().slice(0, 200);
    return text === '' ? null : { message: text };
  }
}

async function* readLines<T>(
  response: http.IncomingMessage,
  { signal, inactivityTimeoutMs }: StreamRequest,
  clock: Clock,
): AsyncGenerator<T, void, undefined> {
  const lines = new JsonLines<T>();
  const onSilence = () =>
    response.destroy(new ApiUnreachable(`silent for ${inactivityTimeoutMs} ms`, { detail: 'silence' }));
  const watchdog = startWatchdog(clock, inactivityTimeoutMs, onSilence);
  const onAbort = () => response.destroy();
  signal?.addEventListener('abort', onAbort);
  try {
    signal?.throwIfAborted();
    for await (const chunk of response) {
      watchdog.touch();
      // Not `yield*`: delegating to a synchronous generator costs two more promises per event.
      for (const value of lines.push(chunk)) yield value;
    }
    if (lines.unfinished) throw new ApiUnreachable('the stream ended in the middle of a line');
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof SyntaxError
      ? new ApiGarbled('a line is not JSON', { cause: error })
      : unreachable(error);
  } finally {
    watchdog.stop();
    signal?.removeEventListener('abort', onAbort);
    response.destroy();
  }
}

interface Watchdog {
  touch(): void;
  stop(): void;
}

/** Fires after `limitMs` without a touch. A touch costs one clock reading: a busy watch has thousands per second. */
function startWatchdog(clock: Clock, limitMs: number, fire: () => void): Watchdog {
  let touchedMs = clock.nowMs();
  let timer = clock.setTimer(limitMs, check);
  function check(): void {
    const leftMs = touchedMs + limitMs - clock.nowMs();
    if (leftMs <= 0) fire();
    else timer = clock.setTimer(leftMs, check);
  }
  return {
    touch() {
      touchedMs = clock.nowMs();
    },
    stop: () => timer.cancel(),
  };
}
