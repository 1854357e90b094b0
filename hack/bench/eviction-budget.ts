export interface Budget {
  readonly perSecond: number;
  /** So many at once. */
  readonly burst: number;
}

/**
 * How many evictions a budget allows from the first one on until the end of the watching: a bucket that is full at the first
 * and draws as soon as it can.
 *
 * @param timesMs of the evictions, ascending
 */
export function allowedBy({ perSecond, burst }: Budget, timesMs: readonly number[], untilMs: number): number {
  const [firstMs] = timesMs;
  if (firstMs === undefined) return burst;
  return burst + Math.floor((perSecond * (untilMs - firstMs)) / 1000);
}

/**
 * By how many evictions the budget was exceeded in the window, of any length, in which it was exceeded most; 0 when never.
 *
 * @param jitterMs by so much an eviction may have been seen too late, or the next too early
 */
export function excessOver(
  { perSecond, burst }: Budget,
  timesMs: readonly number[],
  jitterMs: number,
): number {
  let worst = 0;
  for (const [from, fromMs] of timesMs.entries())
    for (const [to, toMs] of timesMs.entries()) {
      if (to < from) continue;
      const allowed = burst + Math.floor((perSecond * (toMs - fromMs + jitterMs)) / 1000);
      worst = Math.max(worst, to - from + 1 - allowed);
    }
  return worst;
}
