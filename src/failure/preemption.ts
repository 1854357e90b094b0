import { timeText } from './intent.ts';
import { RecordReader } from './record-reader.ts';

/** `preemptor-gone`: deleted, or made anew, before it had its place. */
export type PreemptionOutcome = 'placed' | 'given-up' | 'preemptor-gone';

/** A group or a pod outside groups that has to make room. */
export interface PreemptionVictim {
  /** `namespace/name` */
  readonly key: string;
  readonly kind: 'group' | 'pod';
  /** Of the group's leader, or of the pod. */
  readonly uid: string;
  readonly priority: number;
  /** Wall-clock milliseconds when it was first seen to go; undefined before. */
  readonly wentMs: number | undefined;
}

/**
 * The decision that others make room for a group, kept in a ConfigMap before anything is done: lock, ledger and audit in
 * one. Groups among the victims get an intent of their own besides.
 */
export interface Preemption {
  /** `namespace/name` of the group that gets the place. */
  readonly group: string;
  readonly leaderUid: string;
  /** How many there were for this leader before. */
  readonly attempt: number;
  readonly priority: number;
  /** What is told to the victims' users. */
  readonly cause: string;
  readonly victims: readonly PreemptionVictim[];
  /** The place that is kept, node by rank. */
  readonly nodes: readonly string[];
  /** Wall-clock milliseconds. */
  readonly begunMs: number;
  readonly ended: { readonly atMs: number; readonly outcome: PreemptionOutcome } | undefined;
}

export interface PreemptionError {
  readonly code: 'InvalidPreemption';
  readonly message: string;
}

const version = 1;
const maxBytes = 1024 * 1024;
const outcomes: readonly PreemptionOutcome[] = ['placed', 'given-up', 'preemptor-gone'];
const kinds: readonly PreemptionVictim['kind'][] = ['group', 'pod'];
const maxPriority = 2 ** 31;

export function formatPreemption(preemption: Preemption): string {
  const {
    group,
    leaderUid: leaderUID,
    attempt,
    priority,
    cause,
    victims,
    nodes,
    begunMs,
    ended,
  } = preemption;
  return JSON.stringify({
    version,
    group,
    leaderUID,
    attempt,
    priority,
    cause,
    victims: victims.map(({ key, kind, uid, priority: p, wentMs }) => ({
      key,
      kind,
      uid,
      priority: p,
      went: timeText(wentMs),
    })),
    nodes,
    begun: timeText(begunMs),
    ended: timeText(ended?.atMs),
    outcome: ended?.outcome ?? null,
  });
}

/** Reads a preemption back; whatever is not exactly one of this version is refused, with the field at fault. */
export function parsePreemption(text: string): Preemption | PreemptionError {
  if (text.length > maxBytes) return invalid(`preemption.json is longer than ${maxBytes} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return invalid('preemption.json is not JSON');
  }
  const reader = new RecordReader(value);
  if (reader.field('version') !== version) return invalid(`version must be ${version}`);
  const preemption = readPreemption(reader);
  const [fault] = reader.faults;
  if (fault !== undefined) return invalid(`${fault.field} ${fault.rule}`);
  const hasOutcome = reader.field('outcome') !== null;
  if (hasOutcome !== (preemption.ended !== undefined))
    return invalid('outcome must be there when it has ended, and only then');
  return preemption;
}

export function isPreemptionError(value: object): value is PreemptionError {
  return 'code' in value && value.code === 'InvalidPreemption';
}

function readPreemption(r: RecordReader): Preemption {
  const atMs = r.timeOrNone('ended');
  return {
    group: r.key('group'),
    leaderUid: r.uid('leaderUID'),
    attempt: r.count('attempt'),
    priority: r.number('priority', maxPriority),
    cause: r.text('cause'),
    victims: r.list('victims').map(v => ({
      key: v.key('key'),
      kind: v.oneOf('kind', kinds),
      uid: v.uid('uid'),
      priority: v.number('priority', maxPriority),
      wentMs: v.timeOrNone('went'),
    })),
    nodes: r.names('nodes') ?? [],
    begunMs: r.time('begun'),
    ended: atMs === undefined ? undefined : { atMs, outcome: r.oneOf('outcome', outcomes) },
  };
}

function invalid(message: string): PreemptionError {
  return { code: 'InvalidPreemption', message };
}
