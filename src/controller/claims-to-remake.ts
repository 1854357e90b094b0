import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { ClaimRecord } from '../cluster/devices/claims.ts';
import { driverPolicy } from '../cluster/devices/steering/driver-policy.ts';
import { offeredBy } from '../cluster/devices/steering/offered.ts';
import { isSteered, steerClaim } from '../cluster/devices/steering/steer-claim.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import type { PodInfo } from '../group/pod-info.ts';

/**
 * Claims of a gated pod that were made from templates as these say, while no Berth was there to steer them, and that could
 * be steered to the planned devices. Only what kube-controller-manager makes again by itself is among them, and nothing
 * that has devices.
 */
export function claimsToRemake(
  cache: ClusterCache,
  pod: PodInfo,
  node: string,
  seat: SeatDevices | undefined,
): readonly ClaimRecord[] {
  if (seat === undefined || seat.claims.length === 0 || !cache.claims.steers(pod.namespace)) return [];
  const devicesOfNode = cache.devicesOn(node);
  const { selectors, classes } = cache.deviceCatalog;
  return [...cache.claimsOf(pod.uid)].filter(claim => {
    if (claim.podUid !== pod.uid || claim.allocation !== undefined || claim.terminating) return false;
    if (claim.steeringOff || claim.spec.devices?.requests?.some(isSteered)) return false;
    const planned = seat.claims.find(({ claim: name }) => name === claim.podClaimName);
    if (
      planned === undefined ||
      !pod.claims.some(({ name, template }) => name === claim.podClaimName && template)
    )
      return false;
    const offers = offeredBy(selectors, classes);
    const { steered } = steerClaim({ spec: claim.spec, planned, devicesOfNode, driverPolicy, offers });
    return steered.length > 0;
  });
}
