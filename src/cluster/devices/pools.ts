import type { NodeSelector } from '../../api/kubernetes.ts';
import type { Labels } from '../labels.ts';
import { matchesNode } from '../node-affinity.ts';
import { compareText } from '../topology.ts';
import type { CounterAmounts, DeviceSlice, Reach } from './device.ts';

/** A node as far as devices are concerned. */
export interface DeviceNode {
  readonly name: string;
  readonly labels: Labels;
}

/** One pool of a driver as a node sees it. */
export interface DevicePool {
  readonly driver: string;
  readonly name: string;
  /**
   * `incomplete` while its driver has not published all slices of the newest generation, `invalid` when these contradict
   * each other: from neither is anything allocated.
   */
  readonly state: 'complete' | 'incomplete' | 'invalid';
  /** By name, those whose devices the node may use. */
  readonly slices: readonly DeviceSlice[];
  /** Others of the pool: their devices take from the same counters. */
  readonly elsewhere: readonly DeviceSlice[];
  readonly counters: CounterAmounts;
}

/** The slices of a cluster by where they are looked for. */
export interface SliceIndex {
  readonly byNode: ReadonlyMap<string, readonly DeviceSlice[]>;
  /** Those that are not local to one node. */
  readonly shared: readonly DeviceSlice[];
  readonly byPool: ReadonlyMap<string, readonly DeviceSlice[]>;
}

export function indexSlices(slices: Iterable<DeviceSlice>): SliceIndex {
  const all = [...slices];
  const local = all.filter(({ reach }) => reach.kind === 'node');
  return {
    byNode: Map.groupBy(local, ({ reach }) => (reach.kind === 'node' ? reach.name : '')),
    shared: all.filter(({ reach }) => reach.kind !== 'node'),
    byPool: Map.groupBy(all, poolKey),
  };
}

/**
 * The pools that have devices for a node, in the order in which kube-scheduler tries them: by driver and name, those with
 * binding conditions last (k8s.io/dynamic-resource-allocation/structured/internal/incubating/pools_incubating.go, v0.37.2).
 * Cost: the slices of the node and of no node, and those of pools that are not all on the node.
 */
export function poolsOf(node: DeviceNode, index: SliceIndex): readonly DevicePool[] {
  const relevant = new Map<string, DeviceSlice[]>();
  for (const slice of [...(index.byNode.get(node.name) ?? []), ...index.shared]) {
    if (!reachesNode(slice, node)) continue;
    const key = poolKey(slice);
    const known = relevant.get(key);
    const newer = slice.generation - (known?.[0]?.generation ?? Number.NEGATIVE_INFINITY);
    if (newer > 0) relevant.set(key, [slice]);
    else if (newer === 0) known?.push(slice);
  }
  const pools: DevicePool[] = [];
  for (const [key, slices] of relevant) {
    const pool = poolFrom(slices, index.byPool.get(key) ?? []);
    if (pool !== undefined) pools.push(pool);
  }
  return pools.sort(
    (a, b) =>
      Number(hasBindingConditions(a)) - Number(hasBindingConditions(b)) ||
      compareText(a.driver, b.driver) ||
      compareText(a.name, b.name),
  );
}

/** Whether a node may use what a slice, or a device of one that leaves it to them, offers. */
export function reaches(reach: Reach | undefined, node: DeviceNode): boolean {
  switch (reach?.kind) {
    case 'node':
      return reach.name === node.name;
    case 'all':
      return true;
    case 'selector':
      return selects(reach.selector, node);
    default:
      return false;
  }
}

export function selects(selector: NodeSelector, node: DeviceNode): boolean {
  const nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution: selector };
  return matchesNode({ affinity: { nodeAffinity } }, node);
}

function reachesNode({ reach, devices }: DeviceSlice, node: DeviceNode): boolean {
  if (reach.kind === 'per-device') return devices.some(device => reaches(device.reach, node));
  return reaches(reach, node);
}

/** Undefined where a newer generation is being published that has nothing for the node yet. */
function poolFrom(own: readonly DeviceSlice[], all: readonly DeviceSlice[]): DevicePool | undefined {
  const [first] = own;
  if (first === undefined) return undefined;
  const { driver, pool: name, generation, sliceCount } = first;
  const nothing = { driver, name, slices: [], elsewhere: [], counters: new Map() } as const;
  let others: readonly DeviceSlice[] = [];
  if (own.length !== sliceCount) {
    if (all.some(slice => slice.generation > generation)) return undefined;
    const current = all.filter(slice => slice.generation === generation);
    if (current.length !== sliceCount) return { ...nothing, state: 'incomplete' };
    others = current.filter(slice => !own.includes(slice));
  }
  const withCounters = [...own, ...others].filter(slice => slice.sharedCounters.size > 0);
  const slices = own.filter(slice => slice.sharedCounters.size === 0).sort(byName);
  const elsewhere = others.filter(slice => slice.sharedCounters.size === 0);
  const counters = mergedCounters(withCounters);
  const isValid =
    counters !== undefined &&
    hasUniqueNames(slices) &&
    [...slices, ...elsewhere].every(slice => takesKnownCounters(slice, counters));
  if (!isValid) return { ...nothing, state: 'invalid' };
  return { driver, name, state: 'complete', slices, elsewhere, counters };
}

function mergedCounters(slices: readonly DeviceSlice[]): CounterAmounts | undefined {
  const merged = new Map<string, ReadonlyMap<string, bigint>>();
  for (const { sharedCounters } of slices) {
    for (const [set, counters] of sharedCounters) {
      if (merged.has(set)) return undefined;
      merged.set(set, counters);
    }
  }
  return merged;
}

function hasUniqueNames(slices: readonly DeviceSlice[]): boolean {
  const names = slices.flatMap(({ devices }) => devices.map(({ id }) => id.device));
  return new Set(names).size === names.length;
}

function takesKnownCounters({ devices }: DeviceSlice, known: CounterAmounts): boolean {
  return devices.every(({ consumesCounters }) =>
    [...consumesCounters].every(([set, counters]) =>
      [...counters.keys()].every(counter => known.get(set)?.has(counter)),
    ),
  );
}

function hasBindingConditions({ slices }: DevicePool): boolean {
  return slices.some(({ devices }) => devices.some(device => device.hasBindingConditions));
}

function byName(a: DeviceSlice, b: DeviceSlice): number {
  return compareText(a.name, b.name);
}

function poolKey({ driver, pool }: DeviceSlice): string {
  return `${driver}//${pool}`;
}
