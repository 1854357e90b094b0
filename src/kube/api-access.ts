import http from 'node:http';
import https from 'node:https';
import type { Logger } from 'pino';
import { ApiUnreachable } from './api-errors.ts';
import type { Clock } from './clock.ts';
import type { ApiConnection, ApiCredentials, TlsMaterial } from './kube-config.ts';

/** Headers that authenticate, and agents whose connections do. */
export interface Access {
  readonly credentials: ApiCredentials;
  readonly agents: Agents;
  readonly readAtMs: number;
}

interface Agents {
  readonly requests: http.Agent;
  readonly watches: http.Agent;
}

export interface ApiAccessOptions {
  readonly connection: ApiConnection;
  readonly maxSockets: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Service account tokens are replaced after 80 % of their hour and stay valid for the rest: 30 s are soon enough. */
const maxAgeMs = 30_000;
/** After a reading that failed: an exec plugin in trouble is not run for every request. */
const retryAfterMs = 5_000;
/** A server that answers 401 whatever we do must not make us run an exec plugin at every request. */
const reloadAtMostEveryMs = 10_000;
/** The API server closes idle connections after 90 s (k8s.io/apiserver secure_serving.go); ours go first. */
const idleSocketMs = 60_000;
const tcpKeepAliveMs = 30_000;

/** Keeps credentials fresh at the price of one file read per half minute, and connections as long as they allow. */
export class ApiAccess {
  readonly #options: ApiAccessOptions;
  #access: Access | undefined;
  #reading: Promise<Access> | undefined;
  #reloading: Promise<Access> | undefined;
  #lastReloadMs = Number.NEGATIVE_INFINITY;

  constructor(options: ApiAccessOptions) {
    this.#options = options;
  }

  /** Throws ApiUnreachable when there are no credentials at all. */
  async current(): Promise<Access> {
    const access = this.#access;
    if (access && this.#options.clock.nowMs() - access.readAtMs < maxAgeMs) return access;
    try {
      // All callers of one moment share one read.
      this.#reading ??= this.#readOnce(false).finally(() => {
        this.#reading = undefined;
      });
      return await this.#reading;
    } catch (error) {
      // An exec plugin or a half-written token file may fail while the credentials at hand are still good.
      if (!access) throw error;
      this.#access = { ...access, readAtMs: this.#options.clock.nowMs() - maxAgeMs + retryAfterMs };
      this.#options.log.warn({ err: error }, 'credentials could not be read anew, the old ones stay in use');
      return this.#access;
    }
  }

  /**
   * What to try after the server refused `refused` with 401: credentials that somebody has read meanwhile, or from
   * scratch; undefined when that was done moments ago.
   */
  async reload(refused: Access): Promise<Access | undefined> {
    if (this.#reloading) return this.#reloading;
    if (this.#access && this.#access !== refused) return this.#access;
    const nowMs = this.#options.clock.nowMs();
    if (nowMs - this.#lastReloadMs < reloadAtMostEveryMs) return undefined;
    this.#lastReloadMs = nowMs;
    this.#reloading = this.#readOnce(true).finally(() => {
      this.#reloading = undefined;
    });
    return this.#reloading;
  }

  /** Destroys every connection, those in use included. */
  close(): void {
    this.#access?.agents.requests.destroy();
    this.#access?.agents.watches.destroy();
    this.#access = undefined;
  }

  async #readOnce(reload: boolean): Promise<Access> {
    const { connection, clock } = this.#options;
    const credentials = await connection.credentials({ reload }).catch(error => {
      throw new ApiUnreachable('no credentials for the API server', { cause: error });
    });
    const before = this.#access;
    // Agents of old certificates are left alone: exchanges under way finish, idle sockets time out by themselves.
    const agents =
      before && usesSameSockets(before.credentials, credentials) ? before.agents : this.#agents(credentials);
    this.#access = { credentials, agents, readAtMs: clock.nowMs() };
    return this.#access;
  }

  #agents({ tls, proxyAgent }: ApiCredentials): Agents {
    if (proxyAgent) return { requests: proxyAgent, watches: proxyAgent };
    const { connection, maxSockets } = this.#options;
    const pool = { keepAlive: true, keepAliveMsecs: tcpKeepAliveMs, timeout: idleSocketMs, maxSockets };
    // A watch holds its connection for minutes: in the pool of the requests, a few dozen of them would starve those.
    return connection.server.startsWith('https:')
      ? { requests: new https.Agent({ ...tls, ...pool }), watches: new https.Agent({ ...tls }) }
      : { requests: new http.Agent(pool), watches: new http.Agent() };
  }
}

function usesSameSockets(a: ApiCredentials, b: ApiCredentials): boolean {
  return a.proxyAgent === b.proxyAgent && tlsText(a.tls) === tlsText(b.tls);
}

function tlsText(tls: TlsMaterial): string {
  return JSON.stringify(tls);
}
