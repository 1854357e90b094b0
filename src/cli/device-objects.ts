import type { ResourceClaim } from '../api/dra.ts';
import type { KubernetesObject } from '../api/kubernetes.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { ObjectSink } from '../cache/object-sink.ts';
import {
  decodeDeviceClass,
  decodeResourceClaim,
  decodeResourceClaimTemplate,
} from '../cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../cluster/devices/decode-slice.ts';
import { decodeTaintRule } from '../cluster/devices/taint-rules.ts';
import type { ClusterObjects } from './cluster-objects.ts';
import { withPlace } from './decode-object.ts';

/**
 * Puts the objects of DRA into a cache that knows the pods already, through the decoders of the running process. What
 * names no namespace is in the given one. A class, template or rule takes the place of one with the same name; a claim
 * that is there already stays, for its spec cannot be changed and it may be allocated. Gives the names of such claims.
 * @throws InputError with place and field of what cannot be read
 */
export function takeDeviceObjects(
  cache: ClusterCache,
  objects: ClusterObjects,
  { namespace }: { readonly namespace: string },
): readonly string[] {
  const decoded = <Raw extends KubernetesObject, T>(raw: Raw, decode: (raw: Raw) => T) =>
    withPlace(raw, () => objects.placeOf(raw), decode);
  const put = <Raw extends KubernetesObject, T>(
    raws: readonly Raw[],
    decode: (raw: Raw) => T,
    sink: ObjectSink<T>,
  ) => {
    for (const raw of raws) sink.upsert(decoded(raw, decode));
  };
  put(objects.deviceClasses, decodeDeviceClass, cache.deviceClasses);
  put(objects.deviceTaintRules, decodeTaintRule, cache.deviceTaintRules);
  put(objects.resourceSlices, decodeResourceSlice, cache.resourceSlices);
  put(
    objects.resourceClaimTemplates,
    raw => decodeResourceClaimTemplate(within(raw, namespace)),
    cache.resourceClaimTemplates,
  );
  if (objects.resourceClaims.length === 0) return [];
  const uids = new Map([...cache.allPods()].map(pod => [`${pod.namespace}/${pod.name}`, pod.uid]));
  const uidOf = (key: string) => uids.get(key) ?? key;
  const known: string[] = [];
  for (const raw of objects.resourceClaims) {
    const claim = decoded(raw, each => decodeResourceClaim(identified(within(each, namespace), uidOf)));
    const isKnown = cache.claims.claim(claim.namespace, claim.name) !== undefined;
    if (isKnown) known.push(`${claim.namespace}/${claim.name}`);
    else cache.resourceClaims.upsert(claim);
  }
  return known;
}

function within<Raw extends KubernetesObject>(raw: Raw, namespace: string): Raw {
  if (raw.metadata.namespace !== undefined) return raw;
  return { ...raw, metadata: { ...raw.metadata, namespace } };
}

/** Files written by hand, and dumps for others, leave UIDs out: names stand in, and pods are found by theirs. */
function identified(claim: ResourceClaim, uidOf: (podKey: string) => string): ResourceClaim {
  const { metadata, status } = claim;
  const { namespace = '', name = '', ownerReferences } = metadata;
  const reservedFor = status?.reservedFor?.map(consumer => ({
    ...consumer,
    uid: consumer.uid ?? uidOf(`${namespace}/${consumer.name}`),
  }));
  return {
    ...claim,
    metadata: {
      ...metadata,
      uid: metadata.uid ?? `${namespace}/${name}`,
      ...(ownerReferences && {
        ownerReferences: ownerReferences.map(owner => ({
          ...owner,
          uid: owner.uid ?? uidOf(`${namespace}/${owner.name}`),
        })),
      }),
    },
    ...(status && { status: { ...status, ...(reservedFor && { reservedFor }) } }),
  };
}
