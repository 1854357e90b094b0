/**
 * Where the NUMA node of a device stands when its driver does not publish the standard attribute. Drivers had names of
 * their own before Kubernetes 1.37 (KEP-6072), and the GPU drivers in use publish none at all.
 */

/** Qualified names of drivers' own attributes for the NUMA node, an integer each; the first that is there counts. */
export const vendorNumaAttributes: readonly string[] = [
  // kubernetes-sigs/dranet pkg/inventory; dra-driver-sriov and dra-driver-cpu write it, too, to be matched with NICs.
  'dra.net/numaNode',
  // kubernetes-sigs/dra-driver-cpu docs/user/device-attributes.md
  'dra.cpu/numaNodeID',
  // ROCm/k8s-gpu-dra-driver issue 92: published without a domain, so in the driver's.
  'gpu.amd.com/numaNode',
];

/** Attributes that tell the machine type of the node that a device is in, for nodes without the label. */
export const machineTypeAttributes: readonly string[] = [
  // kubernetes-sigs/dranet pkg/cloudprovider
  'azure.dra.net/vmSize',
  'gce.dra.net/machineType',
];

export const machineTypeLabel = 'node.kubernetes.io/instance-type';

/** GPUs by PCI domain, the first part of their bus ID: on these machines it tells the NUMA node. */
interface MachineType {
  readonly names: readonly string[];
  readonly numaNodeByPciDomain: Readonly<Record<string, number>>;
}

const machineTypes: readonly MachineType[] = [
  {
    // Two GPUs per NUMA node. kubernetes-sigs/dranet examples/azure_aks_examples/gb300/README.md and
    // examples/oci_oke_examples/BM.GPU.GB200-v3.4/README.md, commit f258477.
    names: ['Standard_ND128isr_GB300_v6', 'BM.GPU.GB200-v3.4'],
    numaNodeByPciDomain: { '0008': 0, '0009': 0, '0018': 1, '0019': 1 },
  },
  {
    // kubernetes-sigs/dranet examples/nixl-kv-transfer/README.md and examples/distributed_training/README.md, commit
    // f258477.
    names: ['Standard_ND96isr_H100_v5'],
    numaNodeByPciDomain: {
      '0001': 0,
      '0002': 0,
      '0003': 0,
      '0008': 0,
      '0009': 1,
      '000a': 1,
      '000b': 1,
      '000c': 1,
    },
  },
];

/** The NUMA node of the GPU at a PCI bus ID such as `0008:06:00.0`, on a machine type that is known. */
export function numaNodeOfGpu(machineType: string, pciBusId: string): number | undefined {
  const known = machineTypes.find(({ names }) => names.includes(machineType));
  const domain = pciBusId.slice(0, pciBusId.indexOf(':')).toLowerCase();
  return known !== undefined && Object.hasOwn(known.numaNodeByPciDomain, domain)
    ? known.numaNodeByPciDomain[domain]
    : undefined;
}
