import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { Preemption } from '../failure/preemption.ts';
import type { GroupInfo } from '../group/group-info.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { PlanInput } from '../planner/plan.ts';
import { chooseVictims, preemptionPolicyOf } from '../planner/victims.ts';
import {
  decidePreemption,
  type PreemptionDecision,
  type PreemptionHeld,
  type PreemptionSettings,
} from './preemption.ts';
import type { PreemptionBook } from './preemption-book.ts';
import { candidateUnits, preemptorPriority } from './preemption-victims.ts';
import { byPriorityThenAge } from './waiting-line.ts';

export interface PreemptionLineOptions {
  readonly cache: ClusterCache;
  readonly settings: PreemptionSettings;
  readonly book: PreemptionBook;
  /** What the planner is asked about a group that waits. */
  readonly questionOf: (key: string) => { readonly group: GroupInfo; readonly input: PlanInput } | undefined;
  readonly whyGroupKept: (view: GroupView, begun: boolean) => string | undefined;
  readonly wallMs: () => number;
}

/** A group that was refused for want of room. Times are wall-clock milliseconds. */
export interface Refused {
  readonly key: string;
  readonly leader: PodInfo;
  readonly sinceMs: number;
  /** When it is worth looking again. */
  nextMs: number;
  /** Why it may not preempt, as long as that is worth telling. */
  note: string | undefined;
}

/** Why nothing is done now. */
export type LineHold = Omit<PreemptionHeld, 'code'> & {
  readonly code: PreemptionHeld['code'] | 'NotNow' | 'Blocked';
};

/** What passes by itself, and what nobody has asked for. */
const quietCodes: readonly LineHold['code'][] = ['Off', 'TooEarly', 'UnderWay', 'NotNow'];
const soonMs = 2_000;
/** Each takes about a millisecond, and requests wait meanwhile. */
const maxPlans = 500;

/** Groups that found no room, and whether they may make some. Writes nothing. */
export class PreemptionLine {
  readonly #options: PreemptionLineOptions;
  readonly #refused = new Map<string, Refused>();

  constructor(options: PreemptionLineOptions) {
    this.#options = options;
  }

  /** Takes a refusal; milliseconds until it is worth a look when it is the first for this leader. */
  refuse(key: string): number | undefined {
    const { cache, settings, wallMs } = this.#options;
    const leader = cache.group(key)?.leader;
    const known = this.#refused.get(key);
    if (leader === undefined || known?.leader.uid === leader.uid) return undefined;
    const sinceMs = wallMs();
    const waitMs = settings.afterSeconds * 1000;
    this.#refused.set(key, { key, leader, sinceMs, nextMs: sinceMs + waitMs, note: undefined });
    return waitMs;
  }

  /** It waits for something else now. */
  forget(key: string): void {
    this.#refused.delete(key);
  }

  noteOf(key: string): string | undefined {
    return this.#refused.get(key)?.note;
  }

  /** Those that wait still, in the order in which they may preempt. */
  inOrder(): readonly Refused[] {
    const { cache, questionOf } = this.#options;
    for (const [key, { leader }] of this.#refused) {
      const isSame = cache.group(key)?.leader?.uid === leader.uid;
      if (!isSame || questionOf(key) === undefined) this.#refused.delete(key);
    }
    const rankOf = ({ key, leader: { priority, createdAtMs } }: Refused) => ({ key, priority, createdAtMs });
    return [...this.#refused.values()].sort((a, b) => byPriorityThenAge(rankOf(a), rankOf(b)));
  }

  /** Keeps why one is held. True when what is told about it has changed. */
  hold(refused: Refused, { code, message, retryAfterMs }: LineHold): boolean {
    const before = refused.note;
    refused.nextMs = this.#options.wallMs() + retryAfterMs;
    refused.note = quietCodes.includes(code) ? undefined : `no preemption: ${message}`;
    return before !== refused.note;
  }

  /** Decides from what is known now. `searched`: victims were looked for, which costs most. */
  decide(
    { key, sinceMs }: Refused,
    halted: boolean,
  ): {
    readonly decision: PreemptionDecision | LineHold;
    readonly searched: boolean;
    readonly priority: number;
  } {
    const { cache, settings, book, questionOf, wallMs } = this.#options;
    const [bad] = book.bad;
    const view = cache.group(key);
    const question = questionOf(key);
    const priority = view === undefined ? undefined : preemptorPriority(cache, view);
    const held = (code: LineHold['code'], message: string) => ({
      decision: { kind: 'held', code, message, retryAfterMs: soonMs } as const,
      searched: false,
      priority: 0,
    });
    if (bad !== undefined)
      return held('Blocked', `the record ${bad.name} cannot be read (${bad.message}); delete that ConfigMap`);
    if (view === undefined || question === undefined || !book.isRead)
      return held('NotNow', 'it does not wait');
    if (priority === undefined)
      return held('Blocked', 'its members have different PriorityClasses and are not all there');
    let searched = false;
    const { input } = question;
    const preemptionPolicy = preemptionPolicyOf(input.demands);
    const decision = decidePreemption({
      settings,
      key,
      priority,
      preemptionPolicy,
      refusedSinceMs: sinceMs,
      nowMs: wallMs(),
      halted,
      past: book.past(),
      chooseVictims: () => {
        searched = true;
        const units = this.unitsFor({ group: key, priority });
        return chooseVictims({ input, priority, preemptionPolicy, units, maxPlans });
      },
    });
    return { decision, searched, priority };
  }

  /** All units, as a preemption for that group looks at them; with `leaderUid` one that has begun. */
  unitsFor({ group, priority, leaderUid }: Pick<Preemption, 'group' | 'priority'> & Partial<Preemption>) {
    const { cache, book, whyGroupKept } = this.#options;
    const others = book.open.flatMap(({ preemption }) => (preemption.group === group ? [] : [preemption]));
    const whyKept = (view: GroupView) => whyGroupKept(view, leaderUid !== undefined);
    return candidateUnits({ cache, priority, others, whyGroupKept: whyKept });
  }

  /** What held them may be over. */
  lookAgain(): void {
    for (const refused of this.#refused.values())
      refused.nextMs = Math.min(
        refused.nextMs,
        Math.max(this.#options.wallMs(), this.#patientUntilMs(refused)),
      );
  }

  clear(): void {
    this.#refused.clear();
  }

  #patientUntilMs({ sinceMs }: Refused): number {
    return sinceMs + this.#options.settings.afterSeconds * 1000;
  }
}
