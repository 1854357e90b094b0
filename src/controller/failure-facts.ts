import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from '../cache/group-source.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { Claims } from '../failure/claim.ts';
import type { DrainFacts } from '../failure/drain.ts';
import { type Incarnation, isServing } from '../failure/incarnation.ts';
import type { Intent } from '../failure/intent.ts';
import type { IntentFacts, OldMember } from '../failure/next-step.ts';
import { type FailureMode, type FailureSettings, leastMode, optsOut } from '../failure/settings.ts';
import type { MemberFacts } from '../failure/signal.ts';
import { outOfServiceTaint } from '../failure/signals.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { allocatedDevices, resourcesShortOn } from './device-facts.ts';
import { nvlinkFacts, tpuSliceReader } from './fabric-facts.ts';
import type { GroupShape, Intents } from './shapes/shape.ts';
import { shapes } from './shapes/shapes.ts';

/** What failure handling reads of the cache. Nothing here remembers or writes anything. */

/** Bound members of an incarnation as the signals look at them; none when its owner does not want the group any more. */
export function memberFacts(
  cache: ClusterCache,
  shape: GroupShape,
  view: GroupView,
  incarnation: Incarnation,
  claims: Claims,
): readonly MemberFacts[] {
  const { leader, pods } = incarnation;
  const claim = claims.of(incarnation.leaderUid);
  if (!shape.isWanted(cache, view, incarnation)) return [];
  const returnsAlone = shape.membersReturnAlone(cache, view);
  const leaderStays = leader !== undefined && !leader.terminating && !leader.terminal;
  const living = pods.filter(pod => !pod.terminating && !pod.terminal);
  // What Berth takes out of traffic is not the worse for it; but a pod whose node is silent was not Ready before.
  const isWell = ({ ready, withheld, nodeName }: PodInfo) =>
    ready || (withheld === true && nodeAnswers(cache, nodeName));
  const groupReady = isServing(incarnation, view.membership.size, isWell);
  const tpuSliceOf = tpuSliceReader(cache, incarnation);
  return pods.flatMap(pod => {
    const { nodeName } = pod;
    if (nodeName === undefined) return [];
    const node = cache.node(nodeName);
    const devices = allocatedDevices(pod, cache.claimsOf(pod.uid), (driver, pool) =>
      cache.devicePool(driver, pool),
    );
    const nvlink = nvlinkFacts(cache, pod, devices);
    const tpuSlice = tpuSliceOf(pod, node);
    return [
      {
        pod,
        nodeName,
        node,
        shortOf: resourcesShortOn(cache, nodeName),
        groupReady,
        devices,
        ...(nvlink && { nvlink }),
        ...(tpuSlice && { tpuSlice }),
        leads: pod === leader,
        stays: leaderStays && !pod.terminating && !pod.terminal,
        othersLive: living.some(other => other !== pod),
        returnsAlone,
        claim,
      },
    ];
  });
}

/** The least of what the configuration, the namespace, the owner and the leader ask for. */
export function failureModeOf(
  cache: ClusterCache,
  settings: FailureSettings,
  shape: GroupShape,
  view: GroupView,
  incarnation: Incarnation,
): FailureMode {
  return leastMode(settings.mode, wishesOf(cache, shape, view, incarnation));
}

/** How far preemption goes with a group: it has a switch of its own, and who opts out there is left alone here, too. */
export function preemptionModeOf(
  cache: ClusterCache,
  claims: Claims,
  shape: GroupShape,
  view: GroupView,
  incarnation: Incarnation,
): FailureMode {
  return optsOut(wishesOf(cache, shape, view, incarnation)) ? 'off' : claims.mode;
}

/** What namespace, owner and pods ask for. */
function wishesOf(
  cache: ClusterCache,
  shape: GroupShape,
  view: GroupView,
  incarnation: Incarnation,
): readonly (string | undefined)[] {
  const ofNamespace = cache.namespace(view.membership.namespace)?.labels[berth.failure];
  return [ofNamespace, ...shape.wishes(cache, view, incarnation)];
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
  intents: Intents,
  rest: Pick<IntentFacts, 'nowMs' | 'overtaken' | 'foreignGraceMs' | 'fencingAfterMs'>,
): IntentFacts {
  const shape = shapes[intent.shape];
  const old = shape.podsToGo(cache, intent, intents);
  const leader = old.find(pod => pod.uid === intent.leaderUid);
  const { goesSingly } = shape;
  return {
    ...rest,
    // Nobody finishes what others begin with such a group.
    foreignGraceMs: goesSingly ? 0 : rest.foreignGraceMs,
    ownerWants: shape.wantsNext(cache, intent),
    old: old.map(pod => oldMember(cache, pod)),
    leader: leader === undefined ? undefined : { terminating: leader.terminating },
    workerSet: oldWorkerSet(cache, intent, old),
    goesSingly,
    next: shape.next(cache, intent, intents),
    size: shape.sizeOf(cache, intent),
  };
}

/** What decides whether the group must be taken out of traffic first, but for who sends requests to it. */
export function drainMembers(
  cache: ClusterCache,
  intent: Intent,
  intents: Intents,
): Pick<DrainFacts, 'gated' | 'members'> {
  const staying = shapes[intent.shape]
    .podsToGo(cache, intent, intents)
    .filter(pod => !pod.terminating && !pod.terminal);
  return {
    members: new Set(staying.map(({ uid }) => uid)),
    gated: staying.flatMap(({ uid, inService, ready, nodeName }) => {
      if (inService === undefined || nodeName === undefined) return [];
      const withdrawn = inService === 'False';
      return [{ uid, withdrawn, ready, nodeAnswers: nodeAnswers(cache, nodeName) }];
    }),
  };
}

/** Whether the kubelet there reports. */
function nodeAnswers(cache: ClusterCache, nodeName: string | undefined): boolean {
  return nodeName !== undefined && cache.node(nodeName)?.readyStatus === 'True';
}

function oldMember(cache: ClusterCache, pod: PodInfo): OldMember {
  const { name, uid, terminating, goneByMs, terminal, nodeName } = pod;
  const node = nodeName === undefined ? undefined : cache.node(nodeName);
  const fenced = node?.taints.some(taint => taint.key === outOfServiceTaint) ?? false;
  const state = fenced ? 'fenced' : node?.readyStatus === 'True' ? 'fine' : 'silent';
  return {
    name,
    uid,
    terminating,
    goneByMs,
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
