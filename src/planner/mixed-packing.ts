/**
 * Members that differ, as a packing problem in plain numbers: kinds of members with a count each, and classes of hosts
 * that are alike. All that is asked of pods and nodes is asked in mixed-hosts.ts; from there on only numbers count.
 */
export interface Packing {
  readonly kinds: readonly MemberKind[];
  /** How many members of each kind are to be placed. */
  readonly counts: readonly number[];
  /** In the order of their first nodes. */
  readonly classes: readonly HostClass[];
}

/** Members that no host of the domain tells apart. */
export interface MemberKind {
  /** Ascending. */
  readonly ranks: readonly number[];
  /** What one of them asks for, by the index of the resource. */
  readonly amounts: readonly number[];
}

/** Hosts that take the same members for the same price. */
export interface HostClass {
  /** Node indices, ascending. */
  readonly nodes: readonly number[];
  /** What it costs to use one of them: see `hostPrice`. */
  readonly price: number;
  /** By resource. */
  readonly free: readonly number[];
  /** By kind, how many of that kind alone one host takes. */
  readonly most: readonly number[];
  /** By kind, the other kinds that may not stand beside it. */
  readonly apart: readonly (readonly number[])[];
  /** Whether so many of each kind can stand on one host together, beyond what is counted here; undefined where that is all. */
  readonly together: ((take: readonly number[]) => boolean) | undefined;
}

/** What one host of a class gets, by kind. */
export interface HostLoad {
  readonly hostClass: number;
  readonly take: readonly number[];
}

export interface Packed {
  readonly loads: readonly HostLoad[];
  /** Sum of the prices of the hosts in use. */
  readonly price: number;
}

/** The fewest hosts come first; among equally many, fewest of those that no pod uses yet. */
export const hostPrice = 2 ** 20;
export const wholeHostPrice = hostPrice + 1;

/** A host while it is being filled. */
export interface Filling {
  /** By kind. */
  readonly take: number[];
  /** By resource, what is left. */
  readonly free: number[];
}

export function emptyHost(host: HostClass): Filling {
  return { take: host.most.map(() => 0), free: [...host.free] };
}

/** How many more members of a kind the host takes beside those it has got. */
export function roomFor(host: HostClass, kind: number, amounts: readonly number[], filling: Filling): number {
  for (const other of host.apart[kind] ?? []) if ((filling.take[other] ?? 0) > 0) return 0;
  let room = (host.most[kind] ?? 0) - (filling.take[kind] ?? 0);
  for (let r = 0; r < amounts.length && room > 0; r++) {
    const amount = amounts[r] ?? 0;
    if (amount > 0) room = Math.min(room, Math.floor((filling.free[r] ?? 0) / amount));
  }
  if (host.together !== undefined) {
    const { take } = filling;
    const withMore = (more: number) => take.map((count, at) => (at === kind ? count + more : count));
    while (room > 0 && !host.together(withMore(room))) room--;
  }
  return Math.max(0, room);
}

/** Puts some members of a kind onto the host; a negative number takes them off again. */
export function put(filling: Filling, kind: number, amounts: readonly number[], members: number): void {
  if (members === 0) return;
  filling.take[kind] = (filling.take[kind] ?? 0) + members;
  for (let r = 0; r < amounts.length; r++)
    filling.free[r] = (filling.free[r] ?? 0) - (amounts[r] ?? 0) * members;
}

export function isNothing(counts: readonly number[]): boolean {
  return counts.every(count => count === 0);
}

export function packedOf(packing: Packing, loads: readonly HostLoad[]): Packed {
  const price = loads.reduce((sum, load) => sum + (packing.classes[load.hostClass]?.price ?? 0), 0);
  return { loads, price };
}
