import { compareText } from '../cluster/topology.ts';
import { isPreemption, type Sighting } from './signals.ts';

/** A sighting and since when it stands. */
export interface Evidence {
  readonly sighting: Sighting;
  /** Monotonic milliseconds of Berth's own first sight: API timestamps come from other clocks and are reset at will. */
  readonly firstSeenMs: number;
}

/** A node that was or is bad. */
export interface BadNode {
  readonly name: string;
  readonly uid: string | undefined;
  readonly firstSeenMs: number;
  readonly stands: boolean;
}

interface NodeEntry {
  readonly uid: string | undefined;
  readonly firstSeenMs: number;
  acknowledged: boolean;
}

/**
 * What is wrong and since when. A subject (a group's incarnation, or a node) tells all that is wrong with it each time it
 * is looked at; what it does not tell any more is forgotten, and begins anew when it comes back. Nodes are remembered
 * for a window beyond that, for the breakers, also when they do not exist any more.
 */
export class EvidenceLedger {
  readonly #windowMs: number;
  readonly #bySubject = new Map<string, ReadonlyMap<string, Evidence>>();
  readonly #nodes = new Map<string, NodeEntry>();
  /** How many pieces of evidence blame a node now. */
  readonly #blame = new Map<string, number>();

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  /** Takes what is wrong with a subject now. True when something has come or gone. */
  update(subject: string, sightings: readonly Sighting[], nowMs: number): boolean {
    const before = this.#bySubject.get(subject);
    const after = new Map<string, Evidence>();
    for (const sighting of sightings) {
      const key = keyOf(sighting);
      after.set(key, { sighting, firstSeenMs: before?.get(key)?.firstSeenMs ?? nowMs });
    }
    const changed =
      after.size !== (before?.size ?? 0) || [...after.keys()].some(key => before?.has(key) !== true);
    for (const evidence of after.values()) this.#count(evidence, 1, nowMs);
    for (const evidence of before?.values() ?? []) this.#count(evidence, -1, nowMs);
    if (after.size === 0) this.#bySubject.delete(subject);
    else this.#bySubject.set(subject, after);
    return changed;
  }

  of(subject: string): readonly Evidence[] {
    return [...(this.#bySubject.get(subject)?.values() ?? [])];
  }

  all(): readonly Evidence[] {
    return [...this.#bySubject.values()].flatMap(evidence => [...evidence.values()]);
  }

  /** Nodes to blame now. */
  standingNodes(): readonly BadNode[] {
    return this.#badNodes().filter(node => node.stands);
  }

  /** Nodes that went bad within the window, each once whatever was seen on it; acknowledged ones are left out. */
  newNodes(nowMs: number): readonly BadNode[] {
    this.#prune(nowMs);
    return this.#badNodes().filter(
      node => nowMs - node.firstSeenMs < this.#windowMs && this.#nodes.get(node.name)?.acknowledged === false,
    );
  }

  /** Bad nodes that nobody has acknowledged. */
  unacknowledgedNodes(): readonly BadNode[] {
    return this.standingNodes().filter(node => this.#nodes.get(node.name)?.acknowledged === false);
  }

  /** An administrator has reset a breaker: what is bad now does not trip it again. */
  acknowledge(): void {
    for (const entry of this.#nodes.values()) entry.acknowledged = true;
  }

  #badNodes(): readonly BadNode[] {
    return [...this.#nodes]
      .map(([name, { uid, firstSeenMs }]) => ({
        name,
        uid,
        firstSeenMs,
        stands: (this.#blame.get(name) ?? 0) > 0,
      }))
      .sort((a, b) => compareText(a.name, b.name));
  }

  #count({ sighting }: Evidence, by: 1 | -1, nowMs: number): void {
    if (!sighting.blamesNode || sighting.class === 'info') return;
    const { nodeName } = sighting;
    const count = (this.#blame.get(nodeName) ?? 0) + by;
    if (count > 0) this.#blame.set(nodeName, count);
    else this.#blame.delete(nodeName);
    if (by < 0) return;
    const known = this.#nodes.get(nodeName);
    // A node that flaps is one bad node for as long as the window remembers it.
    const isOld = known !== undefined && count === 1 && nowMs - known.firstSeenMs >= this.#windowMs;
    const isOther = known !== undefined && sighting.nodeUid !== undefined && known.uid !== sighting.nodeUid;
    if (known === undefined || isOld)
      this.#nodes.set(nodeName, { uid: sighting.nodeUid, firstSeenMs: nowMs, acknowledged: false });
    else if (isOther) this.#nodes.set(nodeName, { ...known, uid: sighting.nodeUid });
  }

  #prune(nowMs: number): void {
    for (const [name, entry] of this.#nodes) {
      if (!this.#blame.has(name) && nowMs - entry.firstSeenMs >= this.#windowMs) this.#nodes.delete(name);
    }
  }
}

/** Milliseconds until the evidence has stood long enough to act on; 0 when it has. */
export function ripeInMs({ sighting, firstSeenMs }: Evidence, nowMs: number): number {
  return Math.max(0, firstSeenMs + sighting.debounceMs - nowMs);
}

/**
 * The evidence to act on: a claim on the place, which is decided already; then ripe before unripe, certain before
 * suspect, then the oldest. `info` never is. Undefined when there is none.
 */
export function worstOf(evidence: readonly Evidence[], nowMs: number): Evidence | undefined {
  const rankOf = (item: Evidence): readonly number[] => [
    isPreemption(item.sighting.signal) ? 0 : 1,
    ripeInMs(item, nowMs) === 0 ? 0 : 1,
    item.sighting.class === 'certain' ? 0 : 1,
    ripeInMs(item, nowMs),
    item.firstSeenMs,
  ];
  const compare = (a: Evidence, b: Evidence): number => {
    const [left, right] = [rankOf(a), rankOf(b)];
    for (const [at, value] of left.entries()) {
      const order = value - (right[at] ?? 0);
      if (order !== 0) return order;
    }
    return compareText(keyOf(a.sighting), keyOf(b.sighting));
  };
  return evidence.filter(({ sighting }) => sighting.class !== 'info').sort(compare)[0];
}

export function keyOf({ signal, entity }: Pick<Sighting, 'signal' | 'entity'>): string {
  return `${signal}/${entity}`;
}
