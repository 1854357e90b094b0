import { ApiError, type FailureKind } from '../kube/api-errors.ts';
import { type Backoff, backoffMs } from '../kube/backoff.ts';

/** Failures that may pass by themselves. */
const passing: readonly FailureKind[] = ['throttled', 'unavailable'];
const backoff: Backoff = { baseMs: 1_000, maxMs: 60_000 };
const longestRetryAfterMs = 60_000;

interface Wait {
  readonly failures: number;
  readonly untilMs: number;
}

/**
 * When the API server may be asked again after calls that it did not serve. A key of a queue waits longer with each failure
 * in a row; what the server itself asks for (Retry-After) holds for all. Changes of the cluster are no reason to ask
 * sooner. All times are monotonic.
 */
export class ApiPatience {
  readonly #keys = new Map<string, Wait>();
  #allUntilMs = Number.NEGATIVE_INFINITY;

  /** 0 when its calls may be made. */
  waitMs(key: string, nowMs: number): number {
    const untilMs = Math.max(this.#allUntilMs, this.#keys.get(key)?.untilMs ?? Number.NEGATIVE_INFINITY);
    return Math.max(0, untilMs - nowMs);
  }

  /** Takes the failure of a call of a key; one that does not pass by itself is its caller's affair. */
  failed(key: string, error: unknown, kind: FailureKind, nowMs: number): void {
    if (!passing.includes(kind)) return;
    const failures = (this.#keys.get(key)?.failures ?? 0) + 1;
    this.#keys.set(key, { failures, untilMs: nowMs + backoffMs(backoff, failures) });
    const askedMs = error instanceof ApiError ? Math.min(error.retryAfterMs ?? 0, longestRetryAfterMs) : 0;
    this.#allUntilMs = Math.max(this.#allUntilMs, nowMs + askedMs);
  }

  succeeded(key: string): void {
    this.#keys.delete(key);
  }

  /** Another holder of the Lease decides now. */
  clear(): void {
    this.#keys.clear();
  }
}
