export interface Backoff {
  readonly baseMs: number;
  readonly maxMs: number;
}

/**
 * Milliseconds to wait after `failures` failures in a row (1 = the first): doubling from `baseMs` up to `maxMs`,
 * of which the second half is random, so that clients that failed together do not come back together.
 */
export function jitteredBackoffMs(backoff: Backoff, failures: number, random: () => number): number {
  return backoffMs(backoff, failures) * (1 - random() / 2);
}

/** The same without jitter, for retries that no other process shares. */
export function backoffMs({ baseMs, maxMs }: Backoff, failures: number): number {
  return Math.min(maxMs, baseMs * 2 ** Math.min(failures - 1, 30));
}
