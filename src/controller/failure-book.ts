import {
  type BreakerName,
  type BreakerReading,
  type BreakerState,
  judgeBreaker,
  type TrippedBreaker,
} from '../failure/breakers.ts';
import type { Intent } from '../failure/intent.ts';
import type { FailureSettings } from '../failure/settings.ts';
import {
  type BadIntent,
  type IntentList,
  intentName,
  isBadIntent,
  type StoredIntent,
} from '../kube/intent-store.ts';

/** What the book asks of the store; see IntentStore. */
export interface IntentStorePort {
  create(intent: Intent): Promise<{ readonly created: boolean; readonly stored: StoredIntent | BadIntent }>;
  update(stored: StoredIntent, intent: Intent): Promise<StoredIntent>;
  list(): Promise<IntentList>;
  prune(
    intents: readonly StoredIntent[],
    limits: { readonly nowMs: number; readonly maxAgeMs: number; readonly maxCount: number },
    mayDelete: () => boolean,
  ): Promise<number>;
  breakers(nowMs: number): Promise<readonly TrippedBreaker[]>;
  trip(breaker: TrippedBreaker): Promise<void>;
  reset(name: BreakerName): Promise<void>;
  isHalted(): Promise<boolean>;
}

export interface FailureBookOptions {
  readonly store: IntentStorePort;
  readonly settings: FailureSettings;
  readonly wallMs: () => number;
  /** Asked right before every write. */
  readonly mayAct: () => boolean;
  readonly readings: (wallMs: number) => readonly BreakerReading[];
  /** Everything was read, and lately: only then does it mean something that nothing bad is seen. */
  readonly isFresh: () => boolean;
  /** An administrator has deleted the ConfigMap of a breaker. */
  readonly onReset: (name: BreakerName) => void;
}

export type BreakerStates = Readonly<Record<BreakerName, BreakerState>>;

interface KnownBreaker {
  readonly tripped: TrippedBreaker;
  /** As it stands in its ConfigMap; undefined before it was written. */
  readonly written: TrippedBreaker | undefined;
}

/** Intents and breakers as they were read or written last. Nothing is decided until `refresh` has read them once. */
export class FailureBook {
  readonly #options: FailureBookOptions;
  readonly #intents = new Map<string, StoredIntent>();
  readonly #bad = new Map<string, BadIntent>();
  readonly #breakers = new Map<BreakerName, KnownBreaker>();
  #isRead = false;

  constructor(options: FailureBookOptions) {
    this.#options = options;
  }

  /** False before the first complete read since `expire`: nothing may be decided then. */
  get isRead(): boolean {
    return this.#isRead;
  }

  get intents(): readonly Intent[] {
    return [...this.#intents.values()].map(stored => stored.intent);
  }

  get bad(): readonly BadIntent[] {
    return [...this.#bad.values()];
  }

  /** The intent of a leader UID, readable or not. */
  of(leaderUid: string): StoredIntent | BadIntent | undefined {
    const name = intentName(leaderUid);
    return this.#intents.get(name) ?? this.#bad.get(name);
  }

  /** Open intents of a group, the oldest first. */
  openOf(group: string): readonly StoredIntent[] {
    return this.open
      .filter(({ intent }) => intent.group === group)
      .sort((a, b) => a.intent.times.intent - b.intent.times.intent);
  }

  get open(): readonly StoredIntent[] {
    return [...this.#intents.values()].filter(({ intent }) => intent.phase !== 'closed');
  }

  openGroups(): ReadonlySet<string> {
    return new Set(this.open.map(({ intent }) => intent.group));
  }

  /** Reads all intents and breakers anew. */
  async refresh(): Promise<void> {
    const { store, wallMs, mayAct, onReset } = this.#options;
    const { intents, bad } = await store.list();
    const listed = new Map((await store.breakers(wallMs())).map(breaker => [breaker.name, breaker]));
    this.#intents.clear();
    this.#bad.clear();
    for (const stored of intents) this.#intents.set(stored.name, stored);
    for (const stored of bad) this.#bad.set(stored.name, stored);
    for (const [name, { written }] of [...this.#breakers]) {
      if (written === undefined || listed.has(name)) continue;
      this.#breakers.delete(name);
      // Of the others nobody knows whether the holder closed it, which says nothing about the nodes.
      if (mayAct()) onReset(name);
    }
    for (const [name, tripped] of listed) this.#breakers.set(name, { tripped, written: tripped });
    this.#isRead = true;
    await this.#keepBreakers();
  }

  /** Writes what has tripped and was not written yet: from now on it outlives this process. */
  async keepTripped(): Promise<void> {
    for (const { tripped, written } of [...this.#breakers.values()])
      if (written === undefined && this.#options.mayAct()) await this.#write(tripped);
  }

  async prune(): Promise<void> {
    const { store, settings, wallMs, mayAct } = this.#options;
    const limits = {
      nowMs: wallMs(),
      maxAgeMs: settings.keepClosedHours * 3_600_000,
      maxCount: settings.keepClosedCount,
    };
    await store.prune([...this.#intents.values()], limits, mayAct);
  }

  /** Another term of the Lease: nothing is decided before the next read. What was known keeps nodes off until then. */
  expire(): void {
    this.#breakers.clear();
    this.#isRead = false;
  }

  async create(
    intent: Intent,
  ): Promise<{ readonly created: boolean; readonly stored: StoredIntent | BadIntent }> {
    const result = await this.#options.store.create(intent);
    const { stored } = result;
    if (isBadIntent(stored)) this.#bad.set(stored.name, stored);
    else this.#intents.set(stored.name, stored);
    return result;
  }

  async update(stored: StoredIntent, intent: Intent): Promise<StoredIntent> {
    const written = await this.#options.store.update(stored, intent);
    this.#intents.set(written.name, written);
    return written;
  }

  /**
   * How the breakers stand by the evidence of now; what trips is written by the next `refresh`.
   * @param except leader UID of an intent that is judged itself: it is no trial under way
   */
  breakerStates(except?: string): BreakerStates {
    const { readings, wallMs, settings } = this.#options;
    const states: Record<BreakerName, BreakerState> = {
      'domain-failure': 'closed',
      'mass-failure': 'closed',
      'device-failure': 'closed',
      'device-mass': 'closed',
    };
    const now = wallMs();
    const intents = this.intents.filter(({ leaderUid }) => leaderUid !== except);
    for (const reading of readings(now)) {
      const { name } = reading;
      const known = this.#breakers.get(name);
      const { state, keep } = judgeBreaker(reading, known?.tripped, intents, now, settings);
      states[name] = state;
      if (keep !== undefined) this.#breakers.set(name, { tripped: keep, written: known?.written });
      else if (known?.written === undefined) this.#breakers.delete(name);
    }
    return states;
  }

  async #keepBreakers(): Promise<void> {
    const { store, mayAct, isFresh } = this.#options;
    const states = this.breakerStates();
    for (const [name, { tripped, written }] of [...this.#breakers]) {
      if (!mayAct()) return;
      if (states[name] === 'closed') {
        if (!isFresh()) continue;
        if (written !== undefined) await store.reset(name);
        this.#breakers.delete(name);
      } else if (JSON.stringify(tripped) !== JSON.stringify(written)) {
        await this.#write(tripped);
      }
    }
  }

  async #write(tripped: TrippedBreaker): Promise<void> {
    await this.#options.store.trip(tripped);
    this.#breakers.set(tripped.name, { tripped, written: tripped });
  }
}
