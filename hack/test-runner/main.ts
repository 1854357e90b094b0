import { join } from 'node:path';
import { runCommand } from './command.ts';

const startedMs = Number(process.env['BERTH_TEST_STARTED_MS'] ?? Date.now());
process.exitCode = await runCommand(join(import.meta.dirname, '../..'), (Date.now() - startedMs) / 1000);
