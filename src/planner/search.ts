import type { HostPort } from '../cluster/host-ports.ts';
import {
  addResources,
  fits,
  isAcceleratorResource,
  noResources,
  type Resources,
  subtractResources,
} from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import { type FitMemo, portsClash } from './fit.ts';
import type { Undecided } from './rejection.ts';

/** Trial placements that are left to a plan, over all the domains it tries. */
export interface SearchBudget {
  trials: number;
}

/** Trial placements per domain before the search gives up on it: a few milliseconds. */
const trialsPerDomain = 20_000;
/** Per plan: some tens of milliseconds, however many domains there are. */
const trialsPerPlan = 200_000;

export function searchBudget(): SearchBudget {
  return { trials: trialsPerPlan };
}

export interface SearchOptions {
  readonly snapshot: ClusterSnapshot;
  readonly memo: FitMemo;
  readonly domain: TopologyDomain;
  /** Ranks to place, with what they ask for. */
  readonly members: readonly SearchMember[];
  /** Whether the node takes the member as far as room is not concerned. */
  readonly admits: (demand: MemberDemand, node: number) => boolean;
  /** Whether two members may not stand on one node. */
  readonly apart: (a: MemberDemand, b: MemberDemand, node: number) => boolean;
  readonly budget: SearchBudget;
}

export interface SearchMember {
  readonly rank: number;
  readonly demand: MemberDemand;
}

interface NodeState {
  readonly free: Resources;
  readonly hostPorts: readonly HostPort[];
  readonly placed: readonly MemberDemand[];
}

/**
 * Places members that differ from one another in one domain, by depth-first search: largest demand first, on the hosts
 * in topology order, equal demands never tried in another order.
 *
 * Finding a place, and finding that there is none, are both exact; a search that is cut off says so. Undefined when the
 * domain cannot hold the members.
 */
export function searchMixed(options: SearchOptions): ReadonlyMap<number, number> | Undecided | undefined {
  const { snapshot, memo, domain, admits, apart, budget } = options;
  if (!hasEnoughInAll(options)) return undefined;
  const members = [...options.members].sort(byWeight);
  const states = new Map<number, NodeState>();
  for (const node of domain.nodes) {
    const info = snapshot.nodes[node];
    if (info !== undefined) states.set(node, { free: info.free, hostPorts: info.hostPorts, placed: [] });
  }
  const nodeByRank = new Map<number, number>();
  let trials = Math.min(trialsPerDomain, budget.trials);

  function take(node: number, demand: MemberDemand): NodeState | undefined {
    const info = snapshot.nodes[node];
    const state = states.get(node);
    if (info === undefined || state === undefined) return undefined;
    if (memo.fit(info, demand).slots === 0 || !admits(demand, node)) return undefined;
    if (!fits(state.free, demand.requests) || portsClash(demand.hostPorts, state.hostPorts)) return undefined;
    if (state.placed.some(other => apart(demand, other, node))) return undefined;
    return {
      free: subtractResources(state.free, demand.requests),
      hostPorts: [...state.hostPorts, ...demand.hostPorts],
      placed: [...state.placed, demand],
    };
  }

  function place(at: number): boolean {
    const member = members[at];
    if (member === undefined) return true;
    const before = members[at - 1];
    // Equal members are interchangeable: the second goes where the first went or further on, never back.
    const start = before?.demand.key === member.demand.key ? (nodeByRank.get(before.rank) ?? 0) : 0;
    for (const node of domain.nodes) {
      if (node < start) continue;
      if (trials-- <= 0) return false;
      const state = states.get(node);
      const taken = take(node, member.demand);
      if (state === undefined || taken === undefined) continue;
      states.set(node, taken);
      nodeByRank.set(member.rank, node);
      if (place(at + 1)) return true;
      states.set(node, state);
      nodeByRank.delete(member.rank);
      if (trials < 0) return false;
    }
    return false;
  }

  const allowed = trials;
  const found = place(0);
  budget.trials -= allowed - Math.max(0, trials);
  if (found) return nodeByRank;
  if (trials >= 0) return undefined;
  return {
    kind: 'undecided',
    reason: 'no placement found within the bounds of the search for members that differ from one another',
  };
}

/** Most refusals are plain want of room, which needs no search to tell. */
function hasEnoughInAll({ snapshot, domain, members }: SearchOptions): boolean {
  const demand = members.reduce((sum, member) => addResources(sum, member.demand.requests), noResources);
  const free = new Map<string, number>();
  for (const node of domain.nodes) {
    for (const [name, amount] of snapshot.nodes[node]?.free ?? noResources)
      free.set(name, (free.get(name) ?? 0) + Math.max(0, amount));
  }
  return fits(free, demand);
}

/** Devices weigh most, then CPU; the order only decides what is tried first. */
export function weightOf(demand: MemberDemand): number {
  let devices = 0;
  for (const [name, amount] of demand.requests) if (isAcceleratorResource(name)) devices += amount;
  return devices * 1e9 + (demand.requests.get('cpu') ?? 0);
}

/** Equal demands stand together, or the search would try their permutations. */
function byWeight(a: SearchMember, b: SearchMember): number {
  return (
    weightOf(b.demand) - weightOf(a.demand) || compareText(a.demand.key, b.demand.key) || a.rank - b.rank
  );
}
