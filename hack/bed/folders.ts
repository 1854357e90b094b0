import { homedir } from 'node:os';
import { join } from 'node:path';

/** Folder for everything that is worth keeping between runs: `$BERTH_CACHE`, else the user's cache folder. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return env['BERTH_CACHE'] || join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'berth');
}

/** State file of the detached cluster `name`. */
export function detachedStateFile(name: string): string {
  return join(cacheFolder(), 'clusters', `${name}.json`);
}
