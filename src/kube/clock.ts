export interface Timer {
  cancel(): void;
}

/** Time as the shells see it. Injected, so that tests move it by hand. */
export interface Clock {
  /** Monotonic milliseconds from an arbitrary start, for every duration and deadline: the wall clock may jump. */
  nowMs(): number;
  /** Milliseconds since 1970: only for timestamps that API objects carry. */
  wallMs(): number;
  setTimer(delayMs: number, fire: () => void): Timer;
}

/** Node fires longer timeouts after 1 ms instead. */
const longestTimerMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, fire) {
    const timeout = setTimeout(fire, Math.min(delayMs, longestTimerMs));
    return { cancel: () => clearTimeout(timeout) };
  },
};

/** Resolves after `delayMs`, or at once when `signal` aborts. Never rejects: the caller looks at its signal. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const wake = () => {
      timer.cancel();
      signal.removeEventListener('abort', wake);
      resolve();
    };
    const timer = clock.setTimer(delayMs, wake);
    signal.addEventListener('abort', wake);
  });
}
