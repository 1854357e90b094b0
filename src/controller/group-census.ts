import type { ClusterCache } from '../cache/cluster-cache.ts';
import { groupKeyOfPod } from '../cache/pod-index.ts';
import type { BlastFacts, DomainFacts } from '../failure/brakes.ts';
import { type DomainName, finestDomain, finestDomains } from '../failure/domains.ts';
import type { FaultOrigin } from '../failure/signal.ts';
import { RecentMap } from '../kube/recent-map.ts';
import { countSingles, groupsHitBy } from './device-facts.ts';

export interface GroupCensusOptions {
  readonly cache: ClusterCache;
  readonly nowMs: () => number;
  /** Labels of a node, or those that it had before it went. */
  readonly labelsOf: (node: string) => Readonly<Record<string, string>> | undefined;
}

/** So old may a count be. Each takes a look at the whole cluster, and in a storm many groups are judged. */
const countMs = 1_000;

/** Counts what brakes compare with their limits: how many groups there are, in a domain, and behind one object. */
export class GroupCensus {
  readonly #options: GroupCensusOptions;
  readonly #singles: () => number;
  readonly #byDomain: () => ReadonlyMap<DomainName, number>;
  readonly #hits = new RecentMap<string, () => number>(1_000);

  constructor(options: GroupCensusOptions) {
    const { cache } = options;
    this.#options = options;
    this.#singles = this.#remembered(() => countSingles(cache));
    this.#byDomain = this.#remembered(() => groupsByDomain(cache));
  }

  get groups(): number {
    return [...this.#options.cache.groupKeys()].length;
  }

  /** Pods that may be evicted alone. */
  get singles(): number {
    return this.#singles();
  }

  /** The domains that hold pods on these nodes; of a node that was never seen none is known. */
  domainsOf(nodes: readonly (string | undefined)[]): readonly DomainName[] {
    const { cache, labelsOf } = this.#options;
    const labels = nodes.flatMap(node => {
      const known = node === undefined ? undefined : labelsOf(node);
      return known === undefined ? [] : [known];
    });
    return finestDomains(labels, cache.levels);
  }

  /** Of those domains in which a group is down already. */
  domainFacts(
    domains: readonly DomainName[],
    inFlight: ReadonlyMap<DomainName, number>,
  ): readonly DomainFacts[] {
    return domains.flatMap(domain => {
      const count = inFlight.get(domain) ?? 0;
      return count === 0 ? [] : [{ domain, inFlight: count, groups: this.#byDomain().get(domain) ?? 0 }];
    });
  }

  /** Those whom one object hits are judged one after the other. */
  blastOf(origin: FaultOrigin): BlastFacts {
    const { cache } = this.#options;
    const key = JSON.stringify(origin);
    const count = this.#hits.get(key) ?? this.#remembered(() => groupsHitBy(cache, origin));
    this.#hits.set(key, count);
    const isConfirmed =
      origin.kind === 'rule'
        ? cache.taintRule(origin.name)?.isConfirmed
        : cache.devicePool(origin.driver, origin.pool)?.isConfirmed;
    return { origin, groupsHit: count(), isConfirmed: isConfirmed === true };
  }

  #remembered<T>(count: () => T): () => T {
    let known: { readonly atMs: number; readonly value: T } | undefined;
    return () => {
      const now = this.#options.nowMs();
      if (known === undefined || now - known.atMs >= countMs) known = { atMs: now, value: count() };
      return known.value;
    };
  }
}

function groupsByDomain(cache: ClusterCache): ReadonlyMap<DomainName, number> {
  const found = new Map<DomainName, Set<string>>();
  for (const { name, labels } of cache.allNodes()) {
    const domain = finestDomain(labels, cache.levels);
    if (domain === undefined) continue;
    const groups = found.get(domain) ?? new Set();
    found.set(domain, groups);
    for (const pod of cache.podsOn(name)) {
      const key = groupKeyOfPod(pod);
      if (key !== undefined) groups.add(key);
    }
  }
  return new Map([...found].map(([domain, { size }]) => [domain, size]));
}
