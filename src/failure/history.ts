import type { DomainName } from './domains.ts';
import { type Intent, wasTakenBack } from './intent.ts';
import type { FailureSettings } from './settings.ts';
import { isPreemption } from './signal.ts';

/*
 * Budgets are counted from the intents and from nothing else, so that they outlive a restart and hold across replicas.
 * All times are wall-clock milliseconds, as intents carry them.
 */

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** What the intents say about one more eviction of a group. */
export interface History {
  /** Until the fleet-wide rate allows one more; 0 when it does. */
  readonly rateWaitMs: number;
  /** Until one more is allowed while a domain fails. */
  readonly domainWaitMs: number;
  /** Groups that served when they were taken down and are not Ready again, but those that wait for this one to leave. */
  readonly inFlight: number;
  readonly inFlightOfOwner: number;
  /** One that stood in several domains counts in each. */
  readonly inFlightByDomain: ReadonlyMap<DomainName, number>;
  readonly restarts: RestartBudget;
}

export type RestartBudget =
  | { readonly kind: 'free' }
  | { readonly kind: 'waits'; readonly retryAfterMs: number }
  | { readonly kind: 'spent'; readonly retryAfterMs: number };

export interface HistoryQuestion {
  readonly group: string;
  readonly namespace: string;
  readonly owner: string;
  readonly serving: boolean;
  /** Groups that were evicted and cannot return before this one leaves. */
  readonly waiters?: ReadonlySet<string>;
  readonly nowMs: number;
}

export function historyOf(
  intents: readonly Intent[],
  { group, namespace, owner, serving, waiters, nowMs }: HistoryQuestion,
  settings: FailureSettings,
): History {
  // No clock is off by a day: a record from further ahead was edited, and would count as of now for ever.
  const spent = intents.filter(intent => !wasTakenBack(intent) && intent.times.intent - nowMs < dayMs);
  // Preemptions have budgets of their own, see preemption.ts.
  const failures = spent.filter(intent => !isPreemption(intent.signal));
  const alike = failures.filter(intent => intent.serving === serving).map(intent => intent.times.intent);
  const rate = serving ? settings.servingEvictionsPerSecond : settings.brokenEvictionsPerSecond;
  const burst = serving ? settings.servingBurst : settings.brokenBurst;
  const down = downOf(failures, spent).filter(intent => !waiters?.has(intent.group));
  const all = failures.map(intent => intent.times.intent);
  return {
    rateWaitMs: tokenWaitMs(alike, nowMs, rate, burst),
    domainWaitMs: tokenWaitMs(all, nowMs, settings.domainEvictionsPerSecond, 1),
    inFlight: countGroups(down),
    inFlightOfOwner: countGroups(
      down.filter(intent => intent.owner.name === owner && intent.group.startsWith(`${namespace}/`)),
    ),
    inFlightByDomain: countByDomain(down),
    restarts: restartBudget(
      spent.filter(intent => intent.group === group).map(intent => intent.times.intent),
      nowMs,
      settings,
    ),
  };
}

/**
 * Records of groups that served when they were taken down, and do not serve again. The record of one that was hurt again
 * before it was whole is closed, and the next one tells of a group that was broken: of both nobody would count it.
 */
function downOf(failures: readonly Intent[], all: readonly Intent[]): readonly Intent[] {
  const isDownStill = ({ group, outcome, times }: Intent): boolean => {
    if (outcome !== 'overtaken') return false;
    const later = all.filter(other => other.group === group && other.times.intent > times.intent);
    return (
      later.some(({ phase }) => phase !== 'closed') && !later.some(other => other.outcome === 'recovered')
    );
  };
  return failures.filter(intent => intent.serving && (intent.phase !== 'closed' || isDownStill(intent)));
}

/** A group of which two records tell is one; pods of one controller go each for itself. */
function countGroups(intents: readonly Intent[]): number {
  return new Set(intents.map(({ shape, group, leaderUid }) => (shape === 'single' ? leaderUid : group))).size;
}

function countByDomain(intents: readonly Intent[]): ReadonlyMap<DomainName, number> {
  const byDomain = Map.groupBy(
    intents.flatMap(intent => intent.domains.map(domain => ({ domain, intent }))),
    ({ domain }) => domain,
  );
  return new Map(
    [...byDomain].map(([domain, all]) => [domain, countGroups(all.map(({ intent }) => intent))]),
  );
}

/** Milliseconds until a token bucket, full at first and drawn on at the given times, has a token again. */
export function tokenWaitMs(
  times: readonly number[],
  nowMs: number,
  ratePerSecond: number,
  burst: number,
): number {
  const perMs = ratePerSecond / 1000;
  let tokens = burst;
  let atMs: number | undefined;
  // A clock that was set back must not leave a time ahead of now that blocks for hours.
  for (const time of times.map(t => Math.min(t, nowMs)).sort((a, b) => a - b)) {
    if (atMs !== undefined) tokens = Math.min(burst, tokens + (time - atMs) * perMs);
    tokens -= 1;
    atMs = time;
  }
  if (atMs !== undefined) tokens = Math.min(burst, tokens + (nowMs - atMs) * perMs);
  // Rounding must not turn a whole token into almost one.
  return tokens > 1 - 1e-9 ? 0 : Math.ceil((1 - tokens) / perMs);
}

/** One lineage (a group over its incarnations) may be remade often enough to leave two bad hosts, not for ever. */
export function restartBudget(
  times: readonly number[],
  nowMs: number,
  settings: FailureSettings,
): RestartBudget {
  const known = times.map(time => Math.min(time, nowMs)).sort((a, b) => a - b);
  const day = known.filter(time => nowMs - time < dayMs);
  if (day.length >= settings.restartsPerDay) {
    const freed = day[day.length - settings.restartsPerDay] ?? nowMs;
    return { kind: 'spent', retryAfterMs: freed + dayMs - nowMs };
  }
  const hour = known.filter(time => nowMs - time < hourMs).length;
  const last = known.at(-1);
  if (last === undefined || hour < settings.restartsPerHour) return { kind: 'free' };
  const doublings = hour - settings.restartsPerHour;
  const minutes = Math.min(
    settings.restartLongestWaitMinutes,
    settings.restartFirstWaitMinutes * 2 ** doublings,
  );
  const waitMs = last + minutes * minuteMs - nowMs;
  return waitMs > 0 ? { kind: 'waits', retryAfterMs: waitMs } : { kind: 'free' };
}
