/** What is known about one program that is being built. */
interface Task {
  readonly name: string;
  readonly startedMs: number;
  activity: string;
  packages: number;
}

export interface ProgressOptions {
  readonly total: number;
  /** A live line that rewrites itself, for terminals; otherwise a line now and then. */
  readonly live: boolean;
  readonly write: (text: string) => void;
  readonly nowMs: () => number;
  /** Columns of the terminal, for the live line. */
  readonly columns: number;
  /** Distance between two lines when not live. */
  readonly intervalMs: number;
}

/** Tells on the terminal how far a build is. Its owner calls `tick` from a timer. */
export class BuildProgress {
  readonly #options: ProgressOptions;
  readonly #startedMs: number;
  readonly #running = new Map<string, Task>();
  #done = 0;
  #lastLineMs: number;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#startedMs = options.nowMs();
    this.#lastLineMs = this.#startedMs;
  }

  start(name: string): void {
    this.#running.set(name, {
      name,
      startedMs: this.#options.nowMs(),
      activity: 'resolving modules',
      packages: 0,
    });
    this.tick();
  }

  /** Tells what a program's build turns to now. */
  enter(name: string, activity: string): void {
    const task = this.#running.get(name);
    if (task !== undefined) task.activity = activity;
  }

  /** Takes one line of what `go` says on stderr. */
  hear(name: string, line: string): void {
    const task = this.#running.get(name);
    if (task === undefined) return;
    const download = /^go: downloading (\S+)/.exec(line);
    if (download !== null) {
      task.activity = `downloading ${download[1]}`;
    } else if (/^[\w.-]+(\/\S+)?$/.test(line)) {
      task.packages += 1;
      task.activity = `compiled ${task.packages} packages, last ${line}`;
    }
  }

  finish(name: string): void {
    const task = this.#running.get(name);
    if (task === undefined) return;
    this.#running.delete(name);
    this.#done += 1;
    this.#line(`built ${name} in ${clock(this.#options.nowMs() - task.startedMs)} (${this.#count()})`);
  }

  fail(name: string): void {
    this.#running.delete(name);
  }

  tick(): void {
    const { live, write, columns, nowMs, intervalMs } = this.#options;
    if (this.#running.size === 0) return;
    if (live) {
      write(`\r\u001b[K${this.#summary().slice(0, Math.max(columns - 1, 20))}`);
    } else if (nowMs() - this.#lastLineMs >= intervalMs) {
      this.#line(this.#summary());
    }
  }

  /** Leaves the live line. */
  end(): void {
    if (this.#options.live) this.#options.write('\r\u001b[K');
  }

  #summary(): string {
    const elapsed = clock(this.#options.nowMs() - this.#startedMs);
    const tasks = [...this.#running.values()].map(task => `${task.name}: ${task.activity}`);
    return `${this.#count()}, ${elapsed}; ${tasks.join('; ')}`;
  }

  #count(): string {
    return `${this.#done} of ${this.#options.total} built`;
  }

  #line(text: string): void {
    this.#lastLineMs = this.#options.nowMs();
    this.#options.write(`${this.#options.live ? '\r\u001b[K' : ''}berth: ${text}\n`);
  }
}

function clock(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
