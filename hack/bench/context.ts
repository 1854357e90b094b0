/** What every part of the benchmarks is given. */
export interface BenchContext {
  /** Fraction of the full sizes. */
  readonly scale: number;
  /** Flags of Node for the measured Berth, on top of the defaults; empty for none. */
  readonly nodeOptions: string;
  /** Tells whoever waits what is being done. */
  readonly say: (text: string) => void;
}

/** A full size scaled down, at least 1. */
export function scaled({ scale }: Pick<BenchContext, 'scale'>, full: number): number {
  return Math.max(1, Math.round(full * scale));
}
