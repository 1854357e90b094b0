import type { ClusterCache } from '../cache/cluster-cache.ts';
import { decodeComputeDomain } from '../cluster/devices/compute-domain.ts';
import type { Incarnation } from '../failure/incarnation.ts';
import type { MemberFacts, SignalName } from '../failure/signal.ts';
import { tpuSliceLabel } from './fabric-facts.ts';
import type { FailureWrites } from './failure-writes.ts';

type LiveReads = Pick<FailureWrites, 'liveComputeDomain' | 'liveNodesWith'>;

/**
 * The domain or slice that a fault is about, as the API server says at this moment; nothing for other faults. Throws as
 * `ApiClient.request` does.
 */
export async function liveFabric(
  cache: ClusterCache,
  reads: LiveReads,
  fault: { readonly member: MemberFacts; readonly signal: SignalName; readonly incarnation: Incarnation },
): Promise<Pick<MemberFacts, 'nvlink' | 'tpuSlice'>> {
  const { member, signal, incarnation } = fault;
  const { nvlink, tpuSlice } = member;
  if (signal === 'ComputeDomainNotReady' && nvlink?.domain !== undefined) {
    const live = await reads.liveComputeDomain(nvlink.domain);
    const domain = live?.metadata.uid === nvlink.domain.uid ? decodeComputeDomain(live) : undefined;
    return { nvlink: { ...nvlink, domain } };
  }
  const label = signal === 'TpuSliceBroken' ? tpuSliceLabel(cache, incarnation) : undefined;
  if (label === undefined || tpuSlice?.hosts === undefined) return {};
  return { tpuSlice: { ...tpuSlice, present: await reads.liveNodesWith(label, tpuSlice.name) } };
}
