import type { CacheChange } from '../cache/cache-changes.ts';
import type { Claim } from '../failure/claim.ts';
import type { Preemption } from '../failure/preemption.ts';
import { failureKind } from '../kube/api-errors.ts';
import type { StoredPreemption } from '../kube/preemption-store.ts';
import type { WorkQueue } from '../kube/work-queue.ts';
import { ApiPatience } from './api-patience.ts';
import type { PreemptionDecision, PreemptionSettings } from './preemption.ts';
import { PreemptionBook, type PreemptionBookLimits, type PreemptionStorePort } from './preemption-book.ts';
import { PreemptionCourse, type PreemptionCourseOptions } from './preemption-course.ts';
import { PreemptionLine, type PreemptionLineOptions, type Refused } from './preemption-line.ts';
import { PreemptionPlaces } from './preemption-places.ts';
import { describeVictims } from './preemption-report.ts';
import { victimOf, whereIs } from './preemption-victims.ts';

export interface PreemptionControllerOptions
  extends Omit<PreemptionLineOptions, 'book' | 'settings'>,
    Omit<PreemptionCourseOptions, 'book' | 'places' | 'unitsFor' | 'keepPlaceSeconds'> {
  readonly settings: Omit<PreemptionSettings, 'enabled' | 'dryRun'> & {
    /** The place is kept for so long, which must be enough for victims to end. */
    readonly keepPlaceSeconds: number;
  };
  /** Nothing is evicted for whatever reason. */
  readonly dryRun: boolean;
  readonly limits: PreemptionBookLimits;
  readonly store: PreemptionStorePort;
  /** Has the line of waiting groups served again. */
  readonly serveLine: () => void;
  readonly makeQueue: (process: (key: string) => Promise<void>) => WorkQueue;
}

const reviewKey = 'review';
const lineKey = 'line';
/** Changes come in bursts; those of a large cluster never end. */
const gatherMs = 50;
const gatherRoomMs = 500;
const lookAgainMs = 1_000;
/** Between two searches for victims. */
const searchGapMs = 1_000;

/**
 * Makes room for groups of higher priority: decides whom they need to leave, keeps their place, and sees to it that those
 * leave whole and no more of them than needed. Groups are evicted by failure handling, which sees the claims made here as
 * a signal. Runs in every replica; only the holder of the Lease decides and evicts, the others keep the places.
 */
export class PreemptionController {
  readonly #options: PreemptionControllerOptions;
  readonly #queue: WorkQueue;
  readonly #book: PreemptionBook;
  readonly #line: PreemptionLine;
  readonly #places: PreemptionPlaces;
  readonly #course: PreemptionCourse;
  readonly #patience = new ApiPatience();
  #holds = false;

  constructor(options: PreemptionControllerOptions) {
    this.#options = options;
    const { cache, mode, dryRun, settings } = options;
    const book = new PreemptionBook(options.store);
    const places = new PreemptionPlaces(cache);
    const line = new PreemptionLine({
      ...options,
      settings: { ...settings, enabled: mode !== 'off', dryRun: dryRun || mode !== 'evict' },
      book,
    });
    this.#book = book;
    this.#places = places;
    this.#line = line;
    this.#course = new PreemptionCourse({
      ...options,
      keepPlaceSeconds: settings.keepPlaceSeconds,
      book,
      places,
      unitsFor: preemption => line.unitsFor(preemption),
      mayAct: () => this.#acts(),
    });
    this.#queue = options.makeQueue(key => this.#process(key));
    if (mode !== 'off') options.cache.subscribe(change => this.#changed(change));
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.shutdown();
  }

  get queueDepth(): number {
    return this.#queue.depth;
  }

  /** Reads what the last holder has decided, so that no plan uses a place that is kept. Before `takeOver`. */
  async readRecords(): Promise<void> {
    if (this.#options.mode === 'off') return;
    await this.#book.refresh();
    this.#places.keepAll(this.#book.open);
  }

  /** This process holds the Lease and has read the cluster. */
  takeOver(): void {
    this.#book.expire();
    this.#holds = true;
    this.reviewAll();
  }

  reviewAll(): void {
    if (this.#options.mode !== 'off') this.#queue.add(reviewKey);
  }

  /** Another holder decides now. */
  standDown(): void {
    this.#holds = false;
    this.#book.expire();
    this.#line.clear();
    this.#patience.clear();
    this.#course.standDown();
  }

  /** A group waits. What is being done about it, or why nothing is, in words. */
  onWaits(key: string, reason: string): string | undefined {
    if (this.#options.mode === 'off') return undefined;
    if (reason !== 'NoRoom') return void this.#line.forget(key);
    const open = this.#book.openOf(key);
    if (open !== undefined) return describeVictims(this.#whoLeaves(open.preemption));
    const waitMs = this.#line.refuse(key);
    if (waitMs !== undefined) this.#queue.addAfter(lineKey, waitMs);
    return this.#line.noteOf(key);
  }

  /** Whether an incarnation of a group must go now, by its leader's UID. */
  claimOf(leaderUid: string): Claim | undefined {
    return this.#course.claimOf(leaderUid);
  }

  #changed(change: CacheChange): void {
    if (change.kind !== 'group' && change.kind !== 'room') return;
    for (const { name, preemption } of this.#book.open) {
      const { group, victims } = preemption;
      if (change.kind === 'room') this.#queue.addAfter(openKey(name), gatherRoomMs);
      else if (change.key === group || victims.some(({ key }) => key === change.key))
        this.#queue.addAfter(openKey(name), gatherMs);
    }
  }

  async #process(key: string): Promise<void> {
    if (key === reviewKey) return this.#review();
    if (!this.#acts() || !this.#book.isRead) return;
    const { nowMs } = this.#options;
    const waitMs = this.#patience.waitMs(key, nowMs());
    if (waitMs > 0) return this.#queue.addAfter(key, waitMs);
    try {
      if (key === lineKey) await this.#passLine();
      else await this.#processOpen(key.slice(openKey('').length));
      this.#patience.succeeded(key);
    } catch (error) {
      const kind = failureKind(error);
      this.#patience.failed(key, error, kind, nowMs());
      // Somebody else has written or deleted a record: what it says now counts.
      if (kind !== 'conflict' && kind !== 'gone') throw error;
      this.#queue.add(reviewKey);
    }
  }

  async #review(): Promise<void> {
    const { limits, report, wallMs } = this.#options;
    await this.#refresh();
    if (!this.#acts()) return;
    for (const { name, message } of this.#book.bad) report.badRecord(name, message);
    this.#queue.add(lineKey);
    await this.#book.prune(limits, wallMs(), () => this.#acts());
  }

  /** A write of which no answer came may be there after all. */
  async #refresh(): Promise<void> {
    await this.#book.refresh();
    this.#places.keepAll(this.#book.open);
    for (const { name } of this.#book.open) this.#queue.add(openKey(name));
  }

  async #passLine(): Promise<void> {
    const { wallMs } = this.#options;
    let soonestMs = Number.POSITIVE_INFINITY;
    for (const refused of this.#line.inOrder()) {
      if (this.#book.openOf(refused.key) !== undefined) continue;
      const isDue = refused.nextMs <= wallMs();
      if (isDue && (await this.#serve(refused))) return this.#queue.addAfter(lineKey, searchGapMs);
      if (!this.#acts()) return;
      soonestMs = Math.min(soonestMs, refused.nextMs);
    }
    if (soonestMs < Number.POSITIVE_INFINITY)
      this.#queue.addAfter(lineKey, Math.max(1, soonestMs - wallMs()));
  }

  /** True when victims were looked for. */
  async #serve(refused: Refused): Promise<boolean> {
    const { isHalted, report, serveLine } = this.#options;
    const first = this.#line.decide(refused, false);
    let { decision, priority } = first;
    if (decision.kind === 'preempt') {
      // Now with what the API server says at this moment.
      const halted = await isHalted();
      await this.#refresh();
      if (!this.#acts()) return true;
      ({ decision, priority } = this.#line.decide(refused, halted));
    }
    if (decision.kind === 'preempt') {
      await this.#begin(refused, decision, priority);
      return true;
    }
    if (decision.code === 'DryRun') report.wouldPreempt(refused.key, refused.leader, decision.message);
    if (this.#line.hold(refused, decision)) serveLine();
    return first.searched;
  }

  async #begin(
    refused: Refused,
    { victims, plan, cause }: Extract<PreemptionDecision, { kind: 'preempt' }>,
    priority: number,
  ): Promise<void> {
    const { cache, report, wallMs, serveLine } = this.#options;
    const { key, leader } = refused;
    const known = victims.flatMap(unit => victimOf(cache, unit) ?? []);
    if (known.length < victims.length) return;
    const stored = await this.#create(refused, {
      group: key,
      leaderUid: leader.uid,
      attempt: this.#book.nextAttempt(leader.uid),
      priority,
      cause,
      victims: known,
      nodes: plan.nodes,
      begunMs: Math.round(wallMs()),
      ended: undefined,
    });
    // Another process believes that it holds the Lease, too.
    if (stored === undefined) return this.#queue.add(reviewKey);
    report.begun(stored.preemption);
    this.#places.keep(stored);
    serveLine();
    this.#queue.add(openKey(stored.name));
  }

  /** Without the right to keep records nothing is begun. */
  async #create(refused: Refused, preemption: Preemption): Promise<StoredPreemption | undefined> {
    try {
      return await this.#book.create(preemption);
    } catch (error) {
      if (failureKind(error) !== 'forbidden') throw error;
      const message = 'Berth has no right to write records of preemptions: see its RBAC for evictions';
      if (this.#line.hold(refused, { kind: 'held', code: 'Blocked', message, retryAfterMs: 30_000 }))
        this.#options.serveLine();
      return undefined;
    }
  }

  async #processOpen(name: string): Promise<void> {
    const stored = this.#book.of(name);
    if (stored === undefined || stored.preemption.ended !== undefined) return;
    const outcome = await this.#course.advance(stored);
    if (outcome === undefined) return this.#queue.addAfter(openKey(name), lookAgainMs);
    this.#line.lookAgain();
    this.#queue.add(lineKey);
    this.#options.serveLine();
  }

  #whoLeaves({ victims }: Preemption): Preemption['victims'] {
    const left = victims.filter(victim => whereIs(this.#options.cache, victim) !== 'gone');
    return left.length === 0 ? victims : left;
  }

  #acts(): boolean {
    return this.#holds && this.#options.mayAct();
  }
}

function openKey(name: string): string {
  return `open:${name}`;
}
