import type { Clock, Timer } from '../../../src/kube/clock.ts';

interface Entry {
  readonly dueMs: number;
  readonly fire: () => void;
}

/** Time that stands still until it is moved. The wall clock starts at 2026-01-01 and runs along. */
export class FakeClock implements Clock {
  #nowMs = 1000;
  #timers = new Set<Entry>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return Date.UTC(2026, 0, 1) + this.#nowMs;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const entry = { dueMs: this.#nowMs + delayMs, fire };
    this.#timers.add(entry);
    return { cancel: () => this.#timers.delete(entry) };
  }

  /** Delays of the timers now set, shortest first. */
  get pendingMs(): number[] {
    return [...this.#timers].map(timer => timer.dueMs - this.#nowMs).sort((a, b) => a - b);
  }

  /** Moves time, firing what falls due in its order, with everything that follows from it in between. */
  async advance(byMs: number): Promise<void> {
    const targetMs = this.#nowMs + byMs;
    await settle();
    for (let next = this.#next(targetMs); next; next = this.#next(targetMs)) {
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.fire();
      await settle();
    }
    this.#nowMs = targetMs;
  }

  /** Moves time as if the process had been stopped: no timer fires. */
  freeze(byMs: number): void {
    this.#nowMs += byMs;
  }

  #next(untilMs: number): Entry | undefined {
    return [...this.#timers].filter(timer => timer.dueMs <= untilMs).sort((a, b) => a.dueMs - b.dueMs)[0];
  }
}

/** Lets promises and immediates that are ready now, and those they lead to, have their turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 12; turn += 1) await new Promise(resolve => setImmediate(resolve));
}
