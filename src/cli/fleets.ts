import type { Node, ResourceList, Taint } from '../api/kubernetes.ts';
import { k8s } from '../api/names.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { topologyPresets } from '../cluster/topology-presets.ts';
import { SeededRandom } from './seeded-random.ts';

/** A generated fleet and the levels that its labels make. */
export interface PresetFleet {
  readonly name: string;
  readonly levels: readonly TopologyLevel[];
  readonly nodes: readonly Node[];
  /** What is asked for on such a fleet, where that differs from others, as options of the command line. */
  readonly deck?: string | undefined;
  readonly mix?: string | undefined;
}

interface FleetShape extends Pick<PresetFleet, 'deck' | 'mix'> {
  readonly about: string;
  readonly levels: readonly TopologyLevel[];
  readonly standardNodes: number;
  /** Hosts one after the other, without end: the fleet takes as many as it needs. */
  readonly hosts: (random: SeededRandom) => Iterable<Host>;
}

interface Host {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly devices: ResourceList;
  readonly instanceType: string;
  readonly arch?: string;
  readonly taints?: readonly Taint[];
}

const zone: TopologyLevel = { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' };
const gpu = 'nvidia.com/gpu';
const tier1 = 'fabric.topograph.run/tier-1';
const tier2 = 'fabric.topograph.run/tier-2';
const clique = 'nvidia.com/gpu.clique';

/**
 * Shapes as their makers describe them. Rails are no level: in a SuperPOD every host touches all leaves of its scalable
 * unit. Where a provider hands out what is there, the sizes of the domains are drawn.
 */
const shapes: Readonly<Record<string, FleetShape>> = {
  superpod: {
    about: 'DGX SuperPOD: units of 32 hosts with 8 GPUs, 4 units to a pod',
    levels: [
      { name: 'pod', nodeLabel: tier2 },
      { name: 'unit', nodeLabel: tier1 },
    ],
    standardNodes: 256,
    hosts: superpodHosts,
  },
  nvl72: {
    about: 'GB200 NVL72: racks of 18 trays with 4 GPUs, one NVLink clique each, 8 racks to a unit',
    levels: [
      { name: 'unit', nodeLabel: tier1 },
      { name: 'rack', nodeLabel: clique },
    ],
    standardNodes: 288,
    hosts: nvl72Hosts,
  },
  'gke-a3': {
    about: 'GKE A3 Mega: blocks of 4 sub-blocks with 8 to 16 hosts of 8 GPUs',
    levels: topologyPresets['gke'] ?? [],
    standardNodes: 192,
    hosts: gkeHosts,
  },
  'tpu-v6e': {
    about:
      'GKE TPU v6e node pools, one slice each: four of 4x4 (4 hosts) to one of 4x8 (8 hosts), 4 chips a host',
    levels: topologyPresets['gke-tpu'] ?? [],
    standardNodes: 96,
    // A group fills a slice or several.
    deck: '4,4,4,4,8',
    mix: 'slice=100',
    hosts: tpuHosts,
  },
  'eks-p4d': {
    about: 'EKS p4d: three network layers, 4 to 8 hosts of 8 GPUs below one switch',
    levels: topologyPresets['eks'] ?? [],
    standardNodes: 192,
    hosts: eksHosts,
  },
  flat: {
    about: 'hosts of 8 GPUs that nothing but the zone tells apart',
    levels: [zone],
    standardNodes: 64,
    hosts: flatHosts,
  },
  mixed: {
    about: 'production mix: racks of 8 hosts, 8-GPU hosts beside smaller ones with 1, 2 and 4',
    levels: [zone, { name: 'rack', nodeLabel: 'example.com/rack' }],
    standardNodes: 240,
    deck: '2,2,4,4x4,8x2,4x1',
    mix: 'rack=40,prefer-rack=20,any=10,single=30',
    hosts: mixedHosts,
  },
};

export const fleetNames: readonly string[] = Object.keys(shapes);

/** One line for each preset. */
export function fleetHelp(): readonly string[] {
  const width = Math.max(...fleetNames.map(name => name.length));
  return Object.entries(shapes).map(([name, { about }]) => `${name.padEnd(width)}  ${about}`);
}

/** Undefined for a name that no preset has. The last domain ends early where `nodes` asks for it. */
export function presetFleet(
  name: string,
  { nodes, seed }: { readonly nodes?: number | undefined; readonly seed: number },
): PresetFleet | undefined {
  const shape = Object.hasOwn(shapes, name) ? shapes[name] : undefined;
  if (shape === undefined) return undefined;
  const wanted = nodes ?? shape.standardNodes;
  const made: Node[] = [];
  for (const host of shape.hosts(new SeededRandom(seed))) {
    if (made.length === wanted) break;
    made.push(nodeOf(host));
  }
  const { levels, deck, mix } = shape;
  return { name, levels, nodes: made, deck, mix };
}

function* superpodHosts(): Iterable<Host> {
  for (let unit = 0; ; unit++) {
    for (let host = 0; host < 32; host++) {
      yield {
        name: `dgx-u${pad(unit)}-h${pad(host)}`,
        labels: { [tier2]: `pod-${pad(Math.floor(unit / 4))}`, [tier1]: `unit-${pad(unit)}` },
        devices: { [gpu]: '8' },
        instanceType: 'dgx-b200',
      };
    }
  }
}

function* nvl72Hosts(): Iterable<Host> {
  for (let rack = 0; ; rack++) {
    for (let tray = 0; tray < 18; tray++) {
      yield {
        name: `nvl-r${pad(rack)}-t${pad(tray)}`,
        labels: {
          [tier1]: `unit-${pad(Math.floor(rack / 8))}`,
          // Fabric Manager writes the clique as `<cluster UUID>.<clique>`.
          [clique]: `00000000-0000-4000-8000-${String(rack).padStart(12, '0')}.1`,
        },
        devices: { [gpu]: '4' },
        instanceType: 'gb200-nvl72',
        arch: 'arm64',
      };
    }
  }
}

function* gkeHosts(random: SeededRandom): Iterable<Host> {
  for (let subblock = 0; ; subblock++) {
    const block = Math.floor(subblock / 4);
    const hosts = 8 + random.below(9);
    for (let host = 0; host < hosts; host++) {
      const name = `gke-a3-b${pad(block)}-s${pad(subblock % 4)}-h${pad(host)}`;
      yield {
        name,
        labels: {
          'cloud.google.com/gke-accelerator': 'nvidia-h100-mega-80gb',
          'cloud.google.com/gce-topology-block': `block-${pad(block)}`,
          'cloud.google.com/gce-topology-subblock': `block-${pad(block)}-subblock-${pad(subblock % 4)}`,
          'cloud.google.com/gce-topology-host': `${name}-machine`,
        },
        devices: { [gpu]: '8' },
        instanceType: 'a3-megagpu-8g',
      };
    }
  }
}

function* tpuHosts(): Iterable<Host> {
  for (let pool = 0; ; pool++) {
    const [topology, hosts] = pool % 5 === 4 ? ['4x8', 8] : ['4x4', 4];
    for (let host = 0; host < hosts; host++) {
      const nodePool = `v6e-${topology}-${pad(pool)}`;
      yield {
        name: `tpu-${nodePool}-h${pad(host)}`,
        labels: {
          'cloud.google.com/gke-nodepool': nodePool,
          'cloud.google.com/gke-tpu-accelerator': 'tpu-v6e-slice',
          'cloud.google.com/gke-tpu-topology': topology,
        },
        devices: { 'google.com/tpu': '4' },
        instanceType: 'ct6e-standard-4t',
        taints: [{ key: 'google.com/tpu', value: 'present', effect: 'NoSchedule' }],
      };
    }
  }
}

function* eksHosts(random: SeededRandom): Iterable<Host> {
  for (let leaf = 0; ; leaf++) {
    const layer = Math.floor(leaf / 4);
    const spine = Math.floor(layer / 4);
    const hosts = 4 + random.below(5);
    for (let host = 0; host < hosts; host++) {
      yield {
        name: `p4d-n${pad(leaf)}-h${pad(host)}`,
        labels: {
          'topology.k8s.aws/zone-id': 'use1-az1',
          'topology.k8s.aws/network-node-layer-1': `nn-1-${pad(spine)}`,
          'topology.k8s.aws/network-node-layer-2': `nn-2-${pad(layer)}`,
          'topology.k8s.aws/network-node-layer-3': `nn-3-${pad(leaf)}`,
        },
        devices: { [gpu]: '8' },
        instanceType: 'p4d.24xlarge',
      };
    }
  }
}

function* flatHosts(): Iterable<Host> {
  for (let host = 0; ; host++)
    yield { name: `gpu-${pad(host)}`, labels: {}, devices: { [gpu]: '8' }, instanceType: 'gpu-8' };
}

/** Counts of the Alibaba gpu-v2023 node list, in tens: 8-GPU hosts, then those with 1, 2 and 4 GPUs. */
const mixedGpus = [
  { gpus: 8, weight: 59 },
  { gpus: 1, weight: 13 },
  { gpus: 2, weight: 40 },
  { gpus: 4, weight: 9 },
];

function* mixedHosts(random: SeededRandom): Iterable<Host> {
  for (let rack = 0; ; rack++) {
    const gpus = random.weighted(mixedGpus)?.gpus ?? 8;
    for (let host = 0; host < 8; host++) {
      yield {
        name: `mix-r${pad(rack)}-h${pad(host)}`,
        labels: { 'example.com/rack': `r${pad(rack)}` },
        devices: { [gpu]: String(gpus) },
        instanceType: `gpu-${gpus}`,
      };
    }
  }
}

function nodeOf(host: Host): Node {
  const { name, labels, devices, instanceType, arch = 'amd64', taints } = host;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: `node-${name}`,
      labels: {
        'kubernetes.io/arch': arch,
        'kubernetes.io/os': 'linux',
        'node.kubernetes.io/instance-type': instanceType,
        [zone.nodeLabel]: 'zone-a',
        ...labels,
        [k8s.hostname]: name,
      },
    },
    ...(taints !== undefined && { spec: { taints } }),
    status: {
      allocatable: { cpu: '192', memory: '2048Gi', 'ephemeral-storage': '6Ti', pods: '110', ...devices },
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

function pad(index: number): string {
  return String(index).padStart(2, '0');
}
