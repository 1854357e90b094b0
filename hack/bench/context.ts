/** What every part of the benchmarks is given. */
export interface BenchContext {
  /** Fraction of the full sizes. */
  readonly scale: number;
  /** Environment variables of the measured Berth, flags of Node (NODE_OPTIONS) among them. */
  readonly environment: Readonly<Record<string, string>>;
  /** Tells whoever waits what is being done. */
  readonly say: (text: string) => void;
  /** Keeps what a reader of the figures must know; it stands below them. One sentence with its full stop. */
  readonly note: (text: string) => void;
}

/** A full size scaled down, at least 1. */
export function scaled({ scale }: Pick<BenchContext, 'scale'>, full: number): number {
  return Math.max(1, Math.round(full * scale));
}
