/**
 * Wall-clock time that goes on as a monotonic clock does, from where the wall clock stood at the last `setRight`. Records
 * carry wall-clock times, so that others can read them; but somebody who sets the clock must not make what is waited for
 * come at once, or never.
 */
export class SteadyTime {
  readonly #nowMs: () => number;
  readonly #wallMs: () => number;
  #offsetMs = 0;

  /** @param nowMs monotonic */
  constructor(nowMs: () => number, wallMs: () => number) {
    this.#nowMs = nowMs;
    this.#wallMs = wallMs;
    this.setRight();
  }

  /** Milliseconds since 1970. */
  wallMs(): number {
    return this.#nowMs() + this.#offsetMs;
  }

  /** Takes over what the wall clock says by now. */
  setRight(): void {
    this.#offsetMs = this.#wallMs() - this.#nowMs();
  }
}
