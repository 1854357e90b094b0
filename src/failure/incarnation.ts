import { isMembershipError, type Membership } from '../group/membership.ts';
import type { StatefulSetRecord } from '../group/owner.ts';
import type { PodInfo } from '../group/pod-info.ts';

/** The pods that one leader brought up, those that are going or have ended included. */
export interface Incarnation {
  readonly leaderUid: string;
  /** Undefined once the leader pod is gone. */
  readonly leader: PodInfo | undefined;
  /** UID of the workers' StatefulSet; undefined in a group of one, and before LWS has made it. */
  readonly workerSetUid: string | undefined;
  /** Leader first, workers by rank. */
  readonly pods: readonly PodInfo[];
}

/**
 * Sorts the pods of one LWS group by the leader UID that they belong to: a worker through its StatefulSet, which that
 * leader owns. Workers whose StatefulSet is not known are left out, for nobody can tell whose they are.
 */
export function incarnationsOf(
  pods: Iterable<PodInfo>,
  statefulSet: (uid: string) => StatefulSetRecord | undefined,
): readonly Incarnation[] {
  const drafts = new Map<string, { leader?: PodInfo; workerSetUid?: string; pods: PodInfo[] }>();
  const draftOf = (leaderUid: string) => {
    const draft = drafts.get(leaderUid) ?? { pods: [] };
    drafts.set(leaderUid, draft);
    return draft;
  };
  for (const pod of pods) {
    const rank = memberRank(pod);
    // A group without LWS may have the name of an LWS leader.
    if (rank === undefined || kindOf(pod) !== 'lws') continue;
    if (rank === 0) {
      const draft = draftOf(pod.uid);
      draft.leader = pod;
      draft.pods.push(pod);
      continue;
    }
    const leaderUid = statefulSet(pod.controllerUid)?.controllerUid ?? '';
    if (leaderUid === '') continue;
    const draft = draftOf(leaderUid);
    draft.workerSetUid = pod.controllerUid;
    draft.pods.push(pod);
  }
  return [...drafts].map(([leaderUid, draft]) => ({
    leaderUid,
    leader: draft.leader,
    workerSetUid: draft.workerSetUid,
    pods: draft.pods.sort((a, b) => (memberRank(a) ?? 0) - (memberRank(b) ?? 0)),
  }));
}

/** Rank in its group; undefined for a pod outside groups. */
export function memberRank({ membership }: PodInfo): number | undefined {
  return membership === undefined || isMembershipError(membership) ? undefined : membership.rank;
}

/** What makes a pod's group one; undefined for a pod outside groups. */
export function kindOf({ membership }: PodInfo): Membership['kind'] | undefined {
  return membership === undefined || isMembershipError(membership) ? undefined : membership.kind;
}

/**
 * Every rank is there, Ready and stays: the group answers requests.
 * @param isReady where something else than Ready is asked for
 */
export function isServing(
  incarnation: Incarnation,
  size: number,
  isReady: (pod: PodInfo) => boolean = pod => pod.ready,
): boolean {
  const ranks = new Set<number>();
  for (const pod of incarnation.pods) {
    if (pod.terminal) continue;
    if (!isReady(pod) || pod.terminating) return false;
    ranks.add(memberRank(pod) ?? -1);
  }
  return ranks.size === size;
}
