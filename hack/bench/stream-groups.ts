import type { Container, Pod, PodSpec } from '../../src/api/kubernetes.ts';
import { berth } from '../../src/api/names.ts';
import { gpuResource } from './stream-fleet.ts';

/** What one member asks for. */
export interface StreamDemand {
  readonly cpus: number;
  readonly memoryGi: number;
  readonly gpus: number;
}

/** A group as it arrives. */
export interface StreamGroup {
  readonly name: string;
  readonly size: number;
  readonly worker: StreamDemand;
  /** When the leader asks for something else than the workers. */
  readonly leader?: StreamDemand;
  /** Index of the level that must hold the group. */
  readonly requiredLevel?: number;
}

/** A group comes, or one that came before goes, if it was placed at all. */
export type StreamEvent =
  | { readonly kind: 'arrive'; readonly group: StreamGroup }
  | { readonly kind: 'leave'; readonly name: string };

/** The worker of multi-host inference: a whole host's GPUs. */
export const wholeHost: StreamDemand = { cpus: 16, memoryGi: 128, gpus: 8 };

/** A pod outside any group that runs on a host. */
export interface StreamResident {
  readonly name: string;
  readonly demand: StreamDemand;
  readonly node: string;
}

/** The leader of a group that has no other pod yet, gated. */
export function leaderPod(group: StreamGroup): Pod {
  return memberPod(group, 0, group.leader ?? group.worker);
}

/** The first worker, gated. */
export function workerPod(group: StreamGroup): Pod {
  return memberPod(group, 1, group.worker);
}

export function boundPod({ name, demand, node }: StreamResident): Pod {
  const metadata = { name, namespace: 'others', uid: `uid-${name}` };
  return { apiVersion: 'v1', kind: 'Pod', metadata, spec: { ...specOf(demand), nodeName: node } };
}

function memberPod({ name, size }: StreamGroup, rank: number, demand: StreamDemand): Pod {
  const labels = {
    [berth.group]: name,
    [berth.groupSize]: String(size),
    [berth.groupRank]: String(rank),
  };
  const metadata = { name: `${name}-${rank}`, namespace: 'serving', uid: `uid-${name}-${rank}`, labels };
  const spec = { ...specOf(demand), schedulingGates: [{ name: berth.placementGate }] };
  return { apiVersion: 'v1', kind: 'Pod', metadata, spec };
}

function specOf({ cpus, memoryGi, gpus }: StreamDemand): PodSpec {
  const requests = {
    cpu: String(cpus),
    memory: `${memoryGi}Gi`,
    ...(gpus > 0 && { [gpuResource]: String(gpus) }),
  };
  const container: Container = { name: 'main', resources: { requests } };
  return { containers: [container] };
}
