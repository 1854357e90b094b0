import type { PodInfo } from '../group/pod-info.ts';
import type { DeviceFacts } from './signal.ts';

/** Drivers whose devices are NICs, also while nothing more is published of them. */
const nicDrivers: readonly string[] = [
  'dra.net',
  'mrdma.google.com',
  'netdev.google.com',
  'sriovnetwork.k8snetworkplumbingwg.io',
];
/** `rdma/hca`, `vpc.amazonaws.com/efa`, `networking.gke.io.networks/rdma-0`, `nvidia.com/roce_gdr`. */
const nicResource = /(^|[/._-])(rdma|efa|roce|infiniband|ib|hca|mlnxnics)([/._-]|\d|$)/i;

/** Whether a pod has something to lose when the fast network of its node fails. */
export function usesFastNetwork(
  { requests, hostNetwork }: Pick<PodInfo, 'requests' | 'hostNetwork'>,
  devices: readonly Pick<DeviceFacts, 'id' | 'attributes'>[],
): boolean {
  if (hostNetwork === true || devices.some(isFastNic)) return true;
  for (const [name, amount] of requests)
    if (amount > 0 && name.includes('/') && nicResource.test(name)) return true;
  return false;
}

function isFastNic({ id, attributes }: Pick<DeviceFacts, 'id' | 'attributes'>): boolean {
  const rdma = attributes?.get('dra.net/rdma');
  return rdma?.kind === 'bool' ? rdma.value : nicDrivers.includes(id.driver);
}
