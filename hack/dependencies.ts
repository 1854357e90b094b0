import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './bed/folders.ts';
import { withLock } from './bed/lock.ts';

/**
 * Brings node_modules in step with package-lock.json, for the scripts of this folder: `production` packages are enough
 * to run things, `dev` ones are needed to test. What was installed is noted inside node_modules, so that the note goes
 * when the folder does. Uses nothing but Node itself; of two that start at once the second waits.
 */
const [wanted = 'dev'] = process.argv.slice(2);
const root = join(import.meta.dirname, '..');
const stampPath = join(root, 'node_modules/.berth-lock');
const hash = createHash('sha256');
for (const file of ['package-lock.json', '.taprc']) hash.update(readFileSync(join(root, file)));
const digest = hash.digest('hex');

if (!isInstalled()) {
  const lock = join(
    cacheFolder(),
    'locks',
    `npm-${createHash('sha256').update(root).digest('hex').slice(0, 16)}`,
  );
  await withLock(
    lock,
    () => process.stderr.write('berth: another run is installing dependencies\n'),
    install,
  );
}

async function install(): Promise<void> {
  if (isInstalled()) return;
  // An installation with everything for tests is never cut down to what a demo needs.
  const mode = wanted === 'dev' || existsSync(join(root, 'node_modules/tap')) ? 'dev' : 'production';
  process.stderr.write(`berth: installing dependencies (npm ci, ${mode})\n`);
  const omit = mode === 'dev' ? '--include=dev' : '--omit=dev';
  run('npm', ['ci', omit, '--no-fund', '--no-audit', '--loglevel=error']);
  // tap would build itself for our plugins in its first run, too, but make that run with its own ones still.
  if (mode === 'dev') run(join(root, 'node_modules/.bin/tap'), ['build']);
  writeFileSync(stampPath, `${digest} ${mode}\n`);
}

function isInstalled(): boolean {
  const stamp = readIfThere(stampPath);
  return stamp === `${digest} dev\n` || (wanted === 'production' && stamp === `${digest} production\n`);
}

function run(program: string, args: readonly string[]): void {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status === 0) return;
  const why = error === undefined ? `${program} ${args[0]} ended with ${status}` : error.message;
  process.stderr.write(
    `berth: dependencies could not be installed: ${why}. Check the network and run this again.\n`,
  );
  process.exit(1);
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
