import type { Clock, Timer } from '../../src/kube/clock.ts';

interface Entry {
  readonly dueMs: number;
  readonly fire: () => void;
  isCancelled: boolean;
}

/** Time that moves only when it is told to; made for tens of thousands of timers. */
export class SimulatedClock implements Clock {
  #nowMs = 1_000;
  /** Timers by the whole millisecond in which they fall due. */
  readonly #timers = new Map<number, Entry[]>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return Date.UTC(2026, 0, 1) + this.#nowMs;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const entry: Entry = { dueMs: this.#nowMs + Math.max(1, Math.ceil(delayMs)), fire, isCancelled: false };
    const alike = this.#timers.get(entry.dueMs);
    if (alike === undefined) this.#timers.set(entry.dueMs, [entry]);
    else alike.push(entry);
    return {
      cancel: () => {
        entry.isCancelled = true;
      },
    };
  }

  /** Moves on, and after each millisecond in which something fell due lets all that follows from it come to an end. */
  async advance(byMs: number, settle: () => Promise<void>): Promise<void> {
    const untilMs = this.#nowMs + byMs;
    await settle();
    while (this.#nowMs < untilMs) {
      this.#nowMs += 1;
      const due = this.#timers.get(this.#nowMs);
      if (due === undefined) continue;
      this.#timers.delete(this.#nowMs);
      for (const entry of due) if (!entry.isCancelled) entry.fire();
      await settle();
    }
  }
}
