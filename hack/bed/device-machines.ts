import type { MachineDevices } from './device-slices.ts';
import {
  azureVirtualFunction,
  elasticFabricAdapter,
  elasticNetworkAdapter,
  networkDevices,
} from './dranet-devices.ts';
import { a100, type GpuSeat, gb200, gb300, gpus, h100, imexChannel, migGpus } from './nvidia-devices.ts';

/**
 * AWS p4d.24xlarge. Two NUMA nodes, each with two PCIe roots; a root has two GPUs and one RDMA NIC, and three of the four
 * have a plain NIC as well:
 *
 *     NUMA 0   root 10: gpu-0 gpu-1 EFA        root 20: gpu-2 gpu-3 EFA ENA
 *     NUMA 1   root 90: gpu-4 gpu-5 EFA ENA    root a0: gpu-6 gpu-7 EFA ENA
 *
 * The GPU driver tells no NUMA node there. Taken in order, GPUs and RDMA NICs pair well only once in four.
 */
export const p4d: MachineDevices = published(
  gpus(
    a100,
    ['10', '20', '90', 'a0'].flatMap(bus => [gpuOn(bus, '1c'), gpuOn(bus, '1d')]),
  ),
  networkDevices([
    elasticFabricAdapter('10', 0),
    elasticNetworkAdapter('20', 0, 'ens65'),
    elasticFabricAdapter('20', 0),
    elasticNetworkAdapter('90', 1, 'ens129'),
    elasticFabricAdapter('90', 1),
    elasticNetworkAdapter('a0', 1, 'ens161'),
    elasticFabricAdapter('a0', 1),
  ]),
);

/**
 * Azure ND GB300: 4 GPUs, each alone on its PCIe root, and 4 NICs without a root; two of both on each NUMA node, which
 * drivers tell from the release on that knows the standard attribute.
 */
export const gb300Machine: MachineDevices = published(
  gpus(
    gb300,
    ['0008', '0009', '0018', '0019'].map((domain, index) => ({
      pciBusId: `${domain}:06:00.0`,
      pcieRoot: `pci${domain}:00`,
      numaNode: Math.floor(index / 2),
    })),
  ),
  networkDevices([0, 1, 2, 3].map(index => azureVirtualFunction(index, Math.floor(index / 2)))),
);

/** Two GPUs of 40 GB that MIG may cut. */
export const migMachine: MachineDevices = migGpus(a100, [gpuOn('10', '1c'), gpuOn('20', '1c')]);

/** 8 GPUs on 8 PCIe roots. */
export const h100Machine: MachineDevices = gpus(
  h100,
  ['19', '3b', '4c', '5d', '9b', 'bb', 'cb', 'db'].map(bus => gpuOn(bus, '00')),
);

/** A tray of an NVL72 rack: 4 GPUs and an IMEX channel. */
export const gb200Tray: MachineDevices = published(
  gpus(
    gb200,
    ['0008', '0009', '0018', '0019'].map(domain => ({
      pciBusId: `${domain}:01:00.0`,
      pcieRoot: `pci${domain}:00`,
    })),
  ),
  imexChannel,
);

function gpuOn(bus: string, device: string): GpuSeat {
  return { pciBusId: `0000:${bus}:${device}.0`, pcieRoot: `pci0000:${bus}` };
}

function published(...drivers: readonly MachineDevices[]): MachineDevices {
  return nodeName => drivers.flatMap(driver => driver(nodeName));
}
