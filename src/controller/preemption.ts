import type { GroupPlan } from '../planner/plan.ts';
import type { Unit } from '../planner/release.ts';
import type { NoVictims, VictimPlan } from '../planner/victims.ts';

export interface PreemptionSettings {
  /** Nobody who asked for placement has asked for that others are evicted, so it is off unless it is switched on. */
  readonly enabled: boolean;
  readonly dryRun: boolean;
  /** A group waits so long for room that comes by itself. */
  readonly afterSeconds: number;
  /** Units, that is groups and pods outside groups, that one group may cost at most. */
  readonly maxVictims: number;
  readonly maxVictimPods: number;
  /** Preemptions that may be under way in the whole cluster. */
  readonly maxAtOnce: number;
  /** Victims of all preemptions that may have begun within an hour. */
  readonly maxVictimsPerHour: number;
  /** Wait after a preemption whose group did not get its place; doubled with each further one. */
  readonly backOffSeconds: number;
  readonly maxBackOffSeconds: number;
}

export const preemptionDefaults: PreemptionSettings = {
  enabled: false,
  dryRun: false,
  afterSeconds: 30,
  maxVictims: 8,
  maxVictimPods: 256,
  maxAtOnce: 1,
  maxVictimsPerHour: 16,
  backOffSeconds: 60,
  maxBackOffSeconds: 3_600,
};

/** A preemption of which the record is still kept, whoever it was for. Wall-clock milliseconds. */
export interface PastPreemption {
  readonly group: string;
  readonly begunMs: number;
  /** Undefined while it is under way. */
  readonly ended: { readonly atMs: number; readonly placed: boolean } | undefined;
  readonly victims: number;
}

export interface PreemptionFacts {
  readonly settings: PreemptionSettings;
  /** `namespace/name` of the group that was refused. */
  readonly key: string;
  readonly priority: number;
  readonly preemptionPolicy: string | undefined;
  /** Since when it is refused; wall-clock milliseconds. */
  readonly refusedSinceMs: number;
  readonly nowMs: number;
  /** An administrator has stopped all evictions. */
  readonly halted: boolean;
  readonly past: readonly PastPreemption[];
  /** Asked last, for it costs most. */
  readonly chooseVictims: () => VictimPlan | NoVictims;
}

export type PreemptionDecision =
  | {
      readonly kind: 'preempt';
      readonly victims: readonly Unit[];
      /** Where the group goes once they are gone: the place to keep for it. */
      readonly plan: GroupPlan;
      /** What is told to the victims' users. */
      readonly cause: string;
    }
  | PreemptionHeld;

export interface PreemptionHeld {
  readonly kind: 'held';
  readonly code:
    | 'Off'
    | 'Never'
    | 'Halted'
    | 'UnderWay'
    | 'TooEarly'
    | 'BackOff'
    | 'TooManyAtOnce'
    | 'TooManyPerHour'
    | 'NoVictims'
    | 'DisruptionBudget'
    | 'TooManyVictims'
    | 'DryRun';
  /** The same sentence as long as it is held for the same cause. */
  readonly message: string;
  /** When it may be worth looking again; changes of the cluster bring the group back sooner. */
  readonly retryAfterMs: number;
}

type Hold = Omit<PreemptionHeld, 'kind'>;

const lookAgainMs = 30_000;
const hourMs = 3_600_000;

/** Whether a refused group may make room for itself now, and whom it costs. Pure: it writes nothing and evicts nobody. */
export function decidePreemption(facts: PreemptionFacts): PreemptionDecision {
  const early = beforeSearch(facts);
  if (early !== undefined) return { kind: 'held', ...early };
  const found = facts.chooseVictims();
  if (found.kind === 'no-victims') {
    const code = found.code === 'Never' ? 'Never' : 'NoVictims';
    return { kind: 'held', ...hold(code, found.message, lookAgainMs) };
  }
  const late = afterSearch(facts, found.victims);
  if (late !== undefined) return { kind: 'held', ...late };
  const { victims, plan } = found;
  return { kind: 'preempt', victims, plan, cause: causeOf(facts) };
}

/** What can be told without knowing the victims. */
function beforeSearch(facts: PreemptionFacts): Hold | undefined {
  const { settings, key, preemptionPolicy, halted, past, refusedSinceMs, nowMs } = facts;
  if (!settings.enabled) return hold('Off', 'preemption is off', lookAgainMs);
  if (preemptionPolicy === 'Never') return hold('Never', 'its preemptionPolicy is Never', lookAgainMs);
  if (halted) return hold('Halted', 'an administrator has halted all evictions', 5_000);
  const running = past.filter(({ ended }) => ended === undefined);
  if (running.some(({ group }) => group === key))
    return hold('UnderWay', 'room is being made for it already', lookAgainMs);
  const toWaitMs = refusedSinceMs + settings.afterSeconds * 1000 - nowMs;
  if (toWaitMs > 0) return hold('TooEarly', 'room may come free by itself', toWaitMs);
  const backOffMs = backOffUntilMs(facts) - nowMs;
  if (backOffMs > 0)
    return hold('BackOff', 'others were evicted for it before and it did not get its place', backOffMs);
  if (running.length >= settings.maxAtOnce)
    return hold('TooManyAtOnce', 'room is being made for other groups', lookAgainMs);
  return overHourlyBudget(facts, 1);
}

/** What depends on the victims. Evicting some of them and then being refused the others would be in vain. */
function afterSearch(facts: PreemptionFacts, victims: readonly Unit[]): Hold | undefined {
  const { settings } = facts;
  const forbidden = victims.find(unit => unit.budgetsForbid !== undefined);
  if (forbidden !== undefined) {
    const message = `it would have to evict ${forbidden.key}, but ${forbidden.budgetsForbid}`;
    return hold('DisruptionBudget', message, 10_000);
  }
  const pods = victims.reduce((sum, unit) => sum + unit.pods, 0);
  if (victims.length > settings.maxVictims || pods > settings.maxVictimPods) {
    const cost = `${victims.length} groups or single pods, ${pods} pods in all`;
    const allowed = `${settings.maxVictims} and ${settings.maxVictimPods}`;
    return hold('TooManyVictims', `it would end ${cost}; at most ${allowed} are allowed`, lookAgainMs);
  }
  const budget = overHourlyBudget(facts, victims.length);
  if (budget !== undefined) return budget;
  if (!settings.dryRun) return undefined;
  const names = victims.map(({ key }) => key).join(', ');
  return hold('DryRun', `preemption is in dry run; it would evict ${names}`, lookAgainMs);
}

function overHourlyBudget({ settings, past, nowMs }: PreemptionFacts, more: number): Hold | undefined {
  const recent = past.filter(({ begunMs }) => begunMs > nowMs - hourMs).sort((a, b) => a.begunMs - b.begunMs);
  let over = recent.reduce((sum, { victims }) => sum + victims, more) - settings.maxVictimsPerHour;
  if (over <= 0) return undefined;
  for (const { begunMs, victims } of recent) {
    over -= victims;
    if (over <= 0) return hold('TooManyPerHour', tooManyPerHour(settings), begunMs + hourMs - nowMs);
  }
  return hold('TooManyPerHour', tooManyPerHour(settings), lookAgainMs);
}

function tooManyPerHour({ maxVictimsPerHour }: PreemptionSettings): string {
  return `no more than ${maxVictimsPerHour} groups and pods may be preempted within an hour`;
}

/** Failures count since the group last got its place. */
function backOffUntilMs({ settings, past, key }: PreemptionFacts): number {
  let failures = 0;
  let lastMs = 0;
  const ended = past.flatMap(({ group, ended: end }) => (group === key && end !== undefined ? [end] : []));
  for (const { atMs, placed } of ended.sort((a, b) => a.atMs - b.atMs)) {
    failures = placed ? 0 : failures + 1;
    lastMs = atMs;
  }
  if (failures === 0) return 0;
  const seconds = Math.min(settings.backOffSeconds * 2 ** (failures - 1), settings.maxBackOffSeconds);
  return lastMs + seconds * 1000;
}

function causeOf({ key, priority }: PreemptionFacts): string {
  return `preempted by group ${key} of priority ${priority}`;
}

function hold(code: PreemptionHeld['code'], message: string, retryAfterMs: number): Hold {
  return { code, message, retryAfterMs };
}
