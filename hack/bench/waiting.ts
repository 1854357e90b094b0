import { setTimeout as delay } from 'node:timers/promises';

const pollMs = 100;

/** Looks every 100 ms until `isDone` says yes. Not for what is measured: a watch tells that. */
export async function until(
  what: string,
  timeoutMs: number,
  isDone: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await isDone())) {
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs / 1000} s in vain for ${what}`);
    await delay(pollMs);
  }
}
