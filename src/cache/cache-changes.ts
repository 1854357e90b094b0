/**
 * What the cache tells its listeners, so that work follows changes and not the clock. They are told when a change has
 * been taken in as a whole, each thing once.
 */
export type CacheChange =
  /** Something about a group's pods, owner or plan. */
  | { readonly kind: 'group'; readonly key: string }
  /** A pod outside any group that Berth has gated, or had. */
  | { readonly kind: 'single'; readonly uid: string }
  /** Pods outside groups that have devices, of one controller; see singleKeyOf. */
  | { readonly kind: 'singles'; readonly key: string }
  /** A pod with Berth's readiness gate, in a group or not. */
  | { readonly kind: 'service-gate'; readonly uid: string }
  /** A Node came, went, or changed in more than its heartbeat. */
  | { readonly kind: 'node'; readonly name: string }
  /** Slices of a pool came, went or changed, or a DeviceTaintRule about it did. */
  | { readonly kind: 'pool'; readonly driver: string; readonly pool: string }
  /** Room may have come free somewhere: what was refused before may fit now. */
  | { readonly kind: 'room' };

type Listener = (change: CacheChange) => void;

/** What a change to the cache has touched so far, and who wants to hear of it. */
export class CacheChanges {
  readonly groups = new Set<string>();
  readonly singles = new Set<string>();
  readonly singleKeys = new Set<string>();
  readonly gates = new Set<string>();
  readonly nodes = new Set<string>();
  /** A node may have room that it had not, whatever is used on it. */
  room = false;
  readonly #listeners: Listener[] = [];

  subscribe(listener: Listener): void {
    this.#listeners.push(listener);
  }

  /** The change is complete: all that was touched is told, with what the ledgers have to say besides. */
  tell(more: {
    readonly pools: Iterable<{ readonly driver: string; readonly pool: string }>;
    readonly room: boolean;
  }): void {
    const changes: CacheChange[] = [];
    for (const key of this.groups) changes.push({ kind: 'group', key });
    for (const uid of this.singles) changes.push({ kind: 'single', uid });
    for (const key of this.singleKeys) changes.push({ kind: 'singles', key });
    for (const uid of this.gates) changes.push({ kind: 'service-gate', uid });
    for (const name of this.nodes) changes.push({ kind: 'node', name });
    for (const pool of more.pools) changes.push({ kind: 'pool', ...pool });
    if (this.room || more.room) changes.push({ kind: 'room' });
    this.groups.clear();
    this.singles.clear();
    this.singleKeys.clear();
    this.gates.clear();
    this.nodes.clear();
    this.room = false;
    for (const change of changes) for (const listener of this.#listeners) listener(change);
  }
}
