import type { ResourceClaim, ResourceClaimSpec } from '../../../src/api/dra.ts';
import { k8s } from '../../../src/api/names.ts';
import { driverPolicy } from '../../../src/cluster/devices/steering/driver-policy.ts';
import type { ClaimReviewDeps, Seat } from '../../../webhooks/claim.ts';
import { exactly, gpus, nvidia, plan } from '../cluster/steering/steering-builders.ts';

export const podUid = '2f5c7c11-0000-4000-8000-000000000001';

export const gpuSpec: ResourceClaimSpec = { devices: { requests: [exactly('gpu', nvidia)] } };

/** A claim as kube-controller-manager makes it for pod `g-0` from a template; it calls the claim `devices`. */
export function templateClaim(
  spec: ResourceClaimSpec = gpuSpec,
  metadata: ResourceClaim['metadata'] = {},
): ResourceClaim {
  const pod = { apiVersion: 'v1', kind: 'Pod', name: 'g-0', uid: podUid, controller: true };
  return {
    metadata: {
      generateName: 'g-0-devices-',
      annotations: { [k8s.podClaimName]: 'devices' },
      ownerReferences: [pod],
      ...metadata,
    },
    spec,
  };
}

/** The plan gives the first GPU of node `n1` to request `gpu`. */
export function plannedSeat(): Seat {
  return { kind: 'planned', node: 'n1', claims: [plan({ gpu: gpus.slice(0, 1) })] };
}

export function claimDeps(deps: Partial<ClaimReviewDeps> = {}): ClaimReviewDeps {
  return {
    enabled: () => true,
    namespaceMode: () => 'pin',
    namespaceSteers: () => true,
    seatOf: async () => plannedSeat(),
    devicesOfNode: node => (node === 'n1' ? gpus : []),
    driverPolicy,
    ...deps,
  };
}
