import type { NodeInfo } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { levelName, type TopologyDomain, type TopologyTree } from '../cluster/topology.ts';
import { mainDevice } from './host-devices.ts';

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
    counts[index] = !withDevices || mainDevice(node) !== undefined ? 1 : 0;
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
  for (const node of nodes) if (mainDevice(node) !== undefined) return true;
  return false;
}

/** Devices of all usable nodes, and how many of them nobody has or holds. */
export function deviceUse({ nodes }: ClusterSnapshot): { readonly free: number; readonly all: number } {
  let free = 0;
  let all = 0;
  for (const node of nodes) {
    const { ready, cordoned } = node.record;
    const device = ready && !cordoned ? mainDevice(node) : undefined;
    if (device === undefined) continue;
    all += device.count;
    free += Math.max(0, device.free);
  }
  return { free, all };
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
  if (mainDevice(node) !== undefined) return true;
  return (node.free.get('cpu') ?? 0) >= 0.9 * (allocatable.get('cpu') ?? 0);
}
