import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Claim, PreemptionMode } from '../failure/claim.ts';
import type { Preemption, PreemptionOutcome } from '../failure/preemption.ts';
import type { GroupInfo } from '../group/group-info.ts';
import type { StoredPreemption } from '../kube/preemption-store.ts';
import type { PlanInput } from '../planner/plan.ts';
import type { Unit } from '../planner/release.ts';
import type { PreemptionBook } from './preemption-book.ts';
import { PreemptionEvictor, type PreemptionEvictorOptions } from './preemption-evictor.ts';
import type { PreemptionPlaces } from './preemption-places.ts';
import type { PreemptionReport } from './preemption-report.ts';
import { needOf, outlookOf, whereIs } from './preemption-victims.ts';

export interface PreemptionCourseOptions extends PreemptionEvictorOptions {
  readonly cache: ClusterCache;
  readonly mode: PreemptionMode;
  readonly keepPlaceSeconds: number;
  readonly book: PreemptionBook;
  readonly places: PreemptionPlaces;
  readonly report: PreemptionReport;
  /** What the planner is asked about a group that waits. */
  readonly questionOf: (key: string) => { readonly group: GroupInfo; readonly input: PlanInput } | undefined;
  /** All units as that preemption looks at them. */
  readonly unitsFor: (preemption: Preemption) => readonly Unit[];
  /** Has a group looked at that is claimed, or is not any more. */
  readonly lookAtGroup: (key: string) => void;
  readonly wallMs: () => number;
}

/** A place that is taken may come free again while nodes and pods settle. */
const vainAfterMs = 5_000;

/**
 * Carries preemptions out: keeps the place, sees to it that those leave whole that are still needed to, and ends when the
 * group has its plan, is gone, or would not get its place. Looks at what is there alone, so a crash loses nothing.
 */
export class PreemptionCourse {
  readonly #options: PreemptionCourseOptions;
  readonly #evictor: PreemptionEvictor;
  /** By name of the record, UIDs of leaders whose groups must go now. */
  readonly #pressed = new Map<string, ReadonlySet<string>>();
  /** By name of the record, since when it looks in vain; monotonic. */
  readonly #vainSince = new Map<string, number>();

  constructor(options: PreemptionCourseOptions) {
    this.#options = options;
    this.#evictor = new PreemptionEvictor(options);
  }

  /** Takes an open preemption as far as it goes now; how it has ended, or undefined when it is to be looked at again. */
  async advance(stored: StoredPreemption): Promise<PreemptionOutcome | undefined> {
    const { cache, keepPlaceSeconds, places, mayAct, wallMs } = this.#options;
    const { preemption } = stored;
    const need = needOf(cache, preemption);
    if (need === 'planned') return undefined;
    if (need === 'placed') return this.#end(stored, 'placed');
    if (need === 'gone') return this.#end(stored, 'preemptor-gone');
    if (wallMs() - preemption.begunMs >= keepPlaceSeconds * 1000) return this.#end(stored, 'given-up');
    places.keep(stored);
    const current = await this.#recordWhoWent(stored);
    if (!mayAct()) return undefined;
    return (await this.#goOn(current)) ? this.#end(current, 'given-up') : undefined;
  }

  /** Whether an incarnation of a group must go now, by its leader's UID. */
  claimOf(leaderUid: string): Claim | undefined {
    for (const [name, uids] of this.#pressed) {
      const preemption = this.#options.book.of(name)?.preemption;
      if (preemption === undefined || !uids.has(leaderUid) || !this.#isNeeded(preemption)) continue;
      return { cause: preemption.cause };
    }
    return undefined;
  }

  /** Another holder decides now. */
  standDown(): void {
    this.#pressed.clear();
    this.#vainSince.clear();
    this.#evictor.standDown();
  }

  /** Evicts whom the group still needs to leave. True when all that would be in vain. */
  async #goOn(stored: StoredPreemption): Promise<boolean> {
    const { cache, questionOf, unitsFor, nowMs } = this.#options;
    const { name, preemption } = stored;
    const question = questionOf(preemption.group);
    // Others must see it in line, too; after a restart that takes a moment.
    if (question === undefined) return false;
    const outlook = outlookOf(cache, preemption, question.input, unitsFor(preemption));
    const uids = outlook.kind === 'needs' ? outlook.uids : new Set<string>();
    const vainSince = this.#vainSince.get(name) ?? nowMs();
    if (outlook.kind === 'in-vain') this.#vainSince.set(name, vainSince);
    else this.#vainSince.delete(name);
    const groups = preemption.victims.flatMap(({ kind, uid }) =>
      kind === 'group' && uids.has(uid) ? [uid] : [],
    );
    // A pod outside groups may be refused at the last moment, and groups cost more: they go when all those are going.
    const singlesGo = await this.#evictSingles(preemption, uids);
    this.#press(stored, new Set(singlesGo ? groups : []));
    return outlook.kind === 'in-vain' && nowMs() - vainSince >= vainAfterMs;
  }

  /** True when nobody of them is to go that does not go yet. */
  async #evictSingles(preemption: Preemption, uids: ReadonlySet<string>): Promise<boolean> {
    const { cache, report } = this.#options;
    const { victims, priority, cause } = preemption;
    let isDone = true;
    for (const victim of victims) {
      if (victim.kind !== 'pod' || !uids.has(victim.uid) || whereIs(cache, victim) !== 'stays') continue;
      const pod = cache.pod(victim.uid);
      if (pod === undefined) continue;
      isDone = false;
      const outcome = await this.#evictor.evict(pod, priority, () => this.#isNeeded(preemption));
      if (outcome.kind === 'going' && outcome.byBerth) report.evicted(pod, cause);
      if (outcome.kind === 'held') report.held(pod, cause, outcome.message);
      if (outcome.kind !== 'going') break;
    }
    return isDone;
  }

  /** Claims these groups, and has those looked at that go or are spared. */
  #press({ name, preemption }: StoredPreemption, uids: ReadonlySet<string>): void {
    const { cache, lookAtGroup } = this.#options;
    const before = this.#pressed.get(name) ?? new Set<string>();
    if (uids.size === 0) this.#pressed.delete(name);
    else this.#pressed.set(name, uids);
    for (const victim of preemption.victims) {
      const isClaimed = uids.has(victim.uid) && whereIs(cache, victim) === 'stays';
      if (isClaimed || before.has(victim.uid) !== uids.has(victim.uid)) lookAtGroup(victim.key);
    }
  }

  async #recordWhoWent(stored: StoredPreemption): Promise<StoredPreemption> {
    const { cache, report, wallMs } = this.#options;
    const { preemption } = stored;
    const now = Math.round(wallMs());
    const victims = preemption.victims.map(victim =>
      victim.wentMs === undefined && whereIs(cache, victim) !== 'stays' ? { ...victim, wentMs: now } : victim,
    );
    const went = victims.filter((victim, at) => victim !== preemption.victims[at]);
    if (went.length === 0) return stored;
    for (const victim of went) report.went(victim);
    return this.#options.book.update(stored, { ...preemption, victims });
  }

  async #end(stored: StoredPreemption, outcome: PreemptionOutcome): Promise<PreemptionOutcome | undefined> {
    const { book, places, report, mayAct, wallMs } = this.#options;
    if (!mayAct()) return undefined;
    const current = await this.#recordWhoWent(stored);
    if (!mayAct()) return undefined;
    const ended = { atMs: Math.round(wallMs()), outcome };
    await book.update(current, { ...current.preemption, ended });
    this.#press(current, new Set());
    this.#vainSince.delete(stored.name);
    places.keepAll(book.open);
    report.ended(current.preemption, outcome);
    return outcome;
  }

  #isNeeded(preemption: Preemption): boolean {
    return this.#options.mayAct() && needOf(this.#options.cache, preemption) === 'waits';
  }
}
