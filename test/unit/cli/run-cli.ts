import { Command, CommanderError } from 'commander';
import type { CliContext } from '../../../src/cli/cli-context.ts';
import { exitCodes } from '../../../src/cli/exit-codes.ts';
import { InputError } from '../../../src/cli/input-error.ts';
import { definePlan } from '../../../src/cli/plan-command.ts';
import { defineSimulate } from '../../../src/cli/simulate-command.ts';
import { defineSnapshot } from '../../../src/cli/snapshot-command.ts';
import { byPriorityThenAge } from '../../../src/controller/waiting-line.ts';
import type { ApiClient } from '../../../src/kube/api-client.ts';

export interface CliRun {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface CliSurroundings {
  readonly stdin?: string;
  readonly client?: ApiClient;
  readonly env?: Readonly<Record<string, string>>;
  readonly outIsTerminal?: boolean;
  readonly errIsTerminal?: boolean;
  /** Each reading of the clock is so much later than the one before. */
  readonly stepMs?: number;
}

/** Runs a command as src/main.ts would, in this process; exit codes of the process itself are tested in exit-codes.test.ts. */
export async function runCli(args: readonly string[], surroundings: CliSurroundings = {}): Promise<CliRun> {
  const { stdin = '', client, env = {}, outIsTerminal = false, errIsTerminal = false } = surroundings;
  let out = '';
  let err = '';
  let code: number = exitCodes.done;
  let nowMs = 0;
  const context: CliContext = {
    terminal: {
      out: text => {
        out += text;
      },
      err: text => {
        err += text;
      },
      readStdin: async () => stdin,
      env,
      outIsTerminal,
      errIsTerminal,
      nowMs: () => {
        nowMs += surroundings.stepMs ?? 0;
        return nowMs;
      },
    },
    settingsOfConfig: async file => {
      throw new InputError([`${file}: not used here`]);
    },
    inLine: byPriorityThenAge,
    connect: async () => {
      if (client === undefined) throw new Error('no cluster here');
      return { client, close: () => {} };
    },
    setExitCode: wanted => {
      code = wanted;
    },
  };
  const program = new Command('berth').exitOverride().configureOutput({
    writeOut: text => {
      out += text;
    },
    writeErr: text => {
      err += text;
    },
  });
  definePlan(program.command('plan'), context);
  defineSimulate(program.command('simulate'), context);
  defineSnapshot(program.command('snapshot'), context);
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) code = error.exitCode === 0 ? exitCodes.done : exitCodes.misuse;
    else if (error instanceof InputError) {
      code = exitCodes.misuse;
      err += `${error.message}\n`;
    } else throw error;
  }
  return { code, out, err };
}
