import { createHash } from 'node:crypto';
import type { ConfigMap } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import { type BreakerName, breakerNames, type TrippedBreaker } from '../failure/breakers.ts';
import { formatIntent, type Intent, isIntentError, parseIntent, timeText } from '../failure/intent.ts';
import { ApiGarbled, failureKind } from './api-errors.ts';
import { isRecord } from './raw-object.ts';
import { RecordMaps, type RecordMapsOptions } from './record-maps.ts';

/** An intent as it was read or written last. */
export interface StoredIntent {
  /** Of its ConfigMap. */
  readonly name: string;
  readonly resourceVersion: string;
  readonly intent: Intent;
}

/** A ConfigMap that says it is an intent and cannot be read as one. It still blocks the leader UID of its name. */
export interface BadIntent {
  readonly name: string;
  readonly message: string;
}

export interface IntentList {
  readonly intents: readonly StoredIntent[];
  readonly bad: readonly BadIntent[];
}

export interface IntentStoreOptions extends RecordMapsOptions {
  /** ConfigMap of Berth's configuration, which may bear the halt annotation. */
  readonly configMapName: string;
}

const intentKey = 'intent.json';
const breakerKey = 'breaker.json';

/** Name of the ConfigMap of a leader's intent: the same in every replica, so that only one can create it. */
export function intentName(leaderUid: string): string {
  return `berth-intent-${createHash('sha256').update(leaderUid).digest('hex').slice(0, 16)}`;
}

/**
 * Intents and tripped breakers as ConfigMaps. Every read asks the API server for the latest state (no resourceVersion,
 * so a quorum read); all methods throw as `ApiClient.request` does.
 */
export class IntentStore {
  readonly #options: IntentStoreOptions;
  readonly #maps: RecordMaps;

  constructor(options: IntentStoreOptions) {
    this.#options = options;
    this.#maps = new RecordMaps(options);
  }

  /** Creates the intent, or reads the one that is there for this leader already. */
  async create(
    intent: Intent,
  ): Promise<{ readonly created: boolean; readonly stored: StoredIntent | BadIntent }> {
    const name = intentName(intent.leaderUid);
    try {
      const raw = await this.#maps.create(this.#intentObject(name, intent));
      return { created: true, stored: storedIntent(raw) };
    } catch (error) {
      if (failureKind(error) !== 'exists') throw error;
      return { created: false, stored: storedIntent(await this.#maps.get(name)) };
    }
  }

  /** Replaces an intent as it was read; fails with kind `conflict` when it has changed since. */
  async update(stored: StoredIntent, intent: Intent): Promise<StoredIntent> {
    const body = this.#intentObject(stored.name, intent, stored.resourceVersion);
    const written = storedIntent(await this.#maps.replace(body));
    if (isBadIntent(written)) throw new TypeError(`ConfigMap ${written.name}: ${written.message}`);
    return written;
  }

  /** All intents, open and closed. */
  async list(): Promise<IntentList> {
    const intents: StoredIntent[] = [];
    const bad: BadIntent[] = [];
    for (const raw of await this.#maps.list(berth.intent)) {
      const stored = storedIntent(raw);
      if (isBadIntent(stored)) bad.push(stored);
      else intents.push(stored);
    }
    return { intents, bad };
  }

  /** Deletes closed intents that are older than `maxAgeMs` or beyond the newest `maxCount`. Returns how many. */
  async prune(
    intents: readonly StoredIntent[],
    limits: { readonly nowMs: number; readonly maxAgeMs: number; readonly maxCount: number },
    mayDelete: () => boolean,
  ): Promise<number> {
    const closed = intents
      .filter(({ intent }) => intent.phase === 'closed')
      .sort((a, b) => b.intent.times.intent - a.intent.times.intent);
    const old = closed.filter(
      ({ intent }, at) => at >= limits.maxCount || limits.nowMs - intent.times.intent >= limits.maxAgeMs,
    );
    let pruned = 0;
    for (const { name, resourceVersion } of old) {
      if (!mayDelete()) break;
      if (await this.#maps.remove(name, resourceVersion)) pruned += 1;
    }
    return pruned;
  }

  /** Breakers that are tripped. One that cannot be read counts as tripped at the time that is given as now. */
  async breakers(nowMs: number): Promise<readonly TrippedBreaker[]> {
    const found = new Map<BreakerName, TrippedBreaker>();
    for (const raw of await this.#maps.list(berth.breaker)) {
      const name = breakerNames.find(known => known === raw.metadata.labels?.[berth.breaker]);
      if (name !== undefined) found.set(name, parseBreaker(name, raw.data?.[breakerKey], nowMs));
    }
    return [...found.values()];
  }

  /** Writes a tripped breaker, whether there was one or not. */
  async trip(breaker: TrippedBreaker): Promise<void> {
    const body = this.#breakerObject(breaker);
    try {
      await this.#maps.replace(body);
    } catch (error) {
      if (failureKind(error) !== 'gone') throw error;
      await this.#maps.create(body);
    }
  }

  async reset(name: BreakerName): Promise<void> {
    await this.#maps.remove(breakerObjectName(name));
  }

  /** Whether an administrator has halted evictions; asked live before every destructive call. */
  async isHalted(): Promise<boolean> {
    try {
      const config = await this.#maps.get(this.#options.configMapName);
      // An answer without metadata is no ConfigMap: whoever speaks there says nothing about a halt.
      if (config?.metadata?.name === undefined) throw new ApiGarbled('the configuration is no ConfigMap');
      return config.metadata.annotations?.[berth.halt] !== undefined;
    } catch (error) {
      if (failureKind(error) === 'gone') return false;
      throw error;
    }
  }

  #intentObject(name: string, intent: Intent, resourceVersion?: string): ConfigMap {
    return {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        namespace: this.#options.namespace,
        name,
        labels: { [berth.intent]: intent.phase === 'closed' ? 'closed' : 'open' },
        ...(resourceVersion !== undefined && { resourceVersion }),
      },
      data: { [intentKey]: formatIntent(intent) },
    };
  }

  #breakerObject({ name, trippedAtMs, lastBadAtMs, reason }: TrippedBreaker) {
    const times = { trippedAt: timeText(trippedAtMs), lastBadAt: timeText(lastBadAtMs) };
    return {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        namespace: this.#options.namespace,
        name: breakerObjectName(name),
        labels: { [berth.breaker]: name },
      },
      data: { [breakerKey]: JSON.stringify({ version: 1, ...times, reason }) },
    } as const;
  }
}

export function isBadIntent(stored: StoredIntent | BadIntent): stored is BadIntent {
  return 'message' in stored;
}

function breakerObjectName(name: BreakerName): string {
  return `berth-breaker-${name}`;
}

/** The name must be that of the leader UID inside: a copy under another name would be a second intent of it. */
function storedIntent(raw: ConfigMap): StoredIntent | BadIntent {
  const name = raw.metadata.name ?? '';
  const intent = parseIntent(raw.data?.[intentKey] ?? '');
  if (isIntentError(intent)) return { name, message: intent.message };
  if (intentName(intent.leaderUid) !== name)
    return { name, message: 'leaderUID does not belong to the name' };
  return { name, resourceVersion: raw.metadata.resourceVersion ?? '', intent };
}

function parseBreaker(name: BreakerName, text: string | undefined, nowMs: number): TrippedBreaker {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '');
  } catch {
    value = undefined;
  }
  const record = isRecord(value) ? value : {};
  const { reason } = record;
  return {
    name,
    trippedAtMs: timeOf(record['trippedAt'], nowMs),
    lastBadAtMs: timeOf(record['lastBadAt'], nowMs),
    reason: typeof reason === 'string' ? reason : 'its ConfigMap cannot be read',
  };
}

/** A time ahead of now, or none at all, counts as now. */
function timeOf(value: unknown, nowMs: number): number {
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(ms) ? nowMs : Math.min(ms, nowMs);
}
