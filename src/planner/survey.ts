import { labelValue } from '../cluster/labels.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';
import type { TopologyRequest } from '../group/topology-request.ts';
import type { HostRoom } from './capacity.ts';
import type { FitMemo } from './fit.ts';
import { type Admitter, admitterFor, keepApartOnHost } from './inter-pod.ts';

export interface PlanInput {
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
  readonly snapshot: ClusterSnapshot;
  readonly memo: FitMemo;
  /** Ranks that already have a node and keep it. Their use is part of the snapshot. */
  readonly fixed?: ReadonlyMap<number, string>;
  /** Node name to the reason why this group may not use it. */
  readonly excludedNodes?: ReadonlyMap<string, string>;
  /** Required pod affinity is taken as met, e.g. by members of the group itself: hosts are not asked about it. */
  readonly affinityAssumed?: boolean;
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
  readonly mixed: boolean;
}

/** Node indices that may be used together; undefined stands for all of them. */
export type Part = ReadonlySet<number> | undefined;

export interface HostSurvey {
  readonly room: HostRoom;
  /** 1 where the group may use the node at all. */
  readonly usable: Uint8Array;
  /** By node index why the leader may not go there; empty where it may. */
  readonly leaderCauses: readonly string[];
  /** The same for a worker, or for every member where members differ. */
  readonly workerCauses: readonly string[];
}

export function openRanks(input: Pick<PlanInput, 'demands' | 'fixed'>): OpenRanks {
  const { demands, fixed } = input;
  const ranks = [...demands.keys()].filter(rank => !fixed?.has(rank));
  const workerRanks = ranks.filter(rank => rank > 0);
  const leader = ranks[0] === 0 ? demands[0] : undefined;
  const kinds = new Map(workerRanks.map(rank => [demands[rank]?.key, demands[rank]]));
  const [worker] = kinds.values();
  if (kinds.size > 1) return { ranks, leader, workerRanks, worker: undefined, mixed: true };
  if (leader !== undefined && (worker === undefined || worker.key === leader.key))
    return { ranks, leader: undefined, workerRanks: ranks, worker: leader, mixed: false };
  return { ranks, leader, workerRanks, worker, mixed: false };
}

/**
 * Splits the nodes by the labels on which all members must agree. Nodes without such a label are in no part, and with
 * members that stay only their part counts.
 */
export function partitionNodes(input: PlanInput): readonly Part[] {
  const { topology, snapshot } = input;
  if (topology.sameLabels.length === 0) return [undefined];
  const parts = new Map<string, Set<number>>();
  snapshot.nodes.forEach((node, index) => {
    if (missingLabel(input, node) !== undefined) return;
    const values = topology.sameLabels.map(label => labelValue(node.record.labels, label));
    const key = JSON.stringify(values);
    const part = parts.get(key) ?? new Set();
    parts.set(key, part.add(index));
  });
  const kept = fixedNodes(input);
  return [...parts]
    .sort(([a], [b]) => compareText(a, b))
    .map(([, part]) => part)
    .filter(part => kept.every(index => part.has(index)));
}

/**
 * Domains of a level (the whole cluster above the coarsest) that contain every member that stays. Below the required
 * level only those that belong to a domain of it: a host without a rack label is in no rack.
 */
export function candidateDomains(input: PlanInput, level: number): readonly TopologyDomain[] {
  const { tree } = input.snapshot;
  const required = input.topology.requiredLevel ?? -1;
  const ofLevel = level < 0 ? [tree.root] : (tree.domainsByLevel[level] ?? []);
  const domains =
    required < 0 || level <= required ? ofLevel : ofLevel.filter(domain => domain.path[required] !== '');
  const kept = fixedNodes(input);
  if (kept.length === 0) return domains;
  return domains.filter(domain => kept.every(index => contains(domain, index)));
}

/** Node indices of the members that stay; -1 for a node that is gone. */
export function fixedNodes(input: Pick<PlanInput, 'fixed' | 'snapshot'>): readonly number[] {
  const names = input.fixed?.values() ?? [];
  return [...names].map(name => input.snapshot.tree.indexByNodeName.get(name) ?? -1);
}

/** Asks every host what it takes. */
export function surveyHosts(input: PlanInput, open: OpenRanks): HostSurvey {
  const { snapshot, excludedNodes } = input;
  const count = snapshot.nodes.length;
  const room = {
    workerSlots: new Int32Array(count),
    slotsBesideLeader: new Int32Array(count).fill(-1),
    untouched: new Uint8Array(count),
  };
  const usable = new Uint8Array(count);
  const leaderCauses: string[] = [];
  const workerCauses: string[] = [];
  const hosts = open.mixed ? mixedHostQuestion(input, open) : hostQuestion(input, open);
  snapshot.nodes.forEach((node, index) => {
    room.untouched[index] = node.untouched ? 1 : 0;
    const barred = excludedNodes?.get(node.record.name) ?? missingLabel(input, node);
    if (barred !== undefined) {
      leaderCauses.push(barred);
      workerCauses.push(barred);
      return;
    }
    usable[index] = 1;
    const { workerSlots, beside, leaderCause, workerCause } = hosts(node);
    room.workerSlots[index] = workerSlots;
    room.slotsBesideLeader[index] = beside;
    leaderCauses.push(leaderCause);
    workerCauses.push(workerCause);
  });
  return { room, usable, leaderCauses, workerCauses };
}

/** For each demand to place, what keeps it off a node by inter-pod terms; looked up once for members that are alike. */
export function admittersOf(input: PlanInput, open: OpenRanks): ReadonlyMap<MemberDemand, Admitter> {
  const known = new Map<string, Admitter>();
  const admitters = new Map<MemberDemand, Admitter>();
  for (const rank of open.ranks) {
    const demand = input.demands[rank];
    if (demand === undefined) continue;
    const key = interPodKeyOf(demand);
    const admitter = known.get(key) ?? admitterFor(input, demand);
    known.set(key, admitter);
    admitters.set(demand, admitter);
  }
  return admitters;
}

interface HostAnswer {
  readonly workerSlots: number;
  /** Worker slots beside the leader; -1 where the leader may not go. */
  readonly beside: number;
  readonly leaderCause: string;
  readonly workerCause: string;
}

function hostQuestion(input: PlanInput, open: OpenRanks): (node: NodeInfo) => HostAnswer {
  const { memo, snapshot } = input;
  const { leader, worker } = open;
  const admitsLeader = admitterFor(input, leader);
  const admitsWorker = admitterFor(input, worker);
  const workersApart = keepApartOnHost(snapshot, worker, worker);
  const leaderApart = keepApartOnHost(snapshot, leader, worker);
  return node => {
    const { labels } = node.record;
    const atWorker = askHost(input, node, worker, admitsWorker);
    const workerLimit = workersApart(labels) ? 1 : Number.POSITIVE_INFINITY;
    const workerSlots = Math.min(atWorker.slots, workerLimit);
    if (leader === undefined)
      return { workerSlots, beside: -1, leaderCause: '', workerCause: atWorker.cause };
    const atLeader = askHost(input, node, leader, admitsLeader);
    let beside = atLeader.slots > 0 ? 0 : -1;
    if (beside === 0 && worker !== undefined && atWorker.slots > 0 && !leaderApart(labels))
      beside = Math.max(0, Math.min(memo.slotsBeside(node, leader, worker), workerLimit));
    return { workerSlots, beside, leaderCause: atLeader.cause, workerCause: atWorker.cause };
  };
}

/** Where members differ, hosts are asked for causes only: one that takes none of them has the first one's. */
function mixedHostQuestion(input: PlanInput, open: OpenRanks): (node: NodeInfo) => HostAnswer {
  const admitters = admittersOf(input, open);
  return node => {
    let workerCause = '';
    for (const [demand, admits] of admitters) {
      const { cause } = askHost(input, node, demand, admits);
      if (cause === '') return { workerSlots: 0, beside: -1, leaderCause: '', workerCause: '' };
      if (workerCause === '') workerCause = cause;
    }
    return { workerSlots: 0, beside: -1, leaderCause: workerCause, workerCause };
  };
}

function askHost(
  input: PlanInput,
  node: NodeInfo,
  demand: MemberDemand | undefined,
  admits: Admitter,
): { slots: number; cause: string } {
  if (demand === undefined) return { slots: 0, cause: '' };
  const fit = input.memo.fit(node, demand);
  if (fit.cause !== '') return fit;
  const cause = admits(node.record.labels);
  return cause === '' ? fit : { slots: 0, cause };
}

function missingLabel(input: PlanInput, node: NodeInfo): string | undefined {
  const missing = input.topology.sameLabels.find(
    label => labelValue(node.record.labels, label) === undefined,
  );
  return missing === undefined ? undefined : `without node label ${missing}`;
}

/** A domain's nodes are a run of consecutive indices, for the tree is built in topology order. */
function contains(domain: TopologyDomain, node: number): boolean {
  return node >= (domain.nodes[0] ?? 0) && node <= (domain.nodes.at(-1) ?? -1);
}
