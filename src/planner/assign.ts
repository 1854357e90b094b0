import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import { type Capacity, holds } from './capacity.ts';

/** What one host gets. */
export interface HostShare {
  readonly host: TopologyDomain;
  readonly workers: number;
  readonly leader: boolean;
}

/**
 * Spreads the leader (if any) and `workers` workers over a domain that is known to hold them.
 *
 * From the top down, each step takes the fewest children that do: one child if one is enough, the broken and tightest
 * first; else the leader's child, then the roomiest others, and for the rest the tightest child that still takes it.
 */
export function assignWithin(
  capacity: Capacity,
  domain: TopologyDomain,
  workers: number,
  withLeader: boolean,
): readonly HostShare[] {
  const shares: HostShare[] = [];
  assign(capacity, domain, workers, withLeader, shares);
  return shares;
}

/** Order of preference between domains that would do equally: opened before whole, tight before roomy, then by name. */
export function compareDomains(capacity: Capacity, a: TopologyDomain, b: TopologyDomain): number {
  return (
    (capacity.whole[a.index] ?? 0) - (capacity.whole[b.index] ?? 0) ||
    (capacity.slots[a.index] ?? 0) - (capacity.slots[b.index] ?? 0) ||
    compareText(a.id, b.id)
  );
}

function assign(
  capacity: Capacity,
  domain: TopologyDomain,
  workers: number,
  withLeader: boolean,
  shares: HostShare[],
): void {
  if (workers === 0 && !withLeader) return;
  if (domain.children.length === 0) {
    shares.push({ host: domain, workers, leader: withLeader });
    return;
  }
  const single = best(capacity, domain.children, child => holds(capacity, child, workers, withLeader));
  if (single !== undefined) {
    assign(capacity, single, workers, withLeader, shares);
    return;
  }
  const roomiest = domain.children
    .filter(child => (capacity.workers[child.index] ?? 0) > 0)
    .sort((a, b) => workersIn(capacity, b) - workersIn(capacity, a) || compareDomains(capacity, a, b));
  const leaderChild = withLeader ? chooseLeaderChild(capacity, domain, roomiest, workers) : undefined;
  let left = workers;
  if (leaderChild !== undefined) {
    const beside = Math.min(left, besideLeader(capacity, leaderChild));
    assign(capacity, leaderChild, beside, true, shares);
    left -= beside;
  }
  const others = roomiest.filter(child => child !== leaderChild);
  while (left > 0) {
    const remaining = left;
    const last = best(capacity, others, child => workersIn(capacity, child) >= remaining);
    const next = last ?? others[0];
    if (next === undefined) throw new Error(`domain ${domain.id} holds less than its capacity says`);
    others.splice(others.indexOf(next), 1);
    const part = Math.min(left, workersIn(capacity, next));
    assign(capacity, next, part, false, shares);
    left -= part;
  }
}

/** The child for the leader with which the fewest children do in all. */
function chooseLeaderChild(
  capacity: Capacity,
  domain: TopologyDomain,
  roomiest: readonly TopologyDomain[],
  workers: number,
): TopologyDomain | undefined {
  let chosen: TopologyDomain | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  const countedShapes = new Map<string, number>();
  for (const child of domain.children) {
    const beside = besideLeader(capacity, child);
    if (beside === Number.NEGATIVE_INFINITY) continue;
    // Children of equal room need equally many others, so each shape is counted once.
    const shape = `${beside}/${workersIn(capacity, child)}`;
    const others = countedShapes.get(shape) ?? countOthers(capacity, roomiest, child, workers - beside);
    countedShapes.set(shape, others);
    if (others > fewest) continue;
    if (others === fewest && chosen !== undefined && compareDomains(capacity, chosen, child) <= 0) continue;
    chosen = child;
    fewest = others;
  }
  return chosen;
}

function countOthers(
  capacity: Capacity,
  roomiest: readonly TopologyDomain[],
  leaderChild: TopologyDomain,
  workers: number,
): number {
  let left = workers;
  let count = 0;
  for (const child of roomiest) {
    if (left <= 0) return count;
    if (child === leaderChild) continue;
    left -= workersIn(capacity, child);
    count++;
  }
  return left <= 0 ? count : Number.POSITIVE_INFINITY;
}

function best(
  capacity: Capacity,
  domains: readonly TopologyDomain[],
  suits: (domain: TopologyDomain) => boolean,
): TopologyDomain | undefined {
  let found: TopologyDomain | undefined;
  for (const domain of domains) {
    if (!suits(domain)) continue;
    if (found === undefined || compareDomains(capacity, domain, found) < 0) found = domain;
  }
  return found;
}

function workersIn(capacity: Capacity, domain: TopologyDomain): number {
  return capacity.workers[domain.index] ?? 0;
}

/** Worker places beside the leader; -Infinity when no host of the domain takes the leader. */
function besideLeader(capacity: Capacity, domain: TopologyDomain): number {
  return workersIn(capacity, domain) - (capacity.leaderLoss[domain.index] ?? Number.POSITIVE_INFINITY);
}
