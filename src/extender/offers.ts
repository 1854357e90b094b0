import type { ClusterCache } from '../cache/cluster-cache.ts';
import { addResources, noResources, type Resources } from '../cluster/resources.ts';

interface Offer {
  readonly devices: Resources;
  readonly nodes: ReadonlySet<string>;
  readonly atMs: number;
}

/** kube-scheduler binds within milliseconds, or asks again. */
const expiresAfterMs = 5_000;

/**
 * Strangers that were let onto nodes where only a part of the devices is held, until the cache shows where they went.
 * kube-scheduler counts a pod as soon as it has chosen a node and knows nothing of holds; Berth knows the holds and hears
 * of the choice by watch. Without this a burst would be let onto the same free devices, and so onto the held ones.
 *
 * Who is refused for that is tried again when the one before is bound and starts. It is the only thing that the extender
 * remembers, and losing it is no worse than not having had it.
 */
export class Offers {
  readonly #cache: ClusterCache;
  readonly #nowMs: () => number;
  readonly #byUid = new Map<string, Offer>();

  constructor({ cache, nowMs }: { readonly cache: ClusterCache; readonly nowMs: () => number }) {
    this.#cache = cache;
    this.#nowMs = nowMs;
  }

  /** What all others may be about to take on a node, as seen by one pod that asks now. */
  pendingFor(uid: string): (node: string) => Resources {
    this.#byUid.delete(uid);
    this.#forgetSettled();
    const offers = [...this.#byUid.values()];
    return node =>
      offers.reduce(
        (sum, offer) => (offer.nodes.has(node) ? addResources(sum, offer.devices) : sum),
        noResources,
      );
  }

  note(uid: string, devices: Resources, nodes: ReadonlySet<string>): void {
    if (nodes.size > 0) this.#byUid.set(uid, { devices, nodes, atMs: this.#nowMs() });
  }

  #forgetSettled(): void {
    const expiredMs = this.#nowMs() - expiresAfterMs;
    for (const [uid, { atMs }] of this.#byUid) {
      if (atMs <= expiredMs || this.#cache.pod(uid)?.nodeName !== undefined) this.#byUid.delete(uid);
    }
  }
}
