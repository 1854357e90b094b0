import type { HostOffer } from './host-offer.ts';
import type { SlotIndex } from './slot-index.ts';
import type { TreeArrays } from './tree-arrays.ts';

/**
 * The room that one group sees: a slot index less the hosts that this group may not use. What is barred is taken off a
 * copy of the counts, so that the index stays as it is; without bars nothing is copied.
 */
export interface Room {
  readonly arrays: TreeArrays;
  readonly offers: readonly HostOffer[];
  readonly byRoom: readonly number[];
  readonly classOf: Uint16Array;
  readonly counts: Int32Array;
  readonly stride: number;
  readonly workers: Float64Array;
  readonly touched: Int32Array;
  /** By node index why the group may not use the host. */
  readonly bars: ReadonlyMap<number, string>;
}

const noBars: ReadonlyMap<number, string> = new Map();

/** O(inner domains x classes) for the copy and O(bars x levels), or nothing at all without bars. */
export function roomOf(index: SlotIndex, bars: ReadonlyMap<number, string> = noBars): Room {
  const { arrays, offers, byRoom, classOf, stride, touched } = index;
  const shared = { arrays, offers, byRoom, classOf, stride, touched, bars };
  if (bars.size === 0) return { ...shared, counts: index.counts, workers: index.workers };
  const counts = index.counts.slice();
  const workers = index.workers.slice();
  for (const node of bars.keys()) {
    const hostClass = classOf[node] ?? 0;
    const slots = offers[hostClass]?.workers ?? 0;
    for (let at = arrays.above[node] ?? -1; at >= 0; at = arrays.parent[at] ?? -1) {
      const cell = at * stride + hostClass;
      counts[cell] = (counts[cell] ?? 0) - 1;
      workers[at] = (workers[at] ?? 0) - slots;
    }
  }
  return { ...shared, counts, workers };
}

/** Worker slots of an inner domain. */
export function workersIn({ workers }: Room, domain: number): number {
  return workers[domain] ?? 0;
}

/**
 * Worker slots of an inner domain once the leader has its host; -1 when no host of it takes the leader.
 *
 * A leader costs its host those slots that the host has alone and not beside the leader, so a domain loses least with
 * the host where that cost is least, whatever else is placed. That makes the verdict exact for two distinct demands.
 */
export function besideLeaderIn(room: Room, domain: number): number {
  const { offers, counts, stride } = room;
  let loss = Number.POSITIVE_INFINITY;
  for (let at = 0; at < offers.length; at++) {
    const offer = offers[at];
    if (offer === undefined || offer.beside < 0 || (counts[domain * stride + at] ?? 0) === 0) continue;
    loss = Math.min(loss, offer.workers - offer.beside);
  }
  return loss === Number.POSITIVE_INFINITY ? -1 : workersIn(room, domain) - loss;
}

/** No accelerator of the domain is in use or held. */
export function isWhole({ touched }: Room, domain: number): boolean {
  return touched[domain] === 0;
}

/** What a host offers to the group; undefined where it is barred. */
export function offerAt({ offers, classOf, bars }: Room, node: number): HostOffer | undefined {
  return bars.has(node) ? undefined : offers[classOf[node] ?? 0];
}

/** The least number of hosts of an inner domain that hold so many workers, and the leader; Infinity when none do. */
export function fewestHosts(room: Room, domain: number, workers: number, withLeader: boolean): number {
  if (!withLeader) return hostsFor(room, domain, workers, -1);
  const { offers, counts, stride } = room;
  let fewest = Number.POSITIVE_INFINITY;
  for (let at = 0; at < offers.length; at++) {
    const beside = offers[at]?.beside ?? -1;
    if (beside < 0 || (counts[domain * stride + at] ?? 0) === 0) continue;
    fewest = Math.min(fewest, 1 + hostsFor(room, domain, Math.max(0, workers - beside), at));
  }
  return fewest;
}

/** @param taken class of a host that is used already, or -1 */
function hostsFor(
  { offers, byRoom, counts, stride }: Room,
  domain: number,
  workers: number,
  taken: number,
): number {
  let hosts = 0;
  let left = workers;
  for (const at of byRoom) {
    if (left <= 0) return hosts;
    const slots = offers[at]?.workers ?? 0;
    const count = (counts[domain * stride + at] ?? 0) - (at === taken ? 1 : 0);
    const used = Math.min(count, Math.ceil(left / slots));
    hosts += used;
    left -= used * slots;
  }
  return left <= 0 ? hosts : Number.POSITIVE_INFINITY;
}
