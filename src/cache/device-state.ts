import type { DeviceRequestAllocationResult } from '../api/dra.ts';
import { berth } from '../api/names.ts';
import { CelSelectors } from '../cluster/devices/cel/engine.ts';
import type { ClaimRecord, ClaimTemplateRecord, DeviceClassRecord } from '../cluster/devices/claims.ts';
import type { DeviceId, DeviceKey, DeviceSlice } from '../cluster/devices/device.ts';
import { extendedResourceClasses } from '../cluster/devices/extended-resources.ts';
import { failedDevices } from '../cluster/devices/failed-devices.ts';
import {
  type DeviceCatalog,
  type DevicesTaken,
  type NodeDeviceInfo,
  nodeDeviceInfo,
  withoutTakers,
} from '../cluster/devices/node-device-info.ts';
import { type PoolState, poolStateOf } from '../cluster/devices/pool-state.ts';
import { type NodePools, poolsFor } from '../cluster/devices/pools.ts';
import { RuleIndex } from '../cluster/devices/rule-index.ts';
import { poolKey, SliceIndex } from '../cluster/devices/slice-index.ts';
import { concernsSlice, type TaintRuleRecord, withTaintRules } from '../cluster/devices/taint-rules.ts';
import type { NodeRecord } from '../cluster/node-info.ts';

/** Devices kept for a claim that is not allocated yet. */
export interface DeviceHold {
  /** Unique in the cluster. */
  readonly key: string;
  readonly node: string;
  readonly results: readonly DeviceRequestAllocationResult[];
}

const exclusionTaint = { key: berth.excluded, effect: 'NoSchedule' };
const noTakers: ReadonlySet<DevicesTaken> = new Set();

/**
 * Devices of the cluster and who has them: slices, classes, claims with their templates, and what plans hold. What takes
 * devices is kept by pool, for a pool says which nodes it is on, whether or not its slices are there yet.
 */
export class DeviceState {
  readonly #selectors = new CelSelectors();
  /** As published. */
  readonly #published = new Map<string, DeviceSlice>();
  /** With what DeviceTaintRules add. */
  readonly #slices = new SliceIndex();
  readonly #rules = new Map<string, TaintRuleRecord>();
  /** What Berth itself keeps off new claims, whether or not the API server has a rule for it; by device. */
  readonly #exclusions = new Map<DeviceKey, TaintRuleRecord>();
  readonly #ruleIndex = new RuleIndex();
  readonly #exclusionIndex = new RuleIndex();
  readonly #classes = new Map<string, DeviceClassRecord>();
  readonly #templates = new Map<string, ClaimTemplateRecord>();
  readonly #claims = new Map<string, ClaimRecord>();
  readonly #claimsByName = new Map<string, ClaimRecord>();
  readonly #claimsByPod = new Map<string, Set<ClaimRecord>>();
  readonly #takersByPool = new Map<string, Set<DevicesTaken>>();
  readonly #takenByClaim = new Map<string, DevicesTaken>();
  readonly #holdsByOwner = new Map<
    string,
    ReadonlyMap<string, DeviceHold & { readonly taken: DevicesTaken }>
  >();
  /** By node; what takers change is kept apart from what slices change, for it changes far more often. */
  readonly #pools = new Map<string, { readonly labels: NodeRecord['labels']; readonly pools: NodePools }>();
  readonly #infos = new Map<string, { readonly pools: NodePools; readonly info: NodeDeviceInfo }>();
  /** By driver and pool: asked for each device that is looked at, so nothing is put together for the question. */
  readonly #poolStates = new Map<string, Map<string, PoolState>>();
  /** Pools of which slices have come, gone or changed since the last question, by key. */
  #changedPools = new Map<string, { readonly driver: string; readonly pool: string }>();
  #catalog: DeviceCatalog | undefined;
  /** Nodes whose devices have changed since the last question; all of them where it is undefined. */
  #stale: Set<string> | undefined = new Set();
  #grew = false;
  #hardwareVersion = 0;

  /** Another number whenever what is published, a taint rule or a class has changed; who has what does not count. */
  get hardwareVersion(): number {
    return this.#hardwareVersion;
  }

  get slices(): ReadonlyMap<string, DeviceSlice> {
    return this.#published;
  }

  get taintRules(): ReadonlyMap<string, TaintRuleRecord> {
    return this.#rules;
  }

  get claims(): ReadonlyMap<string, ClaimRecord> {
    return this.#claims;
  }

  get classes(): ReadonlyMap<string, DeviceClassRecord> {
    return this.#classes;
  }

  get templates(): ReadonlyMap<string, ClaimTemplateRecord> {
    return this.#templates;
  }

  get catalog(): DeviceCatalog {
    this.#catalog ??= {
      classes: name => this.#classes.get(name),
      extended: extendedResourceClasses(this.#classes.values()),
      selectors: this.#selectors,
    };
    return this.#catalog;
  }

  /** False when it is the slice that is there: drivers tell again and again how things are. */
  putSlice(slice: DeviceSlice): boolean {
    if (this.#published.get(slice.name) === slice) return false;
    this.#published.set(slice.name, slice);
    this.#putSlice(slice);
    this.#grew = true;
    return true;
  }

  removeSlice(name: string): boolean {
    if (!this.#published.delete(name)) return false;
    const slice = this.#slices.get(name);
    if (slice !== undefined) this.#sliceChanged(slice);
    this.#slices.remove(name);
    // What is left of its pool may be whole without it, or no longer be out of date.
    this.#grew = true;
    if (!this.#hasDevices) this.#changedEverywhere();
    return true;
  }

  putTaintRule(rule: TaintRuleRecord): void {
    const before = this.#rules.get(rule.name);
    // Its status is written with every pod that is evicted for it.
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(rule)) return;
    this.#rules.set(rule.name, rule);
    this.#ruleIndex.put(rule.name, rule);
    this.#applyRules(before === undefined ? [rule] : [before, rule]);
  }

  removeTaintRule(name: string): boolean {
    const rule = this.#rules.get(name);
    if (rule === undefined) return false;
    this.#rules.delete(name);
    this.#ruleIndex.remove(name);
    this.#applyRules([rule]);
    return true;
  }

  /** Sets all devices that no plan may use. False when they are the same as before. */
  setExclusions(devices: ReadonlyMap<DeviceKey, DeviceId>): boolean {
    const changed: TaintRuleRecord[] = [];
    for (const [key, rule] of this.#exclusions) {
      if (devices.has(key)) continue;
      this.#exclusions.delete(key);
      this.#exclusionIndex.remove(key);
      changed.push(rule);
    }
    for (const [key, selector] of devices) {
      if (this.#exclusions.has(key)) continue;
      const rule = { name: 'berth', selector, taint: exclusionTaint, isConfirmed: false };
      this.#exclusions.set(key, rule);
      this.#exclusionIndex.put(key, rule);
      changed.push(rule);
    }
    if (changed.length > 0) this.#applyRules(changed);
    return changed.length > 0;
  }

  #applyRules(changed: readonly TaintRuleRecord[]): void {
    const names = new Set(changed.flatMap(rule => [...this.#slicesOf(rule)].map(({ name }) => name)));
    for (const name of names) {
      const slice = this.#published.get(name);
      if (slice !== undefined) this.#putSlice(slice);
    }
    this.#grew = true;
  }

  /** A rule that may mean several pools is looked for in all of them. */
  #slicesOf(rule: TaintRuleRecord): Iterable<DeviceSlice> {
    const { driver, pool } = rule.selector ?? {};
    if (driver !== undefined && pool !== undefined) return this.#slices.ofPool(driver, pool);
    return [...this.#published.values()].filter(slice => concernsSlice(rule, slice));
  }

  #putSlice(published: DeviceSlice): void {
    const before = this.#slices.get(published.name);
    if (before !== undefined) this.#sliceChanged(before);
    if (!this.#hasDevices) this.#changedEverywhere();
    const slice = withTaintRules(published, [
      ...this.#ruleIndex.concerning(published),
      ...this.#exclusionIndex.concerning(published),
    ]);
    this.#slices.put(slice);
    this.#sliceChanged(slice);
  }

  putClass(deviceClass: DeviceClassRecord): void {
    this.#classes.set(deviceClass.name, deviceClass);
    this.#classesChanged();
  }

  removeClass(name: string): boolean {
    if (!this.#classes.delete(name)) return false;
    this.#classesChanged();
    return true;
  }

  putTemplate(template: ClaimTemplateRecord): void {
    this.#templates.set(`${template.namespace}/${template.name}`, template);
    this.#grew = true;
  }

  removeTemplate({ namespace, name }: ClaimTemplateRecord): boolean {
    return this.#templates.delete(`${namespace}/${name}`);
  }

  putClaim(claim: ClaimRecord): void {
    const before = this.#claims.get(claim.uid);
    if (before !== undefined) this.#forget(before);
    this.#claims.set(claim.uid, claim);
    this.#claimsByName.set(`${claim.namespace}/${claim.name}`, claim);
    for (const uid of podsOf(claim)) {
      const ofPod = this.#claimsByPod.get(uid) ?? new Set();
      this.#claimsByPod.set(uid, ofPod.add(claim));
    }
    const results = claim.allocation?.results ?? [];
    if (results.length > 0) {
      const taken = { key: claim.uid, results, held: false };
      this.#takenByClaim.set(claim.uid, taken);
      this.#take(taken);
    }
    // A claim without pods may be where some of a group wait for it.
    if (before === undefined || (before.allocation === undefined) !== (claim.allocation === undefined))
      this.#grew = true;
  }

  removeClaim(uid: string): boolean {
    const claim = this.#claims.get(uid);
    if (claim === undefined) return false;
    this.#forget(claim);
    this.#claims.delete(uid);
    const key = `${claim.namespace}/${claim.name}`;
    if (this.#claimsByName.get(key)?.uid === uid) this.#claimsByName.delete(key);
    return true;
  }

  template(namespace: string, name: string): ClaimTemplateRecord | undefined {
    return this.#templates.get(`${namespace}/${name}`);
  }

  claim(namespace: string, name: string): ClaimRecord | undefined {
    return this.#claimsByName.get(`${namespace}/${name}`);
  }

  /** Claims made for a pod, and those reserved for it. */
  claimsOf(podUid: string): Iterable<ClaimRecord> {
    return this.#claimsByPod.get(podUid) ?? [];
  }

  /** Devices of a claim that nobody new should get by it; see failedDevices. */
  failedDevicesOf({ allocation }: ClaimRecord): readonly DeviceId[] {
    if (allocation === undefined) return [];
    return failedDevices(allocation.results, {
      isExcluded: key => this.#exclusions.has(key),
      taintsOf: ({ driver, pool, device }) => this.poolState(driver, pool)?.devices.get(device)?.taints ?? [],
    });
  }

  /** What the slices of a pool say together, rules included; undefined when there is none of it. */
  poolState(driver: string, pool: string): PoolState | undefined {
    const ofDriver = this.#poolStates.get(driver) ?? new Map<string, PoolState>();
    const known = ofDriver.get(pool);
    if (known !== undefined) return known;
    const state = poolStateOf(this.#slices.ofPool(driver, pool));
    if (state !== undefined) this.#poolStates.set(driver, ofDriver.set(pool, state));
    return state;
  }

  /** Claims that have devices of a pool, whether or not it is published now. */
  *claimsOnPool(driver: string, pool: string): Iterable<ClaimRecord> {
    for (const { key } of this.#takersByPool.get(poolKey(driver, pool)) ?? noTakers) {
      const claim = this.#claims.get(key);
      if (claim !== undefined) yield claim;
    }
  }

  /** Pools of which slices have come, gone or changed since the last question. */
  takeChangedPools(): Iterable<{ readonly driver: string; readonly pool: string }> {
    const changed = this.#changedPools;
    this.#changedPools = new Map();
    return changed.values();
  }

  /** Sets all devices that are held for an owner. */
  setHolds(owner: string, holds: readonly DeviceHold[]): void {
    const before = this.#holdsByOwner.get(owner);
    if (before === undefined && holds.length === 0) return;
    if (before !== undefined && isSame(before, holds)) return;
    for (const { taken } of before?.values() ?? []) this.#release(taken);
    const after = new Map<string, DeviceHold & { readonly taken: DevicesTaken }>();
    for (const hold of holds) {
      const taken = { key: hold.key, results: hold.results, held: true };
      after.set(hold.key, { ...hold, taken });
      this.#take(taken);
    }
    if (after.size === 0) this.#holdsByOwner.delete(owner);
    else this.#holdsByOwner.set(owner, after);
  }

  holdsOf(owner: string): Iterable<DeviceHold> {
    return this.#holdsByOwner.get(owner)?.values() ?? [];
  }

  nodesHeldFor(owner: string): readonly string[] {
    return [...this.holdsOf(owner)].map(({ node }) => node);
  }

  /** Nodes where devices are held for somebody. */
  *nodesWithHolds(): Iterable<string> {
    const told = new Set<string>();
    for (const holds of this.#holdsByOwner.values())
      for (const { node } of holds.values()) {
        if (told.has(node)) continue;
        told.add(node);
        yield node;
      }
  }

  /** The same object as long as nothing has changed for the node; undefined in a cluster without DRA. */
  infoOf(record: NodeRecord): NodeDeviceInfo | undefined {
    if (!this.#hasDevices) return undefined;
    const pools = this.#poolsOf(record);
    const known = this.#infos.get(record.name);
    if (known !== undefined && known.pools === pools) return known.info;
    const { catalog } = this;
    const taken = new Set<DevicesTaken>();
    for (const { driver, pool } of pools.pools)
      for (const each of this.#takersByPool.get(poolKey(driver, pool)) ?? noTakers) taken.add(each);
    const info = nodeDeviceInfo(catalog, pools, [...taken]);
    this.#infos.set(record.name, { pools, info });
    return info;
  }

  #poolsOf({ name, labels }: NodeRecord): NodePools {
    const known = this.#pools.get(name);
    if (known?.labels === labels) return known.pools;
    const pools = poolsFor({ name, labels }, this.#slices);
    this.#pools.set(name, { labels, pools });
    return pools;
  }

  /** The node's devices as if some pods and claims, and all that is held for some owners, were not there. */
  infoWithout(
    record: NodeRecord,
    podUids: ReadonlySet<string>,
    owners: ReadonlySet<string>,
    claimUids: ReadonlySet<string>,
  ): NodeDeviceInfo | undefined {
    const info = this.infoOf(record);
    if (info === undefined || info.taken.length === 0) return info;
    const held = new Set([...owners].flatMap(owner => [...this.holdsOf(owner)].map(({ key }) => key)));
    return withoutTakers(
      info,
      ({ key }) => held.has(key) || claimUids.has(key) || this.#endsWith(key, podUids),
    );
  }

  forgetNode(name: string): void {
    this.#pools.delete(name);
    this.#infos.delete(name);
  }

  /** Nodes whose devices have changed since this was last asked; `all` when none is left as it was. */
  takeStale(): ReadonlySet<string> | 'all' {
    const stale = this.#stale;
    this.#stale = new Set();
    return stale ?? 'all';
  }

  /** Whether devices may have come free, or claims may be met now that could not be, since the last question. */
  takeGrowth(): boolean {
    const grew = this.#grew;
    this.#grew = false;
    return grew;
  }

  /** Whether a claim ends with some pods: it is theirs, or nobody else has it reserved. */
  #endsWith(claimUid: string, podUids: ReadonlySet<string>): boolean {
    const claim = this.#claims.get(claimUid);
    if (claim === undefined) return false;
    if (claim.podUid !== undefined) return podUids.has(claim.podUid);
    return claim.reservedFor.length > 0 && claim.reservedFor.every(uid => podUids.has(uid));
  }

  #forget(claim: ClaimRecord): void {
    for (const uid of podsOf(claim)) {
      const ofPod = this.#claimsByPod.get(uid);
      ofPod?.delete(claim);
      if (ofPod?.size === 0) this.#claimsByPod.delete(uid);
    }
    const taken = this.#takenByClaim.get(claim.uid);
    if (taken === undefined) return;
    this.#takenByClaim.delete(claim.uid);
    this.#release(taken);
  }

  #take(taken: DevicesTaken): void {
    for (const key of poolsOf(taken)) {
      const takers = this.#takersByPool.get(key) ?? new Set();
      this.#takersByPool.set(key, takers.add(taken));
    }
    this.#takersChanged(taken);
  }

  #release(taken: DevicesTaken): void {
    for (const key of poolsOf(taken)) {
      const takers = this.#takersByPool.get(key);
      takers?.delete(taken);
      if (takers?.size === 0) this.#takersByPool.delete(key);
    }
    this.#takersChanged(taken);
    this.#grew = true;
  }

  #takersChanged({ results }: DevicesTaken): void {
    const done = new Set<string>();
    for (const { driver, pool } of results) {
      const key = poolKey(driver, pool);
      if (done.has(key)) continue;
      done.add(key);
      for (const { reach } of this.#slices.ofPool(driver, pool)) this.#takersChangedAt(reach);
    }
  }

  /** Whether the cluster has DRA, as far as it shows: what nodes have of it is another thing than nothing then. */
  get #hasDevices(): boolean {
    return this.#slices.size > 0 || this.#classes.size > 0;
  }

  /** A slice also changes what other nodes see of its pool: whether it is complete, and which generation is the newest. */
  #sliceChanged(slice: DeviceSlice): void {
    const { driver, pool } = slice;
    this.#hardwareVersion++;
    this.#poolStates.get(driver)?.delete(pool);
    this.#changedPools.set(poolKey(driver, pool), { driver, pool });
    this.#slicesChangedAt(slice.reach);
    for (const { reach } of this.#slices.ofPool(driver, pool)) this.#slicesChangedAt(reach);
  }

  #slicesChangedAt(reach: DeviceSlice['reach']): void {
    if (reach.kind === 'node') this.#pools.delete(reach.name);
    else this.#pools.clear();
    this.#takersChangedAt(reach);
  }

  #takersChangedAt(reach: DeviceSlice['reach']): void {
    if (reach.kind === 'node') {
      this.#infos.delete(reach.name);
      this.#stale?.add(reach.name);
    } else this.#changedEverywhere();
  }

  #classesChanged(): void {
    this.#hardwareVersion++;
    this.#catalog = undefined;
    this.#grew = true;
    this.#changedEverywhere();
  }

  #changedEverywhere(): void {
    this.#infos.clear();
    this.#stale = undefined;
  }
}

function podsOf({ podUid, reservedFor }: ClaimRecord): ReadonlySet<string> {
  return new Set(podUid === undefined ? reservedFor : [podUid, ...reservedFor]);
}

function poolsOf({ results }: DevicesTaken): ReadonlySet<string> {
  return new Set(results.map(({ driver, pool }) => poolKey(driver, pool)));
}

function isSame(before: ReadonlyMap<string, DeviceHold>, holds: readonly DeviceHold[]): boolean {
  return (
    before.size === holds.length &&
    holds.every(({ key, node, results }) => {
      const known = before.get(key);
      return known?.node === node && JSON.stringify(known.results) === JSON.stringify(results);
    })
  );
}
