import type { KubernetesObject } from '../api/kubernetes.ts';
import { ClusterCache } from '../cache/cluster-cache.ts';
import { decodeNode } from '../cluster/node-info.ts';
import { QuantityError } from '../cluster/quantity.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../group/owner.ts';
import { decodePod, podShare } from '../group/pod-info.ts';
import { completeNode, withDefaultRequests } from './admission.ts';
import type { ClusterObjects } from './cluster-objects.ts';
import { InputError } from './input-error.ts';

/**
 * A cache that has seen a fleet, through the decoders of the running process.
 * @throws InputError for an amount that is no quantity
 */
export function fleetCache(fleet: ClusterObjects, levels: readonly TopologyLevel[]): ClusterCache {
  const cache = new ClusterCache({ levels });
  const share = podShare();
  const decoded = <Raw extends KubernetesObject, T>(raws: readonly Raw[], decode: (raw: Raw) => T) =>
    raws.map(raw => withPlace(raw, () => fleet.placeOf(raw), decode));
  cache.namespaces.replace(decoded(fleet.namespaces, decodeNamespace));
  cache.nodes.replace(decoded(fleet.nodes, node => decodeNode(completeNode(node))));
  cache.leaderWorkerSets.replace(decoded(fleet.leaderWorkerSets, decodeLeaderWorkerSet));
  cache.statefulSets.replace(decoded(fleet.statefulSets, decodeStatefulSet));
  cache.pods.replace(decoded(fleet.pods, pod => decodePod(identified(withDefaultRequests(pod)), share)));
  return cache;
}

/**
 * Decodes an object that came from a file.
 * @throws InputError with the place and the field of an amount that is no quantity
 */
export function withPlace<Raw extends KubernetesObject, T>(
  raw: Raw,
  placeOf: () => string | undefined,
  decode: (raw: Raw) => T,
): T {
  try {
    return decode(raw);
  } catch (error) {
    if (!(error instanceof QuantityError)) throw error;
    const place = placeOf();
    const where = place === undefined ? '' : `${place}: `;
    throw new InputError([`${where}${raw.kind ?? 'object'} ${raw.metadata.name ?? ''}: ${error.message}`]);
  }
}

/** The cache knows pods by UID, which a file written by hand leaves out. */
function identified<Raw extends KubernetesObject>(raw: Raw): Raw {
  const { metadata } = raw;
  if (metadata.uid !== undefined && metadata.namespace !== undefined) return raw;
  const namespace = metadata.namespace ?? 'default';
  const uid = metadata.uid ?? `${namespace}/${metadata.name ?? metadata.generateName ?? ''}`;
  return { ...raw, metadata: { ...metadata, namespace, uid } };
}
