import type { Node } from '../../src/api/kubernetes.ts';
import { k8s } from '../../src/api/names.ts';
import { type Fleet, racks } from '../bed/fleet-presets.ts';

const hostsPerRack = 8;
const racksPerBlock = 25;
const imagesPerNode = 50;
/** Names of nodes are as long as clouds make them: they are what filter requests consist of. */
const domain = '.eu-north-1.compute.internal';

/** GPU hosts in racks, each object as large as kubelets and device operators make them: about 13 KB of JSON. */
export function largeFleet(hosts: number): Fleet {
  const shape = {
    racks: Math.ceil(hosts / hostsPerRack),
    hostsPerRack,
    racksPerBlock,
    gpus: 8,
    totalHosts: hosts,
  };
  return { name: 'large', nodes: racks(shape).map(grown) };
}

function grown(node: Node): Node {
  const { metadata, status } = node;
  const name = `${metadata.name}${domain}`;
  const labels = { ...metadata.labels, ...featureLabels, [k8s.hostname]: name };
  const annotations = { ...metadata.annotations, ...agentAnnotations };
  const grownStatus = { ...status, images, nodeInfo };
  return { ...node, metadata: { ...metadata, name, labels, annotations }, status: grownStatus };
}

/** As node-feature-discovery and the GPU operator write them. */
const featureLabels = Object.fromEntries([
  ...Array.from({ length: 40 }, (_, index) => [`feature.example.com/cpu-cpuid.FEATURE${index}`, 'true']),
  ['nvidia.com/gpu.product', 'NVIDIA-H100-80GB-HBM3'],
  ['nvidia.com/gpu.memory', '81559'],
  ['nvidia.com/gpu.count', '8'],
  ['nvidia.com/cuda.driver-version.full', '570.124.06'],
]);

const agentAnnotations = {
  'node.alpha.kubernetes.io/ttl': '0',
  'network.example.com/node-subnets': JSON.stringify({ default: ['10.128.0.0/23'] }),
  'volumes.kubernetes.io/controller-managed-attach-detach': 'true',
  'nfd.node.kubernetes.io/feature-labels': Array.from(
    { length: 40 },
    (_, index) => `cpu-cpuid.FEATURE${index}`,
  ).join(','),
};

const images = Array.from({ length: imagesPerNode }, (_, index) => ({
  names: [
    `registry.example.com/team-${index}/image@sha256:${String(index).padStart(64, '0')}`,
    `registry.example.com/team-${index}/image:v1.${index}.0`,
  ],
  sizeBytes: 100_000_000 + index,
}));

const nodeInfo = {
  architecture: 'amd64',
  bootID: '00000000-0000-4000-8000-000000000001',
  containerRuntimeVersion: 'containerd://2.1.4',
  kernelVersion: '6.8.0-1030',
  kubeProxyVersion: '',
  kubeletVersion: 'v1.37.2',
  machineID: '00000000000000000000000000000001',
  operatingSystem: 'linux',
  osImage: 'Ubuntu 24.04.3 LTS',
  systemUUID: '00000000-0000-4000-8000-000000000001',
};
