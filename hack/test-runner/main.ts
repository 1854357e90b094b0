import { join } from 'node:path';
import { installDependencies } from './dependencies.ts';

const root = join(import.meta.dirname, '../..');
const startedMs = performance.now();
installDependencies(root);

// Not before: what is imported from there comes from node_modules.
const { runCommand } = await import('./command.ts');
process.exitCode = await runCommand(root, (performance.now() - startedMs) / 1000);
