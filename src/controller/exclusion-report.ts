import type { Logger } from 'pino';
import { berth, lws } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { nameOf } from '../failure/device-signals.ts';
import type { Exclusion, Release, ReleaseReason } from '../failure/exclusions.ts';
import type { Poisonous } from '../failure/poison.ts';
import type { OwnerRef } from './placement-report.ts';

/** Where the report goes; each call returns at once. */
export interface ExclusionSinks {
  readonly ownerEvent: (owner: OwnerRef, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  /** Devices kept off new claims, by driver. */
  readonly setExcluded: (devicesByDriver: ReadonlyMap<string, number>) => void;
  /** Devices with evidence that stay in use all the same, by driver. */
  readonly setInUse: (devicesByDriver: ReadonlyMap<string, number>) => void;
  readonly setPoisonous: (groups: number) => void;
}

const reasons: Readonly<Record<ReleaseReason, string>> = {
  recovered: 'it has been well for long enough',
  'vouched-for': `it is annotated with ${berth.release}`,
  poison: 'the group that had it breaks whatever it gets',
  replaced: 'another device has its name now',
  withdrawn: 'the replica that excluded it took it back',
};

/** Tells what became of devices that were excluded: the owners of groups that had them, and the log. */
export class ExclusionReport {
  readonly #cache: ClusterCache;
  readonly #sinks: ExclusionSinks;
  readonly #log: Logger;

  constructor(cache: ClusterCache, sinks: ExclusionSinks, log: Logger) {
    this.#cache = cache;
    this.#sinks = sinks;
    this.#log = log;
  }

  excluded(exclusion: Exclusion): void {
    const { device, cause, groups, quarantineUntilMs } = exclusion;
    const again = quarantineUntilMs === undefined ? '' : '; it went bad again and again';
    const text = `${nameOf(device)} is kept off new claims: ${cause}${again}`;
    this.#log.warn({ ...device, cause, groups }, 'device excluded');
    for (const owner of this.#ownersOf(groups))
      this.#sinks.ownerEvent(owner, 'Warning', 'DeviceExcluded', text);
  }

  released({ exclusion, reason }: Release): void {
    const { device, groups } = exclusion;
    this.#log.info({ ...device, reason }, 'device released');
    for (const owner of this.#ownersOf(groups))
      this.#sinks.ownerEvent(
        owner,
        'Normal',
        'DeviceReleased',
        `${nameOf(device)} may be used again: ${reasons[reason]}`,
      );
  }

  poisonous(group: string, { devices, nodes }: Poisonous): void {
    this.#log.warn({ group, devices, nodes }, 'group breaks whatever it gets');
    for (const owner of this.#ownersOf([group]))
      this.#sinks.ownerEvent(
        owner,
        'Warning',
        'PoisonWorkload',
        `${devices} devices and ${nodes} nodes went bad under one incarnation of ${group} after the other within 24 hours; nothing is excluded for it any more, look for a fault in what it runs`,
      );
  }

  publish(
    exclusions: readonly Exclusion[],
    driversInUse: readonly string[],
    poisonous: ReadonlyMap<string, Poisonous>,
  ): void {
    this.#sinks.setExcluded(countsOf(exclusions.map(({ device }) => device.driver)));
    this.#sinks.setInUse(countsOf(driversInUse));
    this.#sinks.setPoisonous(poisonous.size);
  }

  #ownersOf(groups: readonly string[]): readonly OwnerRef[] {
    const owners = new Map<string, OwnerRef>();
    for (const group of groups) {
      const membership = this.#cache.group(group)?.membership;
      if (membership?.kind !== 'lws') continue;
      const { namespace, owner: name } = membership;
      const uid = this.#cache.leaderWorkerSet(namespace, name)?.metadata.uid;
      if (uid !== undefined)
        owners.set(uid, { apiVersion: lws.apiVersion, kind: lws.kind, namespace, name, uid });
    }
    return [...owners.values()];
  }
}

function countsOf(drivers: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const driver of drivers) counts.set(driver, (counts.get(driver) ?? 0) + 1);
  return counts;
}
