import type { Node } from '../../src/api/kubernetes.ts';
import { k8s } from '../../src/api/names.ts';
import type { TopologyLevel } from '../../src/cluster/topology.ts';

/** Hosts of 8 GPUs in racks, blocks and zones, on which both planners are asked the same. */
export interface StreamFleet {
  readonly levels: readonly TopologyLevel[];
  readonly nodes: readonly Node[];
}

export const hostSize = { cpus: 192, memoryGi: 2_048, gpus: 8 } as const;
const hostsPerRack = 16;
export const gpuResource = 'nvidia.com/gpu';
const namePrefix = 'host-';
const racksPerBlock = 16;
const blocksPerZone = 8;

export const streamLevels: readonly TopologyLevel[] = ['zone', 'block', 'rack'].map(name => ({
  name,
  nodeLabel: `example.com/${name}`,
}));
export const blockLevel = 1;
export const rackLevel = 2;

/** Racks, blocks and zones are filled one after the other. */
export function streamFleet(hosts: number): StreamFleet {
  return { levels: streamLevels, nodes: Array.from({ length: hosts }, (_, index) => hostOf(index)) };
}

/** Which rack a host of the fleet stands in, counted through the fleet. */
export function rackOf(host: number): number {
  return Math.floor(host / hostsPerRack);
}

export function blockOf(host: number): number {
  return Math.floor(rackOf(host) / racksPerBlock);
}

export function hostName(index: number): string {
  return `${namePrefix}${String(index).padStart(5, '0')}`;
}

/** The number that `hostName` made a name of. */
export function hostNumber(name: string): number {
  return Number(name.slice(namePrefix.length));
}

function hostOf(index: number): Node {
  const rack = rackOf(index);
  const block = blockOf(index);
  const zone = Math.floor(block / blocksPerZone);
  const name = hostName(index);
  return {
    metadata: {
      name,
      uid: `uid-${name}`,
      labels: {
        [k8s.hostname]: name,
        'example.com/zone': `zone-${zone}`,
        'example.com/block': `block-${String(block).padStart(3, '0')}`,
        'example.com/rack': `rack-${String(rack).padStart(4, '0')}`,
      },
    },
    status: {
      allocatable: {
        cpu: String(hostSize.cpus),
        memory: `${hostSize.memoryGi}Gi`,
        pods: '110',
        [gpuResource]: String(hostSize.gpus),
      },
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}
