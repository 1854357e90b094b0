import type { KubernetesObject } from '../api/kubernetes.ts';
import { ClusterCache } from '../cache/cluster-cache.ts';
import { decodeNode } from '../cluster/node-info.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../group/owner.ts';
import { decodePod, podShare } from '../group/pod-info.ts';
import { completeNode, withDefaultRequests } from './admission.ts';
import type { ClusterObjects } from './cluster-objects.ts';
import { withPlace } from './decode-object.ts';
import { takeDeviceObjects } from './device-objects.ts';

/**
 * A cache that has seen a fleet, through the decoders of the running process.
 * @throws InputError for what cannot be read
 */
export function fleetCache(fleet: ClusterObjects, levels: readonly TopologyLevel[]): ClusterCache {
  const cache = new ClusterCache({ levels, steersClaims: true });
  const share = podShare();
  const decoded = <Raw extends KubernetesObject, T>(raws: readonly Raw[], decode: (raw: Raw) => T) =>
    raws.map(raw => withPlace(raw, () => fleet.placeOf(raw), decode));
  cache.namespaces.replace(decoded(fleet.namespaces, decodeNamespace));
  cache.nodes.replace(decoded(fleet.nodes, node => decodeNode(completeNode(node))));
  cache.leaderWorkerSets.replace(decoded(fleet.leaderWorkerSets, decodeLeaderWorkerSet));
  cache.statefulSets.replace(decoded(fleet.statefulSets, decodeStatefulSet));
  cache.pods.replace(decoded(fleet.pods, pod => decodePod(identified(withDefaultRequests(pod)), share)));
  takeDeviceObjects(cache, fleet, { namespace: 'default' });
  return cache;
}

/** The cache knows pods by UID, which a file written by hand leaves out. */
function identified<Raw extends KubernetesObject>(raw: Raw): Raw {
  const { metadata } = raw;
  if (metadata.uid !== undefined && metadata.namespace !== undefined) return raw;
  const namespace = metadata.namespace ?? 'default';
  const uid = metadata.uid ?? `${namespace}/${metadata.name ?? metadata.generateName ?? ''}`;
  return { ...raw, metadata: { ...metadata, namespace, uid } };
}
