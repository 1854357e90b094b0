import { barsOf, barsWithin, type Part, partsOf } from './bars.ts';
import type { DomainQuestion } from './candidates.ts';
import { siblingsByDomain } from './constraints.ts';
import type { Shape } from './host-offer.ts';
import { type Siblings, standardObjective } from './objective.ts';
import { keptNodes, type OpenRanks, type PlanInput } from './plan-input.ts';
import { type Room, roomOf } from './room.ts';
import { slotsOf } from './rules.ts';
import type { SlicedRanks } from './slices.ts';
import { spreadingOf } from './spread-over.ts';
import { treeArrays } from './tree-arrays.ts';

/** The cluster as a group of a leader and equal workers sees it. */
export interface GroupRoom {
  /** All that the group may use, whatever part it is in. */
  readonly room: Room;
  /** One for each set of nodes that agree on the labels asked for; a group without such labels has one. */
  readonly questions: readonly DomainQuestion[];
  /** Rules between pods are about. */
  readonly hasRules: boolean;
}

export function groupRoom(input: PlanInput, open: OpenRanks, sliced: SlicedRanks | undefined): GroupRoom {
  const { topology, snapshot, objective = standardObjective } = input;
  const shape = shapeOf(input, open, sliced);
  const { index, hasRules } = slotsOf(input, shape);
  const bars = barsOf(input);
  const room = roomOf(index, bars);
  const warm = warmNodes(input);
  const spreadingIn = (part: Part) =>
    spreadingOf({
      room: part === undefined ? room : roomOf(index, barsWithin(bars, part, snapshot.nodes.length)),
      workers: sliced === undefined ? open.workerRanks.length : sliced.order.length,
      withLeader: shape.leader !== undefined,
      slices: sliced?.equal,
      kept: keptNodes(input),
      warm,
    });
  const questions = partsOf(input).map(part => ({
    spreading: spreadingIn(part),
    requiredLevel: topology.requiredLevel ?? -1,
    siblings: siblingsOf(input),
    objective,
  }));
  return { room, questions, hasRules };
}

/** With slices the leader is told apart even where it asks for the same as the workers, for its slice may be larger. */
function shapeOf({ demands }: PlanInput, open: OpenRanks, sliced: SlicedRanks | undefined): Shape {
  if (sliced === undefined) return { leader: open.leader, worker: open.worker };
  return { leader: demands[0], worker: demands[1] };
}

/** Groups of the same owner around a domain, where they are rather to be kept apart. */
export function siblingsOf(input: PlanInput): Siblings {
  const { spread } = input.topology;
  if (spread === undefined || spread.required) return undefined;
  const { domains } = treeArrays(input.snapshot.tree);
  const byLevel = new Map<number, ReadonlyMap<number, number>>();
  return at => {
    const { level = -1, index = 0 } = domains[at] ?? {};
    const counts = byLevel.get(level) ?? siblingsByDomain(input, level);
    byLevel.set(level, counts);
    return counts.get(index) ?? 0;
  };
}

/** In topology order, so that it does not matter in which they were named. */
function warmNodes({ warmNodes: names, snapshot }: PlanInput): ReadonlySet<number> {
  const nodes: number[] = [];
  for (const name of names ?? []) {
    const node = snapshot.tree.indexByNodeName.get(name);
    if (node !== undefined) nodes.push(node);
  }
  return new Set(nodes.sort((a, b) => a - b));
}
