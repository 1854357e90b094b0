import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import type { ApiClient } from './api-client.ts';
import { failureKind } from './api-errors.ts';
import { type Clock, sleep, systemClock } from './clock.ts';
import { RecentMap } from './recent-map.ts';

export interface InvolvedObject {
  readonly apiVersion: string;
  readonly kind: string;
  /** Absent for cluster-scoped objects. */
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion?: string | undefined;
}

export interface EventEntry {
  readonly involved: InvolvedObject;
  readonly type: 'Normal' | 'Warning';
  /** PascalCase, for machines. */
  readonly reason: string;
  /** A sentence, for people; cut at 1024 bytes. */
  readonly message: string;
}

/** Why an event was not written. */
export type DropReason = 'queue-full' | 'rate-limited' | 'failed';

export interface EventRecorderOptions {
  readonly client: ApiClient;
  /** `berth` */
  readonly component: string;
  /** Name of this process among its replicas. */
  readonly instance: string;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
  /** Events waiting to be written; the oldest gives way. Default 1000, as client-go. */
  readonly queueLimit?: number | undefined;
  /** Events about one object at once, and how often one more. Default 25 and 60 s. */
  readonly rateLimit?: { readonly burst: number; readonly refillMs: number } | undefined;
  readonly onDrop?: ((reason: DropReason) => void) | undefined;
}

interface Pending {
  readonly entry: EventEntry;
  readonly name: string;
  readonly firstMs: number;
  lastMs: number;
  /** Times it happened since it was last written. */
  times: number;
}

interface Written {
  readonly count: number;
}

interface EventCount {
  readonly count?: number;
}

interface Tokens {
  readonly left: number;
  readonly atMs: number;
}

const messageLimitBytes = 1024;
/** client-go maxLruCacheEntries */
const rememberedObjects = 4096;
const attempts = 3;
const retryMs = 1000;
const requestTimeoutMs = 5000;
const nameLimit = 253;

/**
 * Writes core/v1 Events and never makes its caller wait or fail. The same thing about the same object is one Event
 * with a count: its name is made from its content, so a restarted process and another replica count on.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** By event name, oldest first. */
  readonly #queue = new Map<string, Pending>();
  readonly #written = new RecentMap<string, Written>(rememberedObjects);
  readonly #tokens = new RecentMap<string, Tokens>(rememberedObjects);
  #writing: Promise<void> | undefined;
  #giveUp = new AbortController();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log;
  }

  record(entry: EventEntry): void {
    const cut = { ...entry, message: cutToBytes(entry.message, messageLimitBytes) };
    const name = eventName(cut);
    const nowMs = this.#clock.wallMs();
    if (!this.#takeToken(cut.involved)) {
      this.#drop('rate-limited', cut);
      return;
    }
    const waiting = this.#queue.get(name);
    if (waiting) {
      waiting.times += 1;
      waiting.lastMs = nowMs;
      return;
    }
    this.#makeRoom();
    this.#queue.set(name, { entry: cut, name, firstMs: nowMs, lastMs: nowMs, times: 1 });
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when everything recorded so far is written or dropped, at the latest after `limitMs`. */
  async flush(limitMs: number): Promise<void> {
    const writing = this.#writing;
    if (!writing) return;
    const done = new AbortController();
    const limit = sleep(this.#clock, limitMs, done.signal);
    await Promise.race([writing, limit]);
    done.abort();
  }

  /** Drops what is waiting, ends requests under way, and resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#queue.clear();
    this.#giveUp.abort();
    await this.#writing;
    this.#giveUp = new AbortController();
  }

  #makeRoom(): void {
    if (this.#queue.size < (this.#options.queueLimit ?? 1000)) return;
    for (const [name, { entry }] of this.#queue) {
      this.#queue.delete(name);
      this.#drop('queue-full', entry);
      return;
    }
  }

  async #writeAll(): Promise<void> {
    // Not in the stack of whoever records.
    await Promise.resolve();
    for (let pending = first(this.#queue); pending; pending = first(this.#queue)) {
      this.#queue.delete(pending.name);
      await this.#writePatiently(pending);
    }
    this.#writing = undefined;
  }

  async #writePatiently(pending: Pending): Promise<void> {
    const signal = this.#giveUp.signal;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      try {
        await this.#write(pending);
        return;
      } catch (error) {
        const kind = failureKind(error);
        const mayPass = kind === 'unavailable' || kind === 'throttled';
        if (!mayPass || attempt === attempts) {
          this.#drop('failed', pending.entry, error);
          return;
        }
        await sleep(this.#clock, retryMs * attempt, signal);
      }
    }
  }

  async #write(pending: Pending): Promise<void> {
    const known = this.#written.get(pending.name);
    if (known && (await this.#countUp(pending, known.count))) return;
    try {
      await this.#request('POST', collectionPath(pending), this.#event(pending));
      this.#written.set(pending.name, { count: pending.times });
    } catch (error) {
      if (failureKind(error) !== 'exists') throw error;
      // The answer to a patch tells the count, so that no right to read events is needed.
      const lastTimestamp = seconds(pending.lastMs);
      const existing = await this.#request<EventCount>('PATCH', eventPath(pending), { lastTimestamp });
      await this.#countUp(pending, existing.count ?? 1);
    }
  }

  /** False when the Event is gone: the API server forgets Events after an hour. */
  async #countUp(pending: Pending, before: number): Promise<boolean> {
    const count = before + pending.times;
    try {
      await this.#request('PATCH', eventPath(pending), { count, lastTimestamp: seconds(pending.lastMs) });
      this.#written.set(pending.name, { count });
      return true;
    } catch (error) {
      if (failureKind(error) !== 'gone') throw error;
      return false;
    }
  }

  #request<T>(method: 'POST' | 'PATCH', path: string, body?: unknown): Promise<T> {
    return this.#options.client.request<T>({
      method,
      path,
      body,
      contentType: method === 'PATCH' ? 'application/merge-patch+json' : undefined,
      timeoutMs: requestTimeoutMs,
      signal: this.#giveUp.signal,
    });
  }

  #event({ entry, name, firstMs, lastMs, times }: Pending): Record<string, unknown> {
    const { component, instance } = this.#options;
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { namespace: namespaceOf(entry), name },
      involvedObject: entry.involved,
      type: entry.type,
      reason: entry.reason,
      message: entry.message,
      source: { component },
      reportingComponent: component,
      reportingInstance: instance,
      firstTimestamp: seconds(firstMs),
      lastTimestamp: seconds(lastMs),
      count: times,
    };
  }

  /** Token bucket per object, as client-go's spam filter: what goes on for ever must not fill etcd. */
  #takeToken({ kind, namespace, name, uid }: InvolvedObject): boolean {
    const { burst, refillMs } = this.#options.rateLimit ?? { burst: 25, refillMs: 60_000 };
    const key = `${kind}/${namespace ?? ''}/${name}/${uid}`;
    const nowMs = this.#clock.nowMs();
    const before = this.#tokens.get(key) ?? { left: burst, atMs: nowMs };
    const left = Math.min(burst, before.left + (nowMs - before.atMs) / refillMs);
    const isAllowed = left >= 1;
    this.#tokens.set(key, { left: isAllowed ? left - 1 : left, atMs: nowMs });
    return isAllowed;
  }

  #drop(cause: DropReason, { involved, reason }: EventEntry, error?: unknown): void {
    this.#options.onDrop?.(cause);
    const object = `${involved.kind} ${involved.namespace ?? ''}/${involved.name}`;
    this.#log.debug({ object, reason, cause, err: error }, 'event dropped');
  }
}

function namespaceOf({ involved }: EventEntry): string {
  return involved.namespace ?? 'default';
}

function collectionPath({ entry }: Pending): string {
  return `/api/v1/namespaces/${namespaceOf(entry)}/events`;
}

function eventPath(pending: Pending): string {
  return `${collectionPath(pending)}/${pending.name}`;
}

/** `<object>.<hash>`, the same for the same thing said about the same incarnation. */
function eventName({ involved, type, reason, message }: EventEntry): string {
  const { apiVersion, kind, uid } = involved;
  const content = JSON.stringify([apiVersion, kind, uid, type, reason, message]);
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
  // A name may not have a dot after another dot or dash.
  const object = involved.name.slice(0, nameLimit - hash.length - 1).replace(/[.-]+$/, '');
  return `${object}.${hash}`;
}

/** The longest beginning that fits, without half a character at its end. */
export function cutToBytes(text: string, limitBytes: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= limitBytes) return text;
  let end = limitBytes;
  while (end > 0 && isContinuation(bytes[end])) end -= 1;
  return bytes.toString('utf8', 0, end);
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

/** metav1.Time */
function seconds(wallMs: number): string {
  return `${new Date(wallMs).toISOString().slice(0, 19)}Z`;
}

function first(queue: ReadonlyMap<string, Pending>): Pending | undefined {
  for (const pending of queue.values()) return pending;
  return undefined;
}
