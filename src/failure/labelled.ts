import { compareText } from '../cluster/topology.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { type Incarnation, kindOf, memberRank } from './incarnation.ts';
import { type Intent, wasTakenBack } from './intent.ts';

/**
 * Sorts the pods of one group without LWS. They carry no mark of their incarnation, so the records of evictions say whose
 * those are that were evicted, and the rest belongs to the leader that was there when they were made. That may be one whose
 * own eviction is recorded, as long as it stays: a record may be held for hours, and workers are made anew meanwhile. Pods
 * without any leader belong to the next one: nothing else would name them twice alike.
 */
export function labelledIncarnationsOf(
  pods: Iterable<PodInfo>,
  intents: readonly Intent[],
): readonly Incarnation[] {
  const recorded = recordedIn(intents);
  const present = [...pods].filter(pod => kindOf(pod) === 'labelled' && isThere(pod));
  const held = new Set(intents.filter(isUntouched).map(({ leaderUid }) => leaderUid));
  const leads = (pod: PodInfo): boolean =>
    memberRank(pod) === 0 && (!recorded.has(pod.uid) || (held.has(pod.uid) && !pod.terminating));
  const leaders = present.filter(leads).sort(byAge);
  const uidOf = (pod: PodInfo): string | undefined => {
    const known = recorded.get(pod.uid);
    if (known !== undefined || memberRank(pod) === 0) return known ?? pod.uid;
    // Members of a new group may be older than its leader, but not while the leader before is still there.
    const older = leaders.findLast(leader => leader.createdAtMs <= pod.createdAtMs);
    return (older ?? leaders[0])?.uid;
  };
  const byLeader = Map.groupBy(present, uidOf);
  return [...byLeader].flatMap(([leaderUid, own]) => {
    if (leaderUid === undefined) return [];
    const leader = own.find(pod => pod.uid === leaderUid);
    return [{ leaderUid, leader, workerSetUid: undefined, pods: own.sort(byRank) }];
  });
}

/**
 * The pods that are to go by the intent of a group without LWS: those that it names, and whoever has got a place by the
 * old plan meanwhile. The latter came before the next leader, and are looked for until that has a plan.
 */
export function labelledPodsToGo(
  pods: Iterable<PodInfo>,
  intent: Intent,
  intents: readonly Intent[],
  next: { readonly createdAtMs: number; readonly isPlanned: boolean } | undefined,
): readonly PodInfo[] {
  const own = new Set([intent.leaderUid, ...intent.members.map(({ uid }) => uid)]);
  const others = recordedIn(intents.filter(({ leaderUid }) => leaderUid !== intent.leaderUid));
  const isLate = (pod: PodInfo) =>
    intent.phase !== 'returning' &&
    (next === undefined || (!next.isPlanned && pod.createdAtMs <= next.createdAtMs)) &&
    memberRank(pod) !== 0 &&
    !others.has(pod.uid) &&
    (pod.nodeName ?? pod.pinnedTo) !== undefined;
  return [...pods].filter(
    pod => kindOf(pod) === 'labelled' && isThere(pod) && (own.has(pod.uid) || isLate(pod)),
  );
}

/** What has ended stays as an object for as long as it likes, and its controller has made another. */
function isThere({ terminal, terminating }: PodInfo): boolean {
  return !terminal || terminating;
}

/** Nothing of it has been evicted so far. */
function isUntouched({ phase, times }: Intent): boolean {
  return phase === 'evicting' && times.evicted === undefined;
}

/** By pod UID the leader UID under which it was, or is being, evicted. */
function recordedIn(intents: readonly Intent[]): ReadonlyMap<string, string> {
  const recorded = new Map<string, string>();
  for (const intent of intents) {
    if (wasTakenBack(intent)) continue;
    for (const { uid } of intent.members) recorded.set(uid, intent.leaderUid);
  }
  return recorded;
}

function byAge(a: PodInfo, b: PodInfo): number {
  return a.createdAtMs - b.createdAtMs || compareText(a.uid, b.uid);
}

function byRank(a: PodInfo, b: PodInfo): number {
  return (memberRank(a) ?? 0) - (memberRank(b) ?? 0) || byAge(a, b);
}
