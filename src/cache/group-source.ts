import { berth } from '../api/names.ts';
import type { ClaimSource } from '../group/claims.ts';
import { buildGroupInfo, type GroupInfo, type GroupObstacle } from '../group/group-info.ts';
import { type PlacementMode, parseMode } from '../group/owner.ts';
import { type NotPlaceable, whyNotPlaceable } from '../group/placeable.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { ClusterCache } from './cluster-cache.ts';
import type { GroupView } from './group-view.ts';

interface DescribeOptions {
  /** Where claims are looked up, if not as they are now. */
  readonly claims?: ClaimSource;
  /** The group as its next incarnation will be. */
  readonly comesAgain?: boolean;
}

/** Describes the group of a view whose leader is alive. */
export function describeGroup(
  cache: ClusterCache,
  view: GroupView,
  leader: PodInfo,
  assumeMissingAlike: boolean,
  { claims = cache.claims, comesAgain = false }: DescribeOptions = {},
): GroupInfo | GroupObstacle {
  const { membership } = view;
  return buildGroupInfo({
    membership,
    leader,
    members: view.members,
    owner:
      membership.kind === 'lws' ? cache.leaderWorkerSet(membership.namespace, membership.owner) : undefined,
    seenWorker: cache.largestWorker(membership.namespace, membership.owner, membership.revision),
    claims,
    levels: cache.levels,
    assumeMissingAlike,
    comesAgain,
  });
}

/**
 * Describes a group as it would come again: every member from its template, the leader without its pin. Without templates
 * members will be what they are, but for their pins.
 */
export function describeNext(
  cache: ClusterCache,
  view: GroupView,
  leader: PodInfo,
  claims: ClaimSource,
): GroupInfo | GroupObstacle {
  const members =
    view.membership.kind !== 'lws' ? new Map([...view.leaving, ...view.members]) : new Map([[0, leader]]);
  return describeGroup(cache, { ...view, members }, leader, true, { claims, comesAgain: true });
}

/** The mode that holds for a group: the namespace's, or the one its leader asks for inside an opted-in namespace. */
export function modeOf(cache: ClusterCache, view: GroupView): PlacementMode {
  const namespace = cache.namespace(view.membership.namespace);
  if (namespace === undefined || namespace.labels[berth.mode] === undefined) return 'observe';
  const wanted = view.leader?.annotations[berth.mode];
  return (wanted === undefined ? undefined : parseMode(wanted)) ?? namespace.mode;
}

/** The same question that admission asks, with the owner in view by now. */
export function whyGroupNotPlaceable(cache: ClusterCache, view: GroupView): NotPlaceable | undefined {
  const { membership, leader } = view;
  const owner = cache.leaderWorkerSet(membership.namespace, membership.owner);
  if (membership.kind !== 'lws' || owner === undefined) return undefined;
  return whyNotPlaceable({ spec: { containers: [] }, annotations: leader?.annotations ?? {}, owner });
}

/**
 * Whether a node lies in the required domain of the leader's node. A group that kube-scheduler has placed before Berth
 * came may run all over the cluster; members outside are left where they are, but not sent back there.
 */
export function inLeadersDomain(
  cache: ClusterCache,
  info: GroupInfo,
  leaderNode: string,
  node: string,
): boolean {
  const { requiredLevel, sameLabels } = info.topology;
  const a = cache.node(leaderNode);
  const b = cache.node(node);
  if (a === undefined || b === undefined) return false;
  if (requiredLevel === cache.levels.length && leaderNode !== node) return false;
  const levels = requiredLevel === undefined ? [] : cache.levels.slice(0, requiredLevel + 1);
  return [...levels.map(level => level.nodeLabel), ...sameLabels].every(
    label => a.labels[label] === b.labels[label],
  );
}
