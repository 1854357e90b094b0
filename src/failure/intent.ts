import type { DeviceId } from '../cluster/devices/device.ts';
import { type DomainName, domainNamePattern } from './domains.ts';
import { RecordReader } from './record-reader.ts';
import { type Remaker, remakerKinds } from './remakers.ts';
import { type SignalClass, type SignalName, signalNames } from './signal.ts';

/** What is evicted: a group of a LeaderWorkerSet, a group by labels, or a pod outside groups. */
export const shapeKinds = ['lws', 'labelled', 'single'] as const;
export type ShapeKind = (typeof shapeKinds)[number];

export type IntentPhase = 'evicting' | 'leaving' | 'returning' | 'closed';
/** `preempted`: it is gone and made again, and waits for room. */
export type IntentOutcome = 'recovered' | 'preempted' | 'overtaken' | 'owner-gone' | 'failed';

export interface IntentMember {
  readonly rank: number;
  readonly name: string;
  readonly uid: string;
  /** Empty for a member that was not bound. */
  readonly node: string;
}

export interface AvoidedNode {
  readonly node: string;
  /** Empty when the node did not exist. */
  readonly nodeUid: string;
  readonly cause: string;
}

/** Wall-clock milliseconds; undefined for what has not happened. */
export interface IntentTimes {
  /** First sight of the fault. */
  readonly signal: number;
  readonly intent: number;
  /** Its members were begun to be taken out of traffic; undefined where none is to be. */
  readonly drain: number | undefined;
  /** The leader began to terminate, by Berth's eviction or by others. */
  readonly evicted: number | undefined;
  readonly gone: number | undefined;
  readonly bound: number | undefined;
  readonly ready: number | undefined;
}

/**
 * The decision to evict one incarnation of a group, kept in a ConfigMap before anything is done: lock, ledger and audit
 * in one. One per leader UID, ever.
 */
export interface Intent {
  readonly shape: ShapeKind;
  /** `namespace/name` of the group; of a pod outside groups `namespace/kind/name` of its controller. */
  readonly group: string;
  /** The UID is empty where it is no object: that of a group by labels is the group's own name. */
  readonly owner: { readonly name: string; readonly uid: string };
  /** Who makes the pods anew, where that is no LeaderWorkerSet. */
  readonly remakers: readonly Remaker[];
  readonly leaderName: string;
  readonly leaderUid: string;
  /** Empty in a group of one. */
  readonly workerSetUid: string;
  readonly members: readonly IntentMember[];
  /** Domains of the finest level in which the members stood: the nodes may be gone when somebody asks. */
  readonly domains: readonly DomainName[];
  readonly avoid: readonly AvoidedNode[];
  /** The next place, node by rank; undefined where none was asked for. */
  readonly plan: readonly string[] | undefined;
  readonly class: SignalClass;
  readonly signal: SignalName;
  readonly cause: string;
  /** What failed, as in the sighting; undefined in records from before that was told. */
  readonly entity: string | undefined;
  /** The device that failed, where the signal tells of one. */
  readonly device: DeviceId | undefined;
  /** All members were Ready: taking the group down cost something. */
  readonly serving: boolean;
  readonly phase: IntentPhase;
  /** Why it does not go on, with what a person can do about it. */
  readonly hold: string | undefined;
  readonly outcome: IntentOutcome | undefined;
  /** Leader UID of the incarnation that has followed; undefined unless the group has recovered. */
  readonly nextUid: string | undefined;
  readonly times: IntentTimes;
}

export interface IntentError {
  readonly code: 'InvalidIntent';
  readonly message: string;
}

const version = 1;
const maxIntentBytes = 1024 * 1024;
const phases: readonly IntentPhase[] = ['evicting', 'leaving', 'returning', 'closed'];
const outcomes: readonly IntentOutcome[] = ['recovered', 'preempted', 'overtaken', 'owner-gone', 'failed'];
const classes: readonly SignalClass[] = ['certain', 'suspect', 'info'];

export function isIntentError(value: object): value is IntentError {
  return 'code' in value && value.code === 'InvalidIntent';
}

export function formatIntent(intent: Intent): string {
  const { leaderUid: leaderUID, workerSetUid: workerSetUID, times } = intent;
  return JSON.stringify({
    version,
    shape: intent.shape,
    group: intent.group,
    owner: intent.owner,
    remakers: intent.remakers.map(({ kind, name, uid, pods }) => ({ kind, name, uid, pods })),
    leaderName: intent.leaderName,
    leaderUID,
    workerSetUID,
    members: intent.members.map(({ rank, name, uid, node }) => ({ rank, name, uid, node })),
    domains: intent.domains,
    avoid: intent.avoid.map(({ node, nodeUid: nodeUID, cause }) => ({ node, nodeUID, cause })),
    plan: intent.plan ?? null,
    class: intent.class,
    signal: intent.signal,
    cause: intent.cause,
    entity: intent.entity ?? null,
    device: intent.device ?? null,
    serving: intent.serving,
    phase: intent.phase,
    hold: intent.hold ?? null,
    outcome: intent.outcome ?? null,
    nextUID: intent.nextUid ?? null,
    times: {
      signal: timeText(times.signal),
      intent: timeText(times.intent),
      drain: timeText(times.drain),
      evicted: timeText(times.evicted),
      gone: timeText(times.gone),
      bound: timeText(times.bound),
      ready: timeText(times.ready),
    },
  });
}

/**
 * Reads an intent back. Somebody may have edited it, and names in it become paths of requests: whatever is not exactly
 * an intent of this version is refused, with the field at fault.
 */
export function parseIntent(text: string): Intent | IntentError {
  if (text.length > maxIntentBytes) return invalid('intent.json', `is longer than ${maxIntentBytes} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return invalid('intent.json', 'is not JSON');
  }
  const reader = new RecordReader(value);
  if (reader.field('version') !== version) return invalid('version', `must be ${version}`);
  const intent = readIntent(reader);
  const [fault] = reader.faults;
  if (fault !== undefined) return invalid(fault.field, fault.rule);
  if ((intent.phase === 'closed') !== (intent.outcome !== undefined))
    return invalid('outcome', 'must be there when the phase is closed, and only then');
  if (intent.shape === 'lws' && !intent.group.endsWith(`/${intent.leaderName}`))
    return invalid('leaderName', 'must be the name in the group');
  return intent;
}

/** Closed before anything was evicted: it cost nobody anything, and speaks against nothing any more. */
export function wasTakenBack({ phase, times }: Pick<Intent, 'phase' | 'times'>): boolean {
  return phase === 'closed' && times.evicted === undefined;
}

/** Namespace of an intent's group. */
export function namespaceOf({ group }: Pick<Intent, 'group'>): string {
  return group.slice(0, group.indexOf('/'));
}

/** RFC 3339 in UTC with milliseconds. */
export function timeText(ms: number): string;
export function timeText(ms: number | undefined): string | null;
export function timeText(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}

function readIntent(r: RecordReader): Intent {
  const shape = shapeOf(r);
  const times = r.part('times');
  return {
    shape,
    group: r.match('group', groupPatterns[shape]),
    owner: ownerOf(r.part('owner'), shape),
    remakers: remakersOf(r, shape),
    leaderName: r.name('leaderName'),
    leaderUid: r.uid('leaderUID'),
    workerSetUid: r.uidOrNone('workerSetUID'),
    members: r.list('members').map(m => ({
      rank: m.count('rank'),
      name: m.name('name'),
      uid: m.uid('uid'),
      node: m.nameOrNone('node'),
    })),
    // Records from before domains were told have no such field.
    domains: (r.field('domains') ?? null) === null ? [] : r.matches('domains', domainNamePattern),
    avoid: r.list('avoid').map(a => ({
      node: a.name('node'),
      nodeUid: a.uidOrNone('nodeUID'),
      cause: a.text('cause'),
    })),
    plan: r.names('plan'),
    class: r.oneOf('class', classes),
    signal: r.oneOf('signal', signalNames),
    cause: r.text('cause'),
    entity: (r.field('entity') ?? null) === null ? undefined : r.text('entity'),
    device: deviceOf(r),
    serving: r.flag('serving'),
    phase: r.oneOf('phase', phases),
    hold: r.field('hold') === null ? undefined : r.text('hold'),
    outcome: r.field('outcome') === null ? undefined : r.oneOf('outcome', outcomes),
    // Records from before that was told have no such field.
    nextUid: (r.field('nextUID') ?? null) === null ? undefined : r.uid('nextUID'),
    times: {
      signal: times.time('signal'),
      intent: times.time('intent'),
      drain: drainOf(times),
      evicted: times.timeOrNone('evicted'),
      gone: times.timeOrNone('gone'),
      bound: times.timeOrNone('bound'),
      ready: times.timeOrNone('ready'),
    },
  };
}

/** The name of a group by labels is a label's value, and a kind is written in CamelCase. */
const groupPatterns: Readonly<Record<ShapeKind, RegExp>> = {
  lws: /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/,
  labelled: /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$/,
  single:
    /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[A-Za-z0-9]([-.A-Za-z0-9]{0,251}[A-Za-z0-9])?\/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/,
};
const labelPattern = /^[A-Za-z0-9]([-._A-Za-z0-9]{0,251}[A-Za-z0-9])?$/;

/** Records from before there were other groups have no such field. */
function shapeOf(r: RecordReader): ShapeKind {
  return r.field('shape') === undefined ? 'lws' : r.oneOf('shape', shapeKinds);
}

function ownerOf(owner: RecordReader, shape: ShapeKind): Intent['owner'] {
  return shape === 'lws'
    ? { name: owner.name('name'), uid: owner.uid('uid') }
    : { name: owner.match('name', labelPattern), uid: owner.uidOrNone('uid') };
}

function remakersOf(r: RecordReader, shape: ShapeKind): readonly Remaker[] {
  if (shape === 'lws' && r.field('remakers') === undefined) return [];
  return r.list('remakers').map(remaker => ({
    kind: remaker.oneOf('kind', remakerKinds),
    name: remaker.name('name'),
    uid: remaker.uid('uid'),
    pods: remaker.names('pods') ?? [],
  }));
}

/** Records from before devices were told have no such field. */
function deviceOf(r: RecordReader): DeviceId | undefined {
  if ((r.field('device') ?? null) === null) return undefined;
  const device = r.part('device');
  return { driver: device.text('driver'), pool: device.text('pool'), device: device.text('device') };
}

/** Records from before groups were drained have no such time. */
function drainOf(times: RecordReader): number | undefined {
  return times.field('drain') === undefined ? undefined : times.timeOrNone('drain');
}

function invalid(field: string, rule: string): IntentError {
  return { code: 'InvalidIntent', message: `${field} ${rule}` };
}
