import type { ComputeDomainRecord } from '../cluster/devices/compute-domain.ts';
import type { NodeRecord } from '../cluster/node-info.ts';

/** Whether two records of a node are alike in all that anybody here looks at: heartbeats change a Node every few seconds. */
export function sameNode(a: NodeRecord, b: NodeRecord): boolean {
  return (
    a.uid === b.uid &&
    a.readyStatus === b.readyStatus &&
    a.cordoned === b.cordoned &&
    a.failureWish === b.failureWish &&
    JSON.stringify(a.taints) === JSON.stringify(b.taints) &&
    JSON.stringify(a.conditions) === JSON.stringify(b.conditions) &&
    sameEntries(Object.entries(a.labels), new Map(Object.entries(b.labels))) &&
    sameEntries(a.allocatable, b.allocatable)
  );
}

export function sameDomain(a: ComputeDomainRecord, b: ComputeDomainRecord): boolean {
  return a.ready === b.ready && sameEntries(a.nodes, b.nodes);
}

/** Whether the entries, each key once, are those of the map, in whatever order. */
export function sameEntries<V>(a: Iterable<readonly [string, V]>, b: ReadonlyMap<string, V>): boolean {
  let count = 0;
  for (const [key, value] of a) {
    if (b.get(key) !== value) return false;
    count++;
  }
  return count === b.size;
}
