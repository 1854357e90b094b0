import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Development dependencies are installed too; an image has none and says so in its own way. */
const mode = 'dev';

/**
 * Brings node_modules in step with package-lock.json, by `npm ci` when they differ. What was installed is noted inside
 * node_modules, so that the note goes when the folder does. Uses nothing but Node itself.
 */
export function installDependencies(root: string): void {
  const stampPath = join(root, 'node_modules/.berth-lock');
  const hash = createHash('sha256');
  for (const file of ['package-lock.json', '.taprc']) hash.update(readFileSync(join(root, file)));
  const stamp = `${hash.digest('hex')} ${mode}\n`;
  if (readIfThere(stampPath) === stamp) return;
  process.stderr.write('berth: installing dependencies (npm ci)\n');
  run(root, 'npm', ['ci', '--include=dev', '--no-fund', '--no-audit', '--loglevel=error']);
  // tap would build itself for our plugins in its first run, too, but make that run with its own ones still.
  run(root, join(root, 'node_modules/.bin/tap'), ['build']);
  writeFileSync(stampPath, stamp);
}

function run(root: string, program: string, args: readonly string[]): void {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status === 0) return;
  const why = error === undefined ? `${program} ${args[0]} ended with ${status}` : error.message;
  process.stderr.write(`berth: dependencies could not be installed: ${why}\n`);
  process.exit(1);
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
