/**
 * Random numbers in [0, 1) that a seed repeats (mulberry32). What is timed by them is as repeatable as a cluster can be:
 * the moments asked for are the same, what the cluster is doing then is not.
 */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The seed of a run: `BERTH_SEED` where a failure is to be repeated, or the test's own. */
export function seedOf(own: number): number {
  const given = process.env['BERTH_SEED'];
  return given === undefined ? own : Number(given);
}

export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map(item => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
