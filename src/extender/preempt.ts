import type { ClusterCache } from '../cache/cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from '../cache/group-source.ts';
import { groupKeyOf, isMembershipError, type Membership } from '../group/membership.ts';
import { plansGroups } from '../group/owner.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { refuses, verdictFor } from './verdict.ts';
import type { PreemptionArgs, Victims } from './wire.ts';

/**
 * The candidates on which evictions are worth their price. kube-scheduler would kill for a node that filter refuses
 * afterwards, and would break a group for the sake of one pod; members may preempt for their group, on their own node.
 * A candidate without victims is dropped: nothing would come of it, and kube-scheduler takes it for an error.
 */
export function worthwhileVictims(
  cache: ClusterCache,
  { pod, victimsByNode }: PreemptionArgs,
): ReadonlyMap<string, Victims> {
  const verdict = verdictFor(cache, pod);
  const sparesGroups = membershipOf(pod) === undefined;
  const kept = new Map<string, Victims>();
  for (const [node, victims] of victimsByNode) {
    if (victims.uids.length === 0 || refuses(verdict, node)) continue;
    if (sparesGroups && victims.uids.some(uid => isGroupMember(cache, uid))) continue;
    kept.set(node, victims);
  }
  return kept;
}

/** A pod that the cache does not know is taken for a single: kube-scheduler has looked at its priority. */
function isGroupMember(cache: ClusterCache, uid: string): boolean {
  const victim = cache.pod(uid);
  if (victim === undefined || victim.terminal) return false;
  const membership = membershipOf(victim);
  if (membership === undefined) return false;
  return membership.size > 1 || isPlacedByBerth(cache, victim, membership);
}

function isPlacedByBerth(cache: ClusterCache, pod: PodInfo, membership: Membership): boolean {
  const view = cache.group(groupKeyOf(membership));
  if (view === undefined || (view.leader ?? pod).foreignOwner !== undefined) return false;
  return plansGroups(modeOf(cache, view)) && whyGroupNotPlaceable(cache, view) === undefined;
}

function membershipOf({ membership }: PodInfo): Membership | undefined {
  return isMembershipError(membership) ? undefined : membership;
}
