import { stringify } from 'yaml';
import { InputError } from './input-error.ts';

/** Where a command reads and writes; a test gives its own. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly readStdin: () => Promise<string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  /** Monotonic. */
  readonly nowMs: () => number;
}

export const outputFormats = ['table', 'json', 'yaml', 'picture'] as const;

export type OutputFormat = (typeof outputFormats)[number];

/** @throws InputError for a word that is no format */
export function outputFormat(text: string): OutputFormat {
  const found = outputFormats.find(format => format === text);
  if (found === undefined) throw new InputError([`--output: ${text} is none of ${outputFormats.join(', ')}`]);
  return found;
}

/** JSON, or the same as YAML; keys in the order of the object. */
export function structured(value: unknown, format: 'json' | 'yaml'): string {
  return format === 'json'
    ? `${JSON.stringify(value, null, 2)}\n`
    : stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** The process itself. */
export function processTerminal(): Terminal {
  return {
    out: writeOut,
    err: text => void process.stderr.write(text),
    readStdin: async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk));
      return Buffer.concat(chunks).toString('utf8');
    },
    env: process.env,
    outIsTerminal: process.stdout.isTTY === true,
    errIsTerminal: process.stderr.isTTY === true,
    nowMs: () => performance.now(),
  };
}

/** Whoever reads may have had enough (`| head`): that is no failure, and nothing is left to do. */
function writeOut(text: string): void {
  if (process.stdout.listenerCount('error') === 0) {
    process.stdout.on('error', error => {
      if ('code' in error && error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
  process.stdout.write(text);
}
