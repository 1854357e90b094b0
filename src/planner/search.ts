import type { HostPort } from '../cluster/host-ports.ts';
import { fits, type Resources, subtractResources } from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { TopologyDomain } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import { type FitMemo, portsClash } from './fit.ts';
import type { Undecided } from './rejection.ts';

/** Trial placements per domain before the search gives up: a few milliseconds. */
const maxSteps = 20_000;

/**
 * Places members that differ from one another in one domain, by depth-first search: largest demand first, on the hosts
 * in topology order, equal demands never tried in another order.
 *
 * Finding a place, and finding that there is none, are both exact; a search that is cut off says so. Undefined when the
 * domain cannot hold the members.
 */
export function searchMixed(options: {
  readonly snapshot: ClusterSnapshot;
  readonly memo: FitMemo;
  readonly domain: TopologyDomain;
  /** Ranks to place, with what they ask for. */
  readonly members: readonly { readonly rank: number; readonly demand: MemberDemand }[];
  readonly admits: (demand: MemberDemand, node: number) => boolean;
}): ReadonlyMap<number, number> | Undecided | undefined {
  const { snapshot, memo, domain, admits } = options;
  const members = [...options.members].sort((a, b) => weight(b.demand) - weight(a.demand) || a.rank - b.rank);
  const free = new Map<number, { free: Resources; hostPorts: readonly HostPort[] }>();
  for (const node of domain.nodes) {
    const info = snapshot.nodes[node];
    if (info !== undefined) free.set(node, { free: info.free, hostPorts: info.hostPorts });
  }
  const placed = new Map<number, number>();
  let steps = 0;

  function place(at: number): boolean {
    const member = members[at];
    if (member === undefined) return true;
    const before = members[at - 1];
    // Equal members are interchangeable: the second goes where the first went or further on, never back.
    const start =
      before !== undefined && before.demand.key === member.demand.key ? placed.get(before.rank) : undefined;
    for (const node of domain.nodes) {
      if (start !== undefined && node < start) continue;
      if (++steps > maxSteps) return false;
      const info = snapshot.nodes[node];
      const room = free.get(node);
      if (info === undefined || room === undefined) continue;
      if (memo.fit(info, member.demand).slots === 0 || !admits(member.demand, node)) continue;
      if (!fits(room.free, member.demand.requests)) continue;
      if (portsClash(member.demand.hostPorts, room.hostPorts)) continue;
      free.set(node, {
        free: subtractResources(room.free, member.demand.requests),
        hostPorts: [...room.hostPorts, ...member.demand.hostPorts],
      });
      placed.set(member.rank, node);
      if (place(at + 1)) return true;
      free.set(node, room);
      placed.delete(member.rank);
      if (steps > maxSteps) return false;
    }
    return false;
  }

  if (place(0)) return placed;
  if (steps <= maxSteps) return undefined;
  return {
    kind: 'undecided',
    reason: `no placement found in ${maxSteps} trials for members that differ from one another`,
  };
}

/** Devices weigh most, then CPU; the order only decides what is tried first. */
function weight(demand: MemberDemand): number {
  let devices = 0;
  for (const [name, amount] of demand.requests) if (name.includes('/')) devices += amount;
  return devices * 1e9 + (demand.requests.get('cpu') ?? 0);
}
