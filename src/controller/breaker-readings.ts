import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import type { BadTally, BadThing } from '../failure/bad-things.ts';
import type { BreakerName, BreakerReading, LabelledNode } from '../failure/breakers.ts';
import {
  breakerNames,
  failedDomain,
  failedDriver,
  hasAccelerators,
  massDeviceFailure,
  massFailure,
  zonesFailure,
} from '../failure/breakers.ts';
import type { EvidenceLedger } from '../failure/evidence.ts';
import type { FailureSettings } from '../failure/settings.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { subjectOf } from './device-facts.ts';

export interface BreakerReadingsOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly ledger: EvidenceLedger;
  readonly nowMs: () => number;
  /** Devices by driver, those included that were there a moment ago. */
  readonly deviceTotals: () => ReadonlyMap<string, number>;
  /** Labels of a node, or those that it had before it went. */
  readonly labelsOf: (node: string) => Readonly<Record<string, string>> | undefined;
}

/** The count of bad devices may be so old: a storm of signals must not make each decision count them all. */
const tallyMs = 100;
/** With more nodes than that, or more bad ones, it takes long to count them. */
const manyNodes = 100;
/** Which of many nodes are a part of the fleet may be so old where they are counted. */
const fleetMs = 1_000;

/** What the breakers read of the nodes, and of what it was counted. */
interface NodeTally {
  readonly atMs: number;
  readonly added: number;
  readonly turned: number;
  readonly fleetSize: number;
  readonly domain: string | undefined;
  readonly mass: string | undefined;
  readonly lastBadMs: number | undefined;
  readonly anyStands: boolean;
}

/** Counts what is bad against what there is, for the breakers. */
export class BreakerReadings {
  readonly #options: BreakerReadingsOptions;
  #tally: { readonly atMs: number; readonly devices: BadTally } | undefined;
  #nodeTally: NodeTally | undefined;
  #counted:
    | { readonly atMs: number; readonly ofNodes: number; readonly fleet: readonly NodeRecord[] }
    | undefined;

  constructor(options: BreakerReadingsOptions) {
    this.#options = options;
  }

  /** What the evidence says of the breakers now. */
  at(wallMs: number): readonly BreakerReading[] {
    const { settings, nowMs, deviceTotals } = this.#options;
    const now = nowMs();
    const totals = deviceTotals();
    const devices = this.#tallyDevices(now);
    const nodes = this.#tallyNodes(now);
    const reasons: Readonly<Record<BreakerName, string | undefined>> = {
      'domain-failure': nodes.domain,
      'mass-failure': nodes.mass,
      'device-failure': failedDriver(devices.newly, totals, settings),
      'device-mass': massDeviceFailure(devices.unacknowledged, totals, settings),
    };
    const lastBadMs = { nodes: nodes.lastBadMs, devices: devices.lastBadMs };
    const anyBad = { nodes: nodes.anyStands, devices: devices.anyStands };
    return breakerNames.map(name => {
      const kind = kindOf(name);
      const lastMs = lastBadMs[kind];
      // Whole milliseconds, as it is written: what did not change must not look changed.
      const lastBadAtMs = lastMs === undefined ? undefined : Math.round(wallMs - (now - lastMs));
      return { name, reason: reasons[name], lastBadAtMs, anyBad: anyBad[kind] };
    });
  }

  /** An administrator has reset a breaker. */
  acknowledge(name: BreakerName): void {
    this.#options.ledger[kindOf(name)].acknowledge();
    this.#tally = undefined;
    this.#nodeTally = undefined;
  }

  #tallyDevices(now: number): BadTally {
    if (this.#tally === undefined || now - this.#tally.atMs >= tallyMs)
      this.#tally = { atMs: now, devices: this.#options.ledger.devices.tally(driverOf, now) };
    return this.#tally.devices;
  }

  /** Counted anew as soon as a node is bad that was not; where many are, those that come and go may be a moment old. */
  #tallyNodes(now: number): NodeTally {
    const { cache, settings, ledger } = this.#options;
    const { nodes } = ledger;
    const known = this.#nodeTally;
    const isSame = known?.added === nodes.added && known.fleetSize === cache.nodeCount;
    const isQuiet = known?.turned === nodes.turned || nodes.size > manyNodes;
    if (known !== undefined && isSame && isQuiet && now - known.atMs < tallyMs) return known;
    const newly = nodes.newly(now);
    const standing = nodes.standing();
    const bad = nodes.unacknowledged();
    const fleet = this.#countedFleet(now);
    const total = new Set([...fleet.map(node => node.name), ...bad.map(node => node.name)]).size;
    const last = [...newly, ...standing].map(node => node.firstSeenMs);
    this.#nodeTally = {
      atMs: now,
      added: nodes.added,
      turned: nodes.turned,
      fleetSize: cache.nodeCount,
      domain: failedDomain(this.#labelled(newly), fleet, cache.levels, settings),
      mass: massFailure(bad.length, total, settings) ?? zonesFailure(this.#labelled(bad), fleet, settings),
      lastBadMs: last.length === 0 ? undefined : last.reduce((a, b) => Math.max(a, b)),
      anyStands: standing.length > 0,
    };
    return this.#nodeTally;
  }

  /** The fleet where its nodes are counted: these come and go, and a node is seldom taken into use or out of it. */
  #countedFleet(now: number): readonly NodeRecord[] {
    const { cache } = this.#options;
    const { nodeCount: ofNodes } = cache;
    const known = this.#counted;
    const isOld = known === undefined || known.ofNodes !== ofNodes || now - known.atMs >= fleetMs;
    if (!isOld && ofNodes > manyNodes) return known.fleet;
    const fleet = fleetOf(cache);
    this.#counted = { atMs: now, ofNodes, fleet };
    return fleet;
  }

  #labelled(nodes: readonly BadThing[]): readonly LabelledNode[] {
    return nodes.flatMap(({ name }) => {
      const labels = this.#options.labelsOf(name);
      return labels === undefined ? [] : [{ name, labels }];
    });
  }
}

/** Nodes with accelerators, and those without any that groups, or single pods with devices, run on. */
export function fleetOf(cache: ClusterCache): readonly NodeRecord[] {
  return [...cache.allNodes()].filter(node => hasAccelerators(node) || hasSubject(cache.podsOn(node.name)));
}

/** Stops at the first: all nodes are asked. */
function hasSubject(pods: Iterable<PodInfo>): boolean {
  for (const pod of pods) if (subjectOf(pod) !== undefined) return true;
  return false;
}

function kindOf(name: BreakerName): 'nodes' | 'devices' {
  return name === 'device-failure' || name === 'device-mass' ? 'devices' : 'nodes';
}

function driverOf(device: string): string {
  return device.slice(0, device.indexOf('//'));
}
