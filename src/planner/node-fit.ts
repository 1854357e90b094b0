import { type HostPort, hostPortsConflict } from '../cluster/host-ports.ts';
import { matchesNode } from '../cluster/node-affinity.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import {
  howManyFit,
  isAcceleratorResource,
  type Resources,
  subtractResources,
} from '../cluster/resources.ts';
import { untoleratedTaint } from '../cluster/taints.ts';
import { compareText } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import { demandOn, fitDevices, whyDevicesForbid } from './device-fit.ts';

/** How many pods of one demand a node takes, or why it takes none. */
export interface NodeFit {
  readonly slots: number;
  /** Empty when slots > 0; else one cause in words that stay the same from run to run. */
  readonly cause: string;
}

export function portsClash(wanted: readonly HostPort[], taken: readonly HostPort[]): boolean {
  return wanted.some(port => taken.some(other => hostPortsConflict(port, other)));
}

/** Rules that look at one node and one pod alone. */
export function fitOn(node: NodeInfo, demand: MemberDemand): NodeFit {
  const cause = whyRefused(node, demand);
  if (cause !== '') return { slots: 0, cause };
  if (portsClash(demand.hostPorts, node.hostPorts)) {
    return { slots: 0, cause: 'host port taken' };
  }
  const { requests } = demandOn(node, demand);
  const room = howManyFit(node.free, requests);
  if (room < 1) return { slots: 0, cause: whyTooFull(node, requests) };
  const { members = 0, cause: lack } = fitDevices(node, demand, demand.hostPorts.length > 0 ? 1 : room);
  return { slots: members, cause: lack };
}

/** Slots for `worker` once `leader`, which fits, has its place on the node. */
export function fitBeside(node: NodeInfo, leader: MemberDemand, worker: MemberDemand): number {
  if (whyRefused(node, worker) !== '') return 0;
  if (portsClash(worker.hostPorts, node.hostPorts) || portsClash(worker.hostPorts, leader.hostPorts))
    return 0;
  const left = subtractResources(node.free, demandOn(node, leader).requests);
  const room = howManyFit(left, demandOn(node, worker).requests);
  if (room < 1) return 0;
  return fitDevices(node, worker, worker.hostPorts.length > 0 ? 1 : room, leader).members ?? 0;
}

const cordonTaint = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' } as const;

function whyRefused(node: NodeInfo, demand: MemberDemand): string {
  const { record } = node;
  const tolerations = demand.spec.tolerations ?? [];
  if (record.cordoned && untoleratedTaint([cordonTaint], tolerations) !== undefined) return 'cordoned';
  if (!record.ready) return 'not ready';
  const taint = untoleratedTaint(record.taints, tolerations);
  if (taint !== undefined) return `taint ${taint.key}:${taint.effect}`;
  if (!matchesNode(demand.spec, { name: record.name, labels: record.labels }))
    return 'node selector or affinity';
  return whyDevicesForbid(node, demand);
}

/** Tells what is held for others from what is used: the first comes back without anybody ending. */
function whyTooFull(node: NodeInfo, requests: Resources): string {
  if (howManyFit(node.freeOfPods, requests) >= 1) return 'held for another group';
  const lacking = [...requests]
    .filter(([name, amount]) => amount > 0 && (node.free.get(name) ?? 0) < amount)
    .map(([name]) => name)
    .sort((a, b) => Number(isAcceleratorResource(b)) - Number(isAcceleratorResource(a)) || compareText(a, b));
  return `insufficient ${lacking[0] ?? 'room'}`;
}
