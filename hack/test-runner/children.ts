import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

export interface ChildOptions {
  readonly program: string;
  readonly arguments: readonly string[];
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Gets all output; what was there goes. */
  readonly logPath: string;
  readonly onStdout?: (line: string) => void;
  readonly onStderr?: (line: string) => void;
}

export interface ChildEnd {
  /** Undefined when a signal ended it. */
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  /** Last lines of all output, and of the standard error alone. */
  readonly tail: readonly string[];
  readonly errorTail: readonly string[];
}

const tailLines = 40;

/** The programs that run now, so that none outlives the runner. */
export class Children {
  readonly #running = new Set<ChildProcess>();
  readonly #termGraceMs: number;
  #ending = false;

  /** @param termGraceMs how long a program may take to end by itself */
  constructor(termGraceMs = 3000) {
    this.#termGraceMs = termGraceMs;
  }

  /** Whether `end` was called: nothing is started any more. */
  get areEnding(): boolean {
    return this.#ending;
  }

  /** Runs a program to its end. @throws when it cannot be started */
  async run(options: ChildOptions): Promise<ChildEnd> {
    if (this.#ending) throw new Error(`${options.program} is not started any more`);
    // In a process group of its own, so that its children can be ended with it.
    const child = spawn(options.program, options.arguments, {
      cwd: options.cwd,
      env: { ...process.env, NO_COLOR: '1', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#running.add(child);
    const log = createWriteStream(options.logPath);
    const tail: string[] = [];
    const errorTail: string[] = [];
    readLines(child.stdout, line => {
      log.write(`${line}\n`);
      keepLast(tail, line);
      options.onStdout?.(line);
    });
    readLines(child.stderr, line => {
      log.write(`${line}\n`);
      keepLast(tail, line);
      keepLast(errorTail, line);
      options.onStderr?.(line);
    });
    try {
      const [exitCode, signal] = await ended(child);
      return { exitCode: exitCode ?? undefined, signal: signal ?? undefined, tail, errorTail };
    } finally {
      this.#running.delete(child);
      log.end();
    }
  }

  /** Ends all that run, with all that they have started. */
  async end(): Promise<void> {
    this.#ending = true;
    for (const child of this.#running) signalGroup(child, 'SIGTERM');
    const deadlineMs = performance.now() + this.#termGraceMs;
    while (this.#running.size > 0 && performance.now() < deadlineMs) await delay(50);
    for (const child of this.#running) signalGroup(child, 'SIGKILL');
  }
}

/** After `close`, not `exit`: then all output was read. */
function ended(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, signal) => resolve([exitCode, signal]));
  });
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', onLine);
}

function keepLast(lines: string[], line: string): void {
  lines.push(line);
  if (lines.length > tailLines) lines.shift();
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    const isGone = error instanceof Error && 'code' in error && error.code === 'ESRCH';
    if (!isGone) throw error;
  }
}
