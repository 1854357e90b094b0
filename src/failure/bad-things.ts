import { compareText } from '../cluster/topology.ts';

/** A node or device that was or is bad. */
export interface BadThing {
  /** Name of the node, or key of the device. */
  readonly name: string;
  /** Of a node, where it is known. */
  readonly uid: string | undefined;
  readonly firstSeenMs: number;
  readonly stands: boolean;
}

export interface BadTally {
  readonly newly: ReadonlyMap<string, number>;
  readonly unacknowledged: ReadonlyMap<string, number>;
  /** First sight of what went bad last, of those that are bad or new. */
  readonly lastBadMs: number | undefined;
  readonly anyStands: boolean;
}

interface Entry {
  readonly uid: string | undefined;
  readonly firstSeenMs: number;
  acknowledged: boolean;
}

/**
 * Nodes or devices that evidence blames, for the breakers: each is counted once whatever tells of it, and remembered for
 * a window after it is well again, or does not exist any more.
 */
export class BadThings {
  readonly #windowMs: number;
  readonly #entries = new Map<string, Entry>();
  /** How many pieces of evidence blame each now. */
  readonly #blame = new Map<string, number>();
  #added = 0;
  #turned = 0;

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  /** Another number whenever one more thing, or one anew, is remembered, or all are acknowledged. */
  get added(): number {
    return this.#added;
  }

  /** Another number whenever a thing has gone bad or is well again, remembered or not. */
  get turned(): number {
    return this.#turned;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** One piece of evidence against it has come (1) or gone (-1). */
  count(name: string, uid: string | undefined, by: 1 | -1, nowMs: number): void {
    const count = (this.#blame.get(name) ?? 0) + by;
    if (count === 0 || (count === 1 && by > 0)) this.#turned += 1;
    if (count > 0) this.#blame.set(name, count);
    else this.#blame.delete(name);
    if (by < 0) return;
    const known = this.#entries.get(name);
    // What flaps is one bad thing for as long as the window remembers it.
    const isOld = known !== undefined && count === 1 && nowMs - known.firstSeenMs >= this.#windowMs;
    const isOther = known !== undefined && uid !== undefined && known.uid !== uid;
    if (known === undefined || isOld) {
      this.#entries.set(name, { uid, firstSeenMs: nowMs, acknowledged: false });
      this.#added += 1;
    } else if (isOther) this.#entries.set(name, { ...known, uid });
  }

  /** Bad now. */
  standing(): readonly BadThing[] {
    return this.#those(name => this.#blame.has(name));
  }

  /** Went bad within the window, without those that are acknowledged. */
  newly(nowMs: number): readonly BadThing[] {
    this.#prune(nowMs);
    return this.#those(
      (_, { firstSeenMs, acknowledged }) => nowMs - firstSeenMs < this.#windowMs && !acknowledged,
    );
  }

  /** The same counted by a part of their names, in one pass: there may be tens of thousands. */
  tally(partOf: (name: string) => string, nowMs: number): BadTally {
    this.#prune(nowMs);
    const newly = new Map<string, number>();
    const unacknowledged = new Map<string, number>();
    let lastBadMs: number | undefined;
    for (const [name, { firstSeenMs, acknowledged }] of this.#entries) {
      const part = partOf(name);
      const isNew = nowMs - firstSeenMs < this.#windowMs;
      const stands = this.#blame.has(name);
      if (isNew && !acknowledged) newly.set(part, (newly.get(part) ?? 0) + 1);
      if (stands && !acknowledged) unacknowledged.set(part, (unacknowledged.get(part) ?? 0) + 1);
      if (stands || (isNew && !acknowledged)) lastBadMs = Math.max(lastBadMs ?? firstSeenMs, firstSeenMs);
    }
    return { newly, unacknowledged, lastBadMs, anyStands: this.#blame.size > 0 };
  }

  /** Bad now, and nobody has acknowledged it. */
  unacknowledged(): readonly BadThing[] {
    return this.#those((name, { acknowledged }) => this.#blame.has(name) && !acknowledged);
  }

  /** An administrator has reset a breaker: what is bad now does not trip it again. */
  acknowledge(): void {
    this.#added += 1;
    for (const entry of this.#entries.values()) entry.acknowledged = true;
  }

  /** In the order of their names. */
  #those(isMeant: (name: string, entry: Entry) => boolean): readonly BadThing[] {
    const things: BadThing[] = [];
    for (const [name, entry] of this.#entries)
      if (isMeant(name, entry))
        things.push({
          name,
          uid: entry.uid,
          firstSeenMs: entry.firstSeenMs,
          stands: this.#blame.has(name),
        });
    return things.sort((a, b) => compareText(a.name, b.name));
  }

  #prune(nowMs: number): void {
    for (const [name, entry] of this.#entries) {
      if (!this.#blame.has(name) && nowMs - entry.firstSeenMs >= this.#windowMs) this.#entries.delete(name);
    }
  }
}
