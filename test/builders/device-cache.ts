import type { FleetContent } from '../../hack/bed/fleet-presets.ts';
import type { DeviceConstraint, DeviceRequest } from '../../src/api/dra.ts';
import type { PodTemplateSpec } from '../../src/api/kubernetes.ts';
import { k8s } from '../../src/api/names.ts';
import { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { decodeDeviceClass, decodeResourceClaimTemplate } from '../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../src/cluster/node-info.ts';
import { decodeNamespace } from '../../src/group/owner.ts';

const namespace = 'serving';

/** A cache that has seen machines with their devices, and a ResourceClaimTemplate `serving/devices` where one is asked for. */
export function cacheWithDevices(
  { nodes, slices = [], deviceClasses = [] }: FleetContent,
  requests: readonly DeviceRequest[] = [],
  constraints: readonly DeviceConstraint[] = [],
): ClusterCache {
  const cache = new ClusterCache({ levels: [], steersClaims: true });
  const labels = { [k8s.namespaceName]: namespace };
  cache.namespaces.replace([decodeNamespace({ metadata: { name: namespace, labels } })]);
  const conditions = [{ type: 'Ready', status: 'True' }];
  cache.nodes.replace(nodes.map(node => decodeNode({ ...node, status: { ...node.status, conditions } })));
  cache.resourceSlices.replace(slices.map(decodeResourceSlice));
  cache.deviceClasses.replace(deviceClasses.map(decodeDeviceClass));
  if (requests.length > 0) {
    const spec = { spec: { devices: { requests, constraints } } };
    const template = { metadata: { name: 'devices', namespace }, spec };
    cache.resourceClaimTemplates.upsert(decodeResourceClaimTemplate(template));
  }
  return cache;
}

/** Claims what template `devices` asks for. */
export const claimingDevices = {
  resourceClaims: [{ name: 'devices', resourceClaimTemplateName: 'devices' }],
};

/** A pod template that does so. */
export const claimingTemplate: PodTemplateSpec = {
  metadata: {},
  spec: { containers: [{ name: 'main' }], ...claimingDevices },
};
