import type { TopologyLevel } from './topology.ts';

const tpuNodePool: TopologyLevel = {
  name: 'slice',
  nodeLabel: 'cloud.google.com/gke-nodepool',
  shapeLabel: 'cloud.google.com/gke-tpu-topology',
};

/**
 * Levels as the platforms label them, coarse to fine; the host below is implicit. Sources: the node label pages of GKE
 * (gce-topology-*; gke-nodepool for TPUs, where a multi-host node pool is one slice, gke-tpu-slice-<shape>-id for the
 * sub-slices of v6e, gke-tpu-partition-<shape>-id for the cubes of tpu7x), EKS (network-node-layer-N: layer 1 is the spine), OCI (rdma.*), CoreWeave (backend.coreweave.cloud)
 * and NVIDIA topograph (fabric.topograph.run/tier-N: tier 1 is nearest to the node).
 */
export const topologyPresets: Readonly<Record<string, readonly TopologyLevel[]>> = {
  zone: [{ name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' }],
  gke: [
    { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
    { name: 'block', nodeLabel: 'cloud.google.com/gce-topology-block' },
    { name: 'rack', nodeLabel: 'cloud.google.com/gce-topology-subblock' },
  ],
  'gke-tpu': [{ name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' }, tpuNodePool],
  'gke-tpu-sub-slices': [
    { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
    tpuNodePool,
    tpuSubSlice('8x8'),
    tpuSubSlice('4x8'),
    tpuSubSlice('4x4'),
    tpuSubSlice('2x4'),
  ],
  'gke-tpu-cubes': [
    { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
    { name: 'block', nodeLabel: 'cloud.google.com/gce-topology-block' },
    { name: 'cube', nodeLabel: 'cloud.google.com/gke-tpu-partition-4x4x4-id', shape: '4x4x4' },
  ],
  eks: [
    { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
    { name: 'spine', nodeLabel: 'topology.k8s.aws/network-node-layer-1' },
    { name: 'block', nodeLabel: 'topology.k8s.aws/network-node-layer-2' },
    { name: 'rack', nodeLabel: 'topology.k8s.aws/network-node-layer-3' },
  ],
  oci: [
    { name: 'island', nodeLabel: 'oci.oraclecloud.com/rdma.hpc_island_id' },
    { name: 'block', nodeLabel: 'oci.oraclecloud.com/rdma.network_block_id' },
    { name: 'rack', nodeLabel: 'oci.oraclecloud.com/rdma.local_block_id' },
  ],
  coreweave: [
    { name: 'fabric', nodeLabel: 'backend.coreweave.cloud/fabric' },
    { name: 'block', nodeLabel: 'backend.coreweave.cloud/superpod' },
    { name: 'leafgroup', nodeLabel: 'backend.coreweave.cloud/leafgroup' },
    { name: 'rack', nodeLabel: 'node.coreweave.cloud/rack' },
  ],
  nvl72: [
    { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
    { name: 'rack', nodeLabel: 'nvidia.com/gpu.clique' },
  ],
  topograph: [
    { name: 'tier-3', nodeLabel: 'fabric.topograph.run/tier-3' },
    { name: 'tier-2', nodeLabel: 'fabric.topograph.run/tier-2' },
    { name: 'tier-1', nodeLabel: 'fabric.topograph.run/tier-1' },
    { name: 'accelerator', nodeLabel: 'accelerator.topograph.run/domain' },
  ],
};

function tpuSubSlice(shape: string): TopologyLevel {
  return { name: `slice-${shape}`, nodeLabel: `cloud.google.com/gke-tpu-slice-${shape}-id`, shape };
}
