import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { PlainStart } from './parse-all-server.ts';

const program = join(import.meta.dirname, 'parse-all-server.ts');

/** An extender of the bench in a process of its own, which ends with this one. */
export interface PlainProcess {
  readonly pid: number;
  readonly extenderPort: number;
  stop(): Promise<void>;
}

/** Starts the parse-all extender with the environment of Berth, flags of Node included. */
export async function startPlainExtender(
  start: PlainStart,
  environment: Readonly<Record<string, string>>,
): Promise<PlainProcess> {
  const child = fork(program, { env: { ...process.env, ...environment }, execArgv: [] });
  const ended = once(child, 'exit');
  child.send(start);
  const first = await Promise.race([once(child, 'message').then(([port]) => Number(port)), ended]);
  if (typeof first !== 'number' || child.pid === undefined)
    throw new Error('the parse-all extender could not be started');
  return {
    pid: child.pid,
    extenderPort: first,
    async stop() {
      child.disconnect();
      await ended;
    },
  };
}
