import { compareText, levelName, type TopologyLevel } from '../cluster/topology.ts';
import { candidatesOf, type DomainQuestion } from './candidates.ts';
import type { GroupRoom } from './group-room.ts';
import type { OpenRanks, PlanInput } from './plan-input.ts';
import { offerAt, type Room } from './room.ts';
import { membersIn, membersOf } from './spread-over.ts';

/**
 * A refusal: the same input gives the same value and the same sentence, counts sorted, so that an unchanged cluster
 * writes nothing anew.
 */
export interface Rejection {
  readonly kind: 'rejection';
  /** `NoRoom` may pass as others end; `NoNodeMatches` will not pass before nodes or the request change. */
  readonly code: 'NoRoom' | 'NoNodeMatches';
  readonly level: number;
  /** Labels on which all members' nodes must agree besides. */
  readonly sameLabels: readonly string[];
  /** Domains looked at on that level, those without the members that stay left out. */
  readonly domains: number;
  /** Most members any of them has room for at once; undefined where members differ, for that is not worked out. */
  readonly bestRoom: number | undefined;
  readonly size: number;
  /** Members that have their node already; they are part of `bestRoom`. */
  readonly kept: number;
  readonly nodes: number;
  /** Nodes without room for a single worker (or the leader, when that is what fails), by cause. */
  readonly causes: readonly { readonly cause: string; readonly nodes: number }[];
  /** Which member the causes are about. */
  readonly about: 'leader' | 'workers' | 'members';
}

/** The search ended before it could tell; the group keeps waiting and is tried again. Never says "impossible". */
export interface Undecided {
  readonly kind: 'undecided';
  readonly reason: string;
}

/** Says why no domain would do for a leader and equal workers. */
export function reject(input: PlanInput, open: OpenRanks, { room, questions }: GroupRoom): Rejection {
  const about = failing(input, open, room);
  const rooms = questions.flatMap(question => roomsOf(question));
  const bestRoom = rooms.reduce((best, members) => Math.max(best, members), 0);
  const causes = causesOf(
    room,
    about === 'leader' && open.leader !== undefined ? 'leaderCause' : 'workerCause',
  );
  return rejection(input, { about, causes, domains: rooms.length, bestRoom });
}

/**
 * The same for members that differ: how many of them there is room for is not worked out, and a host counts as unfit
 * when it takes none of them.
 * @param rooms of each kind alone
 * @param domains candidates on the required level
 */
export function rejectMixed(input: PlanInput, rooms: readonly Room[], domains: readonly number[]): Rejection {
  const { tree } = input.snapshot;
  const causes: string[] = [];
  for (let node = 0; node < tree.nodeNames.length && rooms.length > 0; node++) {
    const ofKinds = rooms.map(room => causeAt(room, node, 'workerCause'));
    if (!ofKinds.includes('')) causes.push(ofKinds[0] ?? '');
  }
  const onHost = input.topology.requiredLevel === tree.levels.length;
  const count = onHost ? tree.nodeNames.length : domains.length;
  return rejection(input, {
    about: 'members',
    causes: countCauses(causes),
    domains: count,
    bestRoom: undefined,
  });
}

type Finding = Pick<Rejection, 'about' | 'causes' | 'domains' | 'bestRoom'>;

function rejection(input: PlanInput, finding: Finding): Rejection {
  const { domains, bestRoom, causes, about } = finding;
  const nodes = input.snapshot.nodes.length;
  const lasting = causes.filter(c => isLasting(c.cause)).reduce((sum, c) => sum + c.nodes, 0);
  const kept = input.fixed?.size ?? 0;
  return {
    kind: 'rejection',
    code: lasting === nodes || domains === 0 ? 'NoNodeMatches' : 'NoRoom',
    level: input.topology.requiredLevel ?? -1,
    sameLabels: input.topology.sameLabels,
    domains,
    bestRoom: bestRoom === undefined ? undefined : kept + bestRoom,
    size: input.demands.length,
    kept,
    nodes,
    causes,
    about,
  };
}

/** Members that each candidate of the required level has room for at once, the leader first. */
function roomsOf(question: DomainQuestion): readonly number[] {
  const { spreading, requiredLevel } = question;
  const { room } = spreading;
  const { arrays } = room;
  if (requiredLevel < arrays.tree.levels.length)
    return candidatesOf(question, requiredLevel).map(domain => membersIn(spreading, domain));
  const hosts: number[] = [];
  for (let node = 0; node < arrays.above.length; node++) {
    if (spreading.kept.size > 0 && !(spreading.kept.size === 1 && spreading.kept.has(node))) continue;
    const { workers = 0, beside = -1 } = offerAt(room, node) ?? {};
    hosts.push(membersOf(spreading, workers, beside));
  }
  return hosts;
}

/** Nodes by cause, those that are barred among them. Counted by class of host, not host by host. */
function causesOf(room: Room, about: 'leaderCause' | 'workerCause'): Rejection['causes'] {
  const counts = new Map<string, number>();
  const count = (cause: string, nodes: number) => {
    if (cause !== '' && nodes > 0) counts.set(cause, (counts.get(cause) ?? 0) + nodes);
  };
  room.offers.forEach((offer, at) => {
    count(offer[about], room.counts[at] ?? 0);
  });
  for (const cause of room.bars.values()) count(cause, 1);
  return sortedCauses(counts);
}

function causeAt(room: Room, node: number, about: 'leaderCause' | 'workerCause'): string {
  return room.bars.get(node) ?? room.offers[room.classOf[node] ?? 0]?.[about] ?? '';
}

/** One sentence for people, e.g. in an event or `kubectl describe`. */
export function describeRejection(rejection: Rejection, levels: readonly TopologyLevel[]): string {
  const { size, nodes, causes, about } = rejection;
  const what = size === 1 ? 'the pod does' : `${size} pods do`;
  const unfit = causes.reduce((sum, cause) => sum + cause.nodes, 0);
  const detail = causes.map(({ cause, nodes: n }) => `${n} ${cause}`).join(', ');
  const whom = about === 'members' ? (size === 1 ? 'it' : 'any of them') : `a ${singular(about)}`;
  const tail = unfit === 0 ? '' : `; ${unfit} of ${nodes} nodes cannot take ${whom}: ${detail}`;
  return `${what} not fit ${whereOf(rejection, levels)}: ${roomOf(rejection, levels)}${tail}`;
}

/** Counts causes, largest first, ties by name; the empty cause does not count. */
function countCauses(
  causes: Iterable<string>,
): readonly { readonly cause: string; readonly nodes: number }[] {
  const counts = new Map<string, number>();
  for (const cause of causes) if (cause !== '') counts.set(cause, (counts.get(cause) ?? 0) + 1);
  return sortedCauses(counts);
}

function sortedCauses(counts: ReadonlyMap<string, number>): Rejection['causes'] {
  return [...counts]
    .map(([cause, nodes]) => ({ cause, nodes }))
    .sort((a, b) => b.nodes - a.nodes || compareText(a.cause, b.cause));
}

/** The leader is named when it is what finds no host at all, or when it is all that needs one. */
function failing(input: PlanInput, open: OpenRanks, room: Room): Rejection['about'] {
  if (open.leader === undefined) {
    if (open.workerRanks[0] !== 0) return 'workers';
    return open.workerRanks.length === 1 && input.demands.length > 1 ? 'leader' : 'members';
  }
  const hasHost = room.offers.some(({ leaderCause }, at) => leaderCause === '' && (room.counts[at] ?? 0) > 0);
  return hasHost ? 'workers' : 'leader';
}

/** Causes that do not end by themselves when others end. */
function isLasting(cause: string): boolean {
  return (
    cause.startsWith('taint') || cause.startsWith('node selector') || cause.startsWith('without node label')
  );
}

function whereOf({ level, sameLabels }: Rejection, levels: readonly TopologyLevel[]): string {
  const agreed = `one value of ${sameLabels.join(' and ')}`;
  if (sameLabels.length === 0) return level < 0 ? 'in the cluster' : `in one ${levelName(levels, level)}`;
  return level < 0 ? `in ${agreed}` : `in one ${levelName(levels, level)} with ${agreed}`;
}

function roomOf(rejection: Rejection, levels: readonly TopologyLevel[]): string {
  const { level, sameLabels, domains, bestRoom, size, kept } = rejection;
  const anywhere = level < 0 && sameLabels.length === 0;
  if (domains === 0) {
    if (kept > 0) return 'none has the members that stay where they are';
    const label = level < 0 ? sameLabels.join(' and ') : levels[level]?.nodeLabel;
    return label === undefined ? 'there are no nodes' : `no node carries the label ${label}`;
  }
  if (bestRoom === undefined)
    return anywhere ? 'there is no room for all of them' : `none of ${domains} holds them all`;
  if (anywhere) return `there is room for ${bestRoom} of ${size}`;
  const noun = level < 0 ? 'value' : levelName(levels, level);
  return `the best of ${domains} ${noun}${domains === 1 ? '' : 's'} has room for ${bestRoom} of ${size}`;
}

function singular(about: 'leader' | 'workers'): string {
  return about === 'leader' ? 'leader' : 'worker';
}
