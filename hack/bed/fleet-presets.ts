import type { DeviceClass, ResourceSlice } from '../../src/api/dra.ts';
import type { Node, ResourceList, Taint } from '../../src/api/kubernetes.ts';
import {
  channelClass,
  daemonClass,
  efaClass,
  gpuClass,
  gpuClassForLimits,
  migClass,
  rdmaClass,
} from './device-classes.ts';
import { gb200Tray, gb300Machine, h100Machine, migMachine, p4d } from './device-machines.ts';
import type { MachineDevices } from './device-slices.ts';

/** Nodes that belong together, to be created and deleted as one, with what DRA drivers publish of them. */
export interface Fleet {
  readonly name: string;
  readonly nodes: readonly Node[];
  readonly slices?: readonly ResourceSlice[];
  readonly deviceClasses?: readonly DeviceClass[];
}

export interface RacksOptions {
  readonly racks: number;
  readonly hostsPerRack: number;
  /** `nvidia.com/gpu` per host; 0 makes CPU nodes. */
  readonly gpus: number;
  /** Default 2. */
  readonly racksPerBlock?: number;
  /** Ends the last rack early. */
  readonly totalHosts?: number;
}

export interface PresetOptions {
  /** Nodes without accelerators to add. */
  readonly cpuNodes?: number;
}

type Labels = Readonly<Record<string, string>>;

interface Host {
  readonly name: string;
  readonly labels: Labels;
  readonly devices?: ResourceList;
  readonly taints?: readonly Taint[];
}

const zone = 'zone-a';
const hostSize: ResourceList = { cpu: '192', memory: '2048Gi', pods: '110' };
/** Makes KWOK play the node even where it is told to manage only nodes that ask for it. */
const fakeNode = { 'kwok.x-k8s.io/node': 'fake' };

/** A fleet but for its name. */
export type FleetContent = Omit<Fleet, 'name'>;

const presets = {
  generic: () => plugged(racks({ racks: 4, hostsPerRack: 4, gpus: 8 })),
  thousand: () =>
    plugged(racks({ racks: 56, hostsPerRack: 18, gpus: 8, racksPerBlock: 8, totalHosts: 1000 })),
  'gke-a3': () => plugged(gkeA3({ blocks: 2, subblocks: 2, hosts: 8 })),
  'gb200-nvl72': () => plugged(gb200({ racks: 8 })),
  'tpu-v6e': () => plugged(tpuV6e({ '4x4': 4, '4x8': 2 })),
  'eks-p4d': () => plugged(eksP4d({ spines: 2, layers: 2, leaves: 2, hosts: 4 })),
  p4d: () => p4dRacks({ racks: 4, hostsPerRack: 4 }),
  gb300: () => publishing(gb300Machine, cpuRacks(4, 4), [gpuClass, rdmaClass]),
  mig: () => migRacks({ racks: 4, hostsPerRack: 4 }),
  half: () => halfMigrated({ racks: 4, hostsPerRack: 4 }),
  channels: () => nvlinkDomains({ racks: 2 }),
} as const;

export type FleetName = keyof typeof presets;

export const fleetNames = Object.keys(presets).filter(isFleetName);

export function isFleetName(name: string): name is FleetName {
  return Object.hasOwn(presets, name);
}

/** A fleet by its name, with CPU nodes beside it when asked for. */
export function presetFleet(name: FleetName, options: PresetOptions = {}): Fleet {
  const { nodes, ...devices } = presets[name]();
  return { name, nodes: [...nodes, ...cpuHosts(options.cpuNodes ?? 0)], ...devices };
}

/** Racks of AWS p4d machines whose GPUs and NICs come by DRA. */
export function p4dRacks(size: { racks: number; hostsPerRack: number }): FleetContent {
  return publishing(p4d, cpuRacks(size.racks, size.hostsPerRack), [gpuClass, efaClass]);
}

/** Racks of machines with two GPUs each that MIG may cut. */
export function migRacks(size: { racks: number; hostsPerRack: number }): FleetContent {
  return publishing(migMachine, cpuRacks(size.racks, size.hostsPerRack), [gpuClass, migClass]);
}

/**
 * A fleet on its way from the device plugin to DRA: in racks of even number 8 GPUs are in `allocatable`, in the others
 * in slices, and the class lets `nvidia.com/gpu` in a container's limits mean either.
 */
export function halfMigrated(size: { racks: number; hostsPerRack: number }): FleetContent {
  const { hostsPerRack } = size;
  const isPlugged = (_: Node, index: number) => Math.floor(index / hostsPerRack) % 2 === 0;
  const bare = cpuRacks(size.racks, hostsPerRack).filter((node, index) => !isPlugged(node, index));
  const { slices = [], deviceClasses = [] } = publishing(h100Machine, bare, [gpuClassForLimits]);
  const counted = racks({ ...size, gpus: 8 }).filter(isPlugged);
  return { nodes: [...counted, ...bare], slices, deviceClasses };
}

/** GB200 racks whose GPUs and IMEX channels come by DRA. */
export function nvlinkDomains(size: { racks: number }): FleetContent {
  const trays = gb200({ ...size, gpus: 0 });
  return publishing(gb200Tray, trays, [gpuClass, channelClass, daemonClass]);
}

/** Nodes whose devices come by DRA. */
export function publishing(
  machine: MachineDevices,
  nodes: readonly Node[],
  deviceClasses: readonly DeviceClass[],
): FleetContent {
  return { nodes, slices: nodes.flatMap(({ metadata }) => machine(metadata.name ?? '')), deviceClasses };
}

function plugged(nodes: readonly Node[]): FleetContent {
  return { nodes };
}

function cpuRacks(count: number, hostsPerRack: number): Node[] {
  return racks({ racks: count, hostsPerRack, gpus: 0 });
}

/** Racks in blocks in one zone, labelled as nobody's platform: `example.com/block`, `example.com/rack`. */
export function racks(options: RacksOptions): Node[] {
  const { hostsPerRack, gpus, racksPerBlock = 2 } = options;
  const hosts = indices(options.racks).flatMap(rack =>
    indices(hostsPerRack).map(host => {
      const block = Math.floor(rack / racksPerBlock);
      return nodeOf({
        name: `r${pad(rack)}-h${pad(host)}`,
        labels: {
          ...inZone('generic'),
          'example.com/block': `b${pad(block)}`,
          'example.com/rack': `r${pad(rack)}`,
        },
        ...(gpus > 0 ? { devices: { 'nvidia.com/gpu': String(gpus) } } : {}),
      });
    }),
  );
  return hosts.slice(0, options.totalHosts ?? hosts.length);
}

/** GKE A3 Mega: block, sub-block and host labels of compactly placed nodes. */
export function gkeA3(size: { blocks: number; subblocks: number; hosts: number }): Node[] {
  return grid(size.blocks, size.subblocks, size.hosts).map(([block, subblock, host]) => {
    const name = `gke-a3-b${pad(block)}-s${pad(subblock)}-h${pad(host)}`;
    return nodeOf({
      name,
      labels: {
        ...inZone('a3-megagpu-8g'),
        'cloud.google.com/gke-accelerator': 'nvidia-h100-mega-80gb',
        'cloud.google.com/gke-nodepool': 'a3',
        'cloud.google.com/gce-topology-block': `block-${pad(block)}`,
        'cloud.google.com/gce-topology-subblock': `block-${pad(block)}-subblock-${pad(subblock)}`,
        'cloud.google.com/gce-topology-host': `${name}-machine`,
      },
      devices: { 'nvidia.com/gpu': '8' },
    });
  });
}

/** GB200 NVL72: a rack is 18 trays of 4 GPUs, which is one NVLink clique; 8 racks make a scalable unit. */
export function gb200(size: { racks: number; gpus?: 0 | 4 }): Node[] {
  const { gpus = 4 } = size;
  const trays = 18;
  const racksPerUnit = 8;
  return grid(1, size.racks, trays).map(([, rack, tray]) =>
    nodeOf({
      name: `nvl-r${pad(rack)}-t${pad(tray)}`,
      labels: {
        ...inZone('gb200'),
        'kubernetes.io/arch': 'arm64',
        'nvidia.com/gpu.product': 'NVIDIA-GB200',
        'nvidia.com/gpu.clique': `${clusterUuid(rack)}.1`,
        'fabric.topograph.run/tier-1': `unit-${pad(Math.floor(rack / racksPerUnit))}`,
        'accelerator.topograph.run/domain': `nvl-${pad(rack)}`,
      },
      ...(gpus > 0 && { devices: { 'nvidia.com/gpu': String(gpus) } }),
    }),
  );
}

/** GKE TPU v6e node pools, each one slice: topology to number of pools. A host has 4 chips. */
export function tpuV6e(pools: Readonly<Record<string, number>>): Node[] {
  const chipsPerHost = 4;
  return Object.entries(pools).flatMap(([topology, count]) => {
    const chips = topology.split('x').reduce((product, side) => product * Number(side), 1);
    return grid(1, count, chips / chipsPerHost).map(([, pool, host]) => {
      const nodePool = `v6e-${topology}-${pad(pool)}`;
      return nodeOf({
        name: `tpu-${nodePool}-h${pad(host)}`,
        labels: {
          ...inZone('ct6e-standard-4t'),
          'cloud.google.com/gke-nodepool': nodePool,
          'cloud.google.com/gke-tpu-accelerator': 'tpu-v6e-slice',
          'cloud.google.com/gke-tpu-topology': topology,
        },
        devices: { 'google.com/tpu': String(chipsPerHost) },
        taints: [{ key: 'google.com/tpu', value: 'present', effect: 'NoSchedule' }],
      });
    });
  });
}

/** EKS p4d: three network layers, of which the third is the one nearest to the host. */
export function eksP4d(size: { spines: number; layers: number; leaves: number; hosts: number }): Node[] {
  return grid(size.spines, size.layers, size.leaves * size.hosts).map(([spine, layer, rest]) => {
    const leaf = Math.floor(rest / size.hosts);
    const path = `${pad(spine)}${pad(layer)}`;
    return nodeOf({
      name: `p4d-s${pad(spine)}-l${pad(layer)}-r${pad(leaf)}-h${pad(rest % size.hosts)}`,
      labels: {
        ...inZone('p4d.24xlarge'),
        'topology.k8s.aws/zone-id': 'use1-az1',
        'topology.k8s.aws/network-node-layer-1': `nn-1-${pad(spine)}`,
        'topology.k8s.aws/network-node-layer-2': `nn-2-${path}`,
        'topology.k8s.aws/network-node-layer-3': `nn-3-${path}${pad(leaf)}`,
      },
      devices: { 'nvidia.com/gpu': '8', 'vpc.amazonaws.com/efa': '4' },
    });
  });
}

/** Nodes without accelerators, outside every block and rack. */
export function cpuHosts(count: number): Node[] {
  return indices(count).map(index => nodeOf({ name: `cpu-${pad(index)}`, labels: inZone('cpu') }));
}

function nodeOf(host: Host): Node {
  const resources = { ...hostSize, ...host.devices };
  const labels = { 'kubernetes.io/arch': 'amd64', 'kubernetes.io/os': 'linux', ...host.labels };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: host.name,
      labels: {
        ...labels,
        // Kubelets still write these two; where they are missing, kube-controller-manager adds them with a patch each.
        'beta.kubernetes.io/arch': labels['kubernetes.io/arch'],
        'beta.kubernetes.io/os': labels['kubernetes.io/os'],
        'kubernetes.io/hostname': host.name,
      },
      annotations: fakeNode,
    },
    ...(host.taints === undefined ? {} : { spec: { taints: host.taints } }),
    status: { allocatable: resources, ...{ capacity: resources } },
  };
}

function inZone(instanceType: string): Labels {
  return {
    'node.kubernetes.io/instance-type': instanceType,
    'topology.kubernetes.io/zone': zone,
  };
}

function grid(outer: number, middle: number, inner: number): [number, number, number][] {
  return indices(outer).flatMap(a =>
    indices(middle).flatMap(b => indices(inner).map((c): [number, number, number] => [a, b, c])),
  );
}

function indices(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

function pad(index: number): string {
  return String(index).padStart(2, '0');
}

/** Fabric Manager writes the clique as `<cluster UUID>.<clique>`. */
function clusterUuid(rack: number): string {
  return `00000000-0000-4000-8000-${String(rack).padStart(12, '0')}`;
}
