import type { PartName } from './parts.ts';
import type { PartResult } from './summary.ts';

/** The part of process.stdout that is used. */
export interface Terminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const liveIntervalMs = 250;
const lineIntervalMs = 20_000;
const eraseLine = '\r\u001b[K';

/** Tells what runs: on a terminal in one line that rewrites itself, elsewhere by a line now and then. */
export class Progress {
  readonly #terminal: Terminal;
  readonly #live: boolean;
  readonly #running = new Map<PartName, { note: string; readonly startedMs: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#live = terminal.isTTY === true;
  }

  begin(): void {
    this.#timer = setInterval(() => this.#tick(), this.#live ? liveIntervalMs : lineIntervalMs);
  }

  start(name: PartName): void {
    this.#running.set(name, { note: '', startedMs: performance.now() });
    if (!this.#live) this.#line(`${name}: started`);
  }

  note(name: PartName, text: string): void {
    const running = this.#running.get(name);
    if (running !== undefined) running.note = text;
  }

  finish({ name, seconds, passed, failed }: PartResult): void {
    this.#running.delete(name);
    this.#line(
      `${name}: ${failed > 0 ? 'FAILED' : 'ok'} after ${seconds.toFixed(1)} s, ${passed} passed, ${failed} failed`,
    );
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#live) this.#terminal.write(eraseLine);
  }

  #tick(): void {
    if (this.#running.size === 0) return;
    const text = [...this.#running].map(([name, { note, startedMs }]) => {
      const seconds = Math.round((performance.now() - startedMs) / 1000);
      return `${name} ${seconds} s${note === '' ? '' : `: ${note}`}`;
    });
    if (!this.#live) this.#line(text.join('; '));
    else this.#terminal.write(`${eraseLine}${text.join('; ').slice(0, (this.#terminal.columns || 80) - 1)}`);
  }

  #line(text: string): void {
    this.#terminal.write(`${this.#live ? eraseLine : ''}berth: ${text}\n`);
  }
}
