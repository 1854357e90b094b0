import type { NodeInfo, NodeRecord } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import { holds, rollUp, rollUpPart, roomFor } from './capacity.ts';
import type { PlanInput } from './plan.ts';
import { candidateDomains, fixedNodes, openRanks, type Part, partitionNodes, surveyHosts } from './survey.ts';

/** A domain kept for one group that has waited too long; others go anywhere but there. */
export interface Reservation {
  readonly groupKey: string;
  readonly level: number;
  readonly domain: TopologyDomain;
}

/** One empty node for each record, so that fits on it are remembered from question to question. */
const emptyNodes = new WeakMap<NodeRecord, NodeInfo>();

/**
 * The domain that is nearest to fitting a group: of those that would hold it were they empty, on the finest level that
 * has such, the one with most room for it now, ties by name. Undefined when no domain could ever hold it, for keeping
 * others out would help nobody; and for members that differ, whose room cannot be told in numbers.
 */
export function nearestDomain(input: PlanInput): TopologyDomain | undefined {
  const open = openRanks(input);
  if (open.mixed) return undefined;
  const { tree } = input.snapshot;
  const workers = open.workerRanks.length;
  const withLeader = open.leader !== undefined;
  const capacityOf = (question: PlanInput) => {
    const { room } = surveyHosts(question, open);
    const all = rollUp(tree, room, workers, fixedNodes(input));
    return (part: Part) => (part === undefined ? all : rollUpPart(all, tree, room, workers, part));
  };
  const [whenEmpty, now] = [capacityOf(emptied(input)), capacityOf(input)];
  const parts = partitionNodes(input).map(part => ({ whenEmpty: whenEmpty(part), now: now(part) }));
  for (let level = tree.levels.length; level >= (input.topology.requiredLevel ?? -1); level--) {
    let nearest: { domain: TopologyDomain; room: number } | undefined;
    for (const domain of candidateDomains(input, level)) {
      for (const part of parts) {
        if (!holds(part.whenEmpty, domain, workers, withLeader)) continue;
        const room = roomFor(part.now, domain, workers, withLeader);
        if (nearest === undefined || isNearer({ domain, room }, nearest)) nearest = { domain, room };
      }
    }
    if (nearest !== undefined) return nearest.domain;
  }
  return undefined;
}

function isNearer(
  a: { domain: TopologyDomain; room: number },
  b: { domain: TopologyDomain; room: number },
): boolean {
  return a.room > b.room || (a.room === b.room && compareText(a.domain.id, b.domain.id) < 0);
}

/** Names of the nodes of a reserved domain with the reason others are told. */
export function reservedNodes(
  snapshot: ClusterSnapshot,
  reservation: Reservation,
): ReadonlyMap<string, string> {
  const cause = `reserved for ${reservation.groupKey}`;
  return new Map(reservation.domain.nodes.map(index => [snapshot.tree.nodeNames[index] ?? '', cause]));
}

/** The same question were there no pods; those that the group wants to be near to are taken to come along. */
function emptied(input: PlanInput): PlanInput {
  const { snapshot } = input;
  const nodes = snapshot.nodes.map(emptyNode);
  return {
    ...input,
    affinityAssumed: true,
    snapshot: { ...snapshot, nodes, existingPods: () => [], repellingPods: () => [] },
  };
}

function emptyNode({ record }: NodeInfo): NodeInfo {
  let info = emptyNodes.get(record);
  if (info === undefined) {
    const { allocatable } = record;
    info = { record, freeOfPods: allocatable, free: allocatable, hostPorts: [], untouched: true };
    emptyNodes.set(record, info);
  }
  return info;
}
