import type { SignalClass, SignalName } from './signals.ts';

export type IntentPhase = 'evicting' | 'leaving' | 'returning' | 'closed';
export type IntentOutcome = 'recovered' | 'overtaken' | 'owner-gone' | 'failed';

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
  /** `namespace/name` of the group. */
  readonly group: string;
  readonly owner: { readonly name: string; readonly uid: string };
  readonly leaderName: string;
  readonly leaderUid: string;
  /** Empty in a group of one. */
  readonly workerSetUid: string;
  readonly members: readonly IntentMember[];
  readonly avoid: readonly AvoidedNode[];
  /** The next place, node by rank; undefined where none was asked for. */
  readonly plan: readonly string[] | undefined;
  readonly class: SignalClass;
  readonly signal: SignalName;
  readonly cause: string;
  /** All members were Ready: taking the group down cost something. */
  readonly serving: boolean;
  readonly phase: IntentPhase;
  /** Why it does not go on, with what a person can do about it. */
  readonly hold: string | undefined;
  readonly outcome: IntentOutcome | undefined;
  readonly times: IntentTimes;
}

export interface IntentError {
  readonly code: 'InvalidIntent';
  readonly message: string;
}

const version = 1;
const maxIntentBytes = 1024 * 1024;
const phases: readonly IntentPhase[] = ['evicting', 'leaving', 'returning', 'closed'];
const outcomes: readonly IntentOutcome[] = ['recovered', 'overtaken', 'owner-gone', 'failed'];
const classes: readonly SignalClass[] = ['certain', 'suspect', 'info'];
const signalNames: readonly SignalName[] = [
  'DeviceUnhealthy',
  'NodeNoExecute',
  'NodeGone',
  'NodeNotReady',
  'Foreign',
];

export function isIntentError(value: object): value is IntentError {
  return 'code' in value && value.code === 'InvalidIntent';
}

export function formatIntent(intent: Intent): string {
  const { leaderUid: leaderUID, workerSetUid: workerSetUID, times } = intent;
  return JSON.stringify({
    version,
    group: intent.group,
    owner: intent.owner,
    leaderName: intent.leaderName,
    leaderUID,
    workerSetUID,
    members: intent.members.map(({ rank, name, uid, node }) => ({ rank, name, uid, node })),
    avoid: intent.avoid.map(({ node, nodeUid: nodeUID, cause }) => ({ node, nodeUID, cause })),
    plan: intent.plan ?? null,
    class: intent.class,
    signal: intent.signal,
    cause: intent.cause,
    serving: intent.serving,
    phase: intent.phase,
    hold: intent.hold ?? null,
    outcome: intent.outcome ?? null,
    times: {
      signal: timeText(times.signal),
      intent: timeText(times.intent),
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
  const reader = new Reader(value);
  if (reader.field('version') !== version) return invalid('version', `must be ${version}`);
  const intent = readIntent(reader);
  const [fault] = reader.faults;
  if (fault !== undefined) return fault;
  if ((intent.phase === 'closed') !== (intent.outcome !== undefined))
    return invalid('outcome', 'must be there when the phase is closed, and only then');
  if (!intent.group.endsWith(`/${intent.leaderName}`))
    return invalid('leaderName', 'must be the name in the group');
  return intent;
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

function readIntent(r: Reader): Intent {
  const owner = r.part('owner');
  const times = r.part('times');
  return {
    group: r.match('group', /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/),
    owner: { name: owner.name('name'), uid: owner.uid('uid') },
    leaderName: r.name('leaderName'),
    leaderUid: r.uid('leaderUID'),
    workerSetUid: r.uidOrNone('workerSetUID'),
    members: r.list('members').map(m => ({
      rank: m.count('rank'),
      name: m.name('name'),
      uid: m.uid('uid'),
      node: m.nameOrNone('node'),
    })),
    avoid: r.list('avoid').map(a => ({
      node: a.name('node'),
      nodeUid: a.uidOrNone('nodeUID'),
      cause: a.text('cause'),
    })),
    plan: r.names('plan'),
    class: r.oneOf('class', classes),
    signal: r.oneOf('signal', signalNames),
    cause: r.text('cause'),
    serving: r.flag('serving'),
    phase: r.oneOf('phase', phases),
    hold: r.field('hold') === null ? undefined : r.text('hold'),
    outcome: r.field('outcome') === null ? undefined : r.oneOf('outcome', outcomes),
    times: {
      signal: times.time('signal'),
      intent: times.time('intent'),
      evicted: times.timeOrNone('evicted'),
      gone: times.timeOrNone('gone'),
      bound: times.timeOrNone('bound'),
      ready: times.timeOrNone('ready'),
    },
  };
}

const namePattern = /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/;
const uidPattern = /^[-A-Za-z0-9._:]{1,128}$/;
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

/** Reads fields of one JSON object and remembers the first that is not what it must be. */
class Reader {
  readonly faults: IntentError[];
  readonly #path: string;
  readonly #record: Readonly<Record<string, unknown>>;

  constructor(value: unknown, path = '', faults: IntentError[] = []) {
    this.faults = faults;
    this.#path = path;
    this.#record = isRecord(value) ? value : {};
    if (!isRecord(value)) this.#fault('', 'must be an object');
  }

  field(name: string): unknown {
    return Object.hasOwn(this.#record, name) ? this.#record[name] : undefined;
  }

  part(name: string): Reader {
    return new Reader(this.field(name), `${this.#path}${name}.`, this.faults);
  }

  list(name: string): readonly Reader[] {
    const value = this.field(name);
    if (!Array.isArray(value)) {
      this.#fault(name, 'must be a list');
      return [];
    }
    return value.map((item: unknown, at) => new Reader(item, `${this.#path}${name}[${at}].`, this.faults));
  }

  /** A list of node names or null. */
  names(name: string): readonly string[] | undefined {
    const value = this.field(name);
    if (value === null) return undefined;
    const isNames =
      Array.isArray(value) && value.every(item => typeof item === 'string' && namePattern.test(item));
    if (!isNames) this.#fault(name, 'must be a list of node names or null');
    return isNames ? value : undefined;
  }

  text(name: string): string {
    const value = this.field(name);
    if (typeof value !== 'string') this.#fault(name, 'must be a text');
    return typeof value === 'string' ? value : '';
  }

  match(name: string, pattern: RegExp): string {
    const value = this.text(name);
    if (!pattern.test(value)) this.#fault(name, `must match ${pattern.source}`);
    return value;
  }

  name(name: string): string {
    return this.match(name, namePattern);
  }

  nameOrNone(name: string): string {
    return this.field(name) === '' ? '' : this.name(name);
  }

  uid(name: string): string {
    return this.match(name, uidPattern);
  }

  uidOrNone(name: string): string {
    return this.field(name) === '' ? '' : this.uid(name);
  }

  count(name: string): number {
    const value = this.field(name);
    const isCount = typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
    if (!isCount) this.#fault(name, 'must be a whole number of at least 0');
    return isCount ? value : 0;
  }

  flag(name: string): boolean {
    const value = this.field(name);
    if (typeof value !== 'boolean') this.#fault(name, 'must be true or false');
    return value === true;
  }

  oneOf<T extends string>(name: string, words: readonly T[]): T {
    const value = this.field(name);
    const word = words.find(known => known === value);
    if (word === undefined) this.#fault(name, `must be one of ${words.join(', ')}`);
    return word ?? (words[0] as T);
  }

  time(name: string): number {
    const text = this.match(name, timePattern);
    const ms = Date.parse(text);
    if (Number.isNaN(ms)) this.#fault(name, 'must be a time');
    return Number.isNaN(ms) ? 0 : ms;
  }

  timeOrNone(name: string): number | undefined {
    return this.field(name) === null ? undefined : this.time(name);
  }

  #fault(name: string, rule: string): void {
    this.faults.push(invalid(`${this.#path}${name}`.replace(/\.$/, ''), rule));
  }
}

function invalid(field: string, rule: string): IntentError {
  return { code: 'InvalidIntent', message: `${field} ${rule}` };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
