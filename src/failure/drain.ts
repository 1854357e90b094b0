import { areTheLast, type Front } from './fronts.ts';
import type { SignalName } from './signal.ts';

/** A member of the group that is to go, which stays so far and has Berth's readiness gate. */
export interface GatedMember {
  readonly uid: string;
  /** The condition behind the gate says that it is out of service. */
  readonly withdrawn: boolean;
  readonly ready: boolean;
  /** Its kubelet answers. Where none does, nobody makes the pod unready for a condition. */
  readonly nodeAnswers: boolean;
}

export interface DrainFacts {
  readonly signal: SignalName;
  readonly gated: readonly GatedMember[];
  /** All members by UID, with the gate or without. */
  readonly members: ReadonlySet<string>;
  /** Who sends requests in the group's namespace; undefined when that could not be read. */
  readonly fronts: readonly Front[] | undefined;
  /** Undefined before it has begun. */
  readonly drainingForMs: number | undefined;
  readonly drainMs: number;
  readonly drainMaxMs: number;
}

export type DrainStep =
  /** Evict now. */
  | { readonly kind: 'go' }
  /** Take the group out of traffic. */
  | { readonly kind: 'begin' }
  | { readonly kind: 'wait'; readonly forMs: number };

/** Somebody else deletes pods at once for these: who waits comes too late. */
const urgent: readonly SignalName[] = ['Foreign', 'NodeNoExecute', 'DeviceNoExecute'];
/** Slices are asked for; they change within moments, or something is wrong with them. */
const lookAgainMs = 200;
const soonMs = 2_000;
const lookLaterMs = 1_000;

const go: DrainStep = { kind: 'go' };

/**
 * Whether a group that may be evicted must be taken out of traffic first, and whether requests stay away by now.
 *
 * A group behind which nobody else answers is evicted as it is: its requests would have nowhere to go, and kube-proxy
 * sends them to pods that terminate as long as these are Ready.
 */
export function drainStep(facts: DrainFacts): DrainStep {
  const { drainingForMs, drainMs, drainMaxMs, gated, fronts, members } = facts;
  const awaited = gated.filter(({ nodeAnswers }) => nodeAnswers);
  if (drainingForMs === undefined) {
    const isExposed = awaited.some(({ ready }) => ready);
    if (!isExposed || drainMaxMs === 0 || urgent.includes(facts.signal)) return go;
    return fronts !== undefined && areTheLast(fronts, members) ? go : { kind: 'begin' };
  }
  if (drainingForMs >= drainMaxMs || awaited.length === 0) return go;
  const toDrainMs = drainMs - drainingForMs;
  if (fronts !== undefined && awaited.every(({ withdrawn }) => withdrawn)) {
    const mine = fronts.filter(({ listed }) => awaited.some(({ uid }) => listed.has(uid)));
    const sent = mine.some(({ serving }) => awaited.some(({ uid }) => serving.has(uid)));
    if (!sent && (isTold(mine) || toDrainMs <= 0)) return go;
  }
  const pauseMs = drainingForMs < soonMs ? lookAgainMs : lookLaterMs;
  const left = [pauseMs, drainMaxMs - drainingForMs, ...(toDrainMs > 0 ? [toDrainMs] : [])];
  return { kind: 'wait', forMs: Math.max(1, Math.min(...left)) };
}

/** Slices are what kube-proxy goes by. What an inference gateway has seen of its pods nobody can tell. */
function isTold(fronts: readonly Front[]): boolean {
  return fronts.some(({ kind }) => kind === 'service') && !fronts.some(({ kind }) => kind === 'pool');
}
