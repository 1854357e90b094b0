import type { NodeInfo } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import { holds, rollUp, roomFor } from './capacity.ts';
import { candidateDomains, openRanks, type PlanInput, partitionNodes, surveyHosts } from './plan.ts';

/** A domain kept for one group that has waited too long; others go anywhere but there. */
export interface Reservation {
  readonly groupKey: string;
  readonly level: number;
  readonly domain: TopologyDomain;
}

const emptied = new WeakMap<NodeInfo['record'], NodeInfo>();

/**
 * The domain that is nearest to fitting a group: of those that would hold it were they empty, the one with most room
 * for it now, ties by name. Undefined when no domain could ever hold it, for keeping others out would help nobody.
 */
export function nearestDomain(input: PlanInput): TopologyDomain | undefined {
  const open = openRanks(input);
  if (open.mixed) return undefined;
  const { tree } = input.snapshot;
  const empty = { ...input, snapshot: emptySnapshot(input.snapshot) };
  const workers = open.workerRanks.length;
  const withLeader = open.leader !== undefined;
  const required = input.topology.requiredLevel ?? -1;
  let nearest: { domain: TopologyDomain; room: number } | undefined;
  for (const part of partitionNodes(input)) {
    const capacityEmpty = rollUp(tree, surveyHosts(empty, open, part).room, workers);
    const capacityNow = rollUp(tree, surveyHosts(input, open, part).room, workers);
    for (let level = tree.levels.length; level >= required; level--) {
      const able = candidateDomains(input, level).filter(domain =>
        holds(capacityEmpty, domain, workers, withLeader),
      );
      for (const domain of able) {
        const room = roomFor(capacityNow, domain, workers, withLeader);
        const nearer = nearest === undefined || room > nearest.room;
        if (nearer || (room === nearest?.room && compareText(domain.id, nearest.domain.id) < 0))
          nearest = { domain, room };
      }
      if (able.length > 0) break;
    }
  }
  return nearest?.domain;
}

/** Names of the nodes of a reserved domain with the reason others are told. */
export function reservedNodes(
  snapshot: ClusterSnapshot,
  reservation: Reservation,
): ReadonlyMap<string, string> {
  const cause = `reserved for ${reservation.groupKey}`;
  return new Map(reservation.domain.nodes.map(index => [snapshot.tree.nodeNames[index] ?? '', cause]));
}

function emptySnapshot(snapshot: ClusterSnapshot): ClusterSnapshot {
  return { ...snapshot, nodes: snapshot.nodes.map(emptyNode) };
}

function emptyNode({ record }: NodeInfo): NodeInfo {
  let info = emptied.get(record);
  if (info === undefined) {
    const { allocatable } = record;
    info = { record, freeOfPods: allocatable, free: allocatable, hostPorts: [], untouched: true };
    emptied.set(record, info);
  }
  return info;
}
