import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from '../cache/group-source.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { Claims } from '../failure/claim.ts';
import { type Incarnation, incarnationsOf } from '../failure/incarnation.ts';
import { type Intent, namespaceOf } from '../failure/intent.ts';
import type { IntentFacts, NewIncarnation, OldMember } from '../failure/next-step.ts';
import { type FailureMode, type FailureSettings, leastMode, optsOut } from '../failure/settings.ts';
import type { MemberFacts } from '../failure/signal.ts';
import { outOfServiceTaint } from '../failure/signals.ts';
import { isMembershipError, type Membership } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { allocatedDevices, resourcesShortOn } from './device-facts.ts';

/** What failure handling reads of the cache. Nothing here remembers or writes anything. */

/** The incarnations of an LWS group, each with its pods. A group without LWS is told apart by nothing: it is one. */
export function incarnations(cache: ClusterCache, key: string): readonly Incarnation[] {
  const view = cache.group(key);
  if (view?.membership.kind === 'labelled') {
    const { leader, members } = view;
    if (leader === undefined) return [];
    return [{ leaderUid: leader.uid, leader, workerSetUid: undefined, pods: [...members.values()] }];
  }
  return incarnationsOf(cache.podsOfGroup(key), uid => cache.statefulSet(uid));
}

/** Bound members of an incarnation as the signals look at them; none when its owner does not want the group any more. */
export function memberFacts(
  cache: ClusterCache,
  incarnation: Incarnation,
  claims: Claims,
): readonly MemberFacts[] {
  const { leader, pods } = incarnation;
  const claim = claims.of(incarnation.leaderUid);
  const [first] = pods;
  const membership = first?.membership;
  if (membership === undefined || isMembershipError(membership)) return [];
  const { namespace, owner, name } = membership;
  if (membership.kind === 'lws' && !ownerWants(cache, namespace, owner, name)) return [];
  const { restartPolicy } = cache.leaderWorkerSet(namespace, owner)?.spec.leaderWorkerTemplate ?? {};
  const leaderStays = leader !== undefined && !leader.terminating && !leader.terminal;
  const living = pods.filter(pod => !pod.terminating && !pod.terminal);
  return pods.flatMap(pod => {
    const { nodeName } = pod;
    if (nodeName === undefined) return [];
    return [
      {
        pod,
        nodeName,
        node: cache.node(nodeName),
        shortOf: resourcesShortOn(cache, nodeName),
        devices: allocatedDevices(pod, cache.claimsOf(pod.uid), (driver, pool) =>
          cache.devicePool(driver, pool),
        ),
        leads: pod === leader,
        stays: leaderStays && !pod.terminating && !pod.terminal,
        othersLive: living.some(other => other !== pod),
        // Of a group that is still starting LWS remakes no more than the pod (RecreateGroupAfterStart).
        returnsAlone: restartPolicy === 'None' || restartPolicy === 'RecreateGroupAfterStart',
        claim,
      },
    ];
  });
}

/**
 * Whether the LeaderWorkerSet still asks for the group of that leader name. Groups of which no ordinal can be told (LWS
 * may name them by a hash) are wanted as long as the owner is there.
 */
export function ownerWants(
  cache: ClusterCache,
  namespace: string,
  ownerName: string,
  leaderName: string,
): boolean {
  const owner = cache.leaderWorkerSet(namespace, ownerName);
  if (owner === undefined || owner.metadata.deletionTimestamp !== undefined) return false;
  return withinReplicas(owner.spec.replicas, ownerName, leaderName);
}

/** `replicas` as in the spec of the owner; absent means 1. */
export function withinReplicas(replicas: number | undefined, ownerName: string, leaderName: string): boolean {
  const ordinal = leaderName.startsWith(`${ownerName}-`) ? leaderName.slice(ownerName.length + 1) : '';
  return !/^(0|[1-9]\d{0,6})$/.test(ordinal) || Number(ordinal) < (replicas ?? 1);
}

/** The least of what the configuration, the namespace, the owner and the leader ask for. */
export function failureModeOf(
  cache: ClusterCache,
  settings: FailureSettings,
  view: GroupView,
  incarnation: Incarnation,
): FailureMode {
  return leastMode(settings.mode, wishesOf(cache, view, incarnation));
}

/** How far preemption goes with a group: it has a switch of its own, and who opts out there is left alone here, too. */
export function preemptionModeOf(
  cache: ClusterCache,
  claims: Claims,
  view: GroupView,
  incarnation: Incarnation,
): FailureMode {
  return optsOut(wishesOf(cache, view, incarnation)) ? 'off' : claims.mode;
}

/** What namespace, owner and leader ask for. */
function wishesOf(
  cache: ClusterCache,
  view: GroupView,
  incarnation: Incarnation,
): readonly (string | undefined)[] {
  const { namespace, owner } = view.membership;
  const set = cache.leaderWorkerSet(namespace, owner);
  return [
    cache.namespace(namespace)?.labels[berth.failure],
    set?.metadata.annotations?.[berth.failure],
    (incarnation.leader ?? incarnation.pods[0])?.annotations[berth.failure],
  ];
}

/** Whether the group comes again under the same name, by which its return is known: an LWS group with an ordinal. */
export function keepsItsName({ kind, owner, name }: Membership): boolean {
  return kind === 'lws' && name.startsWith(`${owner}-`) && /^\d+$/.test(name.slice(owner.length + 1));
}

/** Whether Berth will find the place of the group's next incarnation. */
export function isPlaced(cache: ClusterCache, view: GroupView, incarnation: Incarnation): boolean {
  const namespace = cache.namespace(view.membership.namespace);
  const mode = view.leader === undefined ? (namespace?.mode ?? 'observe') : modeOf(cache, view);
  return (
    mode !== 'observe' &&
    whyGroupNotPlaceable(cache, view) === undefined &&
    !incarnation.pods.some(pod => pod.foreignOwner !== undefined)
  );
}

/** Facts for the next step of an intent. */
export function intentFacts(
  cache: ClusterCache,
  intent: Intent,
  rest: Pick<IntentFacts, 'nowMs' | 'overtaken' | 'foreignGraceMs' | 'fencingAfterMs'>,
): IntentFacts {
  const recorded = new Set(intent.members.map(member => member.uid));
  const isOld = (pod: PodInfo): boolean => {
    if (pod.uid === intent.leaderUid || recorded.has(pod.uid)) return true;
    if (pod.controllerUid === '') return false;
    return (
      pod.controllerUid === intent.workerSetUid ||
      cache.statefulSet(pod.controllerUid)?.controllerUid === intent.leaderUid
    );
  };
  const old = [...cache.podsOfGroup(intent.group)].filter(isOld);
  const leader = old.find(pod => pod.uid === intent.leaderUid);
  const view = cache.group(intent.group);
  const namespace = namespaceOf(intent);
  return {
    ...rest,
    ownerWants:
      cache.leaderWorkerSet(namespace, intent.owner.name)?.metadata.uid === intent.owner.uid &&
      ownerWants(cache, namespace, intent.owner.name, intent.leaderName),
    old: old.map(pod => oldMember(cache, pod)),
    leader: leader === undefined ? undefined : { terminating: leader.terminating },
    workerSet: oldWorkerSet(cache, intent, old),
    next: nextIncarnation(view, intent),
    size: view?.membership.size ?? intent.members.length,
  };
}

function oldMember(cache: ClusterCache, pod: PodInfo): OldMember {
  const { name, uid, terminating, terminal, nodeName } = pod;
  const node = nodeName === undefined ? undefined : cache.node(nodeName);
  const fenced = node?.taints.some(taint => taint.key === outOfServiceTaint) ?? false;
  const state = fenced ? 'fenced' : node?.readyStatus === 'True' ? 'fine' : 'silent';
  return {
    name,
    uid,
    terminating,
    terminal,
    node: nodeName ?? '',
    nodeState: nodeName === undefined ? 'fine' : node === undefined ? 'gone' : state,
  };
}

function oldWorkerSet(
  cache: ClusterCache,
  intent: Intent,
  old: readonly PodInfo[],
): { readonly uid: string } | undefined {
  for (const uid of [intent.workerSetUid, ...old.map(pod => pod.controllerUid)]) {
    if (uid !== '' && cache.statefulSet(uid)?.controllerUid === intent.leaderUid) return { uid };
  }
  return undefined;
}

function nextIncarnation(view: GroupView | undefined, intent: Intent): NewIncarnation | undefined {
  if (view?.leader === undefined || view.leader.uid === intent.leaderUid) return undefined;
  const members = [...view.members.values()];
  return {
    leaderUid: view.leader.uid,
    boundRanks: members.filter(pod => pod.nodeName !== undefined).length,
    readyRanks: members.filter(pod => pod.ready).length,
  };
}
