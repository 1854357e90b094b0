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
  const slots = howManyFit(node.free, demand.requests);
  if (slots >= 1) return { slots: demand.hostPorts.length > 0 ? 1 : slots, cause: '' };
  return { slots: 0, cause: whyTooFull(node, demand.requests) };
}

/** Slots for `worker` once `leader`, which fits, has its place on the node. */
export function fitBeside(node: NodeInfo, leader: MemberDemand, worker: MemberDemand): number {
  if (fitOn(node, worker).slots === 0 || portsClash(worker.hostPorts, leader.hostPorts)) return 0;
  const slots = howManyFit(subtractResources(node.free, leader.requests), worker.requests);
  return worker.hostPorts.length > 0 ? Math.min(slots, 1) : slots;
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
  return '';
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
