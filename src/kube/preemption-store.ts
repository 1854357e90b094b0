import { createHash } from 'node:crypto';
import type { ConfigMap } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import {
  formatPreemption,
  isPreemptionError,
  type Preemption,
  parsePreemption,
} from '../failure/preemption.ts';
import { failureKind } from './api-errors.ts';
import type { RecordMaps } from './record-maps.ts';

/** A preemption as it was read or written last. */
export interface StoredPreemption {
  /** Of its ConfigMap. */
  readonly name: string;
  readonly resourceVersion: string;
  readonly preemption: Preemption;
}

export interface PreemptionList {
  readonly preemptions: readonly StoredPreemption[];
  /** Names of ConfigMaps that say they are preemptions and cannot be read as such, each with the cause. */
  readonly bad: readonly { readonly name: string; readonly message: string }[];
}

const dataKey = 'preemption.json';

/** The same in every replica, so that only one of them can begin a leader's next preemption. */
export function preemptionName({ leaderUid, attempt }: Pick<Preemption, 'leaderUid' | 'attempt'>): string {
  const hash = createHash('sha256').update(`${leaderUid}/${attempt}`).digest('hex').slice(0, 16);
  return `berth-preemption-${hash}`;
}

/** Preemptions as ConfigMaps; all methods throw as `ApiClient.request` does. */
export class PreemptionStore {
  readonly #maps: RecordMaps;

  constructor(maps: RecordMaps) {
    this.#maps = maps;
  }

  async list(): Promise<PreemptionList> {
    const preemptions: StoredPreemption[] = [];
    const bad: { name: string; message: string }[] = [];
    for (const raw of await this.#maps.list(berth.preemption)) {
      const stored = storedPreemption(raw);
      if ('message' in stored) bad.push(stored);
      else preemptions.push(stored);
    }
    return { preemptions, bad };
  }

  /** Undefined when somebody else has begun it. */
  async create(preemption: Preemption): Promise<StoredPreemption | undefined> {
    const name = preemptionName(preemption);
    try {
      return known(storedPreemption(await this.#maps.create(this.#object(name, preemption))));
    } catch (error) {
      if (failureKind(error) !== 'exists') throw error;
      return undefined;
    }
  }

  /** Replaces one as it was read; fails with kind `conflict` when it has changed since. */
  async update(stored: StoredPreemption, preemption: Preemption): Promise<StoredPreemption> {
    const object = this.#object(stored.name, preemption, stored.resourceVersion);
    return known(storedPreemption(await this.#maps.replace(object)));
  }

  /** False when it is gone already or has changed. */
  remove({ name, resourceVersion }: StoredPreemption): Promise<boolean> {
    return this.#maps.remove(name, resourceVersion);
  }

  #object(name: string, preemption: Preemption, resourceVersion?: string): ConfigMap {
    return {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        namespace: this.#maps.namespace,
        name,
        labels: { [berth.preemption]: preemption.ended === undefined ? 'open' : 'closed' },
        ...(resourceVersion !== undefined && { resourceVersion }),
      },
      data: { [dataKey]: formatPreemption(preemption) },
    };
  }
}

type Stored = StoredPreemption | PreemptionList['bad'][number];

/** The name must be that of what is inside: a copy under another name would be counted twice. */
function storedPreemption(raw: ConfigMap): Stored {
  const { name = '', resourceVersion = '' } = raw.metadata;
  const preemption = parsePreemption(raw.data?.[dataKey] ?? '');
  if (isPreemptionError(preemption)) return { name, message: preemption.message };
  if (preemptionName(preemption) !== name)
    return { name, message: 'leaderUID and attempt do not belong to the name' };
  return { name, resourceVersion, preemption };
}

function known(stored: Stored): StoredPreemption {
  if ('message' in stored) throw new TypeError(`ConfigMap ${stored.name}: ${stored.message}`);
  return stored;
}
