import { mkdir, mkdtemp, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive, startMarkOf } from './process-facts.ts';

/** Who holds a lock. */
interface Holder {
  readonly pid: number;
  /** When that process started, so that a later process with the same id is not taken for it. */
  readonly startMark: string;
}

const pollMs = 500;
const breakerLifetimeMs = 30_000;

/**
 * Runs `work` while holding the lock folder `path`, so that of two runs that start at once one works and the other
 * waits. A holder that was killed leaves its folder behind: whoever waits sees that its process is gone and takes it.
 *
 * @param onWait called once with the holder's process id when there is something to wait for
 */
export async function withLock<T>(
  path: string,
  onWait: (pid: number) => void,
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  let told = false;
  while (!(await tryAcquire(path))) {
    const holder = await readHolder(path);
    if (holder === undefined || !isHolderAlive(holder)) {
      await breakLock(path);
      continue;
    }
    if (!told) onWait(holder.pid);
    told = true;
    await delay(pollMs);
  }
  try {
    return await work();
  } finally {
    await removeWhole(path);
  }
}

/** The folder arrives complete, holder file inside: a rename over a folder that is not empty fails. */
async function tryAcquire(path: string): Promise<boolean> {
  const fresh = await mkdtemp(`${path}.new-`);
  const holder: Holder = { pid: process.pid, startMark: startMarkOf(process.pid) };
  await writeFile(join(fresh, 'holder.json'), JSON.stringify(holder));
  try {
    await rename(fresh, path);
    return true;
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    if (hasCode(error, 'ENOTEMPTY', 'EEXIST')) return false;
    throw error;
  }
}

/**
 * Two waiters may both see a dead holder; without the breaker folder the slower one would remove the lock that the
 * faster one has just taken.
 */
async function breakLock(path: string): Promise<void> {
  const breaker = `${path}.break`;
  try {
    await mkdir(breaker);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    const age = await stat(breaker)
      .then(facts => Date.now() - facts.mtimeMs)
      .catch(() => 0);
    if (age > breakerLifetimeMs) await rmdir(breaker).catch(() => undefined);
    await delay(pollMs);
    return;
  }
  try {
    const holder = await readHolder(path);
    if (holder === undefined || !isHolderAlive(holder)) await removeWhole(path);
  } finally {
    await rmdir(breaker);
  }
}

/** Moved away first: removed in place, a half-empty lock would look abandoned while its files go one by one. */
async function removeWhole(path: string): Promise<void> {
  const discarded = await mkdtemp(`${path}.old-`);
  try {
    await rename(path, join(discarded, 'lock'));
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  } finally {
    await rm(discarded, { recursive: true, force: true });
  }
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const holder: Holder = JSON.parse(await readFile(join(path, 'holder.json'), 'utf8'));
    return holder;
  } catch {
    return undefined;
  }
}

function isHolderAlive(holder: Holder): boolean {
  return isAlive(holder.pid) && startMarkOf(holder.pid) === holder.startMark;
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
