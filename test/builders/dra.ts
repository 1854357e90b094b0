import type { DeviceRequestAllocationResult, ResourceClaim, ResourceSlice } from '../../src/api/dra.ts';
import { k8s } from '../../src/api/names.ts';
import type { ClusterCache } from '../../src/cache/cluster-cache.ts';
import type { WantedClaim } from '../../src/cluster/devices/claims.ts';
import { decodeResourceClaim, decodeResourceClaimTemplate } from '../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../src/cluster/devices/decode-slice.ts';
import { nodeClasses } from './device-nodes.ts';

/** The slices of node `n1` as another node would publish them. */
export function onNode(slices: readonly ResourceSlice[], node: string): readonly ResourceSlice[] {
  return slices.map(({ metadata, spec }) => ({
    metadata: { ...metadata, name: (metadata.name ?? '').replace('n1', node) },
    spec: { ...spec, nodeName: node, pool: { ...spec.pool, name: node } },
  }));
}

/** Tells a cache of devices: the classes of the built nodes, and slices by node. */
export function publish(
  cache: ClusterCache,
  byNode: Readonly<Record<string, readonly ResourceSlice[]>>,
): void {
  for (const deviceClass of nodeClasses.values()) cache.deviceClasses.upsert(deviceClass);
  for (const [node, slices] of Object.entries(byNode))
    for (const slice of onNode(slices, node)) cache.resourceSlices.upsert(decodeResourceSlice(slice));
}

/** A template `name` that asks for what a claim asks for. */
export function addTemplate(
  cache: ClusterCache,
  { name, spec }: WantedClaim,
  {
    namespace = 'serving',
    annotations = {},
  }: { namespace?: string; annotations?: Record<string, string> } = {},
): void {
  cache.resourceClaimTemplates.upsert(
    decodeResourceClaimTemplate({
      metadata: { name, namespace },
      spec: { metadata: { annotations }, spec },
    }),
  );
}

export interface ClaimParts {
  readonly name: string;
  readonly namespace?: string;
  readonly spec?: ResourceClaim['spec'];
  /** The pod it was made for from a template, and what that calls it. */
  readonly pod?: { readonly name: string; readonly uid: string; readonly calls: string };
  /** Devices it has, as `driver/pool/device`. */
  readonly allocated?: readonly string[];
  readonly reservedFor?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A ResourceClaim as the API server sends it. */
export function claimObject(parts: ClaimParts): ResourceClaim {
  const { name, namespace = 'serving', spec = { devices: { requests: [] } }, pod, allocated } = parts;
  const results = (allocated ?? []).map((text): DeviceRequestAllocationResult => {
    const [driver = '', pool = '', device = ''] = text.split('/');
    return { request: 'r', driver, pool, device };
  });
  return {
    metadata: {
      name,
      namespace,
      uid: `uid-claim-${namespace}-${name}`,
      annotations: { ...(pod && { [k8s.podClaimName]: pod.calls }), ...parts.annotations },
      ...(pod && {
        ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: pod.name, uid: pod.uid, controller: true }],
      }),
    },
    spec,
    status: {
      ...(allocated && { allocation: { devices: { results } } }),
      reservedFor: (parts.reservedFor ?? []).map(uid => ({ resource: 'pods', name: uid, uid })),
    },
  };
}

export function addClaim(cache: ClusterCache, parts: ClaimParts): void {
  cache.resourceClaims.upsert(decodeResourceClaim(claimObject(parts)));
}
