import { type Intent, isIntentError, parseIntent } from '../../src/failure/intent.ts';
import { inOrder, type StormCall, type StormStory, slackMs } from './storm-story.ts';
import { isBerths, type Timeline, timelineOf, troublesOf, wasWhole } from './storm-timeline.ts';

/** An intent as each write of it left it. */
interface Told {
  readonly atMs: number;
  readonly name: string;
  readonly intent: Intent;
}

/** What a storm has against Berth's promises, and the figures that show how much was put to the test. */
export interface StormFindings {
  readonly violations: readonly string[];
  readonly evictions: number;
  readonly setDeletions: number;
  /** Deletions of pods that were pinned and not bound. */
  readonly replanned: number;
  readonly intents: number;
  /** Moments under `halt` in which some group was hurt. */
  readonly heldMoments: number;
  readonly allocations: number;
  readonly mostInFlight: number;
}

/** A holder may have asked whether all is halted right before it was, and its watch may tell late that a group is back. */
const graceMs = 2_000;
const lateWatchMs = 12_000;
/** Less than the time that Berth gives the garbage collector. */
const collectorMs = 8_000;

/**
 * Judges a storm by what must hold at every moment, from what the API server has told and logged alone. It shares with
 * Berth only how an intent is written down.
 */
export function judgeStorm(story: StormStory): StormFindings {
  const timeline = timelineOf(story.changes);
  const told = intentsOf(story);
  const calls = story.calls.filter(({ done }) => done);
  const evictions = calls.filter(({ what }) => what === 'evict');
  const flight = inFlight(told, story);
  return {
    violations: [
      ...twice(calls),
      ...toldTwice(calls, timeline),
      ...unrecorded(calls, told, timeline),
      ...recordedTwice(told),
      ...backwards(told),
      ...groundless(calls, timeline),
      ...innocentHurt(story, timeline),
      ...underHalt(story),
      ...tooFast(told, new Set(evictions.map(({ uid }) => uid)), story),
      ...flight.violations,
      ...recoveredTooSoon(told, timeline, story),
      ...badDevices(timeline),
      ...badRules(story),
    ],
    evictions: evictions.length,
    setDeletions: calls.filter(({ what }) => what === 'delete-set').length,
    replanned: calls.filter(({ what }) => what === 'delete-pod').length,
    intents: new Set(told.map(({ name }) => name)).size,
    heldMoments: heldMoments(story, timeline),
    allocations: timeline.allocations.length,
    mostInFlight: flight.most,
  };
}

function intentsOf({ changes }: StormStory): readonly Told[] {
  return inOrder(changes).flatMap(change => {
    if (change.resource !== 'configmaps' || change.type === 'DELETED') return [];
    const intent = parseIntent(change.object.data?.['intent.json'] ?? '');
    if (isIntentError(intent)) return [];
    return [{ atMs: change.atMs, name: change.object.metadata.name ?? '', intent }];
  });
}

/** Nothing is done twice to one pod or StatefulSet, and nothing to whoever happens to bear a name. */
function twice(calls: readonly StormCall[]): readonly string[] {
  const nameless = calls.filter(({ uid }) => uid === '').map(call => `${textOf(call)} names no UID`);
  const repeated = calls.filter(
    ({ what, uid }, i) =>
      uid !== '' && calls.findIndex(other => other.what === what && other.uid === uid) < i,
  );
  return [...nameless, ...repeated.map(call => `${textOf(call)} was done before`)];
}

/**
 * The garbage collector tells the workers of a leader that Berth evicted; only when it is late they are told again. Whoever
 * deletes the leader a moment before makes it go in background, and then nobody tells them.
 */
function toldTwice(calls: readonly StormCall[], { leaderOfSet, lives }: Timeline): readonly string[] {
  const evictedMs = new Map(calls.filter(({ what }) => what === 'evict').map(({ uid, atMs }) => [uid, atMs]));
  return calls
    .filter(({ what, uid, atMs }) => {
      const leader = leaderOfSet.get(uid) ?? '';
      if (what !== 'delete-set' || lives.get(leader)?.inForeground !== true) return false;
      const sinceMs = atMs - (evictedMs.get(leader) ?? Number.NEGATIVE_INFINITY);
      return sinceMs >= 0 && sinceMs < collectorMs;
    })
    .map(call => `${textOf(call)} right after the eviction of its leader`);
}

/** Before a group is touched there is a record of it. Pods that are not bound need none. */
function unrecorded(calls: readonly StormCall[], told: readonly Told[], { leaderOfSet }: Timeline) {
  const first = new Map(told.toReversed().map(({ atMs, intent }) => [intent.leaderUid, atMs]));
  return calls.flatMap(call => {
    if (call.what === 'delete-pod') return [];
    const leaderUid = call.what === 'evict' ? call.uid : (leaderOfSet.get(call.uid) ?? '');
    const isRecorded = (first.get(leaderUid) ?? Number.POSITIVE_INFINITY) <= call.atMs + slackMs;
    return isRecorded ? [] : [`${textOf(call)} without a record before`];
  });
}

function recordedTwice(told: readonly Told[]): readonly string[] {
  const names = new Map<string, Set<string>>();
  for (const { name, intent } of told)
    names.set(intent.leaderUid, (names.get(intent.leaderUid) ?? new Set()).add(name));
  return [...names]
    .filter(([, of]) => of.size > 1)
    .map(([uid, of]) => `leader ${uid} has the records ${[...of].sort().join(', ')}`);
}

/** A member of old that shows up late may bring `returning` back to `leaving`; nothing else goes back. */
function backwards(told: readonly Told[]): readonly string[] {
  const order = ['evicting', 'leaving', 'returning', 'closed'];
  const last = new Map<string, Intent['phase']>();
  return told.flatMap(({ name, intent: { phase } }) => {
    const before = last.get(name) ?? 'evicting';
    last.set(name, phase);
    const isAllowed =
      order.indexOf(phase) >= order.indexOf(before) || (before === 'returning' && phase === 'leaving');
    return isAllowed ? [] : [`${name} went from ${before} to ${phase}`];
  });
}

/** Who is evicted is hurt or has lost a member; workers are told only when their leader goes; nobody bound is deleted. */
function groundless(calls: readonly StormCall[], timeline: Timeline): readonly string[] {
  const { lives, leaderOfSet } = timeline;
  return calls.flatMap(call => {
    const { what, uid, atMs } = call;
    const life = lives.get(what === 'delete-set' ? (leaderOfSet.get(uid) ?? '') : uid);
    if (life === undefined) return [`${textOf(call)} of what nobody has seen`];
    if (what === 'delete-pod')
      return life.boundMs < atMs - slackMs ? [`${textOf(call)} of a pod that was bound`] : [];
    if (what === 'delete-set')
      return life.leftMs > atMs + slackMs ? [`${textOf(call)} while its leader stayed`] : [];
    return troublesOf(timeline, uid, atMs).length === 0
      ? [`${textOf(call)} of a group with nothing wrong`]
      : [];
  });
}

function innocentHurt({ innocents }: StormStory, { lives }: Timeline): readonly string[] {
  return [...innocents]
    .map(uid => lives.get(uid))
    .filter(life => life === undefined || life.leftMs !== Number.POSITIVE_INFINITY)
    .map(life => `${life?.name ?? 'a pod that was never seen'} was innocent and is gone`);
}

/** Asking counts, whatever the answer. */
function underHalt({ calls, halts }: StormStory): readonly string[] {
  return calls
    .filter(({ what }) => what !== 'delete-pod')
    .filter(({ atMs }) => halts.some(({ fromMs, toMs }) => atMs > fromMs + graceMs && atMs < toMs))
    .map(call => `${textOf(call)} while all evictions were halted`);
}

/** Evictions of each kind stay within their token bucket, restarts of Berth or not. */
function tooFast(told: readonly Told[], evicted: ReadonlySet<string>, { limits }: StormStory) {
  const own = new Map(
    told.filter(({ intent }) => evicted.has(intent.leaderUid)).map(({ name, intent }) => [name, intent]),
  );
  return [true, false].flatMap(serving => {
    const [perSecond, burst] = serving
      ? [limits.servingEvictionsPerSecond, limits.servingBurst]
      : [limits.brokenEvictionsPerSecond, limits.brokenBurst];
    const times = [...own.values()]
      .filter(intent => intent.serving === serving)
      .map(({ times }) => times.intent)
      .sort((a, b) => a - b);
    return times.flatMap((from, i) =>
      times.slice(i).flatMap((to, j) => {
        const isTooMany = j + 1 > burst + ((to - from) / 1_000) * perSecond + 1e-6;
        return isTooMany ? [`${j + 1} evictions within ${to - from} ms, serving: ${serving}`] : [];
      }),
    );
  });
}

/** At the moment in which a serving group is given up, not more others are down than may be. */
function inFlight(told: readonly Told[], { limits }: StormStory) {
  const open = new Map<string, Intent>();
  const violations: string[] = [];
  let most = 0;
  for (const { name, intent } of told) {
    const isNew = !open.has(name) && intent.phase === 'evicting' && intent.serving;
    if (isNew) {
      const others = [...open.values()];
      const ofOwner = others.filter(({ owner }) => owner.uid === intent.owner.uid).length;
      if (others.length >= limits.inFlight)
        violations.push(`${intent.group} is number ${others.length + 1} in flight`);
      if (ofOwner >= limits.inFlightPerOwner)
        violations.push(`${intent.group} is not the first of its owner in flight`);
    }
    if (intent.phase === 'closed') open.delete(name);
    else if (isNew) open.set(name, intent);
    most = Math.max(most, open.size);
  }
  return { violations, most };
}

/** A record that says `recovered` is of a group that was whole again, or the budgets above would count for nothing. */
function recoveredTooSoon(
  told: readonly Told[],
  timeline: Timeline,
  { size }: StormStory,
): readonly string[] {
  return told
    .filter(({ intent }) => intent.outcome === 'recovered')
    .filter(({ atMs, intent }) => {
      const leaders = [...timeline.lives.values()].filter(
        ({ uid, name, namespace, rank }) =>
          rank === 0 && uid !== intent.leaderUid && intent.group === `${namespace}/${name}`,
      );
      return !leaders.some(({ uid }) => wasWhole(timeline, uid, size, atMs - lateWatchMs, atMs + slackMs));
    })
    .map(({ intent }) => `the record of ${intent.group} says recovered, and it was not whole`);
}

/** No claim was given what had been kept off for longer than kube-scheduler takes to hear of it. */
function badDevices({ allocations, keptOff }: Timeline): readonly string[] {
  return allocations.flatMap(({ atMs, claim, devices }) =>
    devices
      .filter(key => keptOff.covers(key, atMs - slackMs, atMs))
      .map(key => `${claim} was given ${key}, which was kept off`),
  );
}

/** Rules of Berth mean one device each and end nobody. */
function badRules({ changes }: StormStory): readonly string[] {
  return changes.flatMap(change => {
    if (change.resource !== 'devicetaintrules' || !isBerths(change.object)) return [];
    const { deviceSelector, taint } = change.object.spec;
    const { driver = '', pool = '', device = '' } = deviceSelector ?? {};
    const isMild = [driver, pool, device].every(text => text !== '') && taint.effect === 'NoSchedule';
    return isMild ? [] : [`rule ${change.object.metadata.name} of Berth means too much`];
  });
}

/** Seconds of `halt` in which some leader that stayed had something wrong with its group: a brake that held something. */
function heldMoments({ halts }: StormStory, timeline: Timeline): number {
  const leaders = [...timeline.lives.values()].filter(({ rank }) => rank === 0);
  return halts.reduce((sum, { fromMs, toMs }) => {
    let held = 0;
    for (let atMs = fromMs + graceMs; atMs < toMs; atMs += 1_000)
      if (
        leaders.some(
          ({ uid, bornMs, leftMs }) =>
            bornMs <= atMs && leftMs > atMs && troublesOf(timeline, uid, atMs).length > 0,
        )
      )
        held += 1;
    return sum + held;
  }, 0);
}

function textOf({ what, name, uid, atMs }: StormCall): string {
  return `${what} ${name} (${uid}) at ${new Date(atMs).toISOString()}`;
}
