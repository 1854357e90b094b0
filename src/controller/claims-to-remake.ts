import type { ResourceClaimSpec } from '../api/dra.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { ClaimRecord, PlannedClaim } from '../cluster/devices/claims.ts';
import { type Device, deviceKey } from '../cluster/devices/device.ts';
import type { SelectorEngine } from '../cluster/devices/selectors.ts';
import { driverPolicy } from '../cluster/devices/steering/driver-policy.ts';
import { offeredBy } from '../cluster/devices/steering/offered.ts';
import { isSteered, plannedAlternative, steerClaim } from '../cluster/devices/steering/steer-claim.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import type { PodInfo } from '../group/pod-info.ts';

/**
 * Claims of a gated pod that were made from templates as these say, while no Berth was there to steer them, and that could
 * be steered to the planned devices; and those that were steered to the devices of an earlier plan. Only what
 * kube-controller-manager makes again by itself is among them, and nothing that has devices.
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
    if (claim.steeringOff) return false;
    const planned = seat.claims.find(({ claim: name }) => name === claim.podClaimName);
    if (
      planned === undefined ||
      !pod.claims.some(({ name, template }) => name === claim.podClaimName && template)
    )
      return false;
    if (claim.spec.devices?.requests?.some(isSteered))
      return isSteeredElsewhere(claim.spec, planned, devicesOfNode, selectors);
    const offers = offeredBy(selectors, classes);
    const { steered } = steerClaim({ spec: claim.spec, planned, devicesOfNode, driverPolicy, offers });
    return steered.length > 0;
  });
}

/** Whether Berth's alternative of any request does not let all devices through that are planned for it now. */
function isSteeredElsewhere(
  { devices }: ResourceClaimSpec,
  { requests }: PlannedClaim,
  devicesOfNode: readonly Device[],
  engine: SelectorEngine,
): boolean {
  const published = new Map(devicesOfNode.map(device => [device.key, device]));
  return (devices?.requests ?? []).some(({ name, firstAvailable = [] }) => {
    const own = firstAvailable.find(alternative => alternative.name === plannedAlternative);
    const planned = requests.find(({ request }) => request.split('/')[0] === name)?.devices ?? [];
    if (own === undefined) return false;
    return planned.some(id => {
      const device = published.get(deviceKey(id));
      return (own.selectors ?? []).some(
        ({ cel }) =>
          cel !== undefined &&
          (device === undefined || engine.matches(cel.expression, device).kind === 'false'),
      );
    });
  });
}
