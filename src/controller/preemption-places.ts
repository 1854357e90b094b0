import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeGroup } from '../cache/group-source.ts';
import { isObstacle } from '../group/group-info.ts';
import type { StoredPreemption } from '../kube/preemption-store.ts';
import { needOf } from './preemption-victims.ts';

/**
 * Keeps the places of groups for which others make room. In every replica: each of them may be the one that
 * kube-scheduler asks.
 */
export class PreemptionPlaces {
  readonly #cache: ClusterCache;
  /** Groups for which a place is kept, by name of the record. */
  readonly #kept = new Map<string, string>();

  constructor(cache: ClusterCache) {
    this.#cache = cache;
  }

  /** Keeps those of the open ones and gives the others up, for somebody may have deleted a record. */
  keepAll(open: readonly StoredPreemption[]): void {
    for (const stored of open) this.keep(stored);
    const groups = new Set(open.map(({ preemption }) => preemption.group));
    const names = new Set(open.map(({ name }) => name));
    for (const [name, group] of this.#kept) {
      if (names.has(name)) continue;
      this.#kept.delete(name);
      if (!groups.has(group)) this.#cache.reservePlace(group, [], 'preemption');
    }
  }

  /** A plan, be it on its way still, holds the places by itself. */
  keep({ name, preemption }: StoredPreemption): void {
    const { group, nodes } = preemption;
    const view = this.#cache.group(group);
    if (needOf(this.#cache, preemption) !== 'waits' || view?.leader === undefined) return;
    const info = describeGroup(this.#cache, view, view.leader, true);
    if (isObstacle(info)) return;
    const seats = nodes.flatMap((node, rank) => {
      const requests = info.demands[rank]?.requests;
      return requests === undefined ? [] : [{ node, requests }];
    });
    this.#kept.set(name, group);
    this.#cache.reservePlace(group, seats, 'preemption');
  }
}
