/** A node on which a group has a channel, and its NVLink clique by its label. */
export interface CliqueSight {
  readonly nodeUid: string;
  readonly clique: string | undefined;
}

/**
 * In which NVLink clique each node was when a group was first seen there. A group that kube-scheduler spread over cliques
 * is none of Berth's business; what changes under a group that runs is.
 */
export class CliqueMemory {
  /** By group, leader UID and node UID. */
  readonly #known = new Map<string, ReadonlyMap<string, ReadonlyMap<string, string>>>();

  /**
   * The clique that each node should be in. Of a node that had no label from the start: the one that most of the others
   * are in, for a group with channels was placed in a clique.
   */
  expected(group: string, leaderUid: string, sights: readonly CliqueSight[]): ReadonlyMap<string, string> {
    const before = this.#known.get(group)?.get(leaderUid);
    const cliques = new Map<string, string>();
    for (const { nodeUid, clique } of sights) {
      const first = before?.get(nodeUid) ?? clique;
      if (first !== undefined) cliques.set(nodeUid, first);
    }
    const ofGroup = new Map(this.#known.get(group));
    if (cliques.size > 0) this.#known.set(group, ofGroup.set(leaderUid, new Map(cliques)));
    const common = mostCommon([...cliques.values()]);
    for (const { nodeUid } of sights)
      if (common !== undefined && !cliques.has(nodeUid)) cliques.set(nodeUid, common);
    return cliques;
  }

  /** Forgets the incarnations of a group that are no more. */
  keep(group: string, leaderUids: ReadonlySet<string>): void {
    const known = this.#known.get(group);
    if (known === undefined) return;
    const left = new Map([...known].filter(([leaderUid]) => leaderUids.has(leaderUid)));
    if (left.size === 0) this.#known.delete(group);
    else this.#known.set(group, left);
  }
}

function mostCommon(values: readonly string[]): string | undefined {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))[0]?.[0];
}
