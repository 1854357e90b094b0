import type { DeviceRequestBody, ResourceClaimSpec } from '../api/dra.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { devicesOn } from '../cluster/devices/choice-input.ts';
import { deviceKey } from '../cluster/devices/device.ts';
import { isDelegatedToDra } from '../cluster/devices/extended-resources.ts';
import { bodiesOf } from '../cluster/devices/request-selection.ts';
import { offeredBy } from '../cluster/devices/steering/offered.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import type { PodInfo } from '../group/pod-info.ts';

/**
 * Tells for a node whether a pod that Berth does not place could be given devices there that are held for another. The
 * allocator takes the first that fit and knows nothing of holds, so it does not help that others would be free, too.
 */
export function takesHeldDevices(cache: ClusterCache, pod: PodInfo): (node: NodeInfo) => boolean {
  const catalog = cache.deviceCatalog;
  const mayGet = offeredBy(catalog.selectors, catalog.classes);
  const bodies = claimSpecs(cache, pod).flatMap(takingBodies);
  return node => {
    const { devices, record } = node;
    const held = new Set<string>();
    for (const { results, held: isHeld } of devices?.taken ?? [])
      if (isHeld) for (const result of results) held.add(deviceKey(result));
    if (devices === undefined || held.size === 0) return false;
    const wanted: DeviceRequestBody[] = [...bodies];
    for (const [name, amount] of pod.requests) {
      if (amount <= 0 || !isAcceleratorResource(name)) continue;
      if (!isDelegatedToDra(record.allocatable, name, catalog.extended)) continue;
      const deviceClass = catalog.extended.get(name);
      if (deviceClass !== undefined) wanted.push({ deviceClassName: deviceClass.name });
    }
    return devicesOn(devices.pools).some(
      device => held.has(device.key) && wanted.some(body => mayGet(body, device)),
    );
  };
}

/** What is still to be allocated for the pod. */
function claimSpecs({ claims }: ClusterCache, pod: PodInfo): readonly ResourceClaimSpec[] {
  return pod.claims.flatMap(({ template, claim }) => {
    if (template !== undefined) return claims.template(pod.namespace, template)?.spec ?? [];
    const known = claim === undefined ? undefined : claims.claim(pod.namespace, claim);
    return known === undefined || known.allocation !== undefined ? [] : known.spec;
  });
}

/** With admin access a device is only looked at. */
function takingBodies({ devices }: ResourceClaimSpec): readonly DeviceRequestBody[] {
  return (devices?.requests ?? []).flatMap(request =>
    request.exactly?.adminAccess === true ? [] : bodiesOf(request),
  );
}
