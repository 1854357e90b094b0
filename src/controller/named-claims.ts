import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { ClaimRecord } from '../cluster/devices/claims.ts';
import { type DeviceId, deviceKey } from '../cluster/devices/device.ts';
import type { Incarnation } from '../failure/incarnation.ts';
import { type Intent, namespaceOf } from '../failure/intent.ts';
import { groupKeyOf, isMembershipError } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';

/*
 * Claims that pods name, not made for one of them from a template. They outlive their pods, and keep their devices as long as
 * anybody has them reserved: kube-scheduler gives them to new pods as they are.
 */

/** Whether a device is given to new pods by a claim, whoever keeps off new claims what is sick. */
export function isGivenByName(cache: ClusterCache, { pods }: Incarnation, device: DeviceId): boolean {
  const key = deviceKey(device);
  return claimsNamedBy(cache, pods).some(({ allocation }) =>
    (allocation?.results ?? []).some(result => deviceKey(result) === key),
  );
}

/**
 * Groups that were evicted and cannot return before an incarnation of another has left: both use a claim with a failed
 * device, which kube-controller-manager takes from the claim only when nobody has it reserved. Such a group is not the one
 * that the others have to wait for, so it does not count as in flight against them; else each would wait for the other.
 *
 * Told by the device that the record names, for between its old pods and its new ones a group has none that could tell, and
 * by pods that name the claim, for the record may be about something else.
 */
export function waitersFor(
  cache: ClusterCache,
  open: readonly Intent[],
  { pods }: Incarnation,
  key: string,
): ReadonlySet<string> {
  const evicted = open.filter(({ group, times }) => group !== key && times.evicted !== undefined);
  const waiters = new Set<string>();
  if (evicted.length === 0) return waiters;
  for (const claim of claimsNamedBy(cache, pods)) {
    const failed = new Set(cache.failedDevicesOf(claim).map(deviceKey));
    if (failed.size === 0) continue;
    const naming = new Set<string>();
    for (const { membership } of cache.membersNaming(claim))
      if (membership !== undefined && !isMembershipError(membership)) naming.add(groupKeyOf(membership));
    for (const intent of evicted) {
      const { group, device } = intent;
      const hadIt = namespaceOf(intent) === claim.namespace && device && failed.has(deviceKey(device));
      if (hadIt || naming.has(group)) waiters.add(group);
    }
  }
  return waiters;
}

function claimsNamedBy(cache: ClusterCache, pods: readonly PodInfo[]): readonly ClaimRecord[] {
  const all = new Set(pods.flatMap(({ uid }) => [...cache.claimsOf(uid)]));
  return [...all].filter(({ podUid }) => podUid === undefined);
}
