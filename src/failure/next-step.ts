import type { Intent, IntentOutcome, IntentPhase } from './intent.ts';
import { isPreemption } from './signal.ts';

/** A member of the incarnation that is to go, as it is now. */
export interface OldMember {
  readonly name: string;
  readonly uid: string;
  readonly terminating: boolean;
  /** When its grace period is over; undefined while nobody has told it to go. */
  readonly goneByMs: number | undefined;
  readonly terminal: boolean;
  readonly node: string;
  /** `silent`: its node is not Ready, so most likely nobody ends the pod; `fenced`: PodGC will. */
  readonly nodeState: 'fine' | 'silent' | 'fenced' | 'gone';
}

/** The incarnation that follows. */
export interface NewIncarnation {
  readonly leaderUid: string;
  readonly boundRanks: number;
  readonly readyRanks: number;
}

/** What is known of an intent's group now. */
export interface IntentFacts {
  /** Wall-clock milliseconds, as in the intent. */
  readonly nowMs: number;
  /** The owner exists, stays, and has at least so many replicas. */
  readonly ownerWants: boolean;
  /** Another intent of the group, for a later incarnation. */
  readonly overtaken: boolean;
  /** All pods that are to go and are there still, the leader included. */
  readonly old: readonly OldMember[];
  /** The old leader; undefined when it is gone. */
  readonly leader: { readonly terminating: boolean } | undefined;
  /** The workers' StatefulSet as long as the old leader owns it. */
  readonly workerSet: { readonly uid: string } | undefined;
  /** Nothing takes the other members along with the leader: each is evicted by itself. */
  readonly goesSingly: boolean;
  readonly next: NewIncarnation | undefined;
  readonly size: number;
  readonly foreignGraceMs: number;
  readonly fencingAfterMs: number;
}

/** What to do next about an intent. Each may be done again after a crash without harm. */
export type NextStep =
  /**
   * Evict the leader, provided that a live look shows it as it was and the brakes allow it still; first take the group out
   * of traffic where it asks for that, see drain.ts.
   */
  | { readonly kind: 'evict-leader' }
  /** Delete the StatefulSet of the old workers in foreground: nobody has told them to go. */
  | { readonly kind: 'delete-workers'; readonly setUid: string }
  /** Evict these members, too: the leader goes, so they are useless. */
  | { readonly kind: 'evict-members'; readonly members: readonly OldMember[] }
  | { readonly kind: 'wait'; readonly forMs: number }
  /** Only a person can help it on. */
  | {
      readonly kind: 'hold';
      readonly reason: 'FencingNeeded' | 'EvictionHeld';
      readonly nodes: readonly string[];
      readonly instruction: string;
    }
  | { readonly kind: 'phase'; readonly phase: Exclude<IntentPhase, 'closed'>; readonly times: PhaseTimes }
  | {
      readonly kind: 'close';
      readonly outcome: IntentOutcome;
      /** Leader UID of the incarnation that has followed. */
      readonly nextUid?: string;
      readonly times: PhaseTimes;
    };

export type PhaseTimes = Partial<Pick<Intent['times'], 'drain' | 'evicted' | 'gone' | 'bound' | 'ready'>>;

/** Changes bring the group back sooner; this is for what no change announces. */
const lookAgainMs = 5_000;
/** After the leader went it takes moments until its workers are told. */
const settleMs = 500;

/** The next step of an open intent, from what can be seen now alone: a crash between any two steps loses nothing. */
export function nextStep(intent: Intent, facts: IntentFacts): NextStep {
  switch (intent.phase) {
    case 'evicting':
      return evicting(intent, facts);
    case 'leaving':
      return leaving(intent, facts);
    case 'returning':
      return returning(intent, facts);
    case 'closed':
      return { kind: 'wait', forMs: lookAgainMs };
  }
}

function evicting(intent: Intent, facts: IntentFacts): NextStep {
  const { leader, nowMs } = facts;
  if (leader === undefined || leader.terminating)
    return { kind: 'phase', phase: 'leaving', times: { evicted: nowMs } };
  if (!facts.ownerWants) return { kind: 'close', outcome: 'owner-gone', times: {} };
  // LWS tears a group down by itself when one of its workers is deleted: only what it misses is left to do.
  const graceLeftMs = facts.foreignGraceMs - elapsedMs(intent.times.intent, nowMs);
  if (intent.signal === 'Foreign' && graceLeftMs > 0) return { kind: 'wait', forMs: graceLeftMs };
  return { kind: 'evict-leader' };
}

function leaving(intent: Intent, facts: IntentFacts): NextStep {
  const { nowMs, old, workerSet, leader } = facts;
  if (old.length === 0 && leader === undefined) {
    if (!facts.ownerWants) return { kind: 'close', outcome: 'owner-gone', times: { gone: nowMs } };
    return { kind: 'phase', phase: 'returning', times: { gone: nowMs } };
  }
  const sinceMs = elapsedMs(intent.times.evicted ?? nowMs, nowMs);
  const staying = old.filter(member => !member.terminating && !member.terminal);
  const untold = staying.length > 0;
  // A member that its controller made while the leader's end was not seen everywhere would have its old place.
  if (untold && facts.goesSingly)
    return sinceMs < settleMs
      ? { kind: 'wait', forMs: settleMs - sinceMs }
      : { kind: 'evict-members', members: staying };
  // The leader went, or goes, in background: its workers would hold their devices until it is gone, or for ever.
  if (untold && workerSet !== undefined)
    return sinceMs < settleMs
      ? { kind: 'wait', forMs: settleMs - sinceMs }
      : { kind: 'delete-workers', setUid: workerSet.uid };
  const stuck = old.filter(member => member.terminating && member.nodeState === 'silent');
  if (stuck.length > 0 && sinceMs >= facts.fencingAfterMs) {
    const nodes = nodesOf(stuck);
    return { kind: 'hold', reason: 'FencingNeeded', nodes, instruction: fencingInstruction(nodes) };
  }
  const overdue = overdueOf(intent, facts);
  if (overdue.length > 0 && sinceMs >= facts.fencingAfterMs) {
    const nodes = nodesOf(overdue);
    return { kind: 'hold', reason: 'EvictionHeld', nodes, instruction: overdueInstruction(overdue) };
  }
  const toFencingMs = stuck.length > 0 ? facts.fencingAfterMs - sinceMs : lookAgainMs;
  return { kind: 'wait', forMs: Math.max(1, Math.min(lookAgainMs, toFencingMs)) };
}

/** Members that their kubelets should have ended long ago. */
function overdueOf({ leaderUid }: Intent, facts: IntentFacts): readonly OldMember[] {
  const { old, nowMs, fencingAfterMs, goesSingly } = facts;
  return old.filter(({ uid, goneByMs, nodeState }) => {
    // Such a leader goes in foreground, after its workers.
    if (uid === leaderUid && !goesSingly && old.length > 1) return false;
    return nodeState === 'fine' && goneByMs !== undefined && nowMs - goneByMs >= fencingAfterMs;
  });
}

function nodesOf(members: readonly OldMember[]): readonly string[] {
  return [...new Set(members.map(({ node }) => node).filter(node => node !== ''))].sort();
}

function returning(intent: Intent, facts: IntentFacts): NextStep {
  const { nowMs, next, size, old } = facts;
  // A grace-0 delete may have slipped past LWS and left a member of old in the new group.
  if (old.length > 0) return { kind: 'phase', phase: 'leaving', times: { gone: undefined } };
  if (facts.overtaken) return { kind: 'close', outcome: 'overtaken', times: {} };
  if (!facts.ownerWants) return { kind: 'close', outcome: 'owner-gone', times: {} };
  if (next === undefined || next.leaderUid === intent.leaderUid) return { kind: 'wait', forMs: lookAgainMs };
  // It waits for room like everybody, for as long as that takes: what was to be done is done.
  if (isPreemption(intent.signal)) return { kind: 'close', outcome: 'preempted', times: {} };
  const bound = next.boundRanks === size;
  const times: PhaseTimes = bound && intent.times.bound === undefined ? { bound: nowMs } : {};
  if (bound && next.readyRanks === size)
    return {
      kind: 'close',
      outcome: 'recovered',
      nextUid: next.leaderUid,
      times: { ...times, ready: nowMs },
    };
  if (times.bound !== undefined) return { kind: 'phase', phase: 'returning', times };
  return { kind: 'wait', forMs: lookAgainMs };
}

/**
 * A time ahead of now was written by another replica, whose clock is ahead: it was a while ago, for this one has taken
 * over since.
 */
export function elapsedMs(sinceMs: number, nowMs: number): number {
  return sinceMs > nowMs ? Number.POSITIVE_INFINITY : nowMs - sinceMs;
}

/** What a person must do about nodes whose pods nobody can end. Berth never claims by itself that a node is off. */
export function fencingInstruction(nodes: readonly string[]): string {
  const names = nodes.join(' ');
  return (
    `members on ${nodes.join(', ')} do not end, for the node is not Ready: its kubelet does not answer, or cannot do its work. ` +
    `When the machine is on: kubectl describe node ${names} tells more. When it is off for good: kubectl delete node ${names}. ` +
    `When it is off and will come back: kubectl taint node ${names} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`
  );
}

/** Of a large group a few names are enough to begin with. */
const namedMembers = 5;

function overdueInstruction(members: readonly OldMember[]): string {
  const names = members.map(({ name, node }) => (node === '' ? name : `${name} on ${node}`)).sort();
  const more = names.length > namedMembers ? ` and ${names.length - namedMembers} more` : '';
  return (
    `${names.slice(0, namedMembers).join(', ')}${more} should have ended by now, and the group comes back only then. ` +
    'See metadata.finalizers of the pod, which somebody must take away, and its events (kubectl describe pod) for a container or a volume that the kubelet cannot let go'
  );
}

/** The intent after a step, without a hold: it goes on. */
export function stepped(
  intent: Intent,
  step: Extract<NextStep, { readonly kind: 'phase' | 'close' }>,
): Intent {
  const times = { ...intent.times, ...step.times };
  return step.kind === 'close'
    ? { ...intent, phase: 'closed', outcome: step.outcome, nextUid: step.nextUid, hold: undefined, times }
    : { ...intent, phase: step.phase, hold: undefined, times };
}
