import { Refusal } from './refusal.ts';

const retryMs = 200;

/**
 * Runs a piece of work after it was asked for, never twice at once: who asks while it runs gets one more run. Work that
 * the API server refuses is done again a moment later, as controllers do.
 */
export class ReconcileLoop {
  readonly #work: () => Promise<void> | void;
  readonly #delayMs: number;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isAskedAgain = false;
  #isStopped = false;

  /** @param delayMs between the asking and the run; what is asked meanwhile is served by the same run */
  constructor(work: () => Promise<void> | void, delayMs = 2) {
    this.#work = work;
    this.#delayMs = delayMs;
  }

  ask(delayMs = this.#delayMs): void {
    if (this.#isRunning) this.#isAskedAgain = true;
    else if (!this.#isStopped) this.#timer ??= setTimeout(() => void this.#run(), delayMs);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    this.#timer = undefined;
    this.#isRunning = true;
    let isRefused = false;
    try {
      await this.#work();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      isRefused = true;
    }
    this.#isRunning = false;
    if (isRefused) this.ask(retryMs);
    else if (this.#isAskedAgain) this.ask();
    this.#isAskedAgain = false;
  }
}
