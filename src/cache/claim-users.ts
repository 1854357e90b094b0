import type { ClaimRecord } from '../cluster/devices/claims.ts';
import type { ClaimSource, ClaimTrouble } from '../group/claims.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { ClusterCache } from './cluster-cache.ts';
import { type GroupView, rankOf, seatOf } from './group-view.ts';
import { groupKeyOfPod } from './pod-index.ts';

/*
 * Claims that pods name outlive them, and several groups may use one. As long as anybody has it reserved it keeps its
 * devices, so a group may only be placed anew, off a failed one, when all have let go of it.
 */

/** Why a group may not be planned with a claim as it is now; undefined when it may. */
export function troubleOf(cache: ClusterCache, claim: ClaimRecord, group: string): ClaimTrouble | undefined {
  if (claim.allocation === undefined) {
    const planned = plannedWith(cache, claim, group);
    return planned === undefined ? undefined : { kind: 'wanted', group: planned };
  }
  // One that nobody has reserved would be released by nobody: whoever gets it releases it when it goes.
  if (claim.reservedFor.length === 0) return undefined;
  const users = othersUsing(cache, claim, group).filter(pod => !pod.terminating);
  return failureOf(cache, claim, users);
}

export interface ClaimsWithout {
  readonly source: ClaimSource;
  /** UIDs of those that are released. */
  readonly released: ReadonlySet<string>;
}

/**
 * Claims as they will be when a group has left: those that nobody else uses are not allocated. One with a failed device is
 * not either as long as all other users are groups that leave for it, too: each of them waits for all the others, so that it
 * will be free before any of them is placed. If only one stays the claim keeps the device, and there is no other place.
 * @param leaves whether another group that uses a claim with a failed device will leave for it
 */
export function claimsWithout(
  cache: ClusterCache,
  view: GroupView,
  leaves: (group: string) => boolean,
): ClaimsWithout {
  const { claims } = cache;
  const own = [...view.members.values(), ...view.leaving.values(), ...view.others];
  // A single pod has no group to be told by.
  const ownUids = new Set(own.map(({ uid }) => uid));
  // It may take a plan to tell, and is asked about each pod of each claim.
  const known = new Map<string, boolean>();
  const willLeave = (group: string): boolean => {
    const answer = known.get(group) ?? leaves(group);
    known.set(group, answer);
    return answer;
  };
  const stayingOf = (claim: ClaimRecord): readonly PodInfo[] => {
    const hasFailed = cache.failedDevicesOf(claim).length > 0;
    return othersUsing(cache, claim, view.key).filter(pod => {
      const group = groupKeyOfPod(pod);
      return (
        !ownUids.has(pod.uid) && !pod.terminating && !(hasFailed && group !== undefined && willLeave(group))
      );
    });
  };
  const isReleased = (claim: ClaimRecord) =>
    claim.podUid === undefined && claim.reservedFor.length > 0 && stayingOf(claim).length === 0;
  const named = own.flatMap(pod =>
    pod.claims.flatMap(({ claim = '' }) => claims.claim(pod.namespace, claim) ?? []),
  );
  return {
    source: {
      ...claims,
      claim: (namespace, name) => {
        const claim = claims.claim(namespace, name);
        if (claim === undefined || !isReleased(claim)) return claim;
        return { ...claim, allocation: undefined, reservedFor: [] };
      },
      trouble: claim =>
        claim.allocation === undefined ? undefined : failureOf(cache, claim, stayingOf(claim)),
    },
    released: new Set(named.filter(isReleased).map(({ uid }) => uid)),
  };
}

function failureOf(
  cache: ClusterCache,
  claim: ClaimRecord,
  users: readonly PodInfo[],
): ClaimTrouble | undefined {
  const [device] = cache.failedDevicesOf(claim);
  return device && { kind: 'failed', device, users: [...new Set(users.map(nameOf))].sort() };
}

/** Pods that have a claim reserved and are there still, those of one group left out. */
function othersUsing(cache: ClusterCache, { reservedFor }: ClaimRecord, group: string): readonly PodInfo[] {
  return reservedFor.flatMap(uid => {
    const pod = cache.pod(uid);
    return pod === undefined || pod.terminal || groupKeyOfPod(pod) === group ? [] : [pod];
  });
}

/** Another group with a plan, a member of which is on its way to have the claim allocated: that says where it is then. */
function plannedWith(cache: ClusterCache, claim: ClaimRecord, group: string): string | undefined {
  for (const pod of cache.membersNaming(claim)) {
    const key = groupKeyOfPod(pod);
    const rank = rankOf(pod);
    const view = key === undefined || key === group ? undefined : cache.group(key);
    if (view === undefined || rank === undefined || pod.nodeName !== undefined) continue;
    if (view.members.get(rank) === pod && seatOf(view, rank) !== undefined) return view.key;
  }
  return undefined;
}

function nameOf(pod: PodInfo): string {
  const group = groupKeyOfPod(pod);
  return group === undefined ? `pod ${pod.namespace}/${pod.name}` : `group ${group}`;
}
