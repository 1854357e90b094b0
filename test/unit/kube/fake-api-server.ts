import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { HttpApiClient, type HttpApiClientOptions } from '../../../src/kube/api-client.ts';
import type { ApiConnection } from '../../../src/kube/kube-config.ts';

export const silentLog = pino({ level: 'silent' });

export interface FakeObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace: string; uid: string; resourceVersion: string };
  spec: { text: string };
}

type Handler = (request: http.IncomingMessage, response: http.ServerResponse, url: URL) => void;

interface LoggedEvent {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: FakeObject;
}

/**
 * A small API server for one collection over real HTTP: paged lists that are consistent over their pages, watches
 * from a resourceVersion, compaction. Faults are queued and answer one list or watch each, instead of it.
 */
export class FakeApiServer {
  readonly path: string;
  readonly listFaults: Handler[] = [];
  readonly watchFaults: Handler[] = [];
  /** Query of every list and watch, in order. */
  readonly seen: { readonly verb: 'list' | 'watch'; readonly query: URLSearchParams }[] = [];
  readonly #server: http.Server;
  readonly #objects = new Map<string, FakeObject>();
  readonly #snapshots = new Map<string, FakeObject[]>();
  readonly #watches = new Set<http.ServerResponse>();
  #log: LoggedEvent[] = [];
  #version = 100;
  #compactedVersion = 0;

  constructor(path = '/api/v1/pods') {
    this.path = path;
    this.#server = http.createServer((request, response) => this.#answer(request, response));
  }

  async start(): Promise<string> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve));
    return this.url;
  }

  get url(): string {
    return urlOf(this.#server);
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  /** Names and texts of everything that exists. */
  get truth(): Record<string, string> {
    return Object.fromEntries([...this.#objects.values()].map(o => [o.metadata.name, o.spec.text]).sort());
  }

  put(name: string, text = ''): void {
    const type = this.#objects.has(name) ? 'MODIFIED' : 'ADDED';
    const object = this.#stamp(name, text);
    this.#objects.set(name, object);
    this.#publish({ version: this.#version, type, object });
  }

  delete(name: string): void {
    const before = this.#objects.get(name);
    this.#objects.delete(name);
    const object = this.#stamp(name, before?.spec.text ?? '');
    this.#publish({ version: this.#version, type: 'DELETED', object });
  }

  /** Tells every watch the current version. */
  bookmark(): void {
    this.#version += 1;
    const metadata = { resourceVersion: String(this.#version) };
    this.writeToWatches(line({ type: 'BOOKMARK', object: { kind: 'Pod', apiVersion: 'v1', metadata } }));
  }

  /** Forgets the events so far: older watches are 410 from now on. */
  compact(): void {
    this.#compactedVersion = this.#version;
    this.#log = [];
  }

  /** Raw bytes into every watch. */
  writeToWatches(bytes: string | Uint8Array): void {
    for (const watch of this.#watches) watch.write(bytes);
  }

  endWatches(): void {
    for (const watch of this.#watches) watch.end();
    this.#watches.clear();
  }

  resetWatches(): void {
    for (const watch of this.#watches) watch.destroy();
    this.#watches.clear();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }

  #answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    const url = new URL(request.url ?? '', 'http://localhost');
    if (url.pathname !== this.path) {
      respond(response, 404, '404 page not found');
      return;
    }
    const isWatch = url.searchParams.get('watch') === 'true';
    this.seen.push({ verb: isWatch ? 'watch' : 'list', query: url.searchParams });
    const fault = isWatch ? this.watchFaults.shift() : this.listFaults.shift();
    const handler = fault ?? ((_, res, u) => (isWatch ? this.serveWatch(res, u) : this.serveList(res, u)));
    handler(request, response, url);
  }

  serveList(response: http.ServerResponse, url: URL): void {
    const limit = Number(url.searchParams.get('limit') ?? Number.MAX_SAFE_INTEGER);
    const token = url.searchParams.get('continue');
    const [version = String(this.#version), start = '0'] = token?.split(':') ?? [];
    const all = token ? this.#snapshots.get(version) : [...this.#objects.values()];
    if (!all) {
      respond(response, 410, status(410, 'Expired'));
      return;
    }
    this.#snapshots.set(version, all);
    const end = Number(start) + limit;
    // As the API server does, items carry neither apiVersion nor kind.
    const items = all.slice(Number(start), end).map(({ metadata, spec }) => ({ metadata, spec }));
    const metadata = {
      resourceVersion: version,
      ...(end < all.length && { continue: `${version}:${end}` }),
    };
    respond(response, 200, { kind: 'PodList', apiVersion: 'v1', metadata, items });
  }

  /** Makes every continue token given out so far invalid. */
  expireContinueTokens(): void {
    this.#snapshots.clear();
  }

  serveWatch(response: http.ServerResponse, url: URL): void {
    const from = Number(url.searchParams.get('resourceVersion'));
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.flushHeaders();
    if (from < this.#compactedVersion) {
      response.end(line({ type: 'ERROR', object: status(410, 'Expired') }));
      return;
    }
    for (const event of this.#log) if (event.version > from) response.write(line(event));
    this.#watches.add(response);
    response.on('close', () => this.#watches.delete(response));
  }

  #stamp(name: string, text: string): FakeObject {
    this.#version += 1;
    const metadata = { name, namespace: 'ns', uid: `uid-${name}`, resourceVersion: String(this.#version) };
    return { apiVersion: 'v1', kind: 'Pod', metadata, spec: { text } };
  }

  #publish(event: LoggedEvent): void {
    this.#log.push(event);
    this.writeToWatches(line(event));
  }
}

export function line(event: { readonly type: string; readonly object: unknown }): string {
  return `${JSON.stringify({ type: event.type, object: event.object })}\n`;
}

export function status(code: number, reason: string, details?: unknown): Record<string, unknown> {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    code,
    reason,
    message: `it is ${reason}`,
    details,
  };
}

export function respond(response: http.ServerResponse, code: number, body: unknown, headers = {}): void {
  response.writeHead(code, headers);
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

export function urlOf(server: http.Server): string {
  const address = server.address();
  const isInfo = (value: unknown): value is AddressInfo => typeof value === 'object' && value !== null;
  if (!isInfo(address)) throw new Error('the server does not listen');
  return `http://127.0.0.1:${address.port}`;
}

export function connectionTo(server: string, headers: Record<string, string> = {}): ApiConnection {
  return { server, credentials: async () => ({ headers, tls: {} }) };
}

export function clientOf(server: string, options: Partial<HttpApiClientOptions> = {}): HttpApiClient {
  return new HttpApiClient({ connection: connectionTo(server), log: silentLog, ...options });
}

/** Waits for something that real sockets bring about. */
export async function until(holds: () => boolean, what = 'condition', limitMs = 5000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 2));
  }
}
