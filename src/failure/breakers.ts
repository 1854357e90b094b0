import { k8s } from '../api/names.ts';
import { labelValue } from '../cluster/labels.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import type { Intent } from './intent.ts';
import type { FailureSettings } from './settings.ts';
import { isPreemption } from './signal.ts';

export const breakerNames = ['domain-failure', 'mass-failure', 'device-failure', 'device-mass'] as const;
export type BreakerName = (typeof breakerNames)[number];

/** `half-open` lets one eviction through; when that group is whole again the breaker closes. */
export type BreakerState = 'closed' | 'tripped' | 'half-open';

/** What is kept of a tripped breaker, so that it stays tripped over restarts and in other replicas. */
export interface TrippedBreaker {
  readonly name: BreakerName;
  readonly trippedAtMs: number;
  /** When a node or device last went bad, or so many were bad at once; wall clock. */
  readonly lastBadAtMs: number;
  readonly reason: string;
}

/** What the evidence says of a breaker now: a sentence while its condition holds. */
export interface BreakerReading {
  readonly name: BreakerName;
  readonly reason: string | undefined;
  /** When something that it counts last went bad; wall clock. */
  readonly lastBadAtMs: number | undefined;
  /** Anything at all is wrong with a node, or a device. */
  readonly anyBad: boolean;
}

/** What to do with the kept state, and how the breaker stands after it. */
export interface BreakerVerdict {
  readonly state: BreakerState;
  readonly keep: TrippedBreaker | undefined;
}

/** A bad node with the labels that it has, or had before it went. */
export interface LabelledNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * The domain that lost too many nodes of late, in words. Without configured levels the cluster is the one domain. A
 * node that is gone counts as a part of its domain still.
 */
export function failedDomain(
  newlyBad: readonly LabelledNode[],
  fleet: readonly LabelledNode[],
  levels: readonly TopologyLevel[],
  { domainMinNodes, domainShare }: Pick<FailureSettings, 'domainMinNodes' | 'domainShare'>,
): string | undefined {
  const depths = levels.length === 0 ? [0] : levels.map((_, index) => index + 1);
  const names = new Set(fleet.map(node => node.name));
  const all = [...fleet, ...newlyBad.filter(node => !names.has(node.name))];
  for (const depth of depths) {
    const sizes = countByDomain(all, levels, depth);
    for (const [domain, bad] of countByDomain(newlyBad, levels, depth)) {
      const limit = Math.max(domainMinNodes, Math.ceil(domainShare * (sizes.get(domain) ?? 0)));
      if (bad < limit) continue;
      const level = levels[depth - 1];
      return level === undefined
        ? 'too many nodes of the cluster have gone bad within minutes'
        : `too many nodes of ${level.name} ${domain} have gone bad within minutes`;
    }
  }
  return undefined;
}

/** Says that too large a part of the accelerator nodes is bad at once; `total` counts the bad ones, too. */
export function massFailure(
  bad: number,
  total: number,
  { massMinNodes, massShare }: Pick<FailureSettings, 'massMinNodes' | 'massShare'>,
): string | undefined {
  return bad >= massMinNodes && bad >= massShare * total
    ? 'too large a part of the accelerator nodes is bad at once'
    : undefined;
}

/**
 * Says that two zones or more have lost every node: then the trouble is more likely one of networks than of machines.
 * Zones are named by the label that Kubernetes itself gives, whatever levels are configured.
 * @param fleet all accelerator nodes; bad ones that are gone count besides
 */
export function zonesFailure(
  bad: readonly LabelledNode[],
  fleet: readonly LabelledNode[],
  { massMinNodes }: Pick<FailureSettings, 'massMinNodes'>,
): string | undefined {
  if (bad.length < massMinNodes) return undefined;
  const isBad = new Set(bad.map(({ name }) => name));
  const wellZones = new Set(fleet.filter(({ name }) => !isBad.has(name)).map(zoneOf));
  const lost = new Set(bad.map(zoneOf).filter(zone => zone !== undefined && !wellZones.has(zone)));
  return lost.size >= 2 ? 'all accelerator nodes of at least two zones are bad at once' : undefined;
}

/**
 * The driver of which too many devices went bad of late, in words.
 * @param newlyBad by driver
 * @param totals devices by driver, the bad ones included
 */
export function failedDriver(
  newlyBad: ReadonlyMap<string, number>,
  totals: ReadonlyMap<string, number>,
  { deviceMinCount, deviceShare }: Pick<FailureSettings, 'deviceMinCount' | 'deviceShare'>,
): string | undefined {
  const driver = firstAbove(newlyBad, totals, deviceMinCount, deviceShare);
  return driver && `too many devices of ${driver} have gone bad within minutes`;
}

/** Says that too large a part of the devices of one driver is bad at once; parameters as in {@link failedDriver}. */
export function massDeviceFailure(
  bad: ReadonlyMap<string, number>,
  totals: ReadonlyMap<string, number>,
  { deviceMassMinCount, deviceMassShare }: Pick<FailureSettings, 'deviceMassMinCount' | 'deviceMassShare'>,
): string | undefined {
  const driver = firstAbove(bad, totals, deviceMassMinCount, deviceMassShare);
  return driver && `too large a part of the devices of ${driver} is bad at once`;
}

function firstAbove(
  counts: ReadonlyMap<string, number>,
  totals: ReadonlyMap<string, number>,
  minCount: number,
  share: number,
): string | undefined {
  return [...counts]
    .filter(([driver, count]) => count >= minCount && count >= share * (totals.get(driver) ?? 0))
    .map(([driver]) => driver)
    .sort()[0];
}

/**
 * Where a breaker stands. It trips while its condition holds and stays tripped until nothing has gone bad for
 * `breakerQuietSeconds`. Then one eviction may show that the trouble is over, unless nothing is bad any more: then it
 * closes by itself.
 */
export function judgeBreaker(
  reading: BreakerReading,
  kept: TrippedBreaker | undefined,
  intents: readonly Intent[],
  nowMs: number,
  { breakerQuietSeconds }: Pick<FailureSettings, 'breakerQuietSeconds'>,
): BreakerVerdict {
  const { name, reason } = reading;
  if (reason !== undefined) {
    // A mass failure may stand for hours: it is not quiet before it is over, and who comes back last looks bad until then.
    const lastMs = isMass(name) ? Math.round(nowMs) : (reading.lastBadAtMs ?? nowMs);
    const lastBadAtMs = Math.max(lastMs, kept?.lastBadAtMs ?? 0);
    return { state: 'tripped', keep: { name, trippedAtMs: kept?.trippedAtMs ?? nowMs, lastBadAtMs, reason } };
  }
  if (kept === undefined) return { state: 'closed', keep: undefined };
  const keep =
    reading.lastBadAtMs !== undefined && reading.lastBadAtMs > kept.lastBadAtMs
      ? { ...kept, lastBadAtMs: reading.lastBadAtMs }
      : kept;
  const quietFromMs = keep.lastBadAtMs + breakerQuietSeconds * 1000;
  if (nowMs < quietFromMs) return { state: 'tripped', keep };
  // Whether a group that made room for another comes back says nothing about the trouble.
  const trials = intents.filter(intent => intent.times.intent >= quietFromMs && !isPreemption(intent.signal));
  if (trials.some(trial => trial.phase !== 'closed')) return { state: 'tripped', keep };
  const failed = trials.filter(trial => trial.outcome === 'failed').map(trial => trial.times.intent);
  // A trial that failed begins the quiet time anew.
  if (failed.length > 0) return { state: 'tripped', keep: { ...keep, lastBadAtMs: Math.max(...failed) } };
  if (trials.some(trial => trial.outcome === 'recovered')) return { state: 'closed', keep: undefined };
  return reading.anyBad ? { state: 'half-open', keep } : { state: 'closed', keep: undefined };
}

/** Counts what is bad now, while the others count what went bad within a window. */
function isMass(name: BreakerName): boolean {
  return name === 'mass-failure' || name === 'device-mass';
}

function zoneOf({ labels }: LabelledNode): string | undefined {
  return labelValue(labels, k8s.zone);
}

/** Nodes by domain path at a depth; those without a label for its own level are in no domain of it. */
function countByDomain(
  nodes: readonly LabelledNode[],
  levels: readonly TopologyLevel[],
  depth: number,
): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { labels } of nodes) {
    const path = levels.slice(0, depth).map(({ nodeLabel }) => labelValue(labels, nodeLabel) ?? '');
    if (depth > 0 && path.at(-1) === '') continue;
    const domain = path.join('/');
    counts.set(domain, (counts.get(domain) ?? 0) + 1);
  }
  return counts;
}

/** A node that has accelerators, or names them though it shows none now. */
export function hasAccelerators(node: NodeRecord): boolean {
  for (const name of node.allocatable.keys()) if (isAcceleratorResource(name)) return true;
  return false;
}
