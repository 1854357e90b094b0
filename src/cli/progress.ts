import type { Terminal } from './terminal.ts';

/** Tells how far a long run is. */
export interface Progress {
  readonly at: (done: number) => void;
  readonly end: () => void;
}

const redrawEveryMs = 200;
/** A run that writes into a file says something only when it takes long, and then seldom. */
const sayEveryMs = 10_000;

/** One line that is redrawn on a terminal; elsewhere a line every 10 s. */
export function startProgress(what: string, total: number, terminal: Terminal): Progress {
  const { errIsTerminal, err, nowMs } = terminal;
  const everyMs = errIsTerminal ? redrawEveryMs : sayEveryMs;
  let lastMs = nowMs();
  let drawn = false;
  return {
    at(done) {
      if (nowMs() - lastMs < everyMs) return;
      lastMs = nowMs();
      const text = `${what}: ${done} of ${total} events (${Math.floor((100 * done) / total)} %)`;
      err(errIsTerminal ? `\r${text}` : `${text}\n`);
      drawn = errIsTerminal;
    },
    end() {
      if (drawn) err('\r\u001b[K');
    },
  };
}
