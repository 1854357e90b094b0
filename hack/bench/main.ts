import { existsSync } from 'node:fs';
import { join } from 'node:path';

const neededMajor = 24;
const root = join(import.meta.dirname, '../..');

if (Number(process.versions.node.split('.')[0]) < neededMajor) {
  process.stderr.write(
    `berth: the benchmarks need Node ${neededMajor} or newer, this is ${process.versions.node}. ` +
      '`hack/node hack/bench/main.ts` brings one.\n',
  );
  process.exit(2);
}
if (process.platform !== 'linux') {
  process.stderr.write('berth: the benchmarks read /proc, which only Linux has.\n');
  process.exit(2);
}
// npm writes this file last.
if (!existsSync(join(root, 'node_modules/.package-lock.json'))) {
  process.stderr.write('berth: dependencies are missing; `npm ci` installs them.\n');
  process.exit(2);
}
// Not before: what is imported from there comes from node_modules.
const { runCommand } = await import('./command.ts');
process.exitCode = await runCommand();
