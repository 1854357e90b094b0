import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Device, DeviceId } from '../cluster/devices/device.ts';
import type { PoolState } from '../cluster/devices/pool-state.ts';
import { poolKey } from '../cluster/devices/slice-index.ts';
import { deviceFactsOf } from '../failure/device-signals.ts';
import { DownAlerts } from '../failure/down-alerts.ts';
import type { EvidenceLedger } from '../failure/evidence.ts';
import type { FailureSettings } from '../failure/settings.ts';
import type { DeviceFacts, Sighting } from '../failure/signal.ts';
import { readDownReports } from '../failure/signal-tables.ts';
import { seeDevice } from '../failure/signals.ts';
import { factsOfDevice, groupsOnPool, type PoolLookup } from './device-facts.ts';

export interface PoolWatchOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly ledger: EvidenceLedger;
  readonly nowMs: () => number;
}

interface KnownPool {
  readonly driver: string;
  readonly pool: string;
  readonly nodeName: string | undefined;
  /** Of its last complete generation. */
  readonly devices: ReadonlyMap<string, Device>;
  /** Since when those are gone that it had before, by device name. */
  readonly gone: Map<string, number>;
  /** Since when it has no slices. */
  withdrawnAtMs: number | undefined;
}

/**
 * Looks at all devices, allocated or not, for the breakers: how many there are by driver, and which are bad. Remembers
 * for a while those that are not published any more.
 */
export class PoolWatch {
  readonly #options: PoolWatchOptions;
  readonly #pools = new Map<string, KnownPool>();
  readonly #totals = new Map<string, number>();
  /** Pools without slices now, by driver. */
  readonly #withdrawn = new Map<string, Set<string>>();
  readonly #alerts: DownAlerts;
  /** A device is one object as long as it does not change, and all of them are looked at now and then. */
  readonly #reports = new WeakMap<Device, ReturnType<typeof readDownReports>>();

  constructor(options: PoolWatchOptions) {
    this.#options = options;
    this.#alerts = new DownAlerts(options.settings);
  }

  /** Devices by driver, those included that were there a moment ago. */
  get totals(): ReadonlyMap<string, number> {
    return this.#totals;
  }

  /** The same facts, with what is remembered of the device. */
  withAlerts<T extends DeviceFacts>(facts: T): T {
    return this.#alerts.isRepeated(facts.key) ? { ...facts, wentDownOften: true } : facts;
  }

  /** Looks at the devices of a pool, and names the groups that have some of them. */
  lookAt(driver: string, pool: string): readonly string[] {
    const wasRollout = this.#isRollout(driver);
    this.#take(driver, pool);
    this.#tell(driver, pool);
    if (wasRollout !== this.#isRollout(driver))
      for (const other of this.#withdrawn.get(driver) ?? []) this.#tell(driver, other);
    return groupsOnPool(this.#options.cache, driver, pool);
  }

  /** Looks at everything and forgets what has been gone for long. */
  lookAtAll(): void {
    const { cache, nowMs } = this.#options;
    const pools = new Map<string, { readonly driver: string; readonly pool: string }>(this.#pools);
    for (const { driver, pool } of cache.allSlices()) pools.set(poolKey(driver, pool), { driver, pool });
    for (const { driver, pool } of pools.values()) this.lookAt(driver, pool);
    this.#alerts.prune(nowMs());
  }

  #take(driver: string, pool: string): void {
    const { cache, nowMs } = this.#options;
    const key = poolKey(driver, pool);
    const state = cache.devicePool(driver, pool);
    const known = this.#pools.get(key);
    const now = nowMs();
    if (state === undefined) {
      if (known === undefined) return;
      known.withdrawnAtMs ??= now;
      this.#withdrawn.set(driver, (this.#withdrawn.get(driver) ?? new Set()).add(pool));
      // Slices go with their node, and what has been away for long is no news.
      const nodeIsGone = known.nodeName !== undefined && cache.node(known.nodeName) === undefined;
      if (nodeIsGone || this.#isOld(known.withdrawnAtMs, now)) this.#set(key, undefined);
      return;
    }
    this.#set(key, this.#merged(state, known, now));
  }

  #merged(state: PoolState, known: KnownPool | undefined, now: number): KnownPool {
    const { driver, pool, nodeName, devices } = state;
    const gone = new Map<string, number>();
    for (const name of [...(known?.gone.keys() ?? []), ...(known?.devices.keys() ?? [])]) {
      const since = known?.gone.get(name) ?? now;
      if (!devices.has(name) && !this.#isOld(since, now)) gone.set(name, since);
    }
    // One that is not there yet is not gone.
    const isWhole = state.isComplete || known === undefined;
    return {
      driver,
      pool,
      nodeName,
      devices: isWhole ? devices : known.devices,
      gone: isWhole ? gone : known.gone,
      withdrawnAtMs: undefined,
    };
  }

  #tell(driver: string, pool: string): void {
    const { cache, settings, ledger, nowMs } = this.#options;
    const known = this.#pools.get(poolKey(driver, pool));
    const nodeName = known?.nodeName ?? '';
    const sightings: Sighting[] = [];
    const poolOf: PoolLookup = (of, name) => cache.devicePool(of, name);
    const missing = (device: string) => {
      const id: DeviceId = { driver, pool, device };
      sightings.push(...seeDevice(deviceFactsOf(id, 'missing'), nodeName, settings));
    };
    for (const device of cache.devicePool(driver, pool)?.devices.values() ?? []) {
      const { id, key, taints } = device;
      const { reports, up } = this.#reportsOf(device);
      this.#alerts.note(key, reports.length > 0 ? 'down' : up ? 'up' : 'nothing', nowMs());
      if (taints.length === 0 && reports.length === 0) continue;
      sightings.push(...seeDevice(this.withAlerts(factsOfDevice(poolOf, id)), nodeName, settings));
    }
    for (const name of known?.gone.keys() ?? []) missing(name);
    if (known?.withdrawnAtMs !== undefined && this.#isRollout(driver))
      for (const name of known.devices.keys()) missing(name);
    ledger.update(`pool/${poolKey(driver, pool)}`, sightings, nowMs());
  }

  #reportsOf(device: Device): ReturnType<typeof readDownReports> {
    const known = this.#reports.get(device);
    if (known !== undefined) return known;
    const read = readDownReports(device, this.#options.settings);
    this.#reports.set(device, read);
    return read;
  }

  #set(key: string, after: KnownPool | undefined): void {
    const before = this.#pools.get(key);
    const driver = after?.driver ?? before?.driver;
    if (driver === undefined) return;
    const total = (this.#totals.get(driver) ?? 0) + countOf(after) - countOf(before);
    if (total > 0) this.#totals.set(driver, total);
    else this.#totals.delete(driver);
    this.#withdrawn.get(driver)?.delete(after?.pool ?? before?.pool ?? '');
    if (after === undefined) this.#pools.delete(key);
    else this.#pools.set(key, after);
  }

  /** One driver that starts anew is nothing; several at a time are a rollout, or worse. */
  #isRollout(driver: string): boolean {
    return (this.#withdrawn.get(driver)?.size ?? 0) > 1;
  }

  #isOld(sinceMs: number, now: number): boolean {
    return now - sinceMs >= this.#options.settings.badNodeWindowSeconds * 1000;
  }
}

function countOf(known: KnownPool | undefined): number {
  return known === undefined ? 0 : known.devices.size + known.gone.size;
}
