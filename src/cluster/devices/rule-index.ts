import type { DeviceSlice } from './device.ts';
import { poolKey } from './slice-index.ts';
import { concernsSlice, type TaintRuleRecord } from './taint-rules.ts';

interface Numbered {
  readonly rule: TaintRuleRecord;
  readonly number: number;
}

/**
 * Taint rules, found by the pool that they are about: a cluster in trouble has thousands of them, and a slice is published
 * anew hundreds of times a second. Those that may mean several pools are few.
 */
export class RuleIndex {
  readonly #byKey = new Map<string, Numbered>();
  readonly #byPool = new Map<string, Map<string, Numbered>>();
  readonly #wide = new Map<string, Numbered>();
  #next = 0;

  /** Takes a rule in, in place of the one of the same key if there is one. */
  put(key: string, rule: TaintRuleRecord): void {
    const number = this.#byKey.get(key)?.number ?? this.#next++;
    this.remove(key);
    const numbered = { rule, number };
    this.#byKey.set(key, numbered);
    const pool = poolOf(rule);
    if (pool === undefined) this.#wide.set(key, numbered);
    else this.#byPool.set(pool, (this.#byPool.get(pool) ?? new Map<string, Numbered>()).set(key, numbered));
  }

  remove(key: string): void {
    const known = this.#byKey.get(key);
    if (known === undefined) return;
    this.#byKey.delete(key);
    this.#wide.delete(key);
    const pool = poolOf(known.rule);
    const ofPool = pool === undefined ? undefined : this.#byPool.get(pool);
    ofPool?.delete(key);
    if (pool !== undefined && ofPool?.size === 0) this.#byPool.delete(pool);
  }

  /** Rules that may have a say about a slice, in the order in which they came. */
  concerning(slice: DeviceSlice): readonly TaintRuleRecord[] {
    const ofPool = this.#byPool.get(poolKey(slice.driver, slice.pool))?.values() ?? [];
    return [...ofPool, ...[...this.#wide.values()].filter(({ rule }) => concernsSlice(rule, slice))]
      .sort((a, b) => a.number - b.number)
      .map(({ rule }) => rule);
  }
}

/** Key of the one pool that a rule is about; undefined where it may mean several. */
function poolOf({ selector }: TaintRuleRecord): string | undefined {
  if (selector?.driver === undefined || selector.pool === undefined) return undefined;
  return poolKey(selector.driver, selector.pool);
}
