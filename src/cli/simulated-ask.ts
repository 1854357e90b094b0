import type { LeaderWorkerSet, Pod, PodSpec, Toleration } from '../api/kubernetes.ts';
import { berth, lws } from '../api/names.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { hasDevices } from './free-room.ts';
import { mainDevice } from './host-devices.ts';

/** What a simulated workload asks for. */
export interface SimulatedAsk {
  readonly kind: 'group' | 'single';
  /** Members of one group; 1 for a single pod. */
  readonly size: number;
  /** Devices of each worker, or of the single pod; CPUs in a fleet without devices. */
  readonly devices: number;
  readonly leaderDevices: number;
  readonly topology?: { readonly wish: 'required' | 'preferred'; readonly level: string } | undefined;
}

/** What a stream must know of its fleet. */
export interface FleetFacts {
  /** What workloads ask for: the device that most hosts carry, or `cpu`. */
  readonly resource: string;
  /** Most of it on one host. */
  readonly perHost: number;
  readonly capacity: number;
  readonly nodeNames: readonly string[];
  /** By level, coarse to fine, the number of hosts of its largest domain. */
  readonly largestDomains: readonly number[];
  readonly tolerations: readonly Toleration[];
}

export const simulatedNamespace = 'simulated';

export function fleetFacts(snapshot: ClusterSnapshot): FleetFacts {
  const { tree, nodes } = snapshot;
  const resource = hasDevices(snapshot) ? commonDevice(snapshot) : 'cpu';
  const amounts = [...nodes].map(node => {
    const main = mainDevice(node);
    if (main?.resource === resource) return main.count;
    const amount = node.record.allocatable.get(resource) ?? 0;
    // A tenth of the CPU is left to the agents of the host.
    return resource === 'cpu' ? Math.floor((amount * 0.9) / 1000) : amount;
  });
  const hostsOf = (indices: readonly number[]) => indices.filter(index => (amounts[index] ?? 0) > 0).length;
  return {
    resource,
    perHost: Math.max(0, ...amounts),
    capacity: amounts.reduce((sum, amount) => sum + amount, 0),
    nodeNames: tree.nodeNames,
    largestDomains: tree.levels.map((_, level) =>
      Math.max(0, ...(tree.domainsByLevel[level] ?? []).map(domain => hostsOf(domain.nodes))),
    ),
    tolerations: tolerationsFor(snapshot),
  };
}

/** Hosts that a group takes at least, were all of them empty. */
export function leastHosts({ size, devices, leaderDevices }: SimulatedAsk, { perHost }: FleetFacts): number {
  const workers = leaderDevices === devices ? size : size - 1;
  return Math.max(1, Math.ceil(workers / Math.max(1, Math.floor(perHost / devices))));
}

/** The LeaderWorkerSet of an owner with so many replicas. */
export function simulatedSet(
  owner: string,
  ask: SimulatedAsk,
  { replicas, facts }: { readonly replicas: number; readonly facts: FleetFacts },
): LeaderWorkerSet {
  const { topology } = ask;
  const key = topology?.wish === 'preferred' ? berth.preferredTopology : berth.requiredTopology;
  return {
    apiVersion: lws.apiVersion,
    kind: lws.kind,
    metadata: {
      name: owner,
      namespace: simulatedNamespace,
      uid: `set-${owner}`,
      ...(topology && { annotations: { [key]: topology.level } }),
    },
    spec: {
      replicas,
      leaderWorkerTemplate: {
        size: ask.size,
        ...(ask.leaderDevices !== ask.devices && {
          leaderTemplate: { spec: specOf(ask.leaderDevices, facts) },
        }),
        workerTemplate: { spec: specOf(ask.devices, facts) },
      },
    },
  };
}

export function simulatedPod(owner: string, ask: SimulatedAsk, facts: FleetFacts): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: owner, namespace: simulatedNamespace },
    spec: specOf(ask.devices, facts),
  };
}

/** What a CPU leader asks for where workers ask for devices. */
const leaderCpus = 4;

function specOf(devices: number, { resource, tolerations }: FleetFacts): PodSpec {
  const amount = devices === 0 ? { cpu: String(leaderCpus) } : { [resource]: String(devices) };
  return { containers: [{ name: 'main', resources: { requests: amount, limits: amount } }], tolerations };
}

function commonDevice({ nodes }: ClusterSnapshot): string {
  const counts = new Map<string, number>();
  for (const node of nodes) {
    const resource = mainDevice(node)?.resource;
    if (resource !== undefined) counts.set(resource, (counts.get(resource) ?? 0) + 1);
  }
  return [...counts].reduce((most, entry) => (entry[1] > most[1] ? entry : most), ['', 0])[0];
}

/** Accelerator pools are tainted as a rule, and who asks for their devices tolerates that. */
function tolerationsFor({ nodes }: ClusterSnapshot): readonly Toleration[] {
  const keys = new Set<string>();
  for (const { record } of nodes)
    for (const { key } of record.taints) if (!key.startsWith('node.kubernetes.io/')) keys.add(key);
  return [...keys].sort().map(key => ({ key, operator: 'Exists' }));
}
