import type { Preemption } from '../failure/preemption.ts';
import type { PreemptionList, StoredPreemption } from '../kube/preemption-store.ts';
import type { PastPreemption } from './preemption.ts';

/** What the book asks of the store; see PreemptionStore. */
export interface PreemptionStorePort {
  list(): Promise<PreemptionList>;
  create(preemption: Preemption): Promise<StoredPreemption | undefined>;
  update(stored: StoredPreemption, preemption: Preemption): Promise<StoredPreemption>;
  remove(stored: StoredPreemption): Promise<boolean>;
}

export interface PreemptionBookLimits {
  readonly keepClosedHours: number;
  readonly keepClosedCount: number;
}

/** Preemptions as they were read or written last. Nothing is decided until `refresh` has read them once. */
export class PreemptionBook {
  readonly #store: PreemptionStorePort;
  readonly #known = new Map<string, StoredPreemption>();
  #bad: PreemptionList['bad'] = [];
  #isRead = false;

  constructor(store: PreemptionStorePort) {
    this.#store = store;
  }

  /** False before the first complete read since `expire`. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** Records that somebody has edited: what they say is not known, so nothing new may begin. */
  get bad(): PreemptionList['bad'] {
    return this.#bad;
  }

  get open(): readonly StoredPreemption[] {
    return [...this.#known.values()].filter(({ preemption }) => preemption.ended === undefined);
  }

  of(name: string): StoredPreemption | undefined {
    return this.#known.get(name);
  }

  openOf(group: string): StoredPreemption | undefined {
    return this.open.find(({ preemption }) => preemption.group === group);
  }

  /** Number of the next preemption for a leader. */
  nextAttempt(leaderUid: string): number {
    const attempts = [...this.#known.values()]
      .filter(({ preemption }) => preemption.leaderUid === leaderUid)
      .map(({ preemption }) => preemption.attempt);
    return Math.max(-1, ...attempts) + 1;
  }

  /** For budgets and back-off. One that ended before anybody left cost nothing, unless it was given up. */
  past(): readonly PastPreemption[] {
    const pastOf = ({ preemption }: StoredPreemption): readonly PastPreemption[] => {
      const { group, begunMs, ended, victims } = preemption;
      const went = victims.filter(({ wentMs }) => wentMs !== undefined).length;
      if (ended === undefined) return [{ group, begunMs, ended: undefined, victims: victims.length }];
      const placed = ended.outcome === 'placed';
      if (went === 0 && ended.outcome === 'preemptor-gone') return [];
      return [{ group, begunMs, ended: { atMs: ended.atMs, placed }, victims: went }];
    };
    return [...this.#known.values()].flatMap(pastOf);
  }

  async refresh(): Promise<void> {
    const { preemptions, bad } = await this.#store.list();
    this.#known.clear();
    for (const stored of preemptions) this.#known.set(stored.name, stored);
    this.#bad = bad;
    this.#isRead = true;
  }

  /** Another term of the Lease: nothing is decided before the next read. */
  expire(): void {
    this.#isRead = false;
  }

  async create(preemption: Preemption): Promise<StoredPreemption | undefined> {
    const stored = await this.#store.create(preemption);
    if (stored !== undefined) this.#known.set(stored.name, stored);
    return stored;
  }

  async update(stored: StoredPreemption, preemption: Preemption): Promise<StoredPreemption> {
    const written = await this.#store.update(stored, preemption);
    this.#known.set(written.name, written);
    return written;
  }

  /** Deletes what ended long ago. */
  async prune(
    { keepClosedHours, keepClosedCount }: PreemptionBookLimits,
    nowMs: number,
    mayDelete: () => boolean,
  ): Promise<void> {
    const closed = [...this.#known.values()]
      .filter(({ preemption }) => preemption.ended !== undefined)
      .sort((a, b) => b.preemption.begunMs - a.preemption.begunMs);
    const oldestMs = nowMs - keepClosedHours * 3_600_000;
    for (const [at, stored] of closed.entries()) {
      if (at < keepClosedCount && stored.preemption.begunMs > oldestMs) continue;
      if (!mayDelete()) return;
      if (await this.#store.remove(stored)) this.#known.delete(stored.name);
    }
  }
}
