import type { DeviceKey } from '../cluster/devices/device.ts';

interface Known {
  readonly isDown: boolean;
  /** When it went down, of late. */
  readonly wentDownMs: readonly number[];
  /** It went down often enough since it was last up for a while. */
  readonly isRepeated: boolean;
  readonly toldMs: number;
}

/**
 * Counts how often devices went down of late, however many attributes tell of it. A link that goes down once comes up by
 * itself, most times; one that does it again within minutes is sick, and stays so for as long as it is down. What is down
 * when it is first seen has gone down once: many interfaces are never brought up at all.
 */
export class DownAlerts {
  readonly #needed: number;
  readonly #windowMs: number;
  readonly #known = new Map<DeviceKey, Known>();

  constructor(settings: { readonly downAlerts: number; readonly downWindowSeconds: number }) {
    this.#needed = settings.downAlerts;
    this.#windowMs = settings.downWindowSeconds * 1000;
  }

  /**
   * Takes what a published device says of itself now. Without a word nothing is news: the host does not see an interface
   * that a pod has.
   */
  note(key: DeviceKey, says: 'up' | 'down' | 'nothing', nowMs: number): void {
    const before = this.#known.get(key);
    if (before === undefined && says !== 'down') return;
    const { isDown: wasDown = false, isRepeated: wasRepeated = false } = before ?? {};
    const recent = (before?.wentDownMs ?? []).filter(atMs => nowMs - atMs < this.#windowMs);
    const isDown = says === 'nothing' ? wasDown : says === 'down';
    const wentDownMs = isDown && !wasDown ? [...recent, nowMs] : recent;
    const isRepeated = wentDownMs.length >= this.#needed || (isDown && wasRepeated);
    if (!isDown && wentDownMs.length === 0) this.#known.delete(key);
    else this.#known.set(key, { isDown, wentDownMs, isRepeated, toldMs: nowMs });
  }

  /** Whether a device that is down went down often enough to be believed. */
  isRepeated(key: DeviceKey): boolean {
    return this.#known.get(key)?.isRepeated === true;
  }

  /** Forgets devices of which nothing was told for as long as it counts. */
  prune(nowMs: number): void {
    for (const [key, { toldMs }] of this.#known)
      if (nowMs - toldMs >= this.#windowMs) this.#known.delete(key);
  }
}
