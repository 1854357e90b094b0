import type { Pod } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { ReservedSeat } from '../cache/seat-holds.ts';
import { matchesLabelSelector } from '../cluster/labels.ts';
import type { Claims } from '../failure/claim.ts';
import { memberRank } from '../failure/incarnation.ts';
import { type Intent, namespaceOf } from '../failure/intent.ts';
import { type IntentFacts, type NextStep, nextStep, type OldMember, stepped } from '../failure/next-step.ts';
import { type FailureMode, type FailureSettings, goesAsFarAs, leastMode } from '../failure/settings.ts';
import { isPreemption } from '../failure/signal.ts';
import { plainText } from '../failure/signals.ts';
import { controllerOf } from '../group/membership.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import { failureKind } from '../kube/api-errors.ts';
import type { StoredIntent } from '../kube/intent-store.ts';
import type { FailureBook } from './failure-book.ts';
import { intentFacts } from './failure-facts.ts';
import type { FailureJudge } from './failure-judge.ts';
import type { FailureReport } from './failure-report.ts';
import type { FailureWrites } from './failure-writes.ts';
import { drainLookMs, GroupDrain } from './group-drain.ts';
import { shapes } from './shapes/shapes.ts';

export interface FailureEvictorOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly claims: Claims;
  readonly book: FailureBook;
  readonly judge: FailureJudge;
  readonly writes: FailureWrites;
  readonly report: FailureReport;
  readonly wallMs: () => number;
  /** Has the conditions of a group's members brought into line with its record. */
  readonly lookAtGates: (intent: Intent) => void;
  /** Asked right before every write, after every await. */
  readonly mayAct: () => boolean;
  readonly isHalted: () => Promise<boolean>;
  /** By rank, the devices that members would have on these nodes if their group had left; undefined where it has no claims. */
  readonly devicesFor?: (view: GroupView, nodes: readonly string[]) => readonly SeatDevices[] | undefined;
  /** Whether everything was read once, and the age of the oldest view of any resource. */
  readonly health: () => { readonly synced: boolean; readonly stalestMs: number };
}

/** More steps than a group can go through at once; a fault in the steps must not make a hot loop. */
const maxSteps = 6;
const lookAgainMs = 1_000;
const refusedMs = 10_000;
/** The garbage collector tells the workers of a leader that goes in foreground; a busy one takes its time. */
const collectorMs = 10_000;
/** Controllers that no watch shows are looked at so seldom. */
const askOwnerMs = 10_000;

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
  readonly #drain: GroupDrain;

  /** When the controllers of an open intent's pods were looked at last, by leader UID; wall-clock milliseconds. */
  readonly #askedOwner = new Map<string, number>();

  constructor(options: FailureEvictorOptions) {
    this.#options = options;
    this.#drain = new GroupDrain(options);
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
    this.#askedOwner.clear();
    this.#drain.clear();
  }

  /** Takes an open intent as far as it goes now. Milliseconds until it is worth another look; undefined when closed. */
  async advance(first: StoredIntent): Promise<number | undefined> {
    let stored = first;
    for (let steps = 0; steps < maxSteps; steps += 1) {
      const { intent } = stored;
      if (intent.phase === 'closed') {
        if (this.#laterOf(intent).every(({ phase }) => phase === 'closed')) this.#reserve(intent.group, []);
        this.#refusedUntil.delete(intent.leaderUid);
        this.#askedOwner.delete(intent.leaderUid);
        this.#drain.forget(intent.leaderUid);
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
        return (await this.#isGivenUp(stored))
          ? this.#record(stored, { kind: 'close', outcome: 'owner-gone', times: {} }, false)
          : later(step.forMs);
      case 'phase':
      case 'close':
        return this.#record(stored, step, false);
      case 'hold':
        return this.#hold(stored, step.reason, step.instruction, 5_000);
      case 'evict-leader':
        return this.#evictLeader(stored);
      case 'delete-workers':
        return this.#deleteWorkers(stored, step.setUid);
      case 'evict-members':
        return this.#evictMembers(stored, step.members);
    }
  }

  /** Whoever was to make the group anew does not want it any more, which the cache need not show. */
  async #isGivenUp(stored: StoredIntent): Promise<boolean> {
    const { writes, wallMs } = this.#options;
    const { intent } = stored;
    if (intent.phase !== 'returning') return false;
    const askedMs = this.#askedOwner.get(intent.leaderUid) ?? Number.NEGATIVE_INFINITY;
    if (wallMs() - askedMs < askOwnerMs) return false;
    this.#askedOwner.set(intent.leaderUid, wallMs());
    return !(await shapes[intent.shape].wantsNextNow(writes, intent));
  }

  async #evictLeader(stored: StoredIntent): Promise<Outcome> {
    const { judge, writes, isHalted, wallMs, mayAct, settings } = this.#options;
    const { intent } = stored;
    // Every change of the group comes by here, and each try may charge a budget.
    const waitMs = (this.#refusedUntil.get(intent.leaderUid) ?? 0) - wallMs();
    if (waitMs > 0) return later(Math.min(waitMs, refusedMs));
    this.#refusedUntil.delete(intent.leaderUid);
    const restMs = this.#drain.restMs(intent);
    if (restMs > 0) return later(restMs);
    const ref = leaderRef(stored);
    const [live, fronts] = await Promise.all([writes.livePod(ref), this.#drain.liveFronts(intent)]);
    const left = { kind: 'phase', phase: 'leaving', times: { evicted: wallMs() } } as const;
    if (live?.metadata.uid !== intent.leaderUid || live.metadata.deletionTimestamp !== undefined)
      return this.#record(stored, left, false);
    const shape = shapes[intent.shape];
    if (!shape.mayEnd(live, intent)) return this.#fail(stored, 'the pod is not the leader of the group');
    const hurt = judge.hurtOfIntent(intent);
    // An intent that was held for long was decided on another cluster, and its place is kept no more.
    const lapsed =
      intent.signal !== 'Foreign' && wallMs() - intent.times.intent >= settings.reserveMinutes * 60_000;
    const isOther = hurt !== undefined && !judge.stillCallsFor(intent, hurt);
    // It was broken when that was decided, and has come back meanwhile: to take it down costs something by now.
    const servesAgain =
      hurt !== undefined && !intent.serving && judge.serves(hurt.incarnation, hurt.view.membership.size);
    // Nothing has been evicted yet: what is wrong now, if anything, is decided anew, under all brakes.
    if (hurt === undefined || lapsed || isOther || servesAgain || !(await judge.stillStands(hurt)))
      return this.#record(stored, { kind: 'close', outcome: 'overtaken', times: {} }, false);
    const [brake] = judge.judgeBegun(hurt, await isHalted(), intent.times.drain !== undefined);
    if (brake !== undefined) return this.#hold(stored, 'EvictionHeld', brake.message, brake.retryAfterMs);
    const step = this.#drain.step(intent, fronts);
    if (step.kind === 'wait') return later(step.forMs);
    if (step.kind === 'begin' || shape.goesSingly) {
      const refusal = await this.#rehearse(stored);
      if (refusal !== undefined) return refusal;
    }
    if (step.kind === 'begin') return this.#beginDrain(stored);
    if (!mayAct()) return later(lookAgainMs);
    try {
      await (shape.goesSingly ? writes.evictSingle(ref) : writes.evictLeader(ref));
    } catch (error) {
      return this.#refused(stored, error);
    }
    return this.#record(stored, left, true);
  }

  /**
   * Asks the API server whether it would let all of them go. Where each goes by itself, the others must follow once the
   * first has gone; and a group that is refused only then would have been out of traffic for nothing, again and again.
   */
  async #rehearse(stored: StoredIntent): Promise<Outcome | undefined> {
    const { writes, cache, book } = this.#options;
    const { goesSingly, podsToGo } = shapes[stored.intent.shape];
    const leader = leaderRef(stored);
    const staying = goesSingly
      ? podsToGo(cache, stored.intent, () => book.intents).filter(pod => !pod.terminating && !pod.terminal)
      : [leader];
    for (const { namespace, name, uid } of staying) {
      const ref = { namespace, name, uid };
      try {
        await (goesSingly ? writes.tryEvictSingle(ref) : writes.tryEvictLeader(ref));
      } catch (error) {
        return this.#refused(stored, error, uid);
      }
    }
    return undefined;
  }

  /** Takes the group out of traffic. */
  async #beginDrain(stored: StoredIntent): Promise<Outcome> {
    const { report, mayAct, wallMs } = this.#options;
    if (!mayAct()) return later(lookAgainMs);
    const times = { drain: Math.round(wallMs()) };
    await this.#record(stored, { kind: 'phase', phase: 'evicting', times }, false);
    report.draining(stored.intent);
    return later(drainLookMs);
  }

  /** The leader goes already, so this is recovery: only what forbids any act holds it. */
  async #evictMembers(first: StoredIntent, members: readonly OldMember[]): Promise<Outcome> {
    const { writes, isHalted, mayAct, cache, book } = this.#options;
    const hold = this.#whyIdle(first);
    if (hold !== undefined) return hold;
    const { leaderUid, shape: kind } = first.intent;
    const { namespace } = leaderRef(first);
    const shape = shapes[kind];
    if (
      members.some(({ uid }) => uid === leaderUid) &&
      this.#stays(first, await writes.livePod(leaderRef(first)))
    )
      return this.#hold(first, 'EvictionHeld', this.#toldToGo(first), lookAgainMs);
    if (await isHalted())
      return this.#hold(first, 'EvictionHeld', 'an administrator has halted all evictions', 5_000);
    // Others may have taken the leader while an opt-out held its eviction; nobody but Berth would take the rest.
    const mode = this.#modeOf(first.intent, members);
    if (!goesAsFarAs(mode, 'evict'))
      return this.#hold(first, 'EvictionHeld', `failure mode ${mode} does not evict`, refusedMs);
    if (!mayAct()) return later(lookAgainMs);
    // Whoever came after the decision is recorded before it is evicted, like all others.
    const recorded = new Set(first.intent.members.map(({ uid }) => uid));
    const late = members.filter(({ uid }) => !recorded.has(uid));
    const more = late.map(({ name, uid, node }) => {
      const pod = cache.pod(uid);
      return { rank: (pod && memberRank(pod)) ?? 0, name, uid, node };
    });
    const stored =
      more.length === 0
        ? first
        : await book.update(first, { ...first.intent, members: [...first.intent.members, ...more] });
    const refusals: { readonly error: unknown; readonly uid: string }[] = [];
    for (const { name, uid } of members) {
      const ref = { namespace, name, uid };
      const live = await writes.livePod(ref);
      if (live?.metadata.uid !== uid || live.metadata.deletionTimestamp !== undefined) continue;
      if (!shape.mayEnd(live, stored.intent)) continue;
      if (!mayAct()) return later(lookAgainMs);
      try {
        await writes.evictSingle(ref);
      } catch (error) {
        refusals.push({ error, uid });
      }
    }
    // One that somebody can do something about is told before one that passes.
    const refusal =
      refusals.find(({ error }) => ['budget', 'forbidden'].includes(failureKind(error))) ?? refusals[0];
    return refusal === undefined ? later(lookAgainMs) : this.#refused(stored, refusal.error, refusal.uid);
  }

  /** What namespace and members ask for now. */
  #modeOf(intent: Intent, members: readonly OldMember[]): FailureMode {
    const { cache, settings, claims } = this.#options;
    if (isPreemption(intent.signal)) return claims.mode;
    const ofPods = members.map(({ uid }) => cache.pod(uid)?.annotations[berth.failure]);
    return leastMode(settings.mode, [cache.namespace(namespaceOf(intent))?.labels[berth.failure], ...ofPods]);
  }

  /** Why even recovery stands still now. */
  #whyIdle(stored: StoredIntent): Promise<Outcome> | Outcome | undefined {
    const { settings, claims, health, wallMs } = this.#options;
    const { mode } = isPreemption(stored.intent.signal) ? claims : settings;
    if (settings.dryRun || !goesAsFarAs(mode, 'evict'))
      return this.#hold(stored, 'EvictionHeld', 'the configuration allows no destructive call', refusedMs);
    const { synced, stalestMs } = health();
    if (!synced || stalestMs > settings.staleAfterSeconds * 1000) return later(lookAgainMs);
    const waitMs = (this.#refusedUntil.get(stored.intent.leaderUid) ?? 0) - wallMs();
    return waitMs > 0 ? later(Math.min(waitMs, refusedMs)) : undefined;
  }

  async #deleteWorkers(stored: StoredIntent, setUid: string): Promise<Outcome> {
    const { writes, isHalted, mayAct } = this.#options;
    const hold = this.#whyIdle(stored);
    if (hold !== undefined) return hold;
    const { intent } = stored;
    const ref = leaderRef(stored);
    const set = { ...ref, uid: setUid };
    const [leader, live] = await Promise.all([writes.livePod(ref), writes.liveStatefulSet(set)]);
    if (this.#stays(stored, leader))
      return this.#hold(stored, 'EvictionHeld', this.#toldToGo(stored), lookAgainMs);
    const isOld = live?.metadata.uid === setUid && controllerOf(live.metadata)?.uid === intent.leaderUid;
    if (!isOld || live.metadata.deletionTimestamp !== undefined) return later(lookAgainMs);
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

  /** Nobody has told the leader to go. */
  #stays({ intent }: StoredIntent, live: Pod | undefined): boolean {
    return live?.metadata.uid === intent.leaderUid && live.metadata.deletionTimestamp === undefined;
  }

  /** Of a record that somebody has edited: Berth writes that phase only when the leader goes. */
  #toldToGo({ name, intent }: StoredIntent): string {
    return `its intent ${name} says that ${intent.leaderName} was told to go, which it was not; delete that ConfigMap to let Berth decide anew`;
  }

  /** What the API server's answer to a destructive call means. What may have been done after all shows by itself. */
  async #refused(stored: StoredIntent, error: unknown, uid = stored.intent.leaderUid): Promise<Outcome> {
    const kind = failureKind(error);
    if (kind === 'budget' || kind === 'forbidden' || kind === 'invalid' || kind === 'changed')
      this.#refusedUntil.set(stored.intent.leaderUid, this.#options.wallMs() + refusedMs);
    switch (kind) {
      case 'budget':
        return this.#hold(stored, 'EvictionHeld', this.#budgetRefusal(uid), refusedMs);
      case 'forbidden':
        return this.#hold(
          stored,
          'EvictionHeld',
          'Berth has no right to do it: see its RBAC for evictions',
          refusedMs,
        );
      // A rule of the cluster may forbid it for now, and nobody but who made that knows for how long.
      case 'invalid':
      case 'changed':
        return this.#hold(stored, 'EvictionHeld', invalidRefusal(error), refusedMs);
      case 'gone':
      case 'conflict':
        return later(lookAgainMs);
      default:
        throw error;
    }
  }

  /** The Eviction API has looked at the budgets of that pod alone. */
  #budgetRefusal(uid: string): string {
    const { cache } = this.#options;
    const pod = cache.pod(uid);
    const budgets = pod === undefined ? [] : cache.disruptionBudgets(pod.namespace);
    const names = budgets
      .filter(({ selector }) => matchesLabelSelector(selector, pod?.labels ?? {}))
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
    if (next.intent.times.drain !== undefined) this.#options.lookAtGates(next.intent);
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
    const { phase, times, hold } = stored.intent;
    // As long as it stays where it is, it may serve: nobody knows how long a hold lasts.
    const isBack = phase === 'evicting' && times.drain !== undefined;
    if (hold === message && !isBack) return later(afterMs);
    const held = {
      ...stored.intent,
      hold: message,
      ...(isBack && { times: { ...times, drain: undefined } }),
    };
    await book.update(stored, held);
    if (isBack) this.#options.lookAtGates(held);
    return later(afterMs);
  }

  #fail(stored: StoredIntent, message: string): Promise<Outcome> {
    const failed = { ...stored, intent: { ...stored.intent, cause: `${stored.intent.cause} (${message})` } };
    return this.#record(failed, { kind: 'close', outcome: 'failed', times: {} }, false);
  }

  #facts({ intent }: StoredIntent): IntentFacts {
    const { cache, book, settings, wallMs } = this.#options;
    return intentFacts(cache, intent, () => book.intents, {
      nowMs: Math.round(wallMs()),
      // One that has not evicted anything may be held for hours, or taken back.
      overtaken: this.#laterOf(intent).some(({ times }) => times.evicted !== undefined),
      foreignGraceMs: settings.foreignGraceSeconds * 1000,
      fencingAfterMs: settings.fencingAfterSeconds * 1000,
    });
  }

  /** Records of later incarnations of the same group. Pods of one controller go each for itself. */
  #laterOf({ shape, group, leaderUid, times }: Intent): readonly Intent[] {
    if (shape === 'single') return [];
    return this.#options.book.intents.filter(
      other => other.group === group && other.leaderUid !== leaderUid && other.times.intent > times.intent,
    );
  }

  /** Keeps the next place free until the new plan stands. Of two records of a group the later one tells of it. */
  #keepPlace({ intent }: StoredIntent): void {
    const { cache, settings, wallMs } = this.#options;
    const { group, plan, times, leaderUid } = intent;
    if (this.#laterOf(intent).some(({ phase }) => phase !== 'closed')) return;
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

function invalidRefusal(error: unknown): string {
  const said = error instanceof Error ? plainText(error.message) : '';
  return `the API server refuses it as invalid${said === '' ? '' : `: ${said}`}`;
}

function leaderRef({ intent }: StoredIntent): { namespace: string; name: string; uid: string } {
  return { namespace: namespaceOf(intent), name: intent.leaderName, uid: intent.leaderUid };
}

function goesInForeground(leader: Pod | undefined, uid: string): boolean {
  const { metadata } = leader ?? {};
  return metadata?.uid === uid && (metadata.finalizers ?? []).includes('foregroundDeletion');
}
