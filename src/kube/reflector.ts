import type { Logger } from 'pino';
import { type ApiClient, errorFromStatus, type Query } from './api-client.ts';
import { ApiError, ApiGarbled, ApiUnreachable, failureKind } from './api-errors.ts';
import { type Backoff, jitteredBackoffMs } from './backoff.ts';
import { type Clock, sleep, systemClock } from './clock.ts';
import { readPagedList } from './paged-list.ts';
import { isRecord, resourceVersionOf } from './raw-object.ts';
import { type ReflectorSink, SinkMirror } from './sink-mirror.ts';

/** Why a list was made. */
export type ListCause = 'start' | 'expired' | 'requested' | 'absent' | 'stuck' | 'sink' | 'periodic';

export interface ReflectorOptions<T, Raw> {
  readonly client: ApiClient;
  /** `/api/v1/pods` */
  readonly path: string;
  /** Selectors; not `watch`, `limit` and the like. */
  readonly query?: Query | undefined;
  /** Name for logs, metrics and errors. */
  readonly resource: string;
  /**
   * Keeps what is needed of an object; undefined leaves the object out. Objects of lists have `apiVersion` and `kind`
   * here, as those of watches do. When it throws, the object is left out, counted and logged.
   */
  readonly decode: (raw: Raw, before?: T) => T | undefined;
  readonly sink: ReflectorSink<T>;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  /** Objects per page of a list. Default 100. */
  readonly pageSize?: number | undefined;
  /** Limit for one page. Default 60 s. */
  readonly listTimeoutMs?: number | undefined;
  /** Server side end of a watch, drawn from this range. Default 300 to 600 s. */
  readonly watchTimeoutSeconds?: { readonly min: number; readonly max: number } | undefined;
  /**
   * Silence after which a watch counts as half-open and is opened anew. Default 75 s: bookmarks come every minute,
   * except for a resource that does not change at all where etcd reports no progress (its default interval is
   * 10 min): there this makes the contact that bookmarks would make.
   */
  readonly inactivityTimeoutMs?: number | undefined;
  /** After failures; default 1 s to 30 s, of which up to half is taken off at random. */
  readonly backoff?: Backoff | undefined;
  /**
   * Wait before the list after a 410, at random up to this: the restart of an API server expires everybody's watches
   * at once. Default 1 s.
   */
  readonly expiredJitterMs?: number | undefined;
  /** How often to look for a resource that is not installed. Default 30 s. */
  readonly absentRetryMs?: number | undefined;
  /** A watch that closes sooner counts as failed, so that no loop runs hot. Default 1 s. */
  readonly shortWatchMs?: number | undefined;
  /** A list after so long, at the next end of a watch, bounds what a lost event can cost. Default 6 h. */
  readonly relistAfterMs?: number | undefined;
  readonly onList?: ((cause: ListCause) => void) | undefined;
  readonly onDecodeError?: (() => void) | undefined;
}

/** `relist` or `waitForSync` cannot be fulfilled: the reflector was stopped. */
export class ReflectorStopped extends Error {
  override readonly name = 'ReflectorStopped';
  readonly code = 'ReflectorStopped';
  readonly resource: string;

  constructor(resource: string) {
    super(`reflector of ${resource} was stopped`);
    this.resource = resource;
  }
}

interface WatchEvent<Raw> {
  readonly type?: string;
  readonly object?: Raw;
}

/** How a list or watch ended, and so what comes next. */
type Outcome =
  | { readonly kind: 'listed' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'closed' }
  | { readonly kind: 'expired' }
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'failed'; readonly error: unknown; readonly relist?: ListCause };

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** A page of pods this long is about 1 MB and dies young; longer ones made the heap of a large cluster's Berth grow. */
const defaultPageSize = 100;
/** So many refusals of one watch in a row, each an answer of the server, make its resourceVersion suspect. */
const stuckAfterRefusals = 3;
/** A 404 for a resource of which objects are known must be seen so often before they are given up. */
const absentAfterAnswers = 3;
/** A watch that was open for so long has worked. */
const stoodMs = 10_000;
const eventTypes: ReadonlySet<string | undefined> = new Set(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK']);
const longestRetryAfterMs = 60_000;

/**
 * Mirrors one resource of the API server into a sink: a paged list, then a watch from the list's resourceVersion, for
 * ever. It survives every error it can meet; only `start`'s signal ends it.
 *
 * No event older than what the sink holds can arrive: a watch starts at exactly the resourceVersion of the list given
 * to `replace` or of the last event given to the sink, events come in that order over one connection, and the old
 * connection is left before a list or the next watch begins. Nothing ever runs side by side.
 */
export class Reflector<T, Raw = unknown> {
  readonly resource: string;
  readonly #options: ReflectorOptions<T, Raw>;
  readonly #mirror: SinkMirror<T, Raw>;
  readonly #clock: Clock;
  readonly #path: string;
  readonly #random: () => number;
  readonly #backoff: Backoff;

  #resourceVersion = '';
  #listCause: ListCause | undefined = 'start';
  #listedAtMs = 0;
  #synced = false;
  #lastContactMs = Number.NEGATIVE_INFINITY;

  #failures = 0;
  #refusals = 0;
  #absentAnswers = 0;
  /** The watch has brought something since the last list. */
  #progressed = false;

  #stopped = false;
  #syncWaiters: Waiter[] = [];
  #relistWaiters: Waiter[] = [];
  #round = new AbortController();
  #listing = false;

  constructor(options: ReflectorOptions<T, Raw>) {
    this.resource = options.resource;
    this.#options = options;
    this.#path = options.path;
    this.#mirror = new SinkMirror({ ...options, onDecodeError: options.onDecodeError ?? (() => {}) });
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#backoff = options.backoff ?? { baseMs: 1000, maxMs: 30_000 };
  }

  /** True from the first complete list on, also while the API server is away: see `stalenessMs`. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Objects in the sink. */
  get size(): number {
    return this.#mirror.size;
  }

  /**
   * Monotonic time of the last event, bookmark or opening of a watch, or of the start of the last list; -Infinity
   * before the first.
   */
  get lastContactMs(): number {
    return this.#lastContactMs;
  }

  /** How old the sink's knowledge may be at monotonic time `nowMs`; Infinity before the first list. */
  stalenessMs(nowMs: number): number {
    return nowMs - this.#lastContactMs;
  }

  /** Runs until `signal` aborts; resolves then, and never rejects. To be called once. */
  async start(signal: AbortSignal): Promise<void> {
    const interrupt = () => this.#round.abort();
    signal.addEventListener('abort', interrupt);
    while (!signal.aborted) {
      this.#round = new AbortController();
      const outcome = await this.#runRound(this.#round.signal);
      if (signal.aborted) break;
      this.#round = new AbortController();
      await this.#pauseAfter(outcome, this.#round.signal);
    }
    signal.removeEventListener('abort', interrupt);
    this.#stopped = true;
    for (const waiter of [...this.#syncWaiters, ...this.#relistWaiters]) {
      waiter.reject(new ReflectorStopped(this.resource));
    }
    this.#syncWaiters = [];
    this.#relistWaiters = [];
  }

  /** Resolves at the first complete list. Rejects with the signal's reason, or ReflectorStopped. */
  waitForSync(signal?: AbortSignal): Promise<void> {
    if (this.#synced) return Promise.resolve();
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#stopped) return Promise.reject(new ReflectorStopped(this.resource));
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void) => {
        signal?.removeEventListener('abort', onAbort);
        this.#syncWaiters = this.#syncWaiters.filter(other => other !== waiter);
        finish();
      };
      const onAbort = () => settle(() => reject(signal?.reason));
      const waiter = {
        resolve: () => settle(resolve),
        reject: (error: unknown) => settle(() => reject(error)),
      };
      signal?.addEventListener('abort', onAbort);
      this.#syncWaiters.push(waiter);
    });
  }

  /**
   * Resolves once `replace` was called with a quorum list begun after this call: every write that was acknowledged
   * before the call is then in the sink. Keeps trying while the API server fails. Rejects with ReflectorStopped.
   */
  relist(): Promise<void> {
    if (this.#stopped) return Promise.reject(new ReflectorStopped(this.resource));
    return new Promise((resolve, reject) => {
      this.#relistWaiters.push({ resolve, reject });
      // A list under way may have read before this call: it is finished, and another one follows.
      if (!this.#listing) this.#round.abort();
    });
  }

  #runRound(signal: AbortSignal): Promise<Outcome> {
    if (this.#relistWaiters.length > 0) this.#listCause ??= 'requested';
    if (this.#listCause !== undefined) return this.#list(this.#listCause, signal);
    return this.#watch(signal);
  }

  async #list(cause: ListCause, signal: AbortSignal): Promise<Outcome> {
    const waiters = this.#relistWaiters;
    this.#relistWaiters = [];
    this.#listing = true;
    const startedMs = this.#clock.nowMs();
    let outcome: Outcome;
    try {
      outcome = await this.#readList(cause, startedMs, signal);
    } catch (error) {
      outcome = signal.aborted ? { kind: 'interrupted' } : this.#listFailure(error, startedMs);
    }
    this.#listing = false;
    const isDone = outcome.kind === 'listed' || outcome.kind === 'absent';
    if (!isDone) this.#relistWaiters.unshift(...waiters);
    else for (const waiter of waiters) waiter.resolve();
    return outcome;
  }

  async #readList(cause: ListCause, startedMs: number, signal: AbortSignal): Promise<Outcome> {
    const { client, query, pageSize = defaultPageSize, listTimeoutMs: timeoutMs = 60_000 } = this.#options;
    const list = this.#mirror.beginList();
    const page = { client, path: this.#path, query, pageSize, timeoutMs, signal };
    const resourceVersion = await readPagedList<Raw>({ ...page, onObject: raw => list.add(raw) });
    this.#options.onList?.(cause);
    this.#absentAnswers = 0;
    return this.#toSink(() => list.commit()) ?? this.#becomeListed(startedMs, resourceVersion);
  }

  #becomeListed(startedMs: number, resourceVersion: string): Outcome {
    // A list that mends a watch has mended it only when the watch then moves on; till then the waits keep growing.
    const mendsWatch =
      this.#listCause === 'expired' || this.#listCause === 'stuck' || this.#listCause === 'sink';
    if (!mendsWatch) this.#recovered();
    this.#progressed = false;
    this.#listCause = undefined;
    this.#resourceVersion = resourceVersion;
    this.#listedAtMs = startedMs;
    this.#lastContactMs = startedMs;
    if (!this.#synced) {
      this.#synced = true;
      this.#options.log.info({ resource: this.resource, objects: this.size }, 'synced');
      for (const waiter of this.#syncWaiters) waiter.resolve();
    }
    return { kind: 'listed' };
  }

  #listFailure(error: unknown, startedMs: number): Outcome {
    const kind = failureKind(error);
    // Only a continue token expires here: the list begins anew.
    if (kind === 'expired') return { kind: 'failed', error, relist: 'expired' };
    if (kind === 'gone' && this.#path.startsWith('/apis/')) return this.#resourceMissing(error, startedMs);
    return { kind: 'failed', error };
  }

  /**
   * A resource that nobody installed answers 404. What had objects a moment ago is not given up on one such answer:
   * it may come from something between us and the API server. (The core group is always there, hence `/apis/` above.)
   */
  #resourceMissing(error: unknown, startedMs: number): Outcome {
    this.#absentAnswers += 1;
    if (this.size > 0 && this.#absentAnswers < absentAfterAnswers) return { kind: 'failed', error };
    if (!this.#synced || this.size > 0) {
      this.#options.log.info({ resource: this.resource, path: this.#path }, 'resource is not installed');
      const failure = this.#toSink(() => this.#mirror.beginList().commit());
      if (failure) return failure;
    }
    this.#becomeListed(startedMs, '');
    this.#listCause = 'absent';
    return { kind: 'absent' };
  }

  async #watch(signal: AbortSignal): Promise<Outcome> {
    const startedMs = this.#clock.nowMs();
    let openedMs = Number.POSITIVE_INFINITY;
    const { min, max } = this.#options.watchTimeoutSeconds ?? { min: 300, max: 600 };
    try {
      const events = this.#options.client.stream<WatchEvent<Raw>>({
        path: this.#path,
        query: {
          ...this.#options.query,
          watch: true,
          allowWatchBookmarks: true,
          resourceVersion: this.#resourceVersion,
          timeoutSeconds: Math.round(min + this.#random() * (max - min)),
        },
        inactivityTimeoutMs: this.#options.inactivityTimeoutMs ?? 75_000,
        // Accepted: the server has our version and sends at once what came after it.
        onOpen: () => {
          openedMs = this.#clock.nowMs();
          this.#contact();
        },
        signal,
      });
      for await (const event of events) {
        const end = this.#apply(event);
        if (end) return end;
      }
    } catch (error) {
      if (signal.aborted) return { kind: 'interrupted' };
      // What is cut after it has stood for long is no failure in a row, though nothing happened meanwhile.
      if (this.#clock.nowMs() - openedMs >= stoodMs) this.#recovered();
      return this.#watchFailure(error);
    }
    if (this.#clock.nowMs() - startedMs < (this.#options.shortWatchMs ?? 1000)) {
      return { kind: 'failed', error: new Error('the watch was closed at once') };
    }
    this.#progress();
    return { kind: 'closed' };
  }

  /** Brings one event into the sink; an outcome ends the watch. */
  #apply({ type, object }: WatchEvent<Raw>): Outcome | undefined {
    if (type === 'ERROR') return this.#errorEvent(errorOfEvent(object));
    const resourceVersion = resourceVersionOf(object);
    if (object === undefined || resourceVersion === undefined || !eventTypes.has(type)) {
      return this.#refused(new ApiGarbled(`watch event ${type} without object or resourceVersion`));
    }
    const failure = this.#toSink(() => {
      if (type === 'DELETED') this.#mirror.remove(object);
      else if (type !== 'BOOKMARK') this.#mirror.upsert(object);
    });
    if (failure) return failure;
    this.#resourceVersion = resourceVersion;
    this.#contact();
    this.#progress();
    return undefined;
  }

  /** When the sink throws, nobody knows what it holds: only a list helps. */
  #toSink(write: () => void): Outcome | undefined {
    try {
      write();
      return undefined;
    } catch (error) {
      return { kind: 'failed', error, relist: 'sink' };
    }
  }

  /** The watch could not be opened, was cut, or fell silent. */
  #watchFailure(error: unknown): Outcome {
    // Nothing says yet that something is wrong: a new watch finds out.
    if (error instanceof ApiUnreachable && error.detail === 'silence') return { kind: 'closed' };
    switch (failureKind(error)) {
      case 'expired':
        return this.#expired(error);
      case 'gone':
        return { kind: 'failed', error, relist: 'absent' };
      case 'invalid':
      case 'conflict':
      case 'changed':
        return this.#refused(error);
      default:
        return error instanceof ApiGarbled ? this.#refused(error) : { kind: 'failed', error };
    }
  }

  #errorEvent(error: ApiError): Outcome {
    const kind = failureKind(error);
    if (kind === 'expired') return this.#expired(error);
    return kind === 'throttled' ? { kind: 'failed', error } : this.#refused(error);
  }

  /** Our resourceVersion is too old. Right after a list, that would loop from list to list: it counts as a failure. */
  #expired(error: unknown): Outcome {
    if (!this.#progressed) return { kind: 'failed', error, relist: 'expired' };
    this.#listCause = 'expired';
    return { kind: 'expired' };
  }

  /**
   * The server answers, but refuses to watch from our resourceVersion, or sends an event that cannot be read: after
   * an etcd restore, a storage migration, a broken conversion webhook. Asking the same for ever would not help.
   */
  #refused(error: unknown): Outcome {
    this.#refusals += 1;
    if (this.#refusals < stuckAfterRefusals) return { kind: 'failed', error };
    this.#refusals = 0;
    return { kind: 'failed', error, relist: 'stuck' };
  }

  #contact(): void {
    this.#lastContactMs = this.#clock.nowMs();
  }

  #progress(): void {
    this.#progressed = true;
    this.#recovered();
  }

  #recovered(): void {
    if (this.#failures > 0) {
      this.#options.log.info({ resource: this.resource, failures: this.#failures }, 'recovered');
    }
    this.#failures = 0;
    this.#refusals = 0;
  }

  async #pauseAfter(outcome: Outcome, signal: AbortSignal): Promise<void> {
    switch (outcome.kind) {
      case 'listed':
      case 'interrupted':
        return;
      case 'closed':
        if (this.#clock.nowMs() - this.#listedAtMs > (this.#options.relistAfterMs ?? 21_600_000)) {
          this.#listCause = 'periodic';
        }
        return;
      case 'expired':
        return sleep(this.#clock, this.#random() * (this.#options.expiredJitterMs ?? 1000), signal);
      case 'absent':
        return this.#pauseWhileAbsent(signal);
      case 'failed':
        return this.#pauseAfterFailure(outcome, signal);
    }
  }

  async #pauseWhileAbsent(signal: AbortSignal): Promise<void> {
    if (this.#relistWaiters.length > 0) return;
    await sleep(this.#clock, this.#options.absentRetryMs ?? 30_000, signal);
  }

  async #pauseAfterFailure(
    { error, relist }: { readonly error: unknown; readonly relist?: ListCause },
    signal: AbortSignal,
  ): Promise<void> {
    if (relist !== undefined) this.#listCause = relist;
    this.#failures += 1;
    const askedMs = error instanceof ApiError ? Math.min(error.retryAfterMs ?? 0, longestRetryAfterMs) : 0;
    const waitMs = Math.max(askedMs, jitteredBackoffMs(this.#backoff, this.#failures, this.#random));
    this.#options.log.warn(
      {
        resource: this.resource,
        doing: this.#listCause === undefined ? 'watch' : 'list',
        failures: this.#failures,
        waitMs: Math.round(waitMs),
        err: error,
      },
      'reflector failed, trying again',
    );
    await sleep(this.#clock, waitMs, signal);
  }
}

function errorOfEvent(object: unknown): ApiError {
  const status = isRecord(object) ? object : {};
  const code = typeof status['code'] === 'number' ? status['code'] : 500;
  return errorFromStatus(code, status);
}
