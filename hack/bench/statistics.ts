/** Middle and spread of some samples. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly samples: readonly number[];
}

/** @throws RangeError without samples */
export function summarize(samples: readonly number[]): Summary {
  const sorted = ascending(samples);
  return { median: medianOf(sorted), min: at(sorted, 0), max: at(sorted, sorted.length - 1), samples };
}

/**
 * The smallest sample that at least `percent` of all samples do not exceed (nearest rank).
 *
 * @param percent more than 0, at most 100
 * @throws RangeError without samples
 */
export function percentile(samples: readonly number[], percent: number): number {
  return at(ascending(samples), Math.ceil((percent / 100) * samples.length) - 1);
}

function medianOf(sorted: readonly number[]): number {
  const half = sorted.length / 2;
  const upper = at(sorted, Math.floor(half));
  return Number.isInteger(half) ? (upper + at(sorted, half - 1)) / 2 : upper;
}

function ascending(samples: readonly number[]): readonly number[] {
  return [...samples].sort((a, b) => a - b);
}

function at(sorted: readonly number[], index: number): number {
  const sample = sorted[index];
  if (sample === undefined) throw new RangeError('there are no samples');
  return sample;
}
