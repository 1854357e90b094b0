import type { ClusterCache } from '../cache/cluster-cache.ts';
import { type DrainStep, drainStep } from '../failure/drain.ts';
import { type Front, frontsOf } from '../failure/fronts.ts';
import { type Intent, namespaceOf } from '../failure/intent.ts';
import { elapsedMs } from '../failure/next-step.ts';
import type { FailureSettings } from '../failure/settings.ts';
import { failureKind } from '../kube/api-errors.ts';
import type { FailureBook } from './failure-book.ts';
import { drainMembers } from './failure-facts.ts';
import type { FailureWrites } from './failure-writes.ts';

export interface GroupDrainOptions {
  readonly cache: ClusterCache;
  readonly book: FailureBook;
  readonly settings: FailureSettings;
  readonly writes: FailureWrites;
  readonly wallMs: () => number;
}

/** Each member that becomes unready brings its group back, and each look asks the API server much. */
export const drainLookMs = 200;

/** Looks whether a group must be taken out of traffic, and whether it is. Writes nothing. */
export class GroupDrain {
  readonly #options: GroupDrainOptions;
  /** When groups were looked at last, by leader UID; wall-clock milliseconds. */
  readonly #lookedAt = new Map<string, number>();

  constructor(options: GroupDrainOptions) {
    this.#options = options;
  }

  /** Milliseconds until a group that drains may be looked at again; 0 for now, which is then remembered. */
  restMs({ leaderUid, times }: Intent): number {
    const now = this.#options.wallMs();
    const since = this.#lookedAt.get(leaderUid);
    const restMs = since === undefined ? 0 : drainLookMs - elapsedMs(since, now);
    if (times.drain !== undefined && restMs > 0) return restMs;
    this.#lookedAt.set(leaderUid, now);
    return 0;
  }

  forget(leaderUid: string): void {
    this.#lookedAt.delete(leaderUid);
  }

  clear(): void {
    this.#lookedAt.clear();
  }

  /** Who sends requests in the group's namespace now; undefined when that could not be read. */
  async liveFronts(intent: Intent): Promise<readonly Front[] | undefined> {
    const { cache, writes } = this.#options;
    if (drainMembers(cache, intent, this.#intents).gated.length === 0) return [];
    const namespace = namespaceOf(intent);
    try {
      const [slices, pools] = await Promise.all([
        unlessForbidden(writes.liveEndpointSlices(namespace)),
        unlessForbidden(writes.liveInferencePools(namespace)),
      ]);
      const pods = pools.length === 0 ? [] : [...cache.allPods()].filter(pod => pod.namespace === namespace);
      return frontsOf(slices, pools, pods);
    } catch {
      // An eviction must not hang on it: the group waits its time instead.
      return undefined;
    }
  }

  readonly #intents = () => this.#options.book.intents;

  step(intent: Intent, fronts: readonly Front[] | undefined): DrainStep {
    const { cache, settings, wallMs } = this.#options;
    const { signal, times } = intent;
    return drainStep({
      ...drainMembers(cache, intent, this.#intents),
      signal,
      fronts,
      drainingForMs: times.drain === undefined ? undefined : elapsedMs(times.drain, wallMs()),
      drainMs: settings.drainSeconds * 1000,
      drainMaxMs: settings.drainMaxSeconds * 1000,
    });
  }
}

/** Without the right to see them there are none for Berth. */
async function unlessForbidden<T>(read: Promise<readonly T[]>): Promise<readonly T[]> {
  try {
    return await read;
  } catch (error) {
    if (failureKind(error) === 'forbidden') return [];
    throw error;
  }
}
