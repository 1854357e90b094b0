import { createHash } from 'node:crypto';
import type { DeviceTaintRule } from '../api/dra.ts';
import { berth } from '../api/names.ts';
import { type DeviceKey, deviceKey } from '../cluster/devices/device.ts';
import { SharedParts } from '../cluster/devices/shared-parts.ts';
import type { TaintRuleRecord } from '../cluster/devices/taint-rules.ts';
import type { Exclusion, WrittenExclusion } from '../failure/exclusions.ts';
import { timeText } from '../failure/intent.ts';
import type { ApiClient } from './api-client.ts';
import { failureKind } from './api-errors.ts';
import { isRecord } from './raw-object.ts';

/** A DeviceTaintRule of Berth, as it stands in the cache. */
export interface ExclusionRule {
  readonly name: string;
  readonly uid: string;
  /** Of the device that it excludes. */
  readonly key: DeviceKey;
  readonly written: WrittenExclusion;
  /** An administrator has annotated it. */
  readonly isReleased: boolean;
}

const api = '/apis/resource.k8s.io/v1';
const prefix = 'berth-excluded-';
const version = 1;
/** A rule but for what depends on the time. */
interface ReadRule extends Omit<ExclusionRule, 'written'> {
  readonly written: Omit<WrittenExclusion, 'quarantineLeftMs'>;
  readonly quarantineUntilMs: number | undefined;
}

/** Names of rules by what they say, and rules that were read: thousands are gone through again and again. */
const names = new SharedParts<string>(32_768);
const readRules = new WeakMap<TaintRuleRecord, ReadRule | 'foreign'>();

/** The same in every replica: what is created twice exists once. A quarantine has a rule of its own, for none is changed. */
export function exclusionName(exclusion: Pick<Exclusion, 'key' | 'uuid' | 'quarantineUntilMs'>): string {
  const { key, uuid = '', quarantineUntilMs } = exclusion;
  const text = JSON.stringify([key, uuid, quarantineUntilMs !== undefined]);
  return names.get(text, () => `${prefix}${createHash('sha256').update(text).digest('hex').slice(0, 16)}`);
}

/**
 * The rule for an excluded device. It never has another effect than NoSchedule, and always names driver, pool and device: an
 * empty selector means every device of the cluster.
 */
export function exclusionObject(exclusion: Exclusion, nowMs: number, wallMs: number): DeviceTaintRule {
  const { device, cause, uuid, sinceMs, quarantineUntilMs, groups } = exclusion;
  const { driver, pool, device: name } = device;
  if (driver === '' || pool === '' || name === '')
    throw new TypeError(`${deviceKey(device)} is no whole name`);
  const wallOf = (atMs: number) => timeText(Math.round(wallMs + atMs - nowMs));
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'DeviceTaintRule',
    metadata: {
      name: exclusionName(exclusion),
      labels: { [berth.excluded]: quarantineUntilMs === undefined ? 'fault' : 'quarantine' },
      annotations: {
        [berth.exclusion]: JSON.stringify({
          version,
          class: exclusion.class,
          cause,
          since: wallOf(sinceMs),
          quarantineUntil: quarantineUntilMs === undefined ? null : wallOf(quarantineUntilMs),
          uuid: uuid ?? null,
          group: groups[0] ?? null,
        }),
      },
    },
    spec: {
      deviceSelector: { driver, pool, device: name },
      taint: { key: berth.excluded, effect: 'NoSchedule' },
    },
  };
}

/** Undefined for a rule that is not one of Berth's, whatever its label says: Berth leaves that alone. */
export function exclusionRule(record: TaintRuleRecord, wallMs: number): ExclusionRule | undefined {
  const read = readRules.get(record) ?? readRule(record) ?? 'foreign';
  readRules.set(record, read);
  if (read === 'foreign') return undefined;
  const { quarantineUntilMs: untilMs, written, ...rule } = read;
  return {
    ...rule,
    written: { ...written, quarantineLeftMs: untilMs === undefined ? undefined : untilMs - wallMs },
  };
}

function readRule({ name, selector, taint, ofBerth }: TaintRuleRecord): ReadRule | undefined {
  if (ofBerth === undefined || !name.startsWith(prefix)) return undefined;
  if (taint.key !== berth.excluded || taint.effect !== 'NoSchedule') return undefined;
  const { driver, pool, device: deviceName } = selector ?? {};
  if (!driver || !pool || !deviceName) return undefined;
  const told = parseRecord(ofBerth.record);
  const textOf = (key: string) => {
    const value = told[key];
    return typeof value === 'string' ? value : undefined;
  };
  const untilMs = Date.parse(textOf('quarantineUntil') ?? '');
  const device = { driver, pool, device: deviceName };
  return {
    name,
    uid: ofBerth.uid,
    key: deviceKey(device),
    isReleased: ofBerth.isReleased,
    written: {
      device,
      class: told['class'] === 'certain' ? 'certain' : 'suspect',
      cause: textOf('cause') ?? `DeviceTaintRule ${name} excludes it`,
      uuid: textOf('uuid'),
      group: textOf('group'),
    },
    quarantineUntilMs: Number.isNaN(untilMs) ? undefined : untilMs,
  };
}

/** Berth's DeviceTaintRules. All methods throw as `ApiClient.request` does. */
export class ExclusionStore {
  readonly #client: ApiClient;
  readonly #timeoutMs: number;

  constructor(client: ApiClient, timeoutMs: number) {
    this.#client = client;
    this.#timeoutMs = timeoutMs;
  }

  /** Whether the API server serves DeviceTaintRules: 1.36 does not, 1.37 does. */
  async isServed(): Promise<boolean> {
    const timeoutMs = this.#timeoutMs;
    try {
      const answer: unknown = await this.#client.request({ method: 'GET', path: api, timeoutMs });
      const resources = isRecord(answer) ? answer['resources'] : undefined;
      return (
        Array.isArray(resources) &&
        resources.some(each => isRecord(each) && each['name'] === 'devicetaintrules')
      );
    } catch (error) {
      if (failureKind(error) === 'gone') return false;
      throw error;
    }
  }

  /** One of that name is as good: the name says all that it is about. */
  async create(rule: DeviceTaintRule): Promise<void> {
    const timeoutMs = this.#timeoutMs;
    try {
      await this.#client.request({
        method: 'POST',
        path: `${api}/devicetaintrules`,
        body: rule,
        timeoutMs,
      });
    } catch (error) {
      if (failureKind(error) !== 'exists') throw error;
    }
  }

  /** Deletes this very rule, and no other that has its name by now. */
  async remove({ name, uid }: Pick<ExclusionRule, 'name' | 'uid'>): Promise<void> {
    const timeoutMs = this.#timeoutMs;
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid } };
    try {
      await this.#client.request({
        method: 'DELETE',
        path: `${api}/devicetaintrules/${name}`,
        body,
        timeoutMs,
      });
    } catch (error) {
      const kind = failureKind(error);
      if (kind !== 'gone' && kind !== 'conflict') throw error;
    }
  }
}

function parseRecord(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}
