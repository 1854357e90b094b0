import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { cacheFolder } from '../../../hack/bed/folders.ts';
import { runGo } from '../../../hack/bed/go-command.ts';
import type { Taint, Toleration } from '../../../src/api/kubernetes.ts';

/** Amounts by resource name: milli CPUs, and whole numbers of everything else. */
type Amounts = Readonly<Record<string, number>>;

export interface KueueNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly allocatable: Amounts;
  readonly taints?: readonly Taint[];
  readonly cordoned?: boolean;
  /** What each pod takes that Kueue has not placed. */
  readonly used?: readonly Amounts[];
}

export interface KueueDemand {
  /** Without the pod slot, which Kueue counts by itself. */
  readonly requests: Amounts;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly Toleration[];
}

/** A group; a leader of its own kind is one of its `size` members. Levels are node label keys. */
export interface KueueAsk {
  readonly size: number;
  readonly worker: KueueDemand;
  readonly leader?: KueueDemand;
  readonly required?: string;
  readonly preferred?: string;
  readonly slice?: { readonly size: number; readonly level: string };
  /** Kueue remembers under this name which nodes match; without it each node is looked at anew. */
  readonly workload?: string;
}

/** `fleet` starts anew, `ask` finds places, `place` takes them too, `free` gives back what `place` took, if anything. */
export type KueueEvent =
  | { readonly kind: 'fleet'; readonly levels: readonly string[]; readonly nodes: readonly KueueNode[] }
  | { readonly kind: 'ask'; readonly ask: KueueAsk }
  | { readonly kind: 'place'; readonly group: string; readonly ask: KueueAsk }
  | { readonly kind: 'free'; readonly group: string };

export interface KueueAnswer {
  /** The node of each member, the leader's first; absent when Kueue refuses. */
  readonly nodes?: readonly string[];
  /** Why Kueue refuses. */
  readonly reason?: string;
  /** Time in FindTopologyAssignmentsForWorkload. */
  readonly findNs: number;
  /** Time in AddUsage or RemoveUsage. */
  readonly applyNs: number;
}

const folder = import.meta.dirname;
const sources = ['go.mod', 'go.sum', 'main.go', 'fleet.go'];

/** Builds the Go program once per state of its sources and returns its path. The first build takes minutes. */
export async function buildKueueOracle(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of sources) hash.update(readFileSync(join(folder, name)));
  const place = join(cacheFolder(), 'oracles', `kueue-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(place)) return place;
  mkdirSync(join(cacheFolder(), 'oracles'), { recursive: true });
  const fresh = `${place}.${process.pid}`;
  await runGo({ arguments: ['build', '-mod=mod', '-o', fresh, '.'], folder });
  renameSync(fresh, place);
  return place;
}

/**
 * Puts events to Kueue, in their order, and returns an answer for each.
 *
 * @throws Error when Kueue itself fails, e.g. for a level that is none
 */
export async function askKueue(
  oracle: string,
  events: Iterable<KueueEvent>,
): Promise<readonly KueueAnswer[]> {
  const child = spawn(oracle, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  // When it does not listen any more, what it ended with tells why.
  const written = pipeline(Readable.from(linesOf(events)), child.stdin).catch(() => {});
  try {
    const [answers, code] = await Promise.all([readAnswers(child.stdout), ended, written]);
    if (code !== 0) throw new Error(`the Kueue oracle ended with ${code}`);
    return answers;
  } finally {
    child.kill();
  }
}

function* linesOf(events: Iterable<KueueEvent>): Iterable<string> {
  for (const event of events) yield `${JSON.stringify(event)}\n`;
}

async function readAnswers(from: NodeJS.ReadableStream): Promise<readonly KueueAnswer[]> {
  const answers: KueueAnswer[] = [];
  for await (const line of createInterface({ input: from })) {
    const { error, ...answer }: KueueAnswer & { error?: string } = JSON.parse(line);
    if (error !== undefined) throw new Error(`the Kueue oracle failed at event ${answers.length}: ${error}`);
    answers.push(answer);
  }
  return answers;
}
