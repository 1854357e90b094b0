import { compareText } from '../cluster/topology.ts';

/** A group, or a single pod, that waits for a place. */
export interface Waiting {
  readonly key: string;
  readonly priority: number;
  readonly createdAtMs: number;
}

/** Who is served first: higher priority, then who has waited longer, then by name. */
export function byPriorityThenAge(a: Waiting, b: Waiting): number {
  return b.priority - a.priority || a.createdAtMs - b.createdAtMs || compareText(a.key, b.key);
}

/** The first in line that has waited longer than `agedAfterMs`; to it a domain may be reserved. */
export function firstAged(line: readonly Waiting[], nowMs: number, agedAfterMs: number): Waiting | undefined {
  return line.find(waiting => nowMs - waiting.createdAtMs >= agedAfterMs);
}

/** How often something may happen within a window, per key. Forgets by itself. */
export class WindowBudget {
  readonly limit: number;
  readonly windowMs: number;
  readonly #spentAt = new Map<string, number[]>();

  constructor(limit: number, windowMs: number) {
    this.limit = limit;
    this.windowMs = windowMs;
  }

  /** Spends one if the window has one left. */
  take(key: string, nowMs: number): boolean {
    const recent = this.#recent(key, nowMs);
    if (recent.length >= this.limit) return false;
    this.#spentAt.set(key, [...recent, nowMs]);
    return true;
  }

  /** Milliseconds until there is one to spend; 0 when there is one now. */
  waitMs(key: string, nowMs: number): number {
    const recent = this.#recent(key, nowMs);
    const oldest = recent[0];
    return recent.length < this.limit || oldest === undefined ? 0 : oldest + this.windowMs - nowMs;
  }

  #recent(key: string, nowMs: number): number[] {
    const recent = (this.#spentAt.get(key) ?? []).filter(at => nowMs - at < this.windowMs);
    if (recent.length === 0) this.#spentAt.delete(key);
    return recent;
  }
}
