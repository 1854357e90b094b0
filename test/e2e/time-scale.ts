import type { Test } from 'tap';
import { defaultFailureSettings, type FailureSettings } from '../../src/failure/settings.ts';

const duration = /(Seconds|Minutes)$/;
const rate = /PerSecond$/;
/** A watch of what never changes is told to be alive once a minute by the API server, whatever the scale. */
const unscaled: readonly string[] = ['staleAfterSeconds', 'apiWindowSeconds'];
/** The least that the configuration takes. */
const leastSeconds: Readonly<Record<string, number>> = { flapWindowSeconds: 1, refusedWindowSeconds: 1 };

/**
 * The settings as shipped with all durations shortened by one factor and all rates raised by it, so that they stand to
 * each other as they do in a cluster. Limits that count by hours and days are the caller's to set: those hours are
 * nobody's to configure. It is said aloud in the test, for nothing else tells a shortened run from a real one.
 *
 * @param factor e.g. 1/30 for a half-minute that takes a second
 * @param rest what is set as it is
 */
export function scaledFailure(
  t: Test,
  factor: number,
  rest: Partial<FailureSettings> = {},
): Partial<FailureSettings> {
  const scaled = Object.fromEntries(
    Object.entries(defaultFailureSettings).flatMap(([key, value]) => {
      if (typeof value !== 'number' || unscaled.includes(key)) return [];
      if (duration.test(key)) return [[key, Math.max(value * factor, leastSeconds[key] ?? 0)]];
      return rate.test(key) ? [[key, value / factor]] : [];
    }),
  );
  const settings = { ...scaled, ...rest };
  t.comment(`TIME SCALE: every duration of failure handling is ${factor.toFixed(4)} of what is shipped`);
  t.comment(`TIME SCALE: ${JSON.stringify(settings)}`);
  return settings;
}
