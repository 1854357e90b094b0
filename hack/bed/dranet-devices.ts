import type { SliceDevice } from '../../src/api/dra.ts';
import { attributes, type MachineDevices, nodePool } from './device-slices.ts';

export const nicDriver = 'dra.net';

type Values = Readonly<Record<string, string | number | boolean>>;

/** What dranet tells of a machine's network devices, name and attributes of each. */
export function networkDevices(devices: readonly SliceDevice[]): MachineDevices {
  return nodeName => nodePool(nicDriver, nodeName, [{ devices }]);
}

/** An Elastic Fabric Adapter of AWS: RDMA without a network interface. */
export function elasticFabricAdapter(bus: string, numaNode: number): SliceDevice {
  return networkDevice(`0000:${bus}:1b.0`, {
    'dra.net/numaNode': numaNode,
    'dra.net/pciDevice': 'Elastic Fabric Adapter (EFA)',
    'dra.net/pciSubsystem': 'efa0',
    'dra.net/pciVendor': 'Amazon.com, Inc.',
    'dra.net/rdma': true,
    'dra.net/rdmaDevice': `rdmap${Number.parseInt(bus, 16)}s27`,
    'resource.kubernetes.io/pcieRoot': `pci0000:${bus}`,
  });
}

/** An Elastic Network Adapter of AWS: a plain interface, on the same roots as the RDMA ones. */
export function elasticNetworkAdapter(bus: string, numaNode: number, ifName: string): SliceDevice {
  return networkDevice(`0000:${bus}:01.0`, {
    'dra.net/ebpf': false,
    'dra.net/encapsulation': 'ether',
    'dra.net/ifName': ifName,
    'dra.net/mtu': 9001,
    'dra.net/numaNode': numaNode,
    'dra.net/pciDevice': 'Elastic Network Adapter (ENA)',
    'dra.net/pciSubsystem': 'ec20',
    'dra.net/pciVendor': 'Amazon.com, Inc.',
    'dra.net/rdma': false,
    'dra.net/sriov': false,
    'dra.net/state': 'up',
    'dra.net/type': 'device',
    'dra.net/virtual': false,
    'resource.kubernetes.io/pcieRoot': `pci0000:${bus}`,
  });
}

/** A virtual function as Azure gives it to a machine: the PCIe root is hidden, only the NUMA node is told. */
export function azureVirtualFunction(index: number, numaNode: number): SliceDevice {
  return networkDevice(`010${index + 1}:00:00.0`, {
    'azure.dra.net/vmSize': 'Standard_ND128isr_GB300_v6',
    'dra.net/numaNode': numaNode,
    'dra.net/pciDevice': 'ConnectX Family mlx5Gen Virtual Function',
    'dra.net/pciSubsystem': '0240',
    'dra.net/pciVendor': 'Mellanox Technologies',
    'dra.net/rdma': true,
    'dra.net/rdmaDevice': `mlx5_${index}`,
    'resource.kubernetes.io/numaNode': numaNode,
  });
}

function networkDevice(pciAddress: string, values: Values): SliceDevice {
  return {
    name: `pci-${pciAddress.replaceAll(/[:.]/g, '-')}`,
    attributes: attributes({ 'dra.net/pciAddress': pciAddress, ...values }),
  };
}
