import type { TopologyDomain, TopologyTree } from '../cluster/topology.ts';

/**
 * Room for one leader and any number of equal workers, per domain, rolled up from the hosts.
 *
 * A leader costs its host `loss` worker places: those the host has alone less those beside the leader. A domain holds
 * the leader and k workers exactly when some host takes the leader and `workers - smallest loss >= k`. That makes the
 * verdict exact for two distinct demands whatever their shape, in one pass over the hosts.
 */
export interface Capacity {
  /** Worker places, each host counted with at most the number asked for. */
  readonly workers: Float64Array;
  /** Smallest loss of a host that takes the leader; Infinity when none does. */
  readonly leaderLoss: Float64Array;
  /** Worker places without that cap: what best fit compares. */
  readonly slots: Float64Array;
  /** 1 while no pod and no hold takes an accelerator anywhere in the domain. */
  readonly whole: Uint8Array;
  /** 1 where a member stands that stays: to use such a domain does not spread the group. */
  readonly kept: Uint8Array;
}

export interface HostRoom {
  /** Worker places by node index; 0 where workers may not go. */
  readonly workerSlots: Int32Array;
  /** Worker places beside the leader by node index; -1 where the leader may not go. */
  readonly slotsBesideLeader: Int32Array;
  readonly untouched: Uint8Array;
}

/**
 * Rolls host room up the tree. O(nodes x levels).
 * @param wanted the number of workers asked for
 * @param keptNodes nodes of members that stay
 */
export function rollUp(
  tree: TopologyTree,
  room: HostRoom,
  wanted: number,
  keptNodes: readonly number[] = [],
): Capacity {
  const count = tree.domains.length;
  const capacity = { ...noRoom(count), whole: new Uint8Array(count).fill(1), kept: new Uint8Array(count) };
  hostsOf(tree).forEach((host, node) => {
    addHost(capacity, host, room, wanted);
    if (room.untouched[node] !== 1) markUp(capacity.whole, host, 0);
  });
  for (const node of keptNodes) {
    const host = hostsOf(tree)[node];
    if (host !== undefined) markUp(capacity.kept, host, 1);
  }
  return capacity;
}

/** The same with room on some nodes only; O(nodes of the part x levels), and what does not depend on it is shared. */
export function rollUpPart(
  all: Capacity,
  tree: TopologyTree,
  room: HostRoom,
  wanted: number,
  part: ReadonlySet<number>,
): Capacity {
  const capacity = { ...all, ...noRoom(tree.domains.length) };
  for (const node of part) {
    const host = hostsOf(tree)[node];
    if (host !== undefined) addHost(capacity, host, room, wanted);
  }
  return capacity;
}

/** True when the domain holds `workers` more workers, and the leader besides if there is one to place. */
export function holds(
  capacity: Capacity,
  domain: TopologyDomain,
  workers: number,
  withLeader: boolean,
): boolean {
  const room = capacity.workers[domain.index] ?? 0;
  if (!withLeader) return room >= workers;
  return room - (capacity.leaderLoss[domain.index] ?? Number.POSITIVE_INFINITY) >= workers;
}

/** How many members of the group the domain has room for at once, the leader first. */
export function roomFor(
  capacity: Capacity,
  domain: TopologyDomain,
  workers: number,
  withLeader: boolean,
): number {
  const room = capacity.workers[domain.index] ?? 0;
  const loss = capacity.leaderLoss[domain.index] ?? Number.POSITIVE_INFINITY;
  if (!withLeader || loss === Number.POSITIVE_INFINITY) return Math.min(room, workers);
  return 1 + Math.min(room - loss, workers);
}

function noRoom(count: number): Pick<Capacity, 'workers' | 'leaderLoss' | 'slots'> {
  return {
    workers: new Float64Array(count),
    leaderLoss: new Float64Array(count).fill(Number.POSITIVE_INFINITY),
    slots: new Float64Array(count),
  };
}

/** Hosts by node index: the tree makes both in the same order. */
function hostsOf(tree: TopologyTree): readonly TopologyDomain[] {
  return tree.domainsByLevel[tree.levels.length] ?? [];
}

function addHost(capacity: Capacity, host: TopologyDomain, room: HostRoom, wanted: number): void {
  const { workers, leaderLoss, slots } = capacity;
  const node = host.nodes[0] ?? 0;
  const free = room.workerSlots[node] ?? 0;
  const beside = room.slotsBesideLeader[node] ?? -1;
  const capped = Math.min(free, wanted);
  const loss = beside < 0 ? Number.POSITIVE_INFINITY : capped - Math.min(beside, wanted);
  for (let at: TopologyDomain | undefined = host; at !== undefined; at = at.parent) {
    workers[at.index] = (workers[at.index] ?? 0) + capped;
    slots[at.index] = (slots[at.index] ?? 0) + free;
    leaderLoss[at.index] = Math.min(leaderLoss[at.index] ?? 0, loss);
  }
}

function markUp(marks: Uint8Array, host: TopologyDomain, mark: number): void {
  for (let at: TopologyDomain | undefined = host; at !== undefined; at = at.parent) marks[at.index] = mark;
}
