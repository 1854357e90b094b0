/** Mean of some samples and the bounds between which the true one is, with 95 % confidence. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

const normalQuantile = 1.959964;

/** @throws RangeError with fewer than two samples */
export function confidenceInterval(samples: readonly number[]): Interval {
  const freedom = samples.length - 1;
  if (freedom < 1) throw new RangeError('an interval needs two samples');
  const mean = sum(samples) / samples.length;
  const variance = sum(samples.map(sample => (sample - mean) ** 2)) / freedom;
  const reach = studentQuantile(freedom) * Math.sqrt(variance / samples.length);
  return { mean, low: mean - reach, high: mean + reach };
}

/** The 97.5 % quantile of Student's t: exact for one and two degrees of freedom, from three on by Cornish and Fisher. */
function studentQuantile(freedom: number): number {
  if (freedom === 1) return 12.7062;
  if (freedom === 2) return 4.30265;
  const z = normalQuantile;
  return (
    z +
    (z ** 3 + z) / (4 * freedom) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * freedom ** 3)
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
