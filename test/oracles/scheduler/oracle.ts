import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../../hack/bed/folders.ts';
import { runGo } from '../../../hack/bed/go-command.ts';

export type Answer = Readonly<Record<string, unknown>>;

/** Kubernetes that the Go program is made of. Of 1.36 it has the structured allocator alone. */
export type Release = '1.36' | '1.37';

const folder = import.meta.dirname;
const packages: Readonly<Record<Release, readonly string[]>> = {
  '1.36': ['-modfile=go.1.36.mod', 'devices.go', 'lines.go', 'main-1.36.go'],
  '1.37': ['.'],
};

/** Asks the Go program all questions, one JSON object each, and gives its answers in the same order. */
export async function ask(
  questions: readonly unknown[],
  release: Release = '1.37',
): Promise<readonly Answer[]> {
  const oracle = await buildOracle(release);
  return new Promise((resolve, reject) => {
    const child = spawn(oracle, { stdio: ['pipe', 'pipe', 'pipe'] });
    const output: Buffer[] = [];
    const said: Buffer[] = [];
    child.stdout.on('data', chunk => output.push(chunk));
    child.stderr.on('data', chunk => said.push(chunk));
    child.on('error', reject);
    child.on('close', status => {
      if (status !== 0) return reject(new Error(`the oracle ended with ${status}: ${Buffer.concat(said)}`));
      const lines = Buffer.concat(output).toString('utf8').trimEnd().split('\n');
      resolve(lines.map(line => JSON.parse(line)));
    });
    child.stdin.on('error', reject);
    child.stdin.end(questions.map(question => JSON.stringify(question)).join('\n'));
  });
}

/** Builds the Go program once per state of its sources. */
async function buildOracle(release: Release): Promise<string> {
  const hash = createHash('sha256');
  const sources = readdirSync(folder).filter(name => name.startsWith('go.') || name.endsWith('.go'));
  for (const name of sources.sort()) hash.update(name).update(readFileSync(join(folder, name)));
  const place = join(cacheFolder(), 'oracles', `scheduler-${release}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(place)) return place;
  mkdirSync(join(cacheFolder(), 'oracles'), { recursive: true });
  const fresh = `${place}.${process.pid}`;
  await runGo({ arguments: ['build', '-mod=mod', '-o', fresh, ...packages[release]], folder });
  renameSync(fresh, place);
  return place;
}
