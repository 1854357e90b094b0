import type { Logger } from 'pino';
import type { DeviceTaintRule } from '../api/dra.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { type DeviceId, type DeviceKey, deviceKey } from '../cluster/devices/device.ts';
import { Comebacks } from '../failure/comebacks.ts';
import { isKeptOff, isPublished } from '../failure/device-signals.ts';
import { type DeviceTrouble, type Exclusion, Exclusions } from '../failure/exclusions.ts';
import { type Intent, wasTakenBack } from '../failure/intent.ts';
import type { Blame } from '../failure/poison.ts';
import { type FailureSettings, goesAsFarAs } from '../failure/settings.ts';
import type { SignalName } from '../failure/signal.ts';
import { failureKind } from '../kube/api-errors.ts';
import {
  type ExclusionRule,
  exclusionName,
  exclusionObject,
  exclusionRule,
} from '../kube/exclusion-store.ts';
import { ApiPatience } from './api-patience.ts';
import { factsOfDevice, publishedUuid } from './device-facts.ts';
import type { ExclusionReport } from './exclusion-report.ts';

/** What is asked of the store; see ExclusionStore. */
export interface ExclusionStorePort {
  isServed(): Promise<boolean>;
  create(rule: DeviceTaintRule): Promise<void>;
  remove(rule: Pick<ExclusionRule, 'name' | 'uid'>): Promise<void>;
}

export interface DeviceExclusionsOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly exclusionStore: ExclusionStorePort;
  readonly exclusionReport: ExclusionReport;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
  readonly health: () => { readonly synced: boolean; readonly stalestMs: number };
  readonly log: Logger;
  /** Whether this process holds the Lease and knows the whole cluster; asked right before every write. */
  readonly acts: () => boolean;
  /** Whether an administrator has halted everything; asked live. */
  readonly isHalted: () => Promise<boolean>;
}

/** What is known of devices beside the rules. */
export interface DeviceSights {
  readonly troubles: ReadonlyMap<DeviceKey, DeviceTrouble>;
  readonly totals: ReadonlyMap<string, number>;
  readonly intents: readonly Intent[];
}

/** So many rules are written at a time, and again after a moment. */
const writesPerPass = 20;
const askAgainMs = 600_000;
const hourMs = 3_600_000;
const nextPassMs = 500;
const afterFailureMs = 5_000;
const rulesKey = 'rules';

/**
 * Keeps devices that are sick off new claims: in every replica by the cache, which plans are made from, and for all others
 * by a DeviceTaintRule, which the holder of the Lease writes where the cluster serves them.
 */
export class DeviceExclusions {
  readonly #options: DeviceExclusionsOptions;
  readonly #exclusions: Exclusions;
  /** Berth's rules as they were when `look` saw them last. */
  #rules: readonly ExclusionRule[] = [];
  /** When an administrator was first seen to vouch for a device; wall clock. */
  readonly #vouched = new Map<DeviceKey, number>();
  readonly #patience = new ApiPatience();
  /** By device key. */
  readonly #comebacks: Comebacks;
  #served: { readonly is: boolean; readonly atMs: number } | undefined;

  constructor(options: DeviceExclusionsOptions) {
    this.#options = options;
    this.#exclusions = new Exclusions(options.settings);
    this.#comebacks = new Comebacks(options.settings.lastChoiceHours * hourMs);
  }

  /** Takes what is seen now. Milliseconds until time alone changes something. */
  look({ troubles, totals, intents }: DeviceSights): number | undefined {
    const { cache, settings, exclusionReport: report, nowMs, wallMs, acts } = this.#options;
    if (!goesAsFarAs(settings.mode, 'cordon')) return undefined;
    const now = nowMs();
    const wall = wallMs();
    this.#rules = [...cache.taintRules()].flatMap(rule => exclusionRule(rule, wall) ?? []);
    const vouchedFor = this.#vouchedFor(wall);
    const changes = this.#exclusions.update(
      {
        troubles: this.#withRecorded(troubles, intents, now, wall),
        totals,
        uuidOf: device => publishedUuid((driver, pool) => cache.devicePool(driver, pool), device),
        written: new Map(this.#rules.map(({ key, written }) => [key, written])),
        vouchedFor,
        blames: blamesOf(intents, now, wall),
      },
      now,
    );
    const current = this.#exclusions.current();
    cache.setExcludedDevices(new Map(current.map(({ key, device }) => [key, device])));
    for (const { reason, exclusion } of changes.released)
      if (reason === 'recovered' || reason === 'withdrawn') this.#comebacks.cameBack(exclusion.key, now);
    for (const key of vouchedFor) this.#comebacks.forget(key);
    cache.setLastChoice({ devices: this.#lastChoice(intents, now, wall) });
    if (acts()) {
      for (const exclusion of changes.excluded) report.excluded(exclusion);
      for (const release of changes.released) report.released(release);
      for (const [group, poisonous] of changes.poisonous) report.poisonous(group, poisonous);
    }
    const inUse = [...this.#exclusions.refused.keys()].map(key => key.slice(0, key.indexOf('//')));
    report.publish(current, inUse, this.#exclusions.poisonous);
    return changes.dueInMs;
  }

  /** Devices that have gone bad of late, or are excluded: so many are gone through by each look. */
  get knownDevices(): number {
    return this.#exclusions.size;
  }

  /**
   * Why a device with evidence against it is in use still, in words; undefined when new claims are kept off it.
   * @param byName new pods may get it by a claim that they name, which no taint keeps them from: Berth alone does
   */
  whyInUse(device: DeviceId, byName: boolean): string | undefined {
    const keptOff = isKeptOff(this.#factsOf(device));
    if (keptOff && !byName) return undefined;
    const key = deviceKey(device);
    if (this.#exclusions.isExcluded(key)) return undefined;
    switch (this.#exclusions.refused.get(key)) {
      case 'poison':
        return 'the group breaks whatever it gets, so its device is left in use; look for a fault in what it runs';
      case 'share':
        return 'its device is left in use, for too many devices of its driver are suspect';
      case undefined:
        return keptOff
          ? 'new pods would get its device again, by the claim that they name'
          : 'its device is not kept off new claims yet';
    }
  }

  /** Nodes that are kept off plans for a group alone, which breaks whatever it gets: all but the last are well. */
  isPoisoned(group: string, node: string): boolean {
    const poisonous = this.#exclusions.poisonous.get(group);
    return poisonous !== undefined && !poisonous.kept.has(node);
  }

  /** Another term of the Lease, maybe with another API server. */
  takeOver(): void {
    this.#served = undefined;
  }

  /** Brings Berth's rules in line with what `look` said last. Milliseconds after which to come back. */
  async write(): Promise<number | undefined> {
    const { log, nowMs, wallMs, exclusionStore: store, isHalted } = this.#options;
    if (!this.#mayWrite()) return undefined;
    const waitMs = this.#patience.waitMs(rulesKey, nowMs());
    if (waitMs > 0) return waitMs;
    try {
      if (!(await this.#isServed())) return undefined;
      const { toCreate, toRemove } = this.#wanted();
      const count = toCreate.length + toRemove.length;
      if (count === 0) return undefined;
      if (await isHalted()) return afterFailureMs;
      let left = writesPerPass;
      for (const exclusion of toCreate) {
        if (left-- <= 0 || !this.#mayWrite()) break;
        await store.create(exclusionObject(exclusion, nowMs(), wallMs()));
      }
      for (const rule of toRemove) {
        if (left-- <= 0 || !this.#mayWrite()) break;
        await store.remove(rule);
      }
      this.#patience.succeeded(rulesKey);
      return count > writesPerPass ? nextPassMs : undefined;
    } catch (error) {
      log.warn({ err: error }, 'rules of excluded devices could not be written, Berth alone keeps off them');
      this.#patience.failed(rulesKey, error, failureKind(error), nowMs());
      return Math.max(afterFailureMs, this.#patience.waitMs(rulesKey, nowMs()));
    }
  }

  #mayWrite(): boolean {
    const { settings, acts, health } = this.#options;
    if (!acts() || settings.dryRun || !goesAsFarAs(settings.mode, 'cordon')) return false;
    const { synced, stalestMs } = health();
    return synced && stalestMs <= settings.staleAfterSeconds * 1000;
  }

  async #isServed(): Promise<boolean> {
    const { exclusionStore: store, nowMs, log } = this.#options;
    const known = this.#served;
    if (known !== undefined && (known.is || nowMs() - known.atMs < askAgainMs)) return known.is;
    const is = await store.isServed();
    if (known?.is !== is) log.info({ served: is }, 'asked whether DeviceTaintRules are served');
    this.#served = { is, atMs: nowMs() };
    return is;
  }

  /** A rule that is there stays as long as its device is excluded: what a driver's own taint does meanwhile may end. */
  #wanted(): { readonly toCreate: readonly Exclusion[]; readonly toRemove: readonly ExclusionRule[] } {
    const names = new Set(this.#rules.map(({ name }) => name));
    const wanted = new Map<DeviceKey, string>();
    const toCreate: Exclusion[] = [];
    for (const exclusion of this.#exclusions.current()) {
      const name = exclusionName(exclusion);
      wanted.set(exclusion.key, name);
      if (names.has(name)) continue;
      const facts = this.#factsOf(exclusion.device);
      if (isPublished(facts) && !isKeptOff(facts)) toCreate.push(exclusion);
    }
    const toRemove = this.#rules.filter(({ name, key }) => {
      const other = wanted.get(key);
      return other === undefined || (other !== name && names.has(other));
    });
    return { toCreate, toRemove };
  }

  /**
   * With those devices for which the records speak alone: what a kubelet or a claim said of a device goes with the pod
   * that had it, and the device is as sick as before. And with the first sight of what stands still, for as long as a group
   * is on its way: a process that was started meanwhile must keep it off the device at once, not only when patience has run
   * out.
   */
  #withRecorded(
    troubles: ReadonlyMap<DeviceKey, DeviceTrouble>,
    intents: readonly Intent[],
    now: number,
    wall: number,
  ): ReadonlyMap<DeviceKey, DeviceTrouble> {
    const all = new Map(troubles);
    for (const { device, phase, times } of intents) {
      const trouble = device && phase !== 'closed' ? all.get(deviceKey(device)) : undefined;
      if (trouble === undefined) continue;
      const firstSeenMs = Math.min(trouble.firstSeenMs, now - (wall - times.signal));
      all.set(deviceKey(trouble.device), { ...trouble, firstSeenMs });
    }
    for (const { signal, device, times, cause, group, leaderUid, ...intent } of intents) {
      if (!goesWithPod(signal) || device === undefined || times.evicted === undefined) continue;
      const key = deviceKey(device);
      const isOver = wall - times.intent >= this.#options.settings.excludeMinutes * 60_000;
      const isRepaired = times.intent <= (this.#vouched.get(key) ?? Number.NEGATIVE_INFINITY);
      if (isOver || isRepaired || all.has(key)) continue;
      const ofClass = intent.class === 'certain' ? 'certain' : 'suspect';
      const holders = [{ group, incarnation: leaderUid }];
      const firstSeenMs = Math.min(now, now - (wall - times.signal));
      all.set(key, { device, class: ofClass, cause, firstSeenMs, debounceMs: 0, holders });
    }
    return all;
  }

  /**
   * Devices that have come back of late, with the node of each; those of several nodes are left out. After a restart the
   * records tell of those that cost a group its place.
   */
  #lastChoice(intents: readonly Intent[], now: number, wall: number): ReadonlyMap<DeviceKey, string> {
    const { cache, settings } = this.#options;
    const forMs = settings.lastChoiceHours * hourMs;
    const keys = new Set<string>(this.#comebacks.lately(now));
    for (const intent of intents) {
      const { device, signal, times } = intent;
      if (device === undefined || signal === 'Preempted' || wasTakenBack(intent)) continue;
      const key = deviceKey(device);
      const isVouchedFor = times.intent <= (this.#vouched.get(key) ?? Number.NEGATIVE_INFINITY);
      if (wall - times.intent < forMs && !isVouchedFor) keys.add(key);
    }
    const found = new Map<DeviceKey, string>();
    if (keys.size === 0) return found;
    for (const { reach, devices } of cache.allSlices())
      if (reach.kind === 'node') for (const { key } of devices) if (keys.has(key)) found.set(key, reach.name);
    return found;
  }

  #vouchedFor(wall: number): ReadonlySet<DeviceKey> {
    const { cache } = this.#options;
    const keys = new Set<DeviceKey>();
    for (const { isReleased, key } of this.#rules) if (isReleased) keys.add(key);
    for (const { driver, pool, vouchedFor = [] } of cache.allSlices())
      for (const device of vouchedFor) keys.add(deviceKey({ driver, pool, device }));
    for (const key of keys) if (!this.#vouched.has(key)) this.#vouched.set(key, wall);
    const { excludeMinutes, lastChoiceHours } = this.#options.settings;
    const speaksForMs = Math.max(excludeMinutes * 60_000, lastChoiceHours * hourMs);
    for (const [key, atMs] of this.#vouched)
      if (!keys.has(key) && wall - atMs >= speaksForMs) this.#vouched.delete(key);
    return keys;
  }

  #factsOf(device: DeviceId) {
    return factsOfDevice((driver, pool) => this.#options.cache.devicePool(driver, pool), device);
  }
}

/** It is told by an object that is gone once the group is. */
function goesWithPod(signal: SignalName): boolean {
  return signal === 'DeviceUnhealthy' || signal === 'DeviceCondition';
}

/** Who had what when it went bad; monotonic. */
function blamesOf(intents: readonly Intent[], now: number, wall: number): readonly Blame[] {
  return intents.flatMap(intent => {
    const { group, leaderUid: incarnation, device, avoid, times, signal } = intent;
    if (signal === 'Preempted' || wasTakenBack(intent)) return [];
    const atMs = Math.min(now, now - (wall - times.intent));
    const ofNodes = avoid.map(({ node }): Blame => ({ group, incarnation, kind: 'node', thing: node, atMs }));
    return device === undefined
      ? ofNodes
      : [...ofNodes, { group, incarnation, kind: 'device', thing: deviceKey(device), atMs } as const];
  });
}
