import type { Logger } from 'pino';
import type { ApiClient } from './api-client.ts';
import { failureKind } from './api-errors.ts';
import { type Clock, sleep, systemClock, type Timer } from './clock.ts';
import { type Lease, type LeaseSpec, LeaseStore, microTime } from './lease-store.ts';

/** Why holding ended: no renewal in time, somebody else has the Lease, or `start`'s signal aborted. */
export type LossReason = 'deadline' | 'taken' | 'stopped';

export interface LeaseElectionOptions {
  readonly client: ApiClient;
  readonly namespace: string;
  readonly name: string;
  /** Unique per process: a restarted process with the same identity would take its predecessor's Lease for its own. */
  readonly identity: string;
  /** May come while the promise of an earlier `onLost` is still open. */
  readonly onAcquired: () => void;
  /** After the signal has aborted, its promise is waited for before the Lease is released to others. */
  readonly onLost: (reason: LossReason) => void | Promise<void>;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  /** How long others respect a record that does not change. Default 15 s. */
  readonly leaseDurationMs?: number | undefined;
  /** How long after the start of the last renewal we count ourselves holder. Default 10 s. */
  readonly renewDeadlineMs?: number | undefined;
  /** Default 2 s. */
  readonly retryPeriodMs?: number | undefined;
}

/** client-go leaderelection.JitterFactor */
const jitterFactor = 1.2;
const releaseAttempts = 3;

/**
 * Election on a coordination.k8s.io/v1 Lease with the semantics of client-go's leaderelection: a record counts as
 * alive for its duration since WE saw it change, by our own monotonic clock, so clocks of hosts may differ; writes
 * carry the resourceVersion, so of two that try one fails. Unlike client-go it goes on trying after a loss.
 */
export class LeaseElection {
  readonly #options: LeaseElectionOptions;
  readonly #store: LeaseStore;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #leaseDurationMs: number;
  readonly #renewDeadlineMs: number;
  readonly #retryPeriodMs: number;

  #observed: Lease | undefined;
  #observedAtMs = 0;
  /** Start of the last successful renewal; undefined while we are not holder. */
  #renewStartedMs: number | undefined;
  #deadline: Timer | undefined;
  /** A write of ours was sent and nothing has shown another holder since; its answer may have been lost. */
  #mayBeOurs = false;

  constructor(options: LeaseElectionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#leaseDurationMs = options.leaseDurationMs ?? 15_000;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryPeriodMs = options.retryPeriodMs ?? 2_000;
    const isOrdered = this.#leaseDurationMs > this.#renewDeadlineMs;
    if (!isOrdered || this.#renewDeadlineMs <= this.#retryPeriodMs * jitterFactor) {
      throw new RangeError('leaseDurationMs > renewDeadlineMs > 1.2 x retryPeriodMs must hold');
    }
    this.#store = new LeaseStore({ ...options, timeoutMs: this.#renewDeadlineMs / 2 });
    this.#log = options.log.child({
      lease: `${options.namespace}/${options.name}`,
      identity: options.identity,
    });
  }

  /** Identity in the last record seen; '' when nobody holds it. For information only. */
  get holder(): string {
    return this.#observed?.spec?.holderIdentity ?? '';
  }

  /**
   * Whether we may act at monotonic time `nowMs`. Ask right before every act: a process that was stopped for a while
   * and goes on gets false here before any timer has told it. The deadline counts from the START of the last renewal
   * that succeeded and is shorter than what others wait, who count from the moment they saw its result.
   */
  isHolder(nowMs: number): boolean {
    return this.#renewStartedMs !== undefined && nowMs - this.#renewStartedMs < this.#renewDeadlineMs;
  }

  /** Runs until `signal` aborts, then releases the Lease; resolves after that and never rejects. */
  async start(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const renewed = await this.#tryAcquireOrRenew(signal);
      if (signal.aborted) break;
      const jitterMs = renewed ? 0 : this.#random() * jitterFactor * this.#retryPeriodMs;
      await sleep(this.#clock, this.#retryPeriodMs + jitterMs, signal);
    }
    await this.#stopHolding();
    if (this.#mayBeOurs) await this.#release();
  }

  async #tryAcquireOrRenew(signal: AbortSignal): Promise<boolean> {
    const startedMs = this.#clock.nowMs();
    try {
      const lease = await this.#acquireOrRenew(signal);
      if (!lease) return false;
      this.#observe(lease);
      this.#hold(startedMs);
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const facts = { err: error, kind: failureKind(error), holding: this.#renewStartedMs !== undefined };
      if (failureKind(error) === 'conflict' || failureKind(error) === 'exists') {
        this.#log.debug(facts, 'somebody else wrote the lease first');
      } else {
        this.#log.warn(facts, 'lease could not be acquired or renewed, trying again');
      }
      return false;
    }
  }

  /** The Lease as written, or undefined when somebody else holds it. */
  async #acquireOrRenew(signal: AbortSignal): Promise<Lease | undefined> {
    if (this.#observed && this.#renewStartedMs !== undefined) {
      const renewed = await this.#renewAsLastSeen(this.#observed, signal);
      if (renewed) return renewed;
    }
    const lease = await this.#store.read(signal);
    if (!lease) {
      this.#mayBeOurs = true;
      return this.#store.create(this.#recordAfter(undefined), signal);
    }
    this.#observe(lease);
    if (this.#isHeldByOther()) {
      this.#mayBeOurs = false;
      this.#lose('taken');
      return undefined;
    }
    this.#mayBeOurs = true;
    return this.#store.write(lease, this.#recordAfter(lease.spec), signal);
  }

  /** One request instead of two in the usual case; after a conflict or a lost answer the Lease is read. */
  async #renewAsLastSeen(observed: Lease, signal: AbortSignal): Promise<Lease | undefined> {
    try {
      return await this.#store.write(observed, this.#recordAfter(observed.spec), signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#log.debug({ err: error }, 'renewal failed, reading the lease');
      return undefined;
    }
  }

  #isHeldByOther(): boolean {
    const { holderIdentity = '', leaseDurationSeconds } = this.#observed?.spec ?? {};
    if (holderIdentity === '' || holderIdentity === this.#options.identity) return false;
    const durationMs =
      leaseDurationSeconds === undefined ? this.#leaseDurationMs : leaseDurationSeconds * 1000;
    return this.#clock.nowMs() < this.#observedAtMs + durationMs;
  }

  #recordAfter(before: LeaseSpec | undefined): LeaseSpec {
    const now = microTime(this.#clock.wallMs());
    const isOurs = before?.holderIdentity === this.#options.identity;
    const transitions = before?.leaseTransitions ?? 0;
    return {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: Math.ceil(this.#leaseDurationMs / 1000),
      acquireTime: isOurs ? (before.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: isOurs || !before ? transitions : transitions + 1,
    };
  }

  #observe(lease: Lease): void {
    const isSame = JSON.stringify(lease.spec) === JSON.stringify(this.#observed?.spec);
    // After the answer, not before the request: a later start of the count only makes us wait longer for others.
    if (!isSame) this.#observedAtMs = this.#clock.nowMs();
    this.#observed = lease;
  }

  #hold(startedMs: number): void {
    const nowMs = this.#clock.nowMs();
    const leftMs = startedMs + this.#renewDeadlineMs - nowMs;
    // So slow an answer is no success: others may have stopped waiting before we can act on it.
    if (leftMs <= 0) return;
    this.#noticeLapse();
    const isNew = this.#renewStartedMs === undefined;
    this.#renewStartedMs = startedMs;
    this.#deadline?.cancel();
    this.#deadline = this.#clock.setTimer(leftMs, () => this.#lose('deadline'));
    if (!isNew) return;
    this.#log.info('lease acquired');
    this.#call(this.#options.onAcquired);
  }

  /** After a stop of the process the timer of the next renewal may fire before that of the deadline. */
  #noticeLapse(): void {
    if (this.#renewStartedMs !== undefined && !this.isHolder(this.#clock.nowMs())) this.#lose('deadline');
  }

  #lose(reason: LossReason): void | Promise<void> {
    if (this.#renewStartedMs === undefined) return;
    this.#renewStartedMs = undefined;
    this.#deadline?.cancel();
    this.#log.warn({ reason, holder: this.holder }, 'lease lost');
    return this.#call(() => this.#options.onLost(reason));
  }

  /** Others may act once the Lease is released, so what it guards has to end first; they wait only so long anyway. */
  async #stopHolding(): Promise<void> {
    const limit = new AbortController();
    const ended = Promise.resolve(this.#lose('stopped')).then(() => limit.abort());
    await Promise.race([ended, sleep(this.#clock, this.#leaseDurationMs, limit.signal)]);
  }

  async #release(): Promise<void> {
    for (let attempt = 1; attempt <= releaseAttempts; attempt += 1) {
      try {
        const lease = await this.#store.read();
        if (lease?.spec?.holderIdentity !== this.#options.identity) return;
        this.#observed = await this.#store.write(lease, this.#emptyRecord(lease.spec));
        this.#log.info('lease released');
        return;
      } catch (error) {
        // A renewal that was under way when we stopped may land between our read and our write.
        if (failureKind(error) === 'conflict') continue;
        this.#log.warn({ err: error }, 'lease could not be released, others wait for its end');
        return;
      }
    }
  }

  /** As client-go releases: nobody's, over in a second, transitions kept. */
  #emptyRecord(before: LeaseSpec): LeaseSpec {
    const now = microTime(this.#clock.wallMs());
    const { leaseTransitions = 0 } = before;
    return { leaseDurationSeconds: 1, acquireTime: now, renewTime: now, leaseTransitions };
  }

  async #call(callback: () => void | Promise<void>): Promise<void> {
    try {
      await callback();
    } catch (error) {
      this.#log.error({ err: error }, 'a lease callback failed');
    }
  }
}
