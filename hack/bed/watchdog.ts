import { type ChildProcess, spawn } from 'node:child_process';
import { basename } from 'node:path';
import type { Layout } from './components.ts';
import { pidFolderOf } from './processes.ts';

/**
 * Waits for the end of its input, which comes when the owner ends in whatever way, kill -9 included. Then it kills what
 * the owner left running and removes the data in memory; logs stay. It checks command lines, since process ids are
 * reused. Arguments: folder of pid files, name of the run folder, data folder.
 */
const script = `
trap '' HUP INT TERM
read -r word && [ "$word" = release ] && exit 0
for file in "$1"/*; do
  pid=$(cat "$file" 2>/dev/null) || continue
  if [ -r "/proc/$pid/cmdline" ]; then line=$(tr '\\0' ' ' <"/proc/$pid/cmdline"); else line=$(ps -o args= -p "$pid"); fi
  case "$line" in *"$2"*) kill -KILL "$pid" ;; esac
done
rm -rf "$3"
`;

/** Sees to it that a cluster does not outlive this process. */
export class Watchdog {
  readonly #child: ChildProcess;

  constructor(layout: Layout) {
    const runName = basename(layout.directory);
    this.#child = spawn(
      'sh',
      ['-c', script, 'berth-bed-watchdog', pidFolderOf(layout), runName, layout.dataDirectory],
      {
        detached: true,
        stdio: ['pipe', 'ignore', 'ignore'],
      },
    );
    this.#child.unref();
    // The pipe must not keep the owner running; it is there to break when the owner ends.
    if (
      this.#child.stdin !== null &&
      'unref' in this.#child.stdin &&
      typeof this.#child.stdin.unref === 'function'
    ) {
      this.#child.stdin.unref();
    }
    this.#child.stdin?.on('error', () => undefined);
  }

  /** The cluster may go on alone, or is gone already. */
  release(): void {
    this.#child.stdin?.end('release\n');
  }
}
