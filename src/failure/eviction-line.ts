import type { SignalClass } from './signal.ts';

/** A group that only the rate of evictions holds back. */
export interface Waiter {
  readonly group: string;
  readonly leaderUid: string;
  /** Groups that serve and groups that are broken have rates of their own. */
  readonly serving: boolean;
  readonly class: SignalClass;
  /** Monotonic milliseconds. */
  readonly firstSeenMs: number;
}

/** Nobody looked at it for so long, so nobody knows whether it still waits. Each is looked at every 10 s. */
const forgottenAfterMs = 15_000;

/**
 * Groups that wait for the rate of evictions, the worst first: certain failures before suspicions, then those that have
 * stood longest. Whoever is looked at first when an eviction is allowed again would have it otherwise.
 */
export class EvictionLine {
  readonly #waiting = new Map<string, { readonly waiter: Waiter; readonly atMs: number }>();

  wait(waiter: Waiter, nowMs: number): void {
    this.#waiting.set(waiter.leaderUid, { waiter, atMs: nowMs });
  }

  /** It is looked at anew: it may go, be held by something else, or be well. */
  leave(group: string): void {
    for (const [leaderUid, { waiter }] of this.#waiting)
      if (waiter.group === group) this.#waiting.delete(leaderUid);
  }

  clear(): void {
    this.#waiting.clear();
  }

  /** The first of those that are to go before this one; undefined when it is its turn. */
  before(own: Waiter, nowMs: number): Waiter | undefined {
    let first: Waiter | undefined;
    for (const [leaderUid, { waiter, atMs }] of this.#waiting) {
      if (nowMs - atMs >= forgottenAfterMs) this.#waiting.delete(leaderUid);
      else if (waiter.serving === own.serving && goesBefore(waiter, first ?? own)) first = waiter;
    }
    return first;
  }
}

function goesBefore(a: Waiter, b: Waiter): boolean {
  if (a.class !== b.class) return a.class === 'certain';
  return a.firstSeenMs < b.firstSeenMs;
}
