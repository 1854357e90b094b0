/** A bucket of a Prometheus histogram of seconds: how many took no longer than its limit. */
export interface Bucket {
  readonly limitMs: number;
  readonly count: number;
}

/**
 * Adds up the series of a histogram whose labels are accepted, smallest bucket first; the last has all.
 *
 * @param text of a /metrics endpoint
 */
export function bucketsOf(
  text: string,
  metric: string,
  accepts: (labels: string) => boolean,
): readonly Bucket[] {
  const counts = new Map<number, number>();
  for (const line of text.split('\n')) {
    const labels = line.startsWith(`${metric}_bucket{`) ? line.slice(0, line.lastIndexOf('}')) : undefined;
    if (labels === undefined || !accepts(labels)) continue;
    const limit = /le="([^"]+)"/.exec(labels)?.[1] ?? '';
    const limitMs = limit === '+Inf' ? Number.POSITIVE_INFINITY : Number(limit) * 1000;
    const count = Number(line.slice(line.lastIndexOf(' ')));
    counts.set(limitMs, (counts.get(limitMs) ?? 0) + count);
  }
  return [...counts].map(([limitMs, count]) => ({ limitMs, count })).sort((a, b) => a.limitMs - b.limitMs);
}

/** Within its bucket a value is taken to be spread evenly, as Prometheus does. */
export function quantileMs(buckets: readonly Bucket[], share: number): number {
  const rank = share * (buckets.at(-1)?.count ?? 0);
  const index = buckets.findIndex(({ count }) => count >= rank);
  const below = buckets[index - 1] ?? { limitMs: 0, count: 0 };
  const bucket = buckets[index];
  if (bucket === undefined || bucket.limitMs === Number.POSITIVE_INFINITY) return below.limitMs;
  const part = (rank - below.count) / Math.max(1, bucket.count - below.count);
  return below.limitMs + part * (bucket.limitMs - below.limitMs);
}
