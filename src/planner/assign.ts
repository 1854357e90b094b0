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
 * From the top down, each step opens the fewest children that do, those with members that stay counting as open: one
 * child if one is enough, the broken and tightest first; else the leader's child, then the roomiest others, and for the
 * rest the tightest child that still takes it.
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

/**
 * Order of preference between domains that would do equally: those with members of the group, opened before whole, tight
 * before roomy, then by name.
 */
export function compareDomains(capacity: Capacity, a: TopologyDomain, b: TopologyDomain): number {
  return (
    (capacity.kept[b.index] ?? 0) - (capacity.kept[a.index] ?? 0) ||
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
  const single = singleChild(capacity, domain, workers, withLeader);
  if (single !== undefined) {
    assign(capacity, single, workers, withLeader, shares);
    return;
  }
  const others = byRoom(capacity, domain);
  const leaderChild = withLeader ? chooseLeaderChild(capacity, domain, others, workers) : undefined;
  let left = workers;
  if (leaderChild !== undefined) {
    const beside = Math.min(left, besideLeader(capacity, leaderChild));
    assign(capacity, leaderChild, beside, true, shares);
    left -= beside;
    if (others.includes(leaderChild)) others.splice(others.indexOf(leaderChild), 1);
  }
  while (left > 0) {
    const next = nextChild(capacity, others, left);
    if (next === undefined) throw new Error(`domain ${domain.id} holds less than its capacity says`);
    others.splice(others.indexOf(next), 1);
    const part = Math.min(left, workersIn(capacity, next));
    assign(capacity, next, part, false, shares);
    left -= part;
  }
}

/** The child that takes all, unless the children with members that stay do so together. */
function singleChild(
  capacity: Capacity,
  domain: TopologyDomain,
  workers: number,
  withLeader: boolean,
): TopologyDomain | undefined {
  const single = best(capacity, domain.children, child => holds(capacity, child, workers, withLeader));
  if (single === undefined || isKept(capacity, single)) return single;
  const kept = domain.children.filter(child => isKept(capacity, child));
  const room = kept.reduce((sum, child) => sum + workersIn(capacity, child), 0);
  const losses = kept.map(child => capacity.leaderLoss[child.index] ?? Number.POSITIVE_INFINITY);
  const loss = withLeader ? Math.min(Number.POSITIVE_INFINITY, ...losses) : 0;
  return kept.length > 0 && room - loss >= workers ? undefined : single;
}

/** Children that take workers: those with members that stay first, then the roomiest. */
function byRoom(capacity: Capacity, domain: TopologyDomain): TopologyDomain[] {
  return domain.children
    .filter(child => workersIn(capacity, child) > 0)
    .sort(
      (a, b) =>
        Number(isKept(capacity, b)) - Number(isKept(capacity, a)) ||
        workersIn(capacity, b) - workersIn(capacity, a) ||
        compareDomains(capacity, a, b),
    );
}

/** The tightest child that takes all that is left, else the roomiest; no new one while one with members has room. */
function nextChild(
  capacity: Capacity,
  others: readonly TopologyDomain[],
  left: number,
): TopologyDomain | undefined {
  const kept = others.filter(child => isKept(capacity, child));
  const pool = kept.length > 0 ? kept : others;
  return best(capacity, pool, child => workersIn(capacity, child) >= left) ?? pool[0];
}

/** The child for the leader with which the fewest children are opened in all. */
function chooseLeaderChild(
  capacity: Capacity,
  domain: TopologyDomain,
  others: readonly TopologyDomain[],
  workers: number,
): TopologyDomain | undefined {
  let chosen: TopologyDomain | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  const countedShapes = new Map<string, number>();
  for (const child of domain.children) {
    const beside = besideLeader(capacity, child);
    if (beside === Number.NEGATIVE_INFINITY) continue;
    const own = isKept(capacity, child) ? 0 : 1;
    // Children of equal room need equally many others, so each shape is counted once.
    const shape = `${beside}/${workersIn(capacity, child)}/${own}`;
    const opened = countedShapes.get(shape) ?? own + countOthers(capacity, others, child, workers - beside);
    countedShapes.set(shape, opened);
    if (opened > fewest) continue;
    if (opened === fewest && chosen !== undefined && compareDomains(capacity, chosen, child) <= 0) continue;
    chosen = child;
    fewest = opened;
  }
  return chosen;
}

function countOthers(
  capacity: Capacity,
  others: readonly TopologyDomain[],
  leaderChild: TopologyDomain,
  workers: number,
): number {
  let left = workers;
  let count = 0;
  for (const child of others) {
    if (left <= 0) return count;
    if (child === leaderChild) continue;
    left -= workersIn(capacity, child);
    if (!isKept(capacity, child)) count++;
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

function isKept(capacity: Capacity, domain: TopologyDomain): boolean {
  return capacity.kept[domain.index] === 1;
}

function workersIn(capacity: Capacity, domain: TopologyDomain): number {
  return capacity.workers[domain.index] ?? 0;
}

/** Worker places beside the leader; -Infinity when no host of the domain takes the leader. */
function besideLeader(capacity: Capacity, domain: TopologyDomain): number {
  return workersIn(capacity, domain) - (capacity.leaderLoss[domain.index] ?? Number.POSITIVE_INFINITY);
}
