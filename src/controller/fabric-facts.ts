import { nvidia } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeNext } from '../cache/group-source.ts';
import { labelValue } from '../cluster/labels.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { tpuLevelOf, tpuResource, tpuShapeOf } from '../cluster/tpu-shape.ts';
import type { Incarnation } from '../failure/incarnation.ts';
import type { AllocatedDevice, MemberFacts, NvlinkFacts, TpuSliceFacts } from '../failure/signal.ts';
import { isObstacle } from '../group/group-info.ts';
import { groupKeyOf, isMembershipError } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { TpuSlices } from '../group/topology-request.ts';

/** What failure handling reads in the cache of what ties nodes together. Nothing here remembers or writes anything. */

/** The ComputeDomain of a member that has a channel; undefined for one that has none. */
export function nvlinkFacts(
  cache: ClusterCache,
  pod: PodInfo,
  devices: readonly AllocatedDevice[],
): NvlinkFacts | undefined {
  if (!devices.some(({ id }) => id.driver === nvidia.computeDomainDriver)) return undefined;
  for (const { computeDomain } of cache.claimsOf(pod.uid))
    if (computeDomain !== undefined) return { clique: undefined, domain: cache.computeDomain(computeDomain) };
  return { clique: undefined, domain: undefined };
}

/** The TPU slices that members of a group are in, each worked out once. */
export function tpuSliceReader(
  cache: ClusterCache,
  incarnation: Incarnation,
): (pod: PodInfo, node: NodeRecord | undefined) => TpuSliceFacts | undefined {
  const known = new Map<string, TpuSliceFacts>();
  let wanted: TpuSlices | undefined | 'unasked' = 'unasked';
  return (pod, node) => {
    if (node === undefined || (pod.requests.get(tpuResource) ?? 0) === 0) return undefined;
    if (wanted === 'unasked') wanted = slicesWanted(cache, incarnation);
    const index = wanted?.level ?? tpuLevelOf(cache.levels);
    const level = index === undefined ? undefined : cache.levels[index];
    const name = level === undefined ? undefined : labelValue(node.labels, level.nodeLabel);
    if (index === undefined || level === undefined || name === undefined)
      return { name: node.name, hosts: undefined, present: 0 };
    const domain = cache.levels
      .slice(0, index + 1)
      .map(({ nodeLabel }) => labelValue(node.labels, nodeLabel) ?? '');
    const facts =
      known.get(domain.join('\n')) ?? sliceFacts(cache, { level, name, domain, hosts: wanted?.hosts ?? [] });
    known.set(domain.join('\n'), facts);
    return facts;
  };
}

/** The node label of the slices of a group's members, to look at them live. */
export function tpuSliceLabel(cache: ClusterCache, incarnation: Incarnation): string | undefined {
  const index = slicesWanted(cache, incarnation)?.level;
  return index === undefined ? undefined : cache.levels[index]?.nodeLabel;
}

function sliceFacts(
  cache: ClusterCache,
  slice: {
    readonly level: TopologyLevel;
    readonly name: string;
    readonly domain: readonly string[];
    readonly hosts: readonly number[];
  },
): TpuSliceFacts {
  const { level, name, domain, hosts } = slice;
  // To find the hosts of a slice takes a look at all nodes.
  if (!hosts.some(count => count > 1)) return { name, hosts: undefined, present: 0 };
  const inside = [...cache.allNodes()].filter(({ labels }) =>
    domain.every((value, at) => (labelValue(labels, cache.levels[at]?.nodeLabel ?? '') ?? '') === value),
  );
  const shape = tpuShapeOf(
    level,
    inside.map(record => ({ record })),
  );
  const isFilled = shape?.hosts !== undefined && shape.hosts > 1 && hosts.includes(shape.hosts);
  return { name, hosts: isFilled ? shape.hosts : undefined, present: inside.length };
}

/** As the group would be placed again; undefined where nobody can tell. */
function slicesWanted(cache: ClusterCache, { leader }: Incarnation): TpuSlices | undefined {
  const membership = leader?.membership;
  if (leader === undefined || membership === undefined || isMembershipError(membership)) return undefined;
  const view = cache.group(groupKeyOf(membership));
  const info = view && describeNext(cache, view, leader, cache.claims);
  return info === undefined || isObstacle(info) ? undefined : info.topology.tpuSlices;
}

/** The cliques of members with channels, for CliqueMemory. */
export function cliqueSights(members: readonly MemberFacts[]) {
  return members.flatMap(({ node, nvlink }) =>
    node === undefined || nvlink === undefined
      ? []
      : [{ nodeUid: node.uid, clique: labelValue(node.labels, nvidia.clique) }],
  );
}
