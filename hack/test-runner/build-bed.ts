import { ensureBinaries } from '../bed/build.ts';
import { BuildError } from '../bed/go-command.ts';

try {
  await ensureBinaries();
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  process.stderr.write(`berth: ${error.message}\n`);
  process.exitCode = 1;
}
