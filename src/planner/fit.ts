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

/**
 * Remembers fits by node record and demand. Both are immutable, so an entry is right for as long as it exists, and it
 * goes away with the node record. Rules as in kube-scheduler's NodeUnschedulable, TaintToleration, NodeAffinity,
 * NodePorts and NodeResourcesFit plugins; inter-pod terms are not node-local and are looked at elsewhere.
 */
export class FitMemo {
  readonly #byNode = new WeakMap<NodeInfo, Map<string, NodeFit>>();

  fit(node: NodeInfo, demand: MemberDemand): NodeFit {
    return this.#remember(node, demand.key, () => fitOn(node, demand));
  }

  /** Slots for `worker` once `leader` has its place on the node; -1 when the leader itself does not fit. */
  slotsBeside(node: NodeInfo, leader: MemberDemand, worker: MemberDemand): number {
    if (this.fit(node, leader).slots === 0) return -1;
    return this.#remember(node, `${leader.key}\n${worker.key}`, () => fitBeside(node, leader, worker)).slots;
  }

  #remember(node: NodeInfo, key: string, compute: () => NodeFit): NodeFit {
    let fits = this.#byNode.get(node);
    if (fits === undefined) {
      fits = new Map();
      this.#byNode.set(node, fits);
    }
    let fit = fits.get(key);
    if (fit === undefined) {
      fit = compute();
      fits.set(key, fit);
    }
    return fit;
  }
}

export function portsClash(wanted: readonly HostPort[], taken: readonly HostPort[]): boolean {
  return wanted.some(port => taken.some(other => hostPortsConflict(port, other)));
}

function fitOn(node: NodeInfo, demand: MemberDemand): NodeFit {
  const cause = whyRefused(node, demand);
  if (cause !== '') return { slots: 0, cause };
  if (portsClash(demand.hostPorts, node.hostPorts)) {
    return { slots: 0, cause: 'host port taken' };
  }
  const slots = howManyFit(node.free, demand.requests);
  if (slots >= 1) return { slots: demand.hostPorts.length > 0 ? 1 : slots, cause: '' };
  return { slots: 0, cause: whyTooFull(node, demand.requests) };
}

function fitBeside(node: NodeInfo, leader: MemberDemand, worker: MemberDemand): NodeFit {
  const alone = fitOn(node, worker);
  if (alone.slots === 0) return alone;
  if (portsClash(worker.hostPorts, leader.hostPorts)) {
    return { slots: 0, cause: 'host port taken' };
  }
  const slots = howManyFit(subtractResources(node.free, leader.requests), worker.requests);
  return { slots: worker.hostPorts.length > 0 ? Math.min(slots, 1) : slots, cause: '' };
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
