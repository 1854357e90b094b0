import { type Choice, chooseParts, type Part } from './choose-parts.ts';
import { isWhole, type Room, workersIn } from './room.ts';
import { type EqualSlices, sliceUnits, type Units, workerUnits } from './slice-units.ts';
import { isNamed } from './tree-arrays.ts';

/** What one host gets. */
export interface HostShare {
  readonly node: number;
  readonly workers: number;
  readonly leader: boolean;
  /** Shares of one cell serve the same slices; counted from 0, the leader's cell first. */
  readonly cell: number;
}

/** A group of one leader at most and equal workers, perhaps in slices, before a room. */
export interface Demand {
  readonly room: Room;
  readonly workers: number;
  readonly withLeader: boolean;
  readonly slices: EqualSlices | undefined;
  /** Node indices of members that stay. */
  readonly kept: ReadonlySet<number>;
  /** Hosts to be preferred among equals. */
  readonly warm: ReadonlySet<number>;
}

/** The demand with what is worked out about it once. */
export interface Spreading extends Demand {
  readonly workerUnits: Units;
  readonly sliceUnits: Units | undefined;
  /** Inner domains with members that stay. */
  readonly keptDomains: ReadonlySet<number>;
}

export function spreadingOf(demand: Demand): Spreading {
  const { room, slices, kept } = demand;
  const keptDomains = new Set<number>();
  for (const node of kept)
    for (let at = room.arrays.above[node] ?? -1; at >= 0; at = room.arrays.parent[at] ?? -1)
      keptDomains.add(at);
  return {
    ...demand,
    workerUnits: workerUnits(room),
    sliceUnits: slices === undefined ? undefined : sliceUnits(room, slices),
    keptDomains,
  };
}

/** Those of some inner domains of one level that hold the whole group. */
export function holdingAll(spreading: Spreading, domains: readonly number[]): readonly number[] {
  const [first] = domains;
  if (first === undefined) return [];
  const { units, wanted } = unitsAt(spreading, first);
  const { all } = units;
  // The sum over all hosts is at hand, the leader's loss is not.
  return domains.filter(
    domain =>
      (all[domain] ?? 0) >= wanted &&
      (!spreading.withLeader || units.beside(domain) >= wanted) &&
      (units === spreading.sliceUnits || sharesSliceDomain(spreading, domain)),
  );
}

/** Whether a host that is not barred holds the whole group, by the class of its offer. */
export function classHoldsAll({ room, workers, withLeader }: Spreading, hostClass: number): boolean {
  const offer = room.offers[hostClass];
  if (offer === undefined) return false;
  return withLeader ? offer.beside >= workers : offer.workers >= workers;
}

/** How many members an inner domain has room for at once, the leader first. */
export function membersIn(spreading: Spreading, domain: number): number {
  const { slices, sliceUnits: units, room } = spreading;
  if (
    slices === undefined ||
    units === undefined ||
    (room.arrays.domains[domain]?.level ?? -1) > slices.level
  )
    return membersOf(spreading, workersIn(room, domain), spreading.workerUnits.beside(domain));
  const { size, count, besideLeader = 0 } = slices;
  const beside = units.beside(domain);
  if (beside < 0) return Math.min(units.all[domain] ?? 0, count) * size;
  return 1 + besideLeader + Math.min(beside, count) * size;
}

/** The same for so many worker slots, without the leader and beside it. */
export function membersOf({ workers, withLeader }: Spreading, all: number, beside: number): number {
  return withLeader && beside >= 0 ? 1 + Math.min(beside, workers) : Math.min(all, workers);
}

/** Whether the slices may stand together in a domain finer than their level, or in a host, that is inside of `domain`. */
export function sharesSliceDomain({ room, slices, withLeader }: Spreading, domain: number): boolean {
  if (slices === undefined) return true;
  const own = withLeader && slices.besideLeader !== undefined ? 1 : 0;
  if (slices.apart && slices.count + own > 1) return false;
  const { arrays } = room;
  if (slices.level === arrays.tree.levels.length) return true;
  let at = domain;
  while ((arrays.domains[at]?.level ?? -1) > slices.level) at = arrays.parent[at] ?? 0;
  return isNamed(arrays, at);
}

/** Which sub-domains, or hosts, of an inner domain that holds the group are used. */
export function choiceIn(spreading: Spreading, domain: number): Choice | undefined {
  const { slices, room, workers, workerUnits: plain } = spreading;
  // In a domain of the slices' own level they are together by nature: below it workers are dealt out.
  const isAroundSlices = slices !== undefined && room.arrays.domains[domain]?.level === slices.level;
  const { units, wanted } = isAroundSlices ? { units: plain, wanted: workers } : unitsAt(spreading, domain);
  return chooseParts(partsOf(spreading, domain, units, wanted), wanted, spreading.withLeader);
}

/** What each host gets when the group is spread over an inner domain that holds it. */
export function spreadOver(spreading: Spreading, domain: number): readonly HostShare[] {
  const shares: HostShare[] = [];
  const { units, wanted } = unitsAt(spreading, domain);
  const walk = { spreading, shares, cells: 0 };
  if (units === spreading.sliceUnits) descendSlices(walk, domain, wanted, spreading.withLeader);
  else descend(walk, domain, wanted, spreading.withLeader, 0);
  return shares;
}

interface Walk {
  readonly spreading: Spreading;
  readonly shares: HostShare[];
  cells: number;
}

/** Units that count on the level of a domain, and how many are wanted: slices down to their level, workers below it. */
function unitsAt(spreading: Spreading, domain: number): { readonly units: Units; readonly wanted: number } {
  const { slices, workers, workerUnits: plain, sliceUnits: sliced, room } = spreading;
  const level = room.arrays.domains[domain]?.level ?? -1;
  if (slices === undefined || sliced === undefined || level > slices.level)
    return { units: plain, wanted: workers };
  return { units: sliced, wanted: slices.count };
}

function descendSlices(walk: Walk, domain: number, count: number, withLeader: boolean): void {
  const { slices, room, sliceUnits: units } = walk.spreading;
  if (slices === undefined || units === undefined) return;
  const workersOf = (own: number, leads: boolean) =>
    own * slices.size + (leads ? (slices.besideLeader ?? 0) : 0);
  if (room.arrays.domains[domain]?.level === slices.level) {
    descend(walk, domain, workersOf(count, withLeader), withLeader, walk.cells++);
    return;
  }
  for (const { at, units: own, leader } of sharesIn(walk.spreading, domain, units, count, withLeader)) {
    if (!isLowest(room, domain)) descendSlices(walk, at, own, leader);
    else walk.shares.push({ node: at, workers: workersOf(own, leader), leader, cell: walk.cells++ });
  }
}

function descend(walk: Walk, domain: number, workers: number, withLeader: boolean, cell: number): void {
  const { room, workerUnits: units } = walk.spreading;
  for (const { at, units: own, leader } of sharesIn(walk.spreading, domain, units, workers, withLeader)) {
    if (isLowest(room, domain)) walk.shares.push({ node: at, workers: own, leader, cell });
    else descend(walk, at, own, leader, cell);
  }
}

function sharesIn(spreading: Spreading, domain: number, units: Units, wanted: number, withLeader: boolean) {
  if (wanted === 0 && !withLeader) return [];
  const choice = chooseParts(partsOf(spreading, domain, units, wanted), wanted, withLeader);
  if (choice === undefined) throw new Error(`domain ${domain} holds less than its counts say`);
  return choice.shares;
}

function partsOf(spreading: Spreading, domain: number, units: Units, wanted: number): readonly Part[] {
  const { room, keptDomains } = spreading;
  if (isLowest(room, domain)) return hostParts(spreading, domain, units, wanted);
  const parts: Part[] = [];
  for (const at of room.arrays.children[domain] ?? []) {
    const all = units.all[at] ?? 0;
    const beside = spreading.withLeader ? units.beside(at) : -1;
    if (all > 0 || beside >= 0)
      parts.push({ at, units: all, beside, whole: isWhole(room, at), kept: keptDomains.has(at) });
  }
  return parts;
}

/**
 * Hosts of a lowest domain, of each class no more than could be used: a domain may have thousands of them. Warm ones
 * come first, for equals are taken in this order.
 */
function hostParts(spreading: Spreading, domain: number, units: Units, wanted: number): readonly Part[] {
  const { room, kept, warm, withLeader } = spreading;
  const [start, end] = [room.arrays.start[domain] ?? 0, room.arrays.end[domain] ?? 0];
  const parts: Part[] = [];
  const left = new Map<number, number>();
  const look = (node: number) => {
    if (room.bars.has(node)) return;
    const hostClass = room.classOf[node] ?? 0;
    const isKept = kept.has(node);
    const quota = left.get(hostClass) ?? Number.POSITIVE_INFINITY;
    if (quota <= 0 && !isKept) return;
    const { all, beside } = units.host(node);
    const most = (all === 0 ? 0 : Math.ceil(wanted / all)) + (withLeader ? 1 : 0);
    left.set(hostClass, Math.min(quota, most) - 1);
    if (all === 0 && (beside < 0 || !withLeader)) return;
    const whole = room.offers[hostClass]?.whole ?? false;
    parts.push({ at: node, units: all, beside: withLeader ? beside : -1, whole, kept: isKept });
  };
  for (const node of warm) if (node >= start && node < end) look(node);
  for (let node = start; node < end; node++) if (!warm.has(node)) look(node);
  return parts;
}

/** Children are hosts. */
function isLowest({ arrays }: Room, domain: number): boolean {
  return arrays.children[domain]?.length === 0;
}
