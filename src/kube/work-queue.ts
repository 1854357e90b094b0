import type { Logger } from 'pino';
import { type Backoff, backoffMs } from './backoff.ts';
import { type Clock, systemClock, type Timer } from './clock.ts';

export interface WorkQueueOptions {
  /** For logs and metrics. */
  readonly name: string;
  /** Reconciles one key. A throw is logged and the key comes back, later each time. */
  readonly process: (key: string) => void | Promise<void>;
  readonly log: Logger;
  /** Keys processed side by side. Default 1. */
  readonly concurrency?: number | undefined;
  /** Per key, for `addRateLimited`. Default 5 ms doubling to 30 s. */
  readonly backoff?: Backoff | undefined;
  readonly clock?: Clock | undefined;
}

interface Delayed {
  readonly dueMs: number;
  readonly timer: Timer;
}

interface Processing {
  /** Added again meanwhile. */
  dirty: boolean;
  /** `process` itself asked for a later retry, so the key's failures are not forgiven when it returns. */
  rateLimited: boolean;
}

/**
 * Queue of keys with the semantics of client-go's workqueue: a waiting key is there once however often it is added,
 * no key is processed twice at the same time, and a key added while it is processed is processed again afterwards.
 * Keys wait until `start`.
 */
export class WorkQueue {
  readonly name: string;
  readonly #process: WorkQueueOptions['process'];
  readonly #log: Logger;
  readonly #concurrency: number;
  readonly #backoff: Backoff;
  readonly #clock: Clock;
  readonly #waiting = new Set<string>();
  readonly #order = new Fifo<string>();
  readonly #processing = new Map<string, Processing>();
  readonly #delayed = new Map<string, Delayed>();
  readonly #failures = new Map<string, number>();
  readonly #drained: (() => void)[] = [];
  #started = false;
  #stopping = false;
  #turn: NodeJS.Immediate | undefined;

  constructor(options: WorkQueueOptions) {
    this.name = options.name;
    this.#process = options.process;
    this.#log = options.log;
    this.#concurrency = options.concurrency ?? 1;
    this.#backoff = options.backoff ?? { baseMs: 5, maxMs: 30_000 };
    this.#clock = options.clock ?? systemClock;
  }

  /** Keys that wait for a free worker; neither those in work nor delayed ones. */
  get depth(): number {
    return this.#waiting.size;
  }

  start(): void {
    this.#started = true;
    this.#scheduleTurn();
  }

  add(key: string): void {
    if (this.#stopping) return;
    const processing = this.#processing.get(key);
    if (processing) {
      processing.dirty = true;
      return;
    }
    if (this.#waiting.has(key)) return;
    this.#waiting.add(key);
    this.#order.push(key);
    this.#scheduleTurn();
  }

  /** Adds the key after `delayMs`. Of several delays of one key the one that ends first counts. */
  addAfter(key: string, delayMs: number): void {
    if (this.#stopping) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const dueMs = this.#clock.nowMs() + delayMs;
    const before = this.#delayed.get(key);
    if (before && before.dueMs <= dueMs) return;
    before?.timer.cancel();
    const timer = this.#clock.setTimer(delayMs, () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { dueMs, timer });
  }

  /** Adds the key after a delay that doubles with every call until `forget`, or until `process` succeeds. */
  addRateLimited(key: string): void {
    const failures = this.retries(key) + 1;
    this.#failures.set(key, failures);
    const processing = this.#processing.get(key);
    if (processing) processing.rateLimited = true;
    this.addAfter(key, backoffMs(this.#backoff, failures));
  }

  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** How often the key was rate-limited since it was last forgotten. */
  retries(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** Takes no more keys, drops the delayed ones and resolves when the waiting ones are processed. */
  shutdown(): Promise<void> {
    this.#stopping = true;
    for (const { timer } of this.#delayed.values()) timer.cancel();
    this.#delayed.clear();
    return new Promise(resolve => {
      this.#drained.push(resolve);
      this.#scheduleTurn();
    });
  }

  /** Never works inside the caller's stack, and lets I/O have its turn between keys. */
  #scheduleTurn(): void {
    if (!this.#started && !this.#stopping) return;
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#startWorkers();
    });
  }

  #startWorkers(): void {
    while (this.#started && this.#processing.size < this.#concurrency) {
      const key = this.#order.shift();
      if (key === undefined) break;
      this.#waiting.delete(key);
      void this.#work(key);
    }
    // A queue that never started has nobody to drain it.
    const isDone = this.#processing.size === 0 && (this.#waiting.size === 0 || !this.#started);
    if (this.#stopping && isDone) for (const resolve of this.#drained.splice(0)) resolve();
  }

  async #work(key: string): Promise<void> {
    const processing: Processing = { dirty: false, rateLimited: false };
    this.#processing.set(key, processing);
    try {
      await this.#process(key);
      if (!processing.rateLimited) this.forget(key);
    } catch (error) {
      this.addRateLimited(key);
      const facts = { queue: this.name, key, retries: this.retries(key), err: error };
      this.#log.error(facts, 'processing failed, the key comes back');
    }
    this.#processing.delete(key);
    if (processing.dirty) this.add(key);
    this.#scheduleTurn();
  }
}

/**
 * Array with a moving head: `Array.shift` is linear for long arrays, and a Set is slow at finding its first entry
 * after many deletions.
 */
class Fifo<T> {
  #items: T[] = [];
  #head = 0;

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#head += 1;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
