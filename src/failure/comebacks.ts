/**
 * What has failed and come back. What failed once fails again more often than the rest, so for a while it is used last;
 * times are monotonic milliseconds.
 */
export class Comebacks {
  readonly #forMs: number;
  /** When its failure counts, which may pass before. */
  #failing: ReadonlyMap<string, number> = new Map();
  readonly #backMs = new Map<string, number>();

  /** @param forMs for so long it is remembered */
  constructor(forMs: number) {
    this.#forMs = forMs;
  }

  /** @param failing all that fails now, with the time from which on that counts */
  update(failing: ReadonlyMap<string, number>, nowMs: number): void {
    for (const [thing, countsFromMs] of this.#failing)
      if (!failing.has(thing) && countsFromMs <= nowMs) this.cameBack(thing, nowMs);
    this.#failing = new Map(failing);
  }

  cameBack(thing: string, nowMs: number): void {
    this.#backMs.set(thing, nowMs);
  }

  /** Somebody vouches for it. */
  forget(thing: string): void {
    this.#backMs.delete(thing);
  }

  /** What came back of late; what fails again meanwhile may be among it. */
  lately(nowMs: number): ReadonlySet<string> {
    for (const [thing, atMs] of this.#backMs) if (nowMs - atMs >= this.#forMs) this.#backMs.delete(thing);
    return new Set(this.#backMs.keys());
  }
}
