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
const { installDependencies } = await import('../test-runner/dependencies.ts');
installDependencies(root);

// Not before: what is imported from there comes from node_modules.
const { runCommand } = await import('./command.ts');
process.exitCode = await runCommand();
