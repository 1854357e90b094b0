/** Berth's own calls within the last while, and how many of them failed: how the API server feels. */
export class CallWindow {
  readonly #windowMs: number;
  readonly #calls: { readonly atMs: number; readonly failed: boolean }[] = [];
  #failed = 0;

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(failed: boolean, nowMs: number): void {
    this.#calls.push({ atMs: nowMs, failed });
    if (failed) this.#failed += 1;
    this.#drop(nowMs);
  }

  counts(nowMs: number): { readonly total: number; readonly failed: number } {
    this.#drop(nowMs);
    return { total: this.#calls.length, failed: this.#failed };
  }

  #drop(nowMs: number): void {
    let old = 0;
    for (const call of this.#calls) {
      if (nowMs - call.atMs < this.#windowMs) break;
      if (call.failed) this.#failed -= 1;
      old += 1;
    }
    if (old > 0) this.#calls.splice(0, old);
  }
}

/**
 * Whether an answer speaks against the API server. Status 0 is no answer at all; a 429 to an eviction is a budget's
 * word, not the server's.
 */
export function isFailedCall(resource: string, status: number): boolean {
  return status === 0 || status >= 500 || (status === 429 && resource !== 'pods/eviction');
}
