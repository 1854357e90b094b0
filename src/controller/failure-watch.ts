import { nvidia } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import { sameEntries } from '../cache/record-equality.ts';
import { type DeviceId, type DeviceKey, deviceKey } from '../cluster/devices/device.ts';
import { labelValue } from '../cluster/labels.ts';
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
import type { Claims } from '../failure/claim.ts';
import { CliqueMemory } from '../failure/clique-memory.ts';
import { Comebacks } from '../failure/comebacks.ts';
import { type Evidence, EvidenceLedger, isOfWideRule, ripeInMs } from '../failure/evidence.ts';
import type { DeviceTrouble, Holder } from '../failure/exclusions.ts';
import type { Incarnation } from '../failure/incarnation.ts';
import { type Intent, wasTakenBack } from '../failure/intent.ts';
import { allDomainsDown } from '../failure/outage.ts';
import { type FailureSettings, goesAsFarAs, leastMode } from '../failure/settings.ts';
import { type AllocatedDevice, isPreemption, type MemberFacts, type Sighting } from '../failure/signal.ts';
import { seeMember, seeNode } from '../failure/signals.ts';
import { suspectCliques } from '../failure/suspect-cliques.ts';
import { whoTakes } from '../failure/taken-nodes.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { resourcesShortOn, subjectOf } from './device-facts.ts';
import { cliqueSights } from './fabric-facts.ts';
import { memberFacts } from './failure-facts.ts';
import { PoolWatch } from './pool-watch.ts';
import type { GroupShape, Intents } from './shapes/shape.ts';
import { shapeOf } from './shapes/shapes.ts';

export interface FailureWatchOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly claims: Claims;
  readonly nowMs: () => number;
  /** Records tell whose the pods of a group without LWS are. */
  readonly intents: Intents;
}

const hourMs = 3_600_000;
/** The count of bad devices may be so old: a storm of signals must not make each decision count them all. */
const tallyMs = 100;
/** With more nodes than that, or more bad ones, it takes long to count them. */
const manyNodes = 100;
/** Which of many nodes are a part of the fleet may be so old where they are counted. */
const fleetMs = 1_000;

/** What a look at a group has shown. */
export interface GroupLook {
  /** Evidence has come or gone. */
  readonly changed: boolean;
  /** Some of that tells against nodes or NVLink cliques: what no plan may use is another now. */
  readonly tellsOfNodes: boolean;
  /** Milliseconds until some of the evidence is ripe; undefined when all is, or there is none. */
  readonly unripeMs: number | undefined;
}

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

/**
 * Gathers evidence from the cache, in every replica: who takes over knows since when a fault stands. Keeps bad nodes off
 * new plans, and reads the breakers. Writes nothing.
 */
export class FailureWatch {
  readonly #options: FailureWatchOptions;
  readonly #ledger: EvidenceLedger;
  /** Last record of each node with a part in this, also of those that are gone: they had a domain. */
  readonly #known = new Map<string, NodeRecord>();
  /** Nodes that have been ready once: a machine that is just coming up has not failed. */
  readonly #wereReady = new Set<string>();
  /** Leader UIDs with evidence, by group. */
  readonly #subjects = new Map<string, ReadonlySet<string>>();
  readonly #pools: PoolWatch;
  readonly #cliques = new CliqueMemory();
  /** By node, the pods that its kubelet refused and when that was seen. */
  readonly #refused = new Map<string, Map<string, number>>();
  /** Nodes that others take away, and the sentence about it. */
  readonly #taken = new Map<string, string>();
  /** What Nodes ask of failure handling, where they do. */
  readonly #wishes = new Map<string, string>();
  #tally: { readonly atMs: number; readonly devices: BadTally } | undefined;
  /** By name and UID of the node. */
  readonly #comebacks: Comebacks;
  #nodeTally: NodeTally | undefined;
  #counted:
    | { readonly atMs: number; readonly ofNodes: number; readonly fleet: readonly NodeRecord[] }
    | undefined;
  #isOut = false;
  #backMs: number | undefined;

  constructor(options: FailureWatchOptions) {
    this.#options = options;
    const { cache, settings, nowMs } = options;
    this.#comebacks = new Comebacks(settings.lastChoiceHours * hourMs);
    const ledger = new EvidenceLedger(settings.badNodeWindowSeconds * 1000);
    this.#ledger = ledger;
    this.#pools = new PoolWatch({ cache, settings, ledger, nowMs });
  }

  /** Looks at the devices of a pool, and names the groups that have some of them. */
  lookAtPool(driver: string, pool: string): readonly string[] {
    return this.#pools.lookAt(driver, pool);
  }

  /** Whether a Node asks for another failure mode than when that was asked last: its devices may be kept off, or not any more. */
  wishHasChanged(name: string): boolean {
    const wish = this.#options.cache.node(name)?.failureWish;
    if (wish === this.#wishes.get(name)) return false;
    if (wish === undefined) this.#wishes.delete(name);
    else this.#wishes.set(name, wish);
    return true;
  }

  /** Looks at a node by itself, and names the groups that have members there. */
  lookAtNode(name: string): readonly string[] {
    const { cache, settings, nowMs } = this.#options;
    const node = cache.node(name);
    const taken = node && whoTakes(node);
    if (taken === undefined) this.#taken.delete(name);
    else this.#taken.set(name, taken);
    const groups = new Set<string>();
    for (const pod of cache.podsOn(name)) {
      const subject = subjectOf(pod);
      if (subject !== undefined) groups.add(subject);
    }
    if (node === undefined) {
      this.#ledger.update(nodeSubject(name), [], nowMs());
      return [...groups];
    }
    if (node.ready) this.#wereReady.add(node.uid);
    if (groups.size > 0 || hasAccelerators(node)) this.#known.set(name, node);
    const isOurs = hasAccelerators(node) || groups.size > 0;
    const hasFailed = node.readyStatus === 'Unknown' || groups.size > 0 || this.#wereReady.has(node.uid);
    const facts = {
      record: node,
      shortOf: resourcesShortOn(cache, name),
      refusesPods: this.#refusedOn(name) >= settings.refusedPods,
    };
    const sightings = isOurs && hasFailed ? seeNode(facts, settings) : [];
    this.#ledger.update(nodeSubject(name), sightings, nowMs());
    return [...groups];
  }

  /** Looks at a group's incarnations. */
  lookAtGroup(key: string): GroupLook {
    const { cache, settings, nowMs, intents } = this.#options;
    const now = nowMs();
    const toldBefore = this.#ledger.toldOfNodes;
    const shape = shapeOf(cache, key);
    const seen = new Set<string>();
    let changed = false;
    this.#noteRefused(key);
    const all = shape.incarnations(cache, key, intents);
    this.#cliques.keep(key, new Set(all.map(({ leaderUid }) => leaderUid)));
    for (const incarnation of all) {
      const view = shape.view(cache, key, incarnation);
      const facts = view === undefined ? [] : this.factsOf(shape, view, incarnation);
      const sightings = facts.flatMap(member => seeMember(member, settings));
      for (const { node } of facts) if (node !== undefined) this.#known.set(node.name, node);
      if (this.#ledger.update(incarnationSubject(incarnation.leaderUid), sightings, now)) changed = true;
      if (sightings.length > 0) seen.add(incarnation.leaderUid);
    }
    for (const leaderUid of this.#subjects.get(key) ?? [])
      if (!seen.has(leaderUid) && this.#ledger.update(incarnationSubject(leaderUid), [], now)) changed = true;
    if (seen.size === 0) this.#subjects.delete(key);
    else this.#subjects.set(key, seen);
    const unripe = [...seen]
      .flatMap(leaderUid => this.evidenceOf(leaderUid))
      .map(evidence => ripeInMs(evidence, now))
      .filter(ms => ms > 0);
    return {
      changed,
      tellsOfNodes: this.#ledger.toldOfNodes !== toldBefore,
      unripeMs: unripe.length === 0 ? undefined : Math.min(...unripe),
    };
  }

  /** The members of an incarnation, with what is remembered of their devices and nodes. */
  factsOf(shape: GroupShape, view: GroupView, incarnation: Incarnation): readonly MemberFacts[] {
    const { cache, claims } = this.#options;
    const members = memberFacts(cache, shape, view, incarnation, claims);
    const sights = cliqueSights(members);
    const cliques =
      sights.length === 0 ? undefined : this.#cliques.expected(view.key, incarnation.leaderUid, sights);
    return members.map(({ nvlink, ...member }) => {
      const clique = cliques?.get(member.node?.uid ?? '');
      const devices = this.withMemory(member.devices ?? []);
      return { ...member, devices, ...(nvlink && { nvlink: { ...nvlink, clique } }) };
    });
  }

  /** Devices with what is remembered of each. */
  withMemory(devices: readonly AllocatedDevice[]): readonly AllocatedDevice[] {
    return devices.map(device => this.#pools.withAlerts(device));
  }

  evidenceOf(leaderUid: string): readonly Evidence[] {
    return this.#ledger.of(incarnationSubject(leaderUid));
  }

  hasEvidence(key: string): boolean {
    return this.#subjects.has(key);
  }

  /** Standing evidence by signal: groups hurt, for metrics. */
  countsBySignal(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const leaderUids of this.#subjects.values()) {
      for (const leaderUid of leaderUids) {
        const names = new Set(this.evidenceOf(leaderUid).map(({ sighting }) => sighting.signal));
        for (const name of names) if (!isPreemption(name)) counts.set(name, (counts.get(name) ?? 0) + 1);
      }
    }
    return counts;
  }

  /** Devices by driver, those included that were there a moment ago. */
  get deviceTotals(): ReadonlyMap<string, number> {
    return this.#pools.totals;
  }

  /** What stands against single devices now, the worst of each, and who has them. */
  deviceTroubles(): ReadonlyMap<DeviceKey, DeviceTrouble> {
    const holders = this.#holdersOfSick();
    const troubles = new Map<DeviceKey, DeviceTrouble>();
    for (const evidence of this.#ledger.all()) {
      const device = this.#sickDevice(evidence);
      const { firstSeenMs, sighting } = evidence;
      const { cause, debounceMs, class: of } = sighting;
      if (device === undefined || of === 'info' || !this.#keepsOff(sighting)) continue;
      const key = deviceKey(device);
      const known = troubles.get(key);
      const isWorse = known === undefined || (of === 'certain' && known.class === 'suspect');
      troubles.set(key, {
        device,
        class: isWorse ? of : known.class,
        cause: isWorse ? cause : known.cause,
        firstSeenMs: Math.min(firstSeenMs, known?.firstSeenMs ?? firstSeenMs),
        debounceMs: Math.min(debounceMs, known?.debounceMs ?? debounceMs),
        holders: [...(holders.get(key)?.values() ?? [])],
      });
    }
    return troubles;
  }

  /** Whether new plans and claims are kept off what such a signal speaks against. */
  #keepsOff({ class: signalClass, nodeName }: Pick<Sighting, 'class' | 'nodeName'>): boolean {
    const { cache, settings } = this.#options;
    if (signalClass === 'info') return false;
    const mode = signalClass === 'suspect' ? settings.suspectMode : settings.mode;
    return goesAsFarAs(leastMode(mode, [cache.node(nodeName)?.failureWish]), 'cordon');
  }

  #holdersOfSick(): ReadonlyMap<DeviceKey, ReadonlyMap<string, Holder>> {
    const holders = new Map<DeviceKey, Map<string, Holder>>();
    for (const [group, leaderUids] of this.#subjects)
      for (const incarnation of leaderUids)
        for (const evidence of this.evidenceOf(incarnation)) {
          const device = this.#sickDevice(evidence);
          if (device === undefined) continue;
          const ofDevice = holders.get(deviceKey(device)) ?? new Map<string, Holder>();
          holders.set(deviceKey(device), ofDevice.set(incarnation, { group, incarnation }));
        }
    return holders;
  }

  /** Of a rule that means many devices the devices are not to blame, and of a driver that starts anew neither. */
  #sickDevice({ sighting }: Evidence): DeviceId | undefined {
    const { device, class: of } = sighting;
    if (device === undefined || of === 'info' || isOfWideRule(sighting)) return undefined;
    return this.#options.cache.devicePool(device.driver, device.pool) === undefined ? undefined : device;
  }

  /**
   * Nodes that no plan may use: those with a fault now, those that others take away, and for a while those that cost a group
   * its place, unless the group is to blame for them. Milliseconds until time alone adds some.
   */
  excludeNodes(
    intents: readonly Intent[],
    wallMs: number,
    isPoisoned: (group: string, node: string) => boolean = () => false,
  ): number | undefined {
    const { cache, settings, nowMs } = this.#options;
    const excluded = new Map<string, string>();
    const failing = new Map<string, number>();
    const before = new Set<string>();
    let dueInMs: number | undefined;
    if (goesAsFarAs(settings.mode, 'cordon')) {
      for (const { sighting, firstSeenMs } of this.#ledger.againstNodes()) {
        // Whoever tolerates such a taint may go there; the planner looks at taints and Ready itself.
        if (!this.#keepsOff(sighting) || sighting.signal === 'NodeNoExecute') continue;
        const { nodeName, cause, debounceMs } = sighting;
        const node = cache.node(nodeName);
        if (node === undefined) continue;
        excluded.set(nodeName, cause);
        const key = machineKey(node);
        failing.set(key, Math.min(failing.get(key) ?? Number.POSITIVE_INFINITY, firstSeenMs + debounceMs));
      }
      for (const [name, taken] of this.#taken) if (!excluded.has(name)) excluded.set(name, taken);
      const cliques = suspectCliques(this.#ledger.againstCliques(), {
        cliqueOfNode: name => labelValue(cache.node(name)?.labels ?? {}, nvidia.clique),
        nowMs: nowMs(),
        afterMs: settings.excludeAfterSeconds * 1000,
      });
      dueInMs = cliques.dueInMs;
      for (const { name, labels } of cliques.causes.size === 0 ? [] : cache.allNodes()) {
        const cause = cliques.causes.get(labelValue(labels, nvidia.clique) ?? '');
        if (cause !== undefined && !excluded.has(name)) excluded.set(name, cause);
      }
      for (const { avoid, times, group } of intents.filter(intent => !wasTakenBack(intent))) {
        const backForMs = wallMs - times.intent - settings.excludeMinutes * 60_000;
        if (backForMs >= settings.lastChoiceHours * hourMs && backForMs >= 0) continue;
        for (const { node, nodeUid, cause } of avoid) {
          if (isPoisoned(group, node) || cache.node(node)?.uid !== nodeUid) continue;
          // The records tell of a comeback also after a restart, but only of what cost a group its place.
          if (backForMs >= 0) before.add(node);
          else if (!excluded.has(node)) excluded.set(node, cause);
        }
      }
    }
    this.#publishLastChoice(failing, before);
    if (!sameEntries(excluded, cache.excludedNodes)) cache.setExcludedNodes(excluded);
    return dueInMs;
  }

  /** @param recorded nodes that have come back by what the records say */
  #publishLastChoice(failing: ReadonlyMap<string, number>, recorded: ReadonlySet<string>): void {
    const { cache, settings, nowMs } = this.#options;
    this.#comebacks.update(failing, nowMs());
    const nodes = new Set(recorded);
    for (const key of this.#comebacks.lately(nowMs())) {
      const node = cache.node(nameOfMachine(key));
      if (node !== undefined && machineKey(node) === key) nodes.add(node.name);
    }
    cache.setLastChoice({ nodes: settings.lastChoiceHours > 0 ? nodes : new Set() });
  }

  /** Labels of a node, or those that it had before it went; undefined for one that was never seen with a part in this. */
  labelsOf(name: string): Readonly<Record<string, string>> | undefined {
    return (this.#options.cache.node(name) ?? this.#known.get(name))?.labels;
  }

  /** Whether hardly any node is ready, of those with a part in this. Looks at all of them. */
  lookForOutage(): void {
    const { cache, settings, nowMs } = this.#options;
    const isOut = allDomainsDown(this.#fleet(), cache.levels, settings.outageNodeShare);
    if (this.#isOut && !isOut) this.#backMs = nowMs();
    this.#isOut = isOut;
  }

  /** An outage of nodes is known to be over only once somebody has looked again. */
  get nodesAreOut(): boolean {
    return this.#isOut;
  }

  /** Since an outage of nodes was over; 0 while it lasts, infinite when none was seen. */
  nodesBackForMs(): number {
    if (this.#isOut) return 0;
    return this.#backMs === undefined ? Number.POSITIVE_INFINITY : this.#options.nowMs() - this.#backMs;
  }

  /** What the evidence says of the breakers now. */
  readings(wallMs: number): readonly BreakerReading[] {
    const { settings, nowMs } = this.#options;
    const now = nowMs();
    const { totals } = this.#pools;
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
    this.#ledger[kindOf(name)].acknowledge();
    this.#tally = undefined;
    this.#nodeTally = undefined;
  }

  /** Looks at everything and forgets what is no more. */
  lookAtAll(): void {
    const { cache, nowMs } = this.#options;
    for (const name of new Set([...cache.allNodes()].map(node => node.name))) this.lookAtNode(name);
    this.#pools.lookAtAll();
    this.lookForOutage();
    for (const key of [...this.#subjects.keys()]) this.lookAtGroup(key);
    for (const name of [...this.#refused.keys()]) this.#refusedOn(name);
    const now = nowMs();
    const remembered = new Set(
      [...this.#ledger.nodes.newly(now), ...this.#ledger.nodes.standing()].map(node => node.name),
    );
    for (const name of this.#known.keys())
      if (cache.node(name) === undefined && !remembered.has(name)) this.#known.delete(name);
    for (const name of this.#taken.keys()) if (cache.node(name) === undefined) this.#taken.delete(name);
    const uids = new Set([...cache.allNodes()].map(node => node.uid));
    for (const uid of this.#wereReady) if (!uids.has(uid)) this.#wereReady.delete(uid);
  }

  #tallyDevices(now: number): BadTally {
    if (this.#tally === undefined || now - this.#tally.atMs >= tallyMs)
      this.#tally = { atMs: now, devices: this.#ledger.devices.tally(driverOf, now) };
    return this.#tally.devices;
  }

  /** Counted anew as soon as a node is bad that was not; where many are, those that come and go may be a moment old. */
  #tallyNodes(now: number): NodeTally {
    const { cache, settings } = this.#options;
    const { nodes } = this.#ledger;
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

  /** Remembers which pods of a group their kubelets have refused. */
  #noteRefused(key: string): void {
    const { cache, nowMs } = this.#options;
    for (const { refused, uid, nodeName } of cache.podsOfGroup(key)) {
      if (!refused || nodeName === undefined) continue;
      const onNode = this.#refused.get(nodeName) ?? new Map<string, number>();
      if (onNode.has(uid)) continue;
      this.#refused.set(nodeName, onNode.set(uid, nowMs()));
      this.lookAtNode(nodeName);
    }
  }

  #refusedOn(name: string): number {
    const { cache, settings, nowMs } = this.#options;
    const onNode = this.#refused.get(name);
    let count = 0;
    for (const [uid, atMs] of onNode ?? []) {
      if (nowMs() - atMs < settings.refusedWindowSeconds * 1000) count += 1;
      // As long as the pod is there it would be taken for one that was refused just now.
      else if (cache.pod(uid) === undefined) onNode?.delete(uid);
    }
    if (onNode?.size === 0) this.#refused.delete(name);
    return count;
  }

  /** The fleet where its nodes are counted: these come and go, and a node is seldom taken into use or out of it. */
  #countedFleet(now: number): readonly NodeRecord[] {
    const { nodeCount: ofNodes } = this.#options.cache;
    const known = this.#counted;
    const isOld = known === undefined || known.ofNodes !== ofNodes || now - known.atMs >= fleetMs;
    if (!isOld && ofNodes > manyNodes) return known.fleet;
    const fleet = this.#fleet();
    this.#counted = { atMs: now, ofNodes, fleet };
    return fleet;
  }

  /** Nodes with accelerators, and those without any that groups, or single pods with devices, run on. */
  #fleet(): readonly NodeRecord[] {
    const { cache } = this.#options;
    return [...cache.allNodes()].filter(node => hasAccelerators(node) || hasSubject(cache.podsOn(node.name)));
  }

  #labelled(nodes: readonly BadThing[]): readonly LabelledNode[] {
    return nodes.flatMap(({ name }) => {
      const labels = this.labelsOf(name);
      return labels === undefined ? [] : [{ name, labels }];
    });
  }
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

/** One string for a node that is another once its name is given to a new one. Names of nodes hold no `/`. */
function machineKey({ name, uid }: NodeRecord): string {
  return `${name}/${uid}`;
}

function nameOfMachine(key: string): string {
  return key.slice(0, key.indexOf('/'));
}

function nodeSubject(name: string): string {
  return `node/${name}`;
}

function incarnationSubject(leaderUid: string): string {
  return `incarnation/${leaderUid}`;
}
