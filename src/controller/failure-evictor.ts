import type { Pod } from '../api/kubernetes.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { ReservedSeat } from '../cache/seat-holds.ts';
import { deviceKey } from '../cluster/devices/device.ts';
import { matchesLabelSelector } from '../cluster/labels.ts';
import type { Claims } from '../failure/claim.ts';
import { isServing } from '../failure/incarnation.ts';
import { type Intent, namespaceOf } from '../failure/intent.ts';
import { type IntentFacts, type NextStep, nextStep, stepped } from '../failure/next-step.ts';
import { type FailureSettings, goesAsFarAs } from '../failure/settings.ts';
import { isPreemption, type Sighting } from '../failure/signal.ts';
import { controllerOf, isMembershipError, membershipOf } from '../group/membership.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import { failureKind } from '../kube/api-errors.ts';
import type { StoredIntent } from '../kube/intent-store.ts';
import type { FailureBook } from './failure-book.ts';
import { intentFacts } from './failure-facts.ts';
import type { FailureJudge } from './failure-judge.ts';
import type { FailureReport } from './failure-report.ts';
import type { FailureWrites } from './failure-writes.ts';

export interface FailureEvictorOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly claims: Claims;
  readonly book: FailureBook;
  readonly judge: FailureJudge;
  readonly writes: FailureWrites;
  readonly report: FailureReport;
  readonly wallMs: () => number;
  /** Asked right before every write, after every await. */
  readonly mayAct: () => boolean;
  readonly isHalted: () => Promise<boolean>;
  /** By rank, the devices that members would have on these nodes if their group had left; undefined where it has no claims. */
  readonly devicesFor?: (view: GroupView, nodes: readonly string[]) => readonly SeatDevices[] | undefined;
  /** Age of the oldest view of any resource. */
  readonly health: () => { readonly stalestMs: number };
}

/** More steps than a group can go through at once; a fault in the steps must not make a hot loop. */
const maxSteps = 6;
const lookAgainMs = 1_000;
const refusedMs = 10_000;
/** The garbage collector tells the workers of a leader that goes in foreground; a busy one takes its time. */
const collectorMs = 10_000;

/** An intent after one attempt at its next step: gone on at once, or to be looked at again. */
type Outcome =
  | { readonly kind: 'moved'; readonly stored: StoredIntent }
  | { readonly kind: 'later'; readonly afterMs: number };

/**
 * Carries intents out, one step at a time, from what can be seen alone. The only place with destructive calls on groups:
 * each is made right after live reads, and only while the Lease is held.
 */
export class FailureEvictor {
  readonly #options: FailureEvictorOptions;
  /** Groups for which a place is kept. */
  readonly #reserved = new Set<string>();
  /** When the API server may be asked again after it refused, by leader UID; wall-clock milliseconds. */
  readonly #refusedUntil = new Map<string, number>();

  constructor(options: FailureEvictorOptions) {
    this.#options = options;
  }

  /**
   * Keeps the places of open intents and gives the others up, for somebody may have deleted an intent. In every replica:
   * each of them may be the one that kube-scheduler asks.
   */
  keepPlaces(open: readonly StoredIntent[]): void {
    for (const stored of open) this.#keepPlace(stored);
    const groups = new Set(open.map(({ intent }) => intent.group));
    for (const group of [...this.#reserved]) if (!groups.has(group)) this.#reserve(group, []);
  }

  /** Another holder decides now. */
  standDown(): void {
    this.#refusedUntil.clear();
  }

  /** Takes an open intent as far as it goes now. Milliseconds until it is worth another look; undefined when closed. */
  async advance(first: StoredIntent): Promise<number | undefined> {
    let stored = first;
    for (let steps = 0; steps < maxSteps; steps += 1) {
      const { intent } = stored;
      if (intent.phase === 'closed') {
        this.#reserve(intent.group, []);
        this.#refusedUntil.delete(intent.leaderUid);
        return undefined;
      }
      this.#keepPlace(stored);
      const facts = this.#facts(stored);
      const outcome = await this.#take(stored, nextStep(intent, facts));
      if (outcome.kind === 'later') return outcome.afterMs;
      stored = outcome.stored;
    }
    return lookAgainMs;
  }

  async #take(stored: StoredIntent, step: NextStep): Promise<Outcome> {
    switch (step.kind) {
      case 'wait':
        return later(step.forMs);
      case 'phase':
      case 'close':
        return this.#record(stored, step, false);
      case 'hold':
        return this.#hold(stored, 'FencingNeeded', step.instruction, 5_000);
      case 'evict-leader':
        return this.#evictLeader(stored);
      case 'delete-workers':
        return this.#deleteWorkers(stored, step.setUid);
    }
  }

  async #evictLeader(stored: StoredIntent): Promise<Outcome> {
    const { judge, writes, isHalted, wallMs, mayAct, settings } = this.#options;
    const { intent } = stored;
    // Every change of the group comes by here, and each try may charge a budget.
    const waitMs = (this.#refusedUntil.get(intent.leaderUid) ?? 0) - wallMs();
    if (waitMs > 0) return later(Math.min(waitMs, refusedMs));
    this.#refusedUntil.delete(intent.leaderUid);
    const ref = leaderRef(stored);
    const live = await writes.livePod(ref);
    const left = { kind: 'phase', phase: 'leaving', times: { evicted: wallMs() } } as const;
    if (live?.metadata.uid !== intent.leaderUid || live.metadata.deletionTimestamp !== undefined)
      return this.#record(stored, left, false);
    if (!leads(live, intent.leaderName)) return this.#fail(stored, 'the pod is not the leader of the group');
    const hurt = judge.hurtOfIntent(intent);
    // An intent that was held for long was decided on another cluster, and its place is kept no more.
    const lapsed =
      intent.signal !== 'Foreign' && wallMs() - intent.times.intent >= settings.reserveMinutes * 60_000;
    const isOther = hurt !== undefined && !isSameFault(hurt.fault, intent);
    // It was broken when that was decided, and has come back meanwhile: to take it down costs something by now.
    const servesAgain =
      hurt !== undefined && !intent.serving && isServing(hurt.incarnation, hurt.view.membership.size);
    // Nothing has been evicted yet: what is wrong now, if anything, is decided anew, under all brakes.
    if (hurt === undefined || lapsed || isOther || servesAgain || !(await judge.stillStands(hurt)))
      return this.#record(stored, { kind: 'close', outcome: 'overtaken', times: {} }, false);
    const [brake] = judge.judgeBegun(hurt, await isHalted());
    if (brake !== undefined) return this.#hold(stored, 'EvictionHeld', brake.message, brake.retryAfterMs);
    if (!mayAct()) return later(lookAgainMs);
    try {
      await writes.evictLeader(ref);
    } catch (error) {
      return this.#refused(stored, error);
    }
    return this.#record(stored, left, true);
  }

  async #deleteWorkers(stored: StoredIntent, setUid: string): Promise<Outcome> {
    const { writes, isHalted, mayAct, settings, claims, health } = this.#options;
    const { mode } = isPreemption(stored.intent.signal) ? claims : settings;
    if (settings.dryRun || !goesAsFarAs(mode, 'evict'))
      return this.#hold(stored, 'EvictionHeld', 'the configuration allows no destructive call', refusedMs);
    if (health().stalestMs > settings.staleAfterSeconds * 1000) return later(lookAgainMs);
    const { intent } = stored;
    const ref = leaderRef(stored);
    const set = { ...ref, uid: setUid };
    const [leader, live] = await Promise.all([writes.livePod(ref), writes.liveStatefulSet(set)]);
    const leaderStays =
      leader?.metadata.uid === intent.leaderUid && leader.metadata.deletionTimestamp === undefined;
    const isOld = live?.metadata.uid === setUid && controllerOf(live.metadata)?.uid === intent.leaderUid;
    if (leaderStays || !isOld || live.metadata.deletionTimestamp !== undefined) return later(lookAgainMs);
    const goingForMs = this.#options.wallMs() - (intent.times.evicted ?? 0);
    if (goesInForeground(leader, intent.leaderUid) && goingForMs < collectorMs) return later(lookAgainMs);
    if (await isHalted())
      return this.#hold(stored, 'EvictionHeld', 'an administrator has halted all evictions', 5_000);
    if (!mayAct()) return later(lookAgainMs);
    try {
      await writes.deleteStatefulSet(set);
    } catch (error) {
      return this.#refused(stored, error);
    }
    return later(lookAgainMs);
  }

  /** What the API server's answer to a destructive call means. What may have been done after all shows by itself. */
  async #refused(stored: StoredIntent, error: unknown): Promise<Outcome> {
    const kind = failureKind(error);
    if (kind === 'budget' || kind === 'forbidden')
      this.#refusedUntil.set(stored.intent.leaderUid, this.#options.wallMs() + refusedMs);
    switch (kind) {
      case 'budget':
        return this.#hold(stored, 'EvictionHeld', this.#budgetRefusal(stored.intent), refusedMs);
      case 'forbidden':
        return this.#hold(
          stored,
          'EvictionHeld',
          'Berth has no right to do it: see its RBAC for evictions',
          refusedMs,
        );
      case 'invalid':
        return this.#fail(stored, 'the API server refuses it as invalid');
      case 'gone':
      case 'conflict':
      case 'changed':
        return later(lookAgainMs);
      default:
        throw error;
    }
  }

  /** The Eviction API has looked at the budgets of the leader alone. */
  #budgetRefusal({ leaderUid }: Intent): string {
    const { cache } = this.#options;
    const leader = cache.pod(leaderUid);
    const budgets = leader === undefined ? [] : cache.disruptionBudgets(leader.namespace);
    const names = budgets
      .filter(({ selector }) => matchesLabelSelector(selector, leader?.labels ?? {}))
      .map(({ name }) => name)
      .sort();
    if (names.length === 0) return 'a PodDisruptionBudget does not allow it';
    return `PodDisruptionBudget ${names.join(', ')} does not allow it`;
  }

  async #record(
    stored: StoredIntent,
    step: Extract<NextStep, { readonly kind: 'phase' | 'close' }>,
    byBerth: boolean,
  ): Promise<Outcome> {
    const { book, judge, report, mayAct } = this.#options;
    if (!mayAct()) return later(lookAgainMs);
    const wasEvicted = stored.intent.times.evicted !== undefined;
    // The eviction was made; should the record of it fail, the next look finds the leader going.
    const next = await book.update(stored, stepped(stored.intent, step));
    if (!wasEvicted && next.intent.times.evicted !== undefined) report.evicted(next.intent, byBerth);
    if (step.kind === 'close') report.closed(next.intent, judge.hurtOfIntent(next.intent) !== undefined);
    return { kind: 'moved', stored: next };
  }

  async #hold(
    stored: StoredIntent,
    reason: 'EvictionHeld' | 'FencingNeeded',
    message: string,
    afterMs: number,
  ): Promise<Outcome> {
    const { book, report, mayAct } = this.#options;
    if (!mayAct()) return later(lookAgainMs);
    report.intentHeld(stored.intent, reason, message);
    if (stored.intent.hold !== message) await book.update(stored, { ...stored.intent, hold: message });
    return later(afterMs);
  }

  #fail(stored: StoredIntent, message: string): Promise<Outcome> {
    const failed = { ...stored, intent: { ...stored.intent, cause: `${stored.intent.cause} (${message})` } };
    return this.#record(failed, { kind: 'close', outcome: 'failed', times: {} }, false);
  }

  #facts({ intent }: StoredIntent): IntentFacts {
    const { cache, book, settings, wallMs } = this.#options;
    const newer = book.intents.some(
      other =>
        other.group === intent.group &&
        other.leaderUid !== intent.leaderUid &&
        other.times.intent > intent.times.intent,
    );
    return intentFacts(cache, intent, {
      nowMs: Math.round(wallMs()),
      overtaken: newer,
      foreignGraceMs: settings.foreignGraceSeconds * 1000,
      fencingAfterMs: settings.fencingAfterSeconds * 1000,
    });
  }

  /** Keeps the next place free until the new plan stands. */
  #keepPlace({ intent }: StoredIntent): void {
    const { cache, settings, wallMs } = this.#options;
    const { group, plan, times, leaderUid } = intent;
    const view = cache.group(group);
    const replanned = view?.leader !== undefined && view.leader.uid !== leaderUid && view.plan !== undefined;
    const tooOld = wallMs() - times.intent >= settings.reserveMinutes * 60_000;
    if (plan === undefined || replanned || tooOld) {
      this.#reserve(group, []);
      return;
    }
    const seats = plan.flatMap((node, rank) => {
      const member = intent.members.find(known => known.rank === rank);
      const pod = member === undefined ? undefined : cache.pod(member.uid);
      const requests =
        (pod?.terminal === false ? pod.requests : undefined) ??
        view?.plan?.requests[rank] ??
        cache.largestWorker(namespaceOf(intent), intent.owner.name, view?.membership.revision ?? '');
      return requests === undefined ? [] : [{ node, requests }];
    });
    // Without any pod left nothing tells the requests, but what was reserved before holds still.
    if (seats.length < plan.length) return;
    const devices = view && this.#options.devicesFor?.(view, plan);
    this.#reserve(
      group,
      seats.map((seat, rank) => ({ ...seat, claims: devices?.[rank]?.claims ?? [] })),
    );
  }

  #reserve(group: string, seats: readonly ReservedSeat[]): void {
    if (seats.length === 0 && !this.#reserved.delete(group)) return;
    if (seats.length > 0) this.#reserved.add(group);
    this.#options.cache.reservePlace(group, seats);
  }
}

function later(afterMs: number): Outcome {
  return { kind: 'later', afterMs };
}

function leaderRef({ intent }: StoredIntent): { namespace: string; name: string; uid: string } {
  return { namespace: namespaceOf(intent), name: intent.leaderName, uid: intent.leaderUid };
}

/** A sick device is one fault whatever signal tells of it now. */
function isSameFault({ signal, device }: Sighting, intent: Intent): boolean {
  if (device === undefined || intent.device === undefined) return signal === intent.signal;
  return deviceKey(device) === deviceKey(intent.device);
}

function goesInForeground(leader: Pod | undefined, uid: string): boolean {
  const { metadata } = leader ?? {};
  return metadata?.uid === uid && (metadata.finalizers ?? []).includes('foregroundDeletion');
}

/** An intent that was edited must not make Berth evict something else than a leader. */
function leads(pod: Pod, leaderName: string): boolean {
  const membership = membershipOf(pod.metadata, pod.metadata.namespace ?? '');
  return (
    membership !== undefined &&
    !isMembershipError(membership) &&
    membership.kind === 'lws' &&
    membership.rank === 0 &&
    membership.name === leaderName
  );
}
