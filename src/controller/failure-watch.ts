import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import { type DeviceId, type DeviceKey, deviceKey } from '../cluster/devices/device.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import type { BreakerName, BreakerReading } from '../failure/breakers.ts';
import { hasAccelerators } from '../failure/breakers.ts';
import type { Claims } from '../failure/claim.ts';
import { CliqueMemory } from '../failure/clique-memory.ts';
import { type Evidence, EvidenceLedger, isOfWideRule, ripeInMs } from '../failure/evidence.ts';
import type { DeviceTrouble, Holder } from '../failure/exclusions.ts';
import type { Incarnation } from '../failure/incarnation.ts';
import type { Intent } from '../failure/intent.ts';
import { allDomainsDown } from '../failure/outage.ts';
import { type FailureSettings, goesAsFarAs, leastMode } from '../failure/settings.ts';
import { type AllocatedDevice, isPreemption, type MemberFacts, type Sighting } from '../failure/signal.ts';
import { seeMember, seeNode } from '../failure/signals.ts';
import { BreakerReadings, fleetOf } from './breaker-readings.ts';
import { resourcesShortOn, subjectOf } from './device-facts.ts';
import { cliqueSights } from './fabric-facts.ts';
import { memberFacts } from './failure-facts.ts';
import { NodeExclusions } from './node-exclusions.ts';
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

/** What a look at a group has shown. */
export interface GroupLook {
  /** Evidence has come or gone. */
  readonly changed: boolean;
  /** Some of that tells against nodes or NVLink cliques: what no plan may use is another now. */
  readonly tellsOfNodes: boolean;
  /** Milliseconds until some of the evidence is ripe; undefined when all is, or there is none. */
  readonly unripeMs: number | undefined;
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
  readonly #exclusions: NodeExclusions;
  readonly #readings: BreakerReadings;
  readonly #cliques = new CliqueMemory();
  /** By node, the pods that its kubelet refused and when that was seen. */
  readonly #refused = new Map<string, Map<string, number>>();
  /** What Nodes ask of failure handling, where they do. */
  readonly #wishes = new Map<string, string>();
  #isOut = false;
  #backMs: number | undefined;

  constructor(options: FailureWatchOptions) {
    this.#options = options;
    const { cache, settings, nowMs } = options;
    const ledger = new EvidenceLedger(settings.badNodeWindowSeconds * 1000);
    this.#ledger = ledger;
    this.#pools = new PoolWatch({ cache, settings, ledger, nowMs });
    this.#exclusions = new NodeExclusions({
      cache,
      settings,
      ledger,
      nowMs,
      keepsOff: sighting => this.#keepsOff(sighting),
    });
    this.#readings = new BreakerReadings({
      cache,
      settings,
      ledger,
      nowMs,
      deviceTotals: () => this.#pools.totals,
      labelsOf: name => this.labelsOf(name),
    });
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
    this.#exclusions.lookAt(name);
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

  /** See {@link NodeExclusions.update}. */
  excludeNodes(
    intents: readonly Intent[],
    wallMs: number,
    isPoisoned?: (group: string, node: string) => boolean,
  ): number | undefined {
    return this.#exclusions.update(intents, wallMs, isPoisoned);
  }

  /** Labels of a node, or those that it had before it went; undefined for one that was never seen with a part in this. */
  labelsOf(name: string): Readonly<Record<string, string>> | undefined {
    return (this.#options.cache.node(name) ?? this.#known.get(name))?.labels;
  }

  /** Whether hardly any node is ready, of those with a part in this. Looks at all of them. */
  lookForOutage(): void {
    const { cache, settings, nowMs } = this.#options;
    const isOut = allDomainsDown(fleetOf(cache), cache.levels, settings.outageNodeShare);
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
    return this.#readings.at(wallMs);
  }

  /** An administrator has reset a breaker. */
  acknowledge(name: BreakerName): void {
    this.#readings.acknowledge(name);
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
    this.#exclusions.forgetGone();
    const uids = new Set([...cache.allNodes()].map(node => node.uid));
    for (const uid of this.#wereReady) if (!uids.has(uid)) this.#wereReady.delete(uid);
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
}

function nodeSubject(name: string): string {
  return `node/${name}`;
}

function incarnationSubject(leaderUid: string): string {
  return `incarnation/${leaderUid}`;
}
