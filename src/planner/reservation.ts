import type { NodeInfo, NodeRecord } from '../cluster/node-info.ts';
import { NodeList } from '../cluster/node-list.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import { candidatesOf, type DomainQuestion, hostsParents } from './candidates.ts';
import { FitMemo } from './fit.ts';
import { groupRoom } from './group-room.ts';
import { openRanks, type PlanInput } from './plan-input.ts';
import { offerAt } from './room.ts';
import { slicedRanks } from './slices.ts';
import { classHoldsAll, holdingAll, membersIn, membersOf, sharesSliceDomain } from './spread-over.ts';

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
  const sliced = slicedRanks(input, open);
  if (open.mixed || sliced === 'uneven') return undefined;
  const { tree } = input.snapshot;
  const now = groupRoom(input, open, sliced).questions;
  const whenEmpty = groupRoom(emptied(input), open, sliced).questions;
  for (let level = tree.levels.length; level >= (input.topology.requiredLevel ?? -1); level--) {
    let nearest: { domain: TopologyDomain; room: number } | undefined;
    whenEmpty.forEach((empty, part) => {
      const today = now[part];
      if (today === undefined) return;
      for (const { domain, room } of roomsThatWouldDo(empty, today, level)) {
        if (nearest === undefined || isNearer({ domain, room }, nearest)) nearest = { domain, room };
      }
    });
    if (nearest !== undefined) return nearest.domain;
  }
  return undefined;
}

/** Domains of a level that would hold the group were they empty, each with the members it has room for now. */
function* roomsThatWouldDo(
  empty: DomainQuestion,
  now: DomainQuestion,
  level: number,
): Iterable<{ readonly domain: TopologyDomain; readonly room: number }> {
  const { spreading } = empty;
  const { arrays } = spreading.room;
  const { tree } = arrays;
  if (level < tree.levels.length) {
    for (const at of holdingAll(spreading, candidatesOf(empty, level))) {
      const domain = arrays.domains[at];
      if (domain !== undefined) yield { domain, room: membersIn(now.spreading, at) };
    }
    return;
  }
  for (const lowest of hostsParents(empty)) {
    if (!sharesSliceDomain(spreading, lowest)) continue;
    for (let node = arrays.start[lowest] ?? 0; node < (arrays.end[lowest] ?? 0); node++) {
      const domain = tree.domainsByLevel[level]?.[node];
      const isKept = spreading.kept.size === 0 || (spreading.kept.size === 1 && spreading.kept.has(node));
      if (domain === undefined || !isKept || spreading.room.bars.has(node)) continue;
      if (!classHoldsAll(spreading, spreading.room.classOf[node] ?? 0)) continue;
      const { workers = 0, beside = -1 } = offerAt(now.spreading.room, node) ?? {};
      yield { domain, room: membersOf(now.spreading, workers, beside) };
    }
  }
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
  const nodes = NodeList.of([...snapshot.nodes].map(emptyNode));
  return {
    ...input,
    memo: memoOfEmptied(input.memo),
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

/** The emptied cluster has indexes of its own, or those of the real one would move back and forth between the two. */
const memosOfEmptied = new WeakMap<FitMemo, FitMemo>();

function memoOfEmptied(memo: FitMemo): FitMemo {
  const known = memosOfEmptied.get(memo) ?? new FitMemo();
  memosOfEmptied.set(memo, known);
  return known;
}
