import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** How the image of deploy/ runs Node: variables that it sets, and flags before the program. */
export interface Runtime {
  readonly environment: Readonly<Record<string, string>>;
  readonly nodeFlags: readonly string[];
}

const dockerfilePath = join(import.meta.dirname, '../../deploy/Dockerfile');

/** The environment in which the image runs Berth, flags of Node included: what is measured is what is deployed. */
export async function deployedEnvironment(): Promise<Readonly<Record<string, string>>> {
  const { environment, nodeFlags } = readRuntime(await readFile(dockerfilePath, 'utf8'));
  const options = [environment['NODE_OPTIONS'] ?? '', ...nodeFlags].filter(flag => flag !== '');
  return { ...environment, ...(options.length > 0 && { NODE_OPTIONS: options.join(' ') }) };
}

/** Reads the last stage of a Dockerfile; knows `ENV key=value ...` without quotes, and CMD or ENTRYPOINT as JSON. */
export function readRuntime(dockerfile: string): Runtime {
  const instructions = dockerfile.replaceAll(/\\\n/g, ' ').split('\n');
  const lastStage = instructions.slice(instructions.findLastIndex(line => /^FROM\s/i.test(line)));
  const environment: Record<string, string> = {};
  let nodeFlags: readonly string[] = [];
  for (const line of lastStage) {
    const [, instruction = '', rest = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (instruction.toUpperCase() === 'ENV') Object.assign(environment, assignmentsIn(rest));
    if (['CMD', 'ENTRYPOINT'].includes(instruction.toUpperCase()) && rest.startsWith('['))
      nodeFlags = flagsIn(JSON.parse(rest));
  }
  return { environment, nodeFlags };
}

/** `KEY=value KEY=value` */
export function assignmentsIn(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/(\w+)=(\S*)/g)];
  return Object.fromEntries(pairs.map(([, key = '', value = '']) => [key, value]));
}

/** What stands between `node` and the program. */
function flagsIn(command: readonly string[]): readonly string[] {
  if (command[0] !== 'node') return [];
  const program = command.findIndex((word, index) => index > 0 && !word.startsWith('-'));
  return command.slice(1, program === -1 ? command.length : program);
}
