import type { SignalClass } from './signal.ts';

export interface Urgency {
  readonly class: SignalClass;
  /** Monotonic milliseconds. */
  readonly firstSeenMs: number;
}

/** A group that only the rate of evictions holds back. */
export interface Waiter extends Urgency {
  readonly group: string;
  readonly leaderUid: string;
  /** Groups that serve and groups that are broken have rates of their own. */
  readonly serving: boolean;
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

  /** Groups that are to go before this one, in no order; empty when it is its turn. */
  before(own: Waiter, nowMs: number): ReadonlySet<string> {
    const groups = new Set<string>();
    for (const [leaderUid, { waiter, atMs }] of this.#waiting) {
      if (nowMs - atMs >= forgottenAfterMs) this.#waiting.delete(leaderUid);
      else if (waiter.serving === own.serving && byUrgency(waiter, own) < 0) groups.add(waiter.group);
    }
    return groups;
  }
}

/** Order in which what is hurt is dealt with. */
export function byUrgency(a: Urgency, b: Urgency): number {
  if (a.class !== b.class) return a.class === 'certain' ? -1 : 1;
  return a.firstSeenMs - b.firstSeenMs;
}
