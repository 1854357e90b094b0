import type { ApiClient } from '../kube/api-client.ts';
import type { PlanSettings } from './plan-settings.ts';
import type { Terminal } from './terminal.ts';

/** What the commands take from the process that they are part of. */
export interface CliContext {
  readonly terminal: Terminal;
  /** What a configuration file of the running process says about planning. */
  readonly settingsOfConfig: (file: string) => Promise<PlanSettings>;
  /** Order in which those that wait are served, as the running process has it. */
  readonly inLine: (a: InLine, b: InLine) => number;
  readonly connect: (options: {
    readonly kubeconfig?: string | undefined;
    readonly context?: string | undefined;
  }) => Promise<{ readonly client: ApiClient; readonly close: () => void }>;
  /** Ends the process when the command is done. */
  readonly setExitCode: (code: number) => void;
}

export interface InLine {
  readonly key: string;
  readonly priority: number;
  readonly createdAtMs: number;
}
