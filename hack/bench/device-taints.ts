import type { DeviceTaint, ResourceClaim, ResourceSlice } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import type { Cluster } from '../bed/cluster.ts';
import { gpuDriver } from '../bed/nvidia-devices.ts';
import { resourceApi } from './claimants.ts';

/** A device that a pod has, and the slice in which it is published. */
export interface TakenDevice {
  readonly slice: string;
  readonly device: string;
}

/** What a driver says of a device that has fallen off the bus. */
export const gpuLost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', value: 'true', effect: 'NoSchedule' };
/** The same from one that wants its pods gone. */
export const gpuLostForAll: DeviceTaint = { ...gpuLost, effect: 'NoExecute' };

/** The first GPU that the claim of a pod was given. */
export async function gpuOf(cluster: Cluster, pod: Pod): Promise<TakenDevice> {
  const { namespace, uid, name } = pod.metadata;
  const path = `${resourceApi}/namespaces/${namespace}/resourceclaims`;
  const { items } = await cluster.request<{ items: ResourceClaim[] }>('GET', path);
  const claim = items.find(({ metadata }) => metadata.ownerReferences?.some(owner => owner.uid === uid));
  const result = claim?.status?.allocation?.devices?.results?.find(({ driver }) => driver === gpuDriver);
  if (result === undefined) throw new Error(`pod ${name} has no GPU by a claim`);
  const selector = encodeURIComponent(`spec.driver=${gpuDriver},spec.nodeName=${pod.spec.nodeName}`);
  const slices = await cluster.request<{ items: ResourceSlice[] }>(
    'GET',
    `${resourceApi}/resourceslices?fieldSelector=${selector}`,
  );
  const slice = slices.items.find(({ spec }) => spec.devices?.some(({ name: of }) => of === result.device));
  if (slice === undefined) throw new Error(`no slice has device ${result.device} of ${result.pool}`);
  return { slice: slice.metadata.name ?? '', device: result.device };
}

/** The driver publishes a device anew, with a taint. */
export async function taintDevice(
  cluster: Cluster,
  { slice, device }: TakenDevice,
  taint: DeviceTaint,
): Promise<void> {
  const path = `${resourceApi}/resourceslices/${slice}`;
  const { spec } = await cluster.request<ResourceSlice>('GET', path);
  const devices = (spec.devices ?? []).map(each =>
    each.name === device ? { ...each, taints: [...(each.taints ?? []), taint] } : each,
  );
  await cluster.request('PATCH', path, { spec: { devices } });
}
