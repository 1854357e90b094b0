import type { Quantity } from '../quantity.ts';
import { compareText } from '../topology.ts';
import type { CounterAmounts, Device, DeviceSlice } from './device.ts';
import { type ReachingNode, reachesNode, selectorProblem } from './reach.ts';
import { poolKey, type SliceSource } from './slice-index.ts';

/** What a node sees of a pool. */
export interface NodePool {
  readonly driver: string;
  readonly pool: string;
  /**
   * `incomplete`: slices of the newest generation are missing. `invalid`: its slices contradict each other. Nothing is
   * allocated from either, and a request for all devices fails while there is one.
   */
  readonly state: 'usable' | 'incomplete' | 'invalid';
  readonly usable: boolean;
  /** Why it is not usable. */
  readonly reason: string | undefined;
  /** Its slices that the node may use, in the order in which they are searched. Empty unless it is usable. */
  readonly slices: readonly DeviceSlice[];
  /** Its slices for other nodes, which may draw on the same counters; looked up only where the node's are not all. */
  readonly otherSlices: readonly DeviceSlice[];
  readonly counters: CounterAmounts;
}

/** A device in its place in the order of search. */
export interface Candidate {
  /** Its number among the candidates of the node. */
  readonly index: number;
  readonly device: Device;
  readonly slice: DeviceSlice;
  readonly pool: NodePool;
  /** Whether the node may use it; only where each device says for itself can it be false. */
  readonly reached: boolean;
}

export interface NodePools {
  readonly pools: readonly NodePool[];
  /** The devices of usable pools. */
  readonly candidates: readonly Candidate[];
  /** kube-scheduler cannot say what the node sees, and fails every pod with claims that it tries there. */
  readonly problem: string | undefined;
}

interface Gathered {
  generation: number;
  slices: DeviceSlice[];
}

/**
 * The pools that a node sees, in the order in which the allocator searches them from Kubernetes 1.36 on: by driver and
 * name, those with binding conditions last; slices by name (k8s.io/dynamic-resource-allocation
 * structured/internal/incubating GatherPools, v0.37.2). Costs what the node's own slices and the shared ones do.
 */
export function poolsFor(node: ReachingNode, source: SliceSource): NodePools {
  const gathered = new Map<string, Gathered>();
  for (const slice of source.ofNode(node.name)) gather(gathered, slice);
  for (const slice of source.shared()) {
    const problem = sliceProblem(slice);
    if (problem !== undefined) return { pools: [], candidates: [], problem };
    if (isRelevant(slice, node)) gather(gathered, slice);
  }
  const pools: NodePool[] = [];
  for (const { generation, slices } of gathered.values()) {
    const pool = poolOf(slices, generation, source);
    if (pool !== undefined) pools.push(pool);
  }
  pools.sort(byOrderOfSearch);
  return { pools, candidates: candidatesOf(pools, node), problem: undefined };
}

/** Newer generations replace older ones among what the node may use; slices with unknown words are as if absent. */
function gather(gathered: Map<string, Gathered>, slice: DeviceSlice): void {
  if (slice.usesCompatibilityGroups) return;
  const key = poolKey(slice.driver, slice.pool);
  const known = gathered.get(key);
  if (known === undefined || slice.generation > known.generation) {
    gathered.set(key, { generation: slice.generation, slices: [slice] });
  } else if (slice.generation === known.generation) {
    known.slices.push(slice);
  }
}

function sliceProblem({ name, reach, devices }: DeviceSlice): string | undefined {
  const reaches = reach.kind === 'per-device' ? devices.map(device => device.reach) : [reach];
  for (const each of reaches) {
    const problem = each?.kind === 'selector' ? selectorProblem(each.selector) : undefined;
    if (problem !== undefined) return `ResourceSlice ${name}: ${problem}`;
  }
  return undefined;
}

function isRelevant({ reach, devices }: DeviceSlice, node: ReachingNode): boolean {
  if (reach.kind === 'per-device') return devices.some(device => reachesNode(device.reach, node));
  return reachesNode(reach, node);
}

/** Undefined when a newer generation exists that has nothing for the node: what the node sees is out of date then. */
function poolOf(slices: DeviceSlice[], generation: number, source: SliceSource): NodePool | undefined {
  // Slices of one generation may contradict each other about how many they are; whichever was seen first is chance.
  const [first] = slices.sort(byName);
  if (first === undefined) return undefined;
  const { driver, pool, sliceCount } = first;
  let otherSlices: readonly DeviceSlice[] = [];
  if (slices.length !== sliceCount) {
    const all = [...source.ofPool(driver, pool)];
    if (all.some(slice => slice.generation > generation)) return undefined;
    const current = all.filter(slice => slice.generation === generation && !slice.usesCompatibilityGroups);
    if (current.length !== sliceCount) {
      const reason = `${current.length} of ${sliceCount} slices of generation ${generation} are there`;
      return unusable(driver, pool, 'incomplete', reason);
    }
    const own = new Set(slices.map(({ name }) => name));
    otherSlices = current.filter(({ name }) => !own.has(name));
  }
  return validated(driver, pool, slices, otherSlices);
}

function validated(
  driver: string,
  pool: string,
  slices: readonly DeviceSlice[],
  otherSlices: readonly DeviceSlice[],
): NodePool {
  const ofDevices = slices.filter(slice => slice.sharedCounters.size === 0);
  const ofOtherDevices = otherSlices.filter(slice => slice.sharedCounters.size === 0);
  const counters = new Map<string, ReadonlyMap<string, Quantity>>();
  let fault = duplicateName(ofDevices);
  for (const slice of [...slices, ...otherSlices]) {
    for (const [name, amounts] of slice.sharedCounters) {
      if (counters.has(name)) fault ??= `duplicate counter set name ${name}`;
      counters.set(name, amounts);
    }
  }
  fault ??= missingCounter(ofDevices, counters) ?? missingCounter(ofOtherDevices, counters);
  if (fault !== undefined) return unusable(driver, pool, 'invalid', fault);
  return {
    driver,
    pool,
    state: 'usable',
    usable: true,
    reason: undefined,
    slices: ofDevices,
    otherSlices: ofOtherDevices,
    counters,
  };
}

function unusable(driver: string, pool: string, state: 'incomplete' | 'invalid', reason: string): NodePool {
  return { driver, pool, state, usable: false, reason, slices: [], otherSlices: [], counters: new Map() };
}

function duplicateName(slices: readonly DeviceSlice[]): string | undefined {
  const names = new Set<string>();
  for (const { devices } of slices) {
    for (const { id } of devices) {
      if (names.has(id.device)) return `duplicate device name ${id.device}`;
      names.add(id.device);
    }
  }
  return undefined;
}

function missingCounter(slices: readonly DeviceSlice[], counters: CounterAmounts): string | undefined {
  for (const { devices } of slices) {
    for (const { consumesCounters } of devices) {
      for (const [setName, amounts] of consumesCounters) {
        const set = counters.get(setName);
        if (set === undefined) return `counter set ${setName} not found`;
        for (const counter of amounts.keys()) {
          if (!set.has(counter)) return `counter ${counter} not found in counter set ${setName}`;
        }
      }
    }
  }
  return undefined;
}

/** Names of drivers, pools and slices are ASCII, so the order of code units is Go's order of bytes. */
function byOrderOfSearch(a: NodePool, b: NodePool): number {
  const lateA = Number(hasBindingConditions(a));
  const lateB = Number(hasBindingConditions(b));
  return lateA - lateB || compareText(a.driver, b.driver) || compareText(a.pool, b.pool);
}

function hasBindingConditions({ slices }: NodePool): boolean {
  return slices.some(({ devices }) => devices.some(device => device.hasBindingConditions));
}

function byName(a: DeviceSlice, b: DeviceSlice): number {
  return compareText(a.name, b.name);
}

function candidatesOf(pools: readonly NodePool[], node: ReachingNode): readonly Candidate[] {
  const candidates: Candidate[] = [];
  for (const pool of pools) {
    for (const slice of pool.slices) {
      for (const device of slice.devices) {
        const reached = slice.reach.kind !== 'per-device' || reachesNode(device.reach, node);
        candidates.push({ index: candidates.length, device, slice, pool, reached });
      }
    }
  }
  return candidates;
}
