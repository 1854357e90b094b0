import type { DeviceId, DeviceKey } from '../cluster/devices/device.ts';
import { compareText } from '../cluster/topology.ts';
import { type Blame, type Poisonous, poisonousGroups } from './poison.ts';
import type { FailureSettings } from './settings.ts';

type Class = 'certain' | 'suspect';

/** What stands against a device now, the worst of it. */
export interface DeviceTrouble {
  readonly device: DeviceId;
  readonly class: Class;
  readonly cause: string;
  readonly firstSeenMs: number;
  /** It counts after so long at the latest, however patient exclusion is. */
  readonly debounceMs: number;
  /** Who had it. */
  readonly holders: readonly Holder[];
}

/** An incarnation of a group. */
export interface Holder {
  /** `namespace/name` of the group. */
  readonly group: string;
  /** UID of its leader. */
  readonly incarnation: string;
}

/** A DeviceTaintRule that Berth wrote, this process or another. */
export interface WrittenExclusion {
  readonly device: DeviceId;
  readonly class: Class;
  readonly cause: string;
  /** Of the device that it was written for. */
  readonly uuid: string | undefined;
  readonly group: string | undefined;
  /** Milliseconds that a quarantine has left, by its own account. */
  readonly quarantineLeftMs: number | undefined;
}

export interface ExclusionFacts {
  readonly troubles: ReadonlyMap<DeviceKey, DeviceTrouble>;
  /** Devices by driver. */
  readonly totals: ReadonlyMap<string, number>;
  /** Of a device as it is published now. */
  readonly uuidOf: (device: DeviceId) => string | undefined;
  readonly written: ReadonlyMap<DeviceKey, WrittenExclusion>;
  /** An administrator vouches for these. */
  readonly vouchedFor: ReadonlySet<DeviceKey>;
  /** What the records of evictions say. */
  readonly blames: readonly Blame[];
}

export interface Exclusion {
  readonly device: DeviceId;
  readonly key: DeviceKey;
  readonly class: Class;
  readonly cause: string;
  readonly uuid: string | undefined;
  readonly sinceMs: number;
  /** Undefined while there is evidence against it. */
  readonly untilMs: number | undefined;
  /** End of the quarantine of a device that went bad again and again. */
  readonly quarantineUntilMs: number | undefined;
  readonly groups: readonly string[];
}

/** `replaced`: the name is another device's now. `withdrawn`: it was another process's, which took it back. */
export type ReleaseReason = 'recovered' | 'vouched-for' | 'poison' | 'replaced' | 'withdrawn';

/** Why a device is left in use: its group is to blame, or too many devices of its driver are suspect. */
export type Refusal = 'poison' | 'share';

export interface Release {
  readonly exclusion: Exclusion;
  readonly reason: ReleaseReason;
}

export interface ExclusionChanges {
  readonly excluded: readonly Exclusion[];
  readonly released: readonly Release[];
  /** Groups that have become poisonous. */
  readonly poisonous: ReadonlyMap<string, Poisonous>;
  /** Milliseconds until time alone changes something. */
  readonly dueInMs: number | undefined;
}

type Settings = Pick<
  FailureSettings,
  | 'excludeAfterSeconds'
  | 'probationSeconds'
  | 'flapCount'
  | 'flapWindowSeconds'
  | 'quarantineHours'
  | 'excludeShare'
  | 'poisonDevices'
  | 'poisonNodes'
>;

interface Known {
  readonly device: DeviceId;
  readonly key: DeviceKey;
  uuid: string | undefined;
  class: Class;
  cause: string;
  readonly groups: Set<string>;
  /** While there is evidence: since when, and how long it must stand. */
  stands: { readonly sinceMs: number; readonly afterMs: number } | undefined;
  clearSinceMs: number;
  wentBadMs: readonly number[];
  excludedSinceMs: number | undefined;
  quarantineUntilMs: number | undefined;
  /** Known from its rule alone, and excluded for as long as that is there. */
  adopted: boolean;
  /** Its rule is to go, and is no reason to exclude it again. */
  released: boolean;
}

const hourMs = 3_600_000;

/**
 * Which devices no new claim should get. The first suspicion excludes: that is cheap, and is taken back when the device
 * has been well for its probation. Holds no clock and writes nothing; every replica comes to the same from what it sees.
 */
export class Exclusions {
  readonly #settings: Settings;
  readonly #known = new Map<DeviceKey, Known>();
  /** First sight of a device that went bad under a group. */
  readonly #blames = new Map<string, Blame>();
  #poisonous: ReadonlyMap<string, Poisonous> = new Map();
  #refused: ReadonlyMap<DeviceKey, Refusal> = new Map();
  /** Worked out when it is asked for, once for each update. */
  #current: readonly Exclusion[] | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** Devices that are excluded now, in the order of their keys. */
  current(): readonly Exclusion[] {
    this.#current ??= [...this.#known.values()]
      .flatMap(known => this.#exclusionOf(known) ?? [])
      .sort((a, b) => compareText(a.key, b.key));
    return this.#current;
  }

  /** Devices that anything is remembered of. */
  get size(): number {
    return this.#known.size;
  }

  isExcluded(key: DeviceKey): boolean {
    return this.#known.get(key)?.excludedSinceMs !== undefined;
  }

  /** Devices with evidence that are left in use. */
  get refused(): ReadonlyMap<DeviceKey, Refusal> {
    return this.#refused;
  }

  get poisonous(): ReadonlyMap<string, Poisonous> {
    return this.#poisonous;
  }

  update(facts: ExclusionFacts, nowMs: number): ExclusionChanges {
    const released: Release[] = [];
    this.#current = undefined;
    this.#dropReplaced(facts, released);
    this.#takeTroubles(facts, nowMs);
    this.#adopt(facts, nowMs, released);
    const poisonous = this.#judgeGroups(facts, nowMs);
    for (const [key, known] of this.#known) this.#review(key, known, facts, nowMs, released);
    const excluded = this.#exclude(facts, nowMs);
    for (const [key, known] of this.#known) if (this.#isOver(known, nowMs)) this.#known.delete(key);
    return { excluded, released, poisonous, dueInMs: this.#dueInMs(nowMs) };
  }

  /** New hardware under the old name is another device. */
  #dropReplaced({ uuidOf }: ExclusionFacts, released: Release[]): void {
    for (const [key, known] of this.#known) {
      const uuid = uuidOf(known.device);
      if (uuid === undefined || known.uuid === uuid) continue;
      if (known.uuid !== undefined) {
        this.#release(known, 'replaced', released);
        this.#known.delete(key);
      } else known.uuid = uuid;
    }
  }

  #takeTroubles({ troubles, uuidOf }: ExclusionFacts, nowMs: number): void {
    for (const [key, trouble] of troubles) {
      const { device, cause, holders } = trouble;
      const known = this.#known.get(key) ?? this.#add(key, device, uuidOf(device));
      const isNews = known.stands === undefined;
      // More than make it flap say nothing more, and a device may do so for as long as the window is.
      if (isNews) known.wentBadMs = [...known.wentBadMs, nowMs].slice(-this.#settings.flapCount);
      const afterMs = Math.min(this.#settings.excludeAfterSeconds * 1000, trouble.debounceMs);
      known.stands = { sinceMs: Math.min(nowMs, trouble.firstSeenMs), afterMs };
      // An exclusion for what was certain once is not counted among the suspects.
      if (known.excludedSinceMs === undefined || trouble.class === 'certain') known.class = trouble.class;
      known.cause = cause;
      known.adopted = false;
      for (const { group, incarnation } of holders) {
        known.groups.add(group);
        const blame = { group, incarnation, kind: 'device', thing: key, atMs: nowMs } as const;
        if (!this.#blames.has(blameKey(blame))) this.#blames.set(blameKey(blame), blame);
      }
    }
    for (const [key, known] of this.#known) {
      if (troubles.has(key) || known.stands === undefined) continue;
      known.stands = undefined;
      known.clearSinceMs = nowMs;
    }
  }

  /** What another process has excluded, or this one before it was started anew, is excluded from our own first sight on. */
  #adopt({ written, uuidOf }: ExclusionFacts, nowMs: number, released: Release[]): void {
    for (const [key, rule] of written) {
      const uuid = uuidOf(rule.device);
      if (rule.uuid !== undefined && uuid !== undefined && rule.uuid !== uuid) continue;
      const before = this.#known.get(key);
      if (before?.excludedSinceMs !== undefined || before?.released) continue;
      const known = before ?? this.#add(key, rule.device, rule.uuid ?? uuid);
      if (before === undefined) known.clearSinceMs = nowMs;
      if (known.stands === undefined) {
        known.adopted = true;
        known.class = rule.class;
        known.cause = rule.cause;
      }
      if (rule.group !== undefined) known.groups.add(rule.group);
      known.excludedSinceMs = nowMs;
      if (rule.quarantineLeftMs !== undefined && rule.quarantineLeftMs > 0)
        known.quarantineUntilMs = nowMs + Math.min(rule.quarantineLeftMs, this.#quarantineMs);
    }
    for (const [key, known] of this.#known) {
      if (written.has(key)) continue;
      known.released = false;
      if (known.adopted) this.#release(known, 'withdrawn', released);
    }
  }

  #judgeGroups({ blames }: ExclusionFacts, nowMs: number): ReadonlyMap<string, Poisonous> {
    const before = this.#poisonous;
    for (const [key, { atMs }] of this.#blames) if (nowMs - atMs >= 24 * hourMs) this.#blames.delete(key);
    this.#poisonous = poisonousGroups([...this.#blames.values(), ...blames], this.#settings, nowMs);
    return new Map([...this.#poisonous].filter(([group]) => !before.has(group)));
  }

  #review(
    key: DeviceKey,
    known: Known,
    { vouchedFor }: ExclusionFacts,
    nowMs: number,
    released: Release[],
  ): void {
    const { flapCount, flapWindowSeconds, probationSeconds } = this.#settings;
    known.wentBadMs = known.wentBadMs.filter(atMs => nowMs - atMs < flapWindowSeconds * 1000);
    const lastMs = known.wentBadMs.at(-1);
    if (lastMs !== undefined && known.wentBadMs.length >= flapCount)
      known.quarantineUntilMs = lastMs + this.#quarantineMs;
    if (known.quarantineUntilMs !== undefined && known.quarantineUntilMs <= nowMs)
      known.quarantineUntilMs = undefined;
    const isClear = known.stands === undefined;
    if (isClear && vouchedFor.has(key)) {
      known.wentBadMs = [];
      known.quarantineUntilMs = undefined;
      this.#release(known, 'vouched-for', released);
    }
    if (this.#isOfPoison(key, known)) this.#release(known, 'poison', released);
    const isOver = isClear && nowMs - known.clearSinceMs >= probationSeconds * 1000;
    if (isOver && known.quarantineUntilMs === undefined) this.#release(known, 'recovered', released);
  }

  #exclude({ totals }: ExclusionFacts, nowMs: number): readonly Exclusion[] {
    const wanted = [...this.#known]
      .filter(([, known]) => known.excludedSinceMs === undefined && isWanted(known, nowMs))
      .sort(([a, left], [b, right]) => sinceOf(left) - sinceOf(right) || compareText(a, b));
    const suspects = new Map<string, number>();
    for (const { device, class: of, excludedSinceMs } of this.#known.values())
      if (of === 'suspect' && excludedSinceMs !== undefined)
        suspects.set(device.driver, (suspects.get(device.driver) ?? 0) + 1);
    const refused = new Map<DeviceKey, Refusal>();
    const excluded: Exclusion[] = [];
    for (const [key, known] of wanted) {
      const { driver } = known.device;
      const count = suspects.get(driver) ?? 0;
      const limit = Math.max(1, Math.floor(this.#settings.excludeShare * (totals.get(driver) ?? 0)));
      const isOne = known.class === 'suspect';
      const isOfPoison = this.#isOfPoison(key, known);
      if (isOfPoison || (isOne && count >= limit)) {
        if (known.stands !== undefined) refused.set(key, isOfPoison ? 'poison' : 'share');
        continue;
      }
      if (isOne) suspects.set(driver, count + 1);
      known.excludedSinceMs = nowMs;
      known.released = false;
      const exclusion = this.#exclusionOf(known);
      if (exclusion !== undefined) excluded.push(exclusion);
    }
    this.#refused = refused;
    return excluded;
  }

  #release(known: Known, reason: ReleaseReason, released: Release[]): void {
    const exclusion = this.#exclusionOf(known);
    if (exclusion === undefined) return;
    known.excludedSinceMs = undefined;
    known.adopted = false;
    known.released = reason !== 'withdrawn';
    released.push({ exclusion, reason });
  }

  /** All groups that had it break what they get, and it is not among those that stay excluded. */
  #isOfPoison(key: DeviceKey, { groups }: Known): boolean {
    const all = [...groups].map(group => this.#poisonous.get(group));
    return all.length > 0 && all.every(group => group !== undefined && !group.kept.has(key));
  }

  #exclusionOf(known: Known): Exclusion | undefined {
    const { device, key, uuid, cause, groups, excludedSinceMs, quarantineUntilMs } = known;
    if (excludedSinceMs === undefined) return undefined;
    return {
      device,
      key,
      class: known.class,
      cause,
      uuid,
      sinceMs: excludedSinceMs,
      untilMs: this.#untilMs(known),
      quarantineUntilMs,
      groups: [...groups].sort(),
    };
  }

  /** When the exclusion of a device ends if nothing happens to it any more. */
  #untilMs({ stands, clearSinceMs, quarantineUntilMs }: Known): number | undefined {
    if (stands !== undefined) return undefined;
    return Math.max(clearSinceMs + this.#settings.probationSeconds * 1000, quarantineUntilMs ?? 0);
  }

  #isOver(
    { stands, excludedSinceMs, released, wentBadMs, quarantineUntilMs }: Known,
    nowMs: number,
  ): boolean {
    if (stands !== undefined || excludedSinceMs !== undefined || released) return false;
    return wentBadMs.length === 0 && (quarantineUntilMs ?? 0) <= nowMs;
  }

  #dueInMs(nowMs: number): number | undefined {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const known of this.#known.values()) {
      const { stands, excludedSinceMs } = known;
      const ofStanding = stands === undefined ? undefined : stands.sinceMs + stands.afterMs;
      const atMs = excludedSinceMs === undefined ? ofStanding : this.#untilMs(known);
      if (atMs !== undefined && atMs > nowMs) nextMs = Math.min(nextMs, atMs);
    }
    return nextMs === Number.POSITIVE_INFINITY ? undefined : nextMs - nowMs;
  }

  #add(key: DeviceKey, device: DeviceId, uuid: string | undefined): Known {
    const known: Known = {
      device,
      key,
      uuid,
      class: 'suspect',
      cause: '',
      groups: new Set(),
      stands: undefined,
      clearSinceMs: 0,
      wentBadMs: [],
      excludedSinceMs: undefined,
      quarantineUntilMs: undefined,
      adopted: false,
      released: false,
    };
    this.#known.set(key, known);
    return known;
  }

  get #quarantineMs(): number {
    return this.#settings.quarantineHours * hourMs;
  }
}

/** Evidence has stood long enough, or it comes and goes. */
function isWanted({ stands, quarantineUntilMs }: Known, nowMs: number): boolean {
  if (quarantineUntilMs !== undefined) return true;
  return stands !== undefined && nowMs - stands.sinceMs >= stands.afterMs;
}

function sinceOf({ stands, clearSinceMs }: Known): number {
  return stands?.sinceMs ?? clearSinceMs;
}

function blameKey({ group, kind, thing }: Blame): string {
  return `${kind} ${thing} ${group}`;
}
