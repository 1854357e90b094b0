import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { TopologyRequest } from '../group/topology-request.ts';
import type { FitMemo } from './fit.ts';
import type { Objective } from './objective.ts';
import type { TogetherMemo } from './plan-devices.ts';

export interface PlanInput {
  /** By rank. */
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
  readonly snapshot: ClusterSnapshot;
  /** What is known from earlier plans; it changes how long a plan takes and nothing else. */
  readonly memo: FitMemo;
  /** Ranks that already have a node and keep it. Their use is part of the snapshot. */
  readonly fixed?: ReadonlyMap<number, string>;
  /** Node name to the reason why this group may not use it. */
  readonly excludedNodes?: ReadonlyMap<string, string>;
  /** Other groups that rules between groups look at; see constraints.ts. */
  readonly neighbours?: readonly PlacedGroup[];
  /** Names of nodes that are preferred among equals: they have the images, or had the group before. */
  readonly warmNodes?: Iterable<string>;
  readonly objective?: Objective;
  /** Required pod affinity is taken as met, e.g. by members of the group itself: hosts are not asked about it. */
  readonly affinityAssumed?: boolean;
  /** Hosts are asked about members of several kinds together, not only about each kind alone. */
  readonly together?: TogetherMemo;
}

/** A group that has its places, bound or held. */
export interface PlacedGroup {
  readonly key: string;
  /** `namespace/name` of the LeaderWorkerSet or its like; the group's own key where it has none. */
  readonly owner: string;
  /** Names of the nodes of its members, each once. */
  readonly nodes: readonly string[];
  /** It wants domains of this level for itself. */
  readonly exclusiveLevel?: number | undefined;
}

/** The ranks that need a place. */
export interface OpenRanks {
  /** All of them, ascending. */
  readonly ranks: readonly number[];
  /** The leader's demand when it is to be placed and is not like the others'. */
  readonly leader: MemberDemand | undefined;
  /** Ranks of workers to place, ascending; with rank 0 when the leader asks for the same as they do. */
  readonly workerRanks: readonly number[];
  /** The one demand all of them share; undefined when there are none or when they differ. */
  readonly worker: MemberDemand | undefined;
  /** Workers differ from one another. */
  readonly mixed: boolean;
}

export function openRanks({ demands, fixed }: Pick<PlanInput, 'demands' | 'fixed'>): OpenRanks {
  const ranks: number[] = [];
  demands.forEach((_, rank) => {
    if (!fixed?.has(rank)) ranks.push(rank);
  });
  const workerRanks = ranks[0] === 0 ? ranks.slice(1) : ranks;
  const leader = ranks[0] === 0 ? demands[0] : undefined;
  const worker = demands[workerRanks[0] ?? -1];
  const mixed = workerRanks.some(rank => demands[rank]?.key !== worker?.key);
  if (mixed) return { ranks, leader, workerRanks, worker: undefined, mixed };
  if (leader !== undefined && (worker === undefined || worker.key === leader.key))
    return { ranks, leader: undefined, workerRanks: ranks, worker: leader, mixed };
  return { ranks, leader, workerRanks, worker, mixed };
}

type Kept = Pick<PlanInput, 'fixed' | 'snapshot' | 'topology'>;

/**
 * Node indices of the members that stay; -1, which is in no domain, for a node that is gone, and where members that stay
 * stand as their slices must not.
 */
export function keptNodes(input: Kept): ReadonlySet<number> {
  const { fixed, snapshot } = input;
  const nodes = new Set<number>();
  for (const name of fixed?.values() ?? []) nodes.add(snapshot.tree.indexByNodeName.get(name) ?? -1);
  if (nodes.size > 0 && areSlicesTorn(input)) nodes.add(-1);
  return nodes;
}

function areSlicesTorn({ fixed, snapshot, topology }: Kept): boolean {
  const { slices } = topology;
  if (slices === undefined) return false;
  const domains = snapshot.tree.domainsByLevel[slices.level] ?? [];
  const around = slices.ranks.flatMap(ranks => {
    const names = ranks.flatMap(rank => fixed?.get(rank) ?? []);
    const nodes = names.map(name => snapshot.tree.indexByNodeName.get(name) ?? -1);
    if (nodes.length === 0) return [];
    return [domains.find(domain => nodes.every(node => domain.nodes.includes(node)))];
  });
  return around.includes(undefined) || (slices.apart && new Set(around).size < around.length);
}
