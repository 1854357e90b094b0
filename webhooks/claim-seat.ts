import type { Pod } from '../src/api/kubernetes.ts';
import type { ClusterCache } from '../src/cache/cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from '../src/cache/group-source.ts';
import { type GroupView, seatOf } from '../src/cache/group-view.ts';
import { numaNodeAttribute, pcieRootAttribute } from '../src/cluster/devices/locality.ts';
import { readMinAlignment } from '../src/group/claims.ts';
import { requestSources } from '../src/group/group-info.ts';
import { groupKeyOf, isMembershipError, type Membership } from '../src/group/membership.ts';
import { pinsPods, plansGroups } from '../src/group/owner.ts';
import { decodePod, isGated, type PodInfo, podShare } from '../src/group/pod-info.ts';
import { RecentMap } from '../src/kube/recent-map.ts';
import type { Seat } from './claim.ts';

export interface SeatLookup {
  readonly cache: ClusterCache;
  readonly synced: () => boolean;
  /** Reads a pod from the API server, for at most a second; undefined when it is not there or not in time. */
  readonly readPod: (namespace: string, name: string) => Promise<Pod | undefined>;
  readonly sleep: (ms: number) => Promise<void>;
}

/**
 * A plan is made within some tens of milliseconds as a rule. A claim that is refused costs kube-controller-manager a call
 * of the few that it may make in a second, and an event; to wait costs it one of ten workers for a moment.
 */
const patienceMs = 300;
const lookAgainMs = 20;
const rememberedPods = 10_000;

/**
 * What Berth knows of the place of the pod that a claim is made for. kube-controller-manager may be quicker than our watch:
 * a pod that the cache does not have is read live.
 */
export function seatLookup({ cache, synced, readPod, sleep }: SeatLookup) {
  const share = podShare();
  /** Pods that were waited for already: their groups have no room, and they come again and again. */
  const waitedFor = new RecentMap<string, true>(rememberedPods);
  const look = async (namespace: string, podName: string, podUid: string): Promise<Seat> => {
    if (!synced()) return unknown;
    const known = cache.pod(podUid);
    if (known !== undefined) return seatOfPod(cache, known, true);
    const live = await readPod(namespace, podName);
    if (live === undefined || live.metadata.uid !== podUid) return unknown;
    // It may have come while it was asked for.
    const now = cache.pod(podUid);
    return seatOfPod(cache, now ?? decodePod(live, share), now !== undefined);
  };
  return async (namespace: string, podName: string, podUid: string): Promise<Seat> => {
    let seat = await look(namespace, podName, podUid);
    if (seat.kind !== 'waiting' || waitedFor.get(podUid)) return seat;
    waitedFor.set(podUid, true);
    for (let waitedMs = 0; waitedMs < patienceMs && seat.kind === 'waiting'; waitedMs += lookAgainMs) {
      await sleep(lookAgainMs);
      // A pod that is still not seen is not asked for again and again.
      if (cache.pod(podUid) !== undefined) seat = await look(namespace, podName, podUid);
    }
    return seat;
  };
}

const unknown: Seat = { kind: 'unknown' };
const waiting: Seat = { kind: 'waiting' };

function seatOfPod(cache: ClusterCache, pod: PodInfo, isSeen: boolean): Seat {
  const { membership } = pod;
  if (membership === undefined || isMembershipError(membership)) return notOurs('in no group');
  if (pod.foreignOwner !== undefined) return notOurs(pod.foreignOwner);
  const view = cache.group(groupKeyOf(membership));
  // A pod that was just created may be the first of its group that is seen.
  if (view === undefined) return isGated(pod) ? waiting : unknown;
  const mode = modeOf(cache, view);
  if (!plansGroups(mode)) return notOurs(`mode ${mode}`);
  const why = whyGroupNotPlaceable(cache, view);
  if (why !== undefined) return notOurs(why);
  const node = isSeen ? seatOfMember(view, pod, membership) : seatOfUnseen(cache, view, pod, membership);
  if (node !== undefined && view.planWritten) return planned(cache, view, membership, node);
  if (isGated(pod) || (!pinsPods(mode) && view.plan?.nodes[membership.rank] !== '')) return waiting;
  return notOurs('it has no seat');
}

function seatOfMember(view: GroupView, pod: PodInfo, { rank }: Membership): string | undefined {
  return view.members.get(rank)?.uid === pod.uid ? seatOf(view, rank) : undefined;
}

/** A worker that was pinned at its creation and that the cache has not seen: it must be of the live leader's incarnation. */
function seatOfUnseen(
  cache: ClusterCache,
  view: GroupView,
  pod: PodInfo,
  membership: Membership,
): string | undefined {
  const { leader } = view;
  if (leader === undefined || membership.rank === 0 || membership.kind !== view.membership.kind)
    return undefined;
  const set = cache.statefulSet(pod.controllerUid);
  if (membership.kind === 'lws' && set?.controllerUid !== leader.uid) return undefined;
  return seatOf(view, membership.rank);
}

function planned(cache: ClusterCache, view: GroupView, { rank }: Membership, node: string): Seat {
  const { claims = [], rung } = view.plan?.devices?.[rank] ?? {};
  const { membership, leader } = view;
  const owner = cache.leaderWorkerSet(membership.namespace, membership.owner);
  const demanded = readMinAlignment(requestSources(leader?.annotations ?? {}, owner));
  const seat = { kind: 'planned', node, claims } as const;
  if (demanded === 'pcie' && rung === 'pcie') return { ...seat, alignBy: pcieRootAttribute };
  if (demanded === 'numa' && (rung === 'pcie' || rung === 'numa'))
    return { ...seat, alignBy: numaNodeAttribute };
  return seat;
}

function notOurs(reason: string): Seat {
  return { kind: 'not-ours', reason };
}
