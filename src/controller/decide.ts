import { type GroupView, seatOf } from '../cache/group-view.ts';
import { type PlacementMode, pinsPods } from '../group/owner.ts';
import { noPlanYet } from '../group/plan-annotation.ts';
import { isGated, type PodInfo } from '../group/pod-info.ts';

/** What a group needs next. One thing at a time: each leads to changes that bring the group here again. */
export type GroupDecision =
  /** Nothing, or nothing before something else happens. */
  | { readonly kind: 'none' }
  /** Berth does not place in this namespace (any more): its gates go, without a pin. */
  | { readonly kind: 'release'; readonly pods: readonly PodInfo[]; readonly reason: string }
  /** The leader waits for a plan of the whole group. */
  | { readonly kind: 'plan'; readonly leader: PodInfo }
  /** The group runs without a plan, or with ranks that the plan leaves out: write down where it is. */
  | { readonly kind: 'adopt'; readonly leader: PodInfo }
  /** Gated members have a seat in the plan. */
  | { readonly kind: 'pin'; readonly pods: readonly PodInfo[] }
  /** Mode `extender`: a member was refused before it had a seat, and nothing has had it tried again since. */
  | { readonly kind: 'wake'; readonly pod: PodInfo; readonly seat: string }
  /** A member cannot be where the plan says; it needs another seat. */
  | { readonly kind: 'reseat'; readonly pod: PodInfo; readonly rank: number; readonly cause: ReseatCause };

export type NodeTrouble = 'NodeGone' | 'NodeFailing';
export type ReseatCause = NodeTrouble | 'Unschedulable' | 'SeatTaken' | 'NoSeat';

export interface GroupFacts {
  readonly view: GroupView;
  readonly mode: PlacementMode;
  /** Why nobody new may go to a node, whatever room it has; undefined when nothing is known against it. */
  readonly trouble: (node: string) => NodeTrouble | undefined;
  /** Whether a gated member still fits its seat, its own hold not counted against it. */
  readonly fitsSeat: (pod: PodInfo, node: string) => boolean;
  /** Since when a pod with a seat has been reported Unschedulable, by our own clock; undefined when it is not. */
  readonly unschedulableForMs: (pod: PodInfo) => number | undefined;
  readonly strandedAfterMs: number;
  /** The pod's gate has been taken away already, though the watch has not shown it yet. */
  readonly ungateSent: (pod: PodInfo) => boolean;
}

/** Decides from what is known now. Pure; asked again on every change of the group. */
export function decideGroup(facts: GroupFacts): GroupDecision {
  const { view, mode } = facts;
  const { leader, plan } = view;
  const gated = [...view.members.values()].filter(pod => isGated(pod) && !facts.ungateSent(pod));
  if (!pinsPods(mode)) {
    if (mode === 'extender' && gated.length === 0) return decideSteered(facts);
    const waiting = [...gated, ...view.others.filter(pod => isGated(pod) && !pod.terminating)];
    if (waiting.length === 0) return { kind: 'none' };
    return { kind: 'release', pods: waiting, reason: `the namespace is in mode ${mode}` };
  }
  if (leader === undefined) return { kind: 'none' };
  if (leader.foreignOwner !== undefined) {
    // No plan will ever come from such a leader, and its members may have been gated before that was known.
    if (gated.length === 0) return { kind: 'none' };
    return { kind: 'release', pods: gated, reason: `its leader is placed by ${leader.foreignOwner}` };
  }
  if (plan === undefined) {
    if (isGated(leader)) return facts.ungateSent(leader) ? { kind: 'none' } : { kind: 'plan', leader };
    return leader.nodeName === undefined ? { kind: 'none' } : { kind: 'adopt', leader };
  }
  const stranded = findStranded(facts);
  if (stranded !== undefined) return stranded;
  return decideGated(facts, gated);
}

/**
 * Mode `extender`: pods carry neither gate nor pin, for the extender answers from the plan. So a member that is not bound
 * yet may be given another seat by writing the plan anew.
 */
function decideSteered(facts: GroupFacts): GroupDecision {
  const { view } = facts;
  const { leader, plan } = view;
  if (leader === undefined || leader.foreignOwner !== undefined) return { kind: 'none' };
  if (plan === undefined) return { kind: leader.nodeName === undefined ? 'plan' : 'adopt', leader };
  const strayed = decideStrayed(view, leader);
  if (strayed !== undefined) return strayed;
  for (const [rank, pod] of [...view.members].sort(([a], [b]) => a - b)) {
    if (pod.nodeName !== undefined || pod.gates.length > 0) continue;
    const seat = seatOf(view, rank);
    // A rank that the plan leaves out is left to kube-scheduler.
    if (seat === undefined) continue;
    const trouble = facts.trouble(seat);
    if (trouble !== undefined) return { kind: 'reseat', pod, rank, cause: trouble };
    const forMs = facts.unschedulableForMs(pod);
    if (forMs === undefined || forMs < facts.strandedAfterMs) continue;
    if (pod.unschedulableMessage?.includes(noPlanYet)) return { kind: 'wake', pod, seat };
    return { kind: 'reseat', pod, rank, cause: 'Unschedulable' };
  }
  return hasUnplannedBoundRank(view) ? { kind: 'adopt', leader } : { kind: 'none' };
}

/** A member that was on its way to its old seat when the plan was made anew: the others follow it. */
function decideStrayed(view: GroupView, leader: PodInfo): GroupDecision | undefined {
  const strayed = [...view.members].some(([rank, pod]) => {
    const seat = seatOf(view, rank);
    return pod.nodeName !== undefined && seat !== undefined && seat !== pod.nodeName;
  });
  if (!strayed) return undefined;
  const waiting = [...view.members].find(([, pod]) => pod.nodeName === undefined && pod.gates.length === 0);
  if (waiting === undefined) return { kind: 'adopt', leader };
  const [rank, pod] = waiting;
  return { kind: 'reseat', pod, rank, cause: 'SeatTaken' };
}

/** A pinned pod cannot be moved, for its spec froze when the gate went: it has to be made anew somewhere else. */
function findStranded(facts: GroupFacts): GroupDecision | undefined {
  for (const [rank, pod] of [...facts.view.members].sort(([a], [b]) => a - b)) {
    if (pod.nodeName !== undefined || pod.pinnedTo === undefined || isGated(pod)) continue;
    const trouble = facts.trouble(pod.pinnedTo);
    if (trouble !== undefined) return { kind: 'reseat', pod, rank, cause: trouble };
    const forMs = facts.unschedulableForMs(pod);
    if (forMs !== undefined && forMs >= facts.strandedAfterMs) {
      return { kind: 'reseat', pod, rank, cause: 'Unschedulable' };
    }
  }
  return undefined;
}

function decideGated(facts: GroupFacts, gated: readonly PodInfo[]): GroupDecision {
  const { view, fitsSeat, trouble } = facts;
  const ready: PodInfo[] = [];
  const unseated: { pod: PodInfo; rank: number; cause: ReseatCause }[] = [];
  for (const [rank, pod] of [...view.members].sort(([a], [b]) => a - b)) {
    if (!gated.includes(pod)) continue;
    const seat = seatOf(view, rank);
    const bad = seat === undefined ? 'NoSeat' : trouble(seat);
    if (seat === undefined || bad !== undefined) unseated.push({ pod, rank, cause: bad ?? 'NoSeat' });
    else if (!fitsSeat(pod, seat)) unseated.push({ pod, rank, cause: 'SeatTaken' });
    else ready.push(pod);
  }
  if (ready.length > 0) return { kind: 'pin', pods: ready };
  const [first] = unseated;
  if (first !== undefined) return { kind: 'reseat', ...first };
  return hasUnplannedBoundRank(view) && view.leader !== undefined
    ? { kind: 'adopt', leader: view.leader }
    : { kind: 'none' };
}

/** A rank that was released to kube-scheduler has found its node by now. */
function hasUnplannedBoundRank(view: GroupView): boolean {
  for (const [rank, pod] of view.members) {
    if (pod.nodeName !== undefined && seatOf(view, rank) === undefined) return true;
  }
  return false;
}
