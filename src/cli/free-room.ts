import type { NodeInfo, NodeRecord } from '../cluster/node-info.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { levelName, type TopologyDomain, type TopologyTree } from '../cluster/topology.ts';

/** What a fleet has left, in whole hosts and whole domains. */
export interface FreeRoom {
  /** Hosts of which nothing is taken; see `isFreeHost`. */
  readonly freeHosts: number;
  readonly hosts: number;
  /** Configured levels, coarse to fine. */
  readonly levels: readonly LevelRoom[];
}

export interface LevelRoom {
  readonly level: string;
  readonly domains: number;
  /** Domains all of whose hosts are free. */
  readonly whole: number;
  /** Most free hosts in one domain: the largest group of whole hosts that would fit. */
  readonly largest: number;
}

/** Which hosts count, which of them are free, and what that makes of the domains. O(nodes x levels). */
export function freeRoom(snapshot: ClusterSnapshot): FreeRoom {
  const { tree, nodes } = snapshot;
  const withDevices = hasDevices(snapshot);
  const counts = new Uint8Array(nodes.length);
  const free = new Uint8Array(nodes.length);
  let index = 0;
  for (const node of nodes) {
    counts[index] = !withDevices || mainDevice(node.record) !== undefined ? 1 : 0;
    free[index] = counts[index] === 1 && isFreeHost(node) ? 1 : 0;
    index++;
  }
  const sum = (marks: Uint8Array) => marks.reduce((total, mark) => total + mark, 0);
  return {
    freeHosts: sum(free),
    hosts: sum(counts),
    levels: tree.levels.map((_, level) => levelRoom(tree, level, counts, free)),
  };
}

/** Fleets of CPU hosts alone are counted too; beside accelerator hosts those without any are not. */
export function hasDevices({ nodes }: ClusterSnapshot): boolean {
  for (const node of nodes) if (mainDevice(node.record) !== undefined) return true;
  return false;
}

/** Devices of a node that count: of the kind it has most of, e.g. `nvidia.com/gpu` beside network cards. */
export interface MainDevice {
  readonly resource: string;
  readonly count: number;
}

const mainDevices = new WeakMap<NodeRecord, MainDevice | 'none'>();

/** Undefined for a node without devices. */
export function mainDevice(record: NodeRecord): MainDevice | undefined {
  const device = mainDevices.get(record) ?? findMainDevice(record) ?? 'none';
  mainDevices.set(record, device);
  return device === 'none' ? undefined : device;
}

/** Devices of all usable nodes, and how many of them nobody has or holds. */
export function deviceUse({ nodes }: ClusterSnapshot): { readonly free: number; readonly all: number } {
  let free = 0;
  let all = 0;
  for (const { record, free: left } of nodes) {
    const device = record.ready && !record.cordoned ? mainDevice(record) : undefined;
    if (device === undefined) continue;
    all += device.count;
    free += Math.max(0, left.get(device.resource) ?? 0);
  }
  return { free, all };
}

function findMainDevice({ allocatable }: NodeRecord): MainDevice | undefined {
  let main: MainDevice | undefined;
  for (const [resource, count] of allocatable) {
    if (!isAcceleratorResource(resource) || count <= 0) continue;
    if (main === undefined || rankOfDevice(resource, count) > rankOfDevice(main.resource, main.count))
      main = { resource, count };
  }
  return main;
}

/** Some nodes announce thousands of shares of a network card; compute devices come first. */
function rankOfDevice(resource: string, count: number): number {
  return /gpu|tpu|neuron|gaudi|npu|xpu|deviceclass/i.test(resource) ? 1_000_000 + count : count;
}

function levelRoom(tree: TopologyTree, level: number, counts: Uint8Array, free: Uint8Array): LevelRoom {
  let domains = 0;
  let whole = 0;
  let largest = 0;
  for (const domain of tree.domainsByLevel[level] ?? []) {
    const hosts = marked(domain, counts);
    if (hosts === 0) continue;
    const freeHosts = marked(domain, free);
    domains++;
    if (freeHosts === hosts) whole++;
    largest = Math.max(largest, freeHosts);
  }
  return { level: levelName(tree.levels, level), domains, whole, largest };
}

function marked({ nodes }: TopologyDomain, marks: Uint8Array): number {
  let count = 0;
  for (const node of nodes) count += marks[node] ?? 0;
  return count;
}

/**
 * Usable, and no device of it taken or held. A host without devices is free while nine tenths of its CPU are: agents
 * run on every host.
 */
function isFreeHost(node: NodeInfo): boolean {
  const { ready, cordoned, allocatable } = node.record;
  if (!ready || cordoned || !node.untouched) return false;
  if (mainDevice(node.record) !== undefined) return true;
  return (node.free.get('cpu') ?? 0) >= 0.9 * (allocatable.get('cpu') ?? 0);
}
