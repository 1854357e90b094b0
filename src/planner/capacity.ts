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
}

export interface HostRoom {
  /** Worker places by node index; 0 where workers may not go. */
  readonly workerSlots: Int32Array;
  /** Worker places beside the leader by node index; -1 where the leader may not go. */
  readonly slotsBesideLeader: Int32Array;
  readonly untouched: Uint8Array;
}

/** Rolls host room up the tree. O(domains). `wanted` is the number of workers asked for. */
export function rollUp(tree: TopologyTree, room: HostRoom, wanted: number): Capacity {
  const count = tree.domains.length;
  const capacity = {
    workers: new Float64Array(count),
    leaderLoss: new Float64Array(count).fill(Number.POSITIVE_INFINITY),
    slots: new Float64Array(count),
    whole: new Uint8Array(count).fill(1),
  };
  for (let i = count - 1; i >= 0; i--) {
    const domain = tree.domains[i];
    if (domain === undefined) continue;
    if (domain.level === tree.levels.length) fillHost(capacity, domain, room, wanted);
    const parent = domain.parent;
    if (parent !== undefined) addToParent(capacity, i, parent.index);
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
  if (!withLeader) return Math.min(room, workers);
  if (loss === Number.POSITIVE_INFINITY) return Math.min(room, workers);
  return 1 + Math.min(room - loss, workers);
}

function fillHost(capacity: Capacity, host: TopologyDomain, room: HostRoom, wanted: number): void {
  const node = host.nodes[0] ?? 0;
  const slots = room.workerSlots[node] ?? 0;
  const beside = room.slotsBesideLeader[node] ?? -1;
  const workers = Math.min(slots, wanted);
  capacity.workers[host.index] = workers;
  capacity.slots[host.index] = slots;
  if (beside >= 0) capacity.leaderLoss[host.index] = workers - Math.min(beside, wanted);
  capacity.whole[host.index] = room.untouched[node] ?? 0;
}

function addToParent(capacity: Capacity, child: number, parent: number): void {
  const { workers, leaderLoss, slots, whole } = capacity;
  workers[parent] = (workers[parent] ?? 0) + (workers[child] ?? 0);
  slots[parent] = (slots[parent] ?? 0) + (slots[child] ?? 0);
  leaderLoss[parent] = Math.min(leaderLoss[parent] ?? 0, leaderLoss[child] ?? 0);
  if (whole[child] === 0) whole[parent] = 0;
}
