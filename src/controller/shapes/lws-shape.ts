import { berth, lws } from '../../api/names.ts';
import type { ClusterCache } from '../../cache/cluster-cache.ts';
import { incarnationsOf } from '../../failure/incarnation.ts';
import { type Intent, namespaceOf } from '../../failure/intent.ts';
import { isMembershipError, type Membership, membershipOf } from '../../group/membership.ts';
import type { PodInfo } from '../../group/pod-info.ts';
import { nextOfView } from './next.ts';
import type { GroupShape } from './shape.ts';

/**
 * Groups of a LeaderWorkerSet: a worker belongs to the leader that owns its StatefulSet, goes with it, and LWS makes both
 * anew.
 */
export const lwsShape: GroupShape = {
  kind: 'lws',
  goesSingly: false,
  keepsPlace: true,
  incarnations: (cache, key) => incarnationsOf(cache.podsOfGroup(key), uid => cache.statefulSet(uid)),
  view: (cache, key) => cache.group(key),
  ownerOf(cache, { membership: { namespace, owner: name } }) {
    const uid = cache.leaderWorkerSet(namespace, name)?.metadata.uid;
    return uid === undefined
      ? undefined
      : { apiVersion: lws.apiVersion, kind: lws.kind, namespace, name, uid };
  },
  wishes: (cache, { membership: { namespace, owner } }, { leader, pods }) => [
    cache.leaderWorkerSet(namespace, owner)?.metadata.annotations?.[berth.failure],
    (leader ?? pods[0])?.annotations[berth.failure],
  ],
  whyNotRemade: ({ membership }) =>
    keepsItsName(membership)
      ? undefined
      : 'of the groups of a LeaderWorkerSet Berth evicts only those that are numbered',
  whyComesBack: () => undefined,
  remakers: () => [],
  membersReturnAlone(cache, { membership: { namespace, owner } }) {
    const { restartPolicy } = cache.leaderWorkerSet(namespace, owner)?.spec.leaderWorkerTemplate ?? {};
    // Of a group that is still starting LWS remakes no more than the pod (RecreateGroupAfterStart).
    return restartPolicy === 'None' || restartPolicy === 'RecreateGroupAfterStart';
  },
  isWanted: (cache, { membership: { namespace, owner, name } }) => ownerWants(cache, namespace, owner, name),
  async isWantedNow(_, writes, { membership: { namespace, owner, name } }) {
    const set = await writes.liveOwner({ namespace, name: owner });
    return (
      set !== undefined &&
      set.metadata.deletionTimestamp === undefined &&
      withinReplicas(set.spec.replicas, owner, name)
    );
  },

  podsToGo: (cache, intent) => [...cache.podsOfGroup(intent.group)].filter(pod => isOld(cache, intent, pod)),
  wantsNext(cache, intent) {
    const { owner, leaderName } = intent;
    const namespace = namespaceOf(intent);
    return (
      cache.leaderWorkerSet(namespace, owner.name)?.metadata.uid === owner.uid &&
      ownerWants(cache, namespace, owner.name, leaderName)
    );
  },
  // The cache has all LeaderWorkerSets.
  wantsNextNow: () => Promise.resolve(true),
  next: (cache, intent) => nextOfView(cache.group(intent.group), intent),
  sizeOf: (cache, { group, members }) => cache.group(group)?.membership.size ?? members.length,
  mayEnd({ metadata }, { leaderName }) {
    const membership = membershipOf(metadata, metadata.namespace ?? '');
    return (
      membership !== undefined &&
      !isMembershipError(membership) &&
      membership.kind === 'lws' &&
      membership.rank === 0 &&
      membership.name === leaderName
    );
  },
};

/**
 * Whether the LeaderWorkerSet still asks for the group of that leader name. Groups of which no ordinal can be told (LWS
 * may name them by a hash) are wanted as long as the owner is there.
 */
function ownerWants(cache: ClusterCache, namespace: string, ownerName: string, leaderName: string): boolean {
  const owner = cache.leaderWorkerSet(namespace, ownerName);
  if (owner === undefined || owner.metadata.deletionTimestamp !== undefined) return false;
  return withinReplicas(owner.spec.replicas, ownerName, leaderName);
}

/** `replicas` as in the spec of the owner; absent means 1. */
function withinReplicas(replicas: number | undefined, ownerName: string, leaderName: string): boolean {
  const ordinal = leaderName.startsWith(`${ownerName}-`) ? leaderName.slice(ownerName.length + 1) : '';
  return !/^(0|[1-9]\d{0,6})$/.test(ordinal) || Number(ordinal) < (replicas ?? 1);
}

/** Whether the group comes again under the same name, by which its return is known. */
function keepsItsName({ owner, name }: Membership): boolean {
  return name.startsWith(`${owner}-`) && /^\d+$/.test(name.slice(owner.length + 1));
}

/** Recorded members and all that the old workers' StatefulSet owns by now, the leader included. */
function isOld(cache: ClusterCache, intent: Intent, pod: PodInfo): boolean {
  if (pod.uid === intent.leaderUid || intent.members.some(({ uid }) => uid === pod.uid)) return true;
  if (pod.controllerUid === '') return false;
  return (
    pod.controllerUid === intent.workerSetUid ||
    cache.statefulSet(pod.controllerUid)?.controllerUid === intent.leaderUid
  );
}
