import { berth } from '../../api/names.ts';
import type { ClusterCache } from '../../cache/cluster-cache.ts';
import type { GroupView } from '../../cache/group-view.ts';
import type { DeviceId } from '../../cluster/devices/device.ts';
import { pinnedNodes } from '../../cluster/node-affinity.ts';
import { isKeptOff } from '../../failure/device-signals.ts';
import { type Intent, namespaceOf } from '../../failure/intent.ts';
import { type Remaker, remakersOf, whyNotRemade } from '../../failure/remakers.ts';
import type { Sighting, SignalName } from '../../failure/signal.ts';
import { controllerOf, membershipOf } from '../../group/membership.ts';
import { type NamespaceRecord, pinsPods, plansGroups } from '../../group/owner.ts';
import type { PodInfo } from '../../group/pod-info.ts';
import { singleMembership } from '../../group/single.ts';
import { factsOfDevice } from '../device-facts.ts';
import { allRemake } from './remaking.ts';
import type { GroupShape, Intents } from './shape.ts';

/**
 * Pods outside groups, each a group of one. All that one controller makes are one lineage, for nobody tells which of them
 * follows which: budgets are counted for it as for a group.
 */
export const singleShape: GroupShape = {
  kind: 'single',
  goesSingly: true,
  keepsPlace: false,
  incarnations(cache, key) {
    if (!plansGroups(cache.namespace(namespaceOf({ group: key }))?.mode ?? 'observe')) return [];
    return [...cache.singles(key)].map(pod => ({
      leaderUid: pod.uid,
      leader: pod,
      workerSetUid: undefined,
      pods: [pod],
    }));
  },
  view: (_, key, { leader }) => leader && viewOf(key, leader),
  ownerOf: () => undefined,
  wishes: (_, __, { pods }) => pods.map(pod => pod.annotations[berth.failure]),
  whyNotRemade: (_, { pods }) => whyNotRemade(pods),
  whyComesBack: (cache, view, fault) => view.leader && whyComesBack(cache, view.leader, fault),
  membersReturnAlone: () => false,
  remakers: remakersOfSingle,
  // No cache has their controllers.
  isWanted: () => true,
  isWantedNow: (cache, writes, view) =>
    allRemake(writes, view.membership.namespace, remakersOfSingle(cache, view)),

  podsToGo(cache, { leaderUid }) {
    const pod = cache.pod(leaderUid);
    return pod === undefined || (pod.terminal && !pod.terminating) ? [] : [pod];
  },
  wantsNext: () => true,
  wantsNextNow: (writes, intent) => allRemake(writes, namespaceOf(intent), intent.remakers),
  next(cache, intent, intents) {
    const pod = successorOf(cache, intent, intents);
    if (pod === undefined) return undefined;
    return {
      leaderUid: pod.uid,
      boundRanks: pod.nodeName === undefined ? 0 : 1,
      readyRanks: pod.ready ? 1 : 0,
    };
  },
  sizeOf: () => 1,
  mayEnd: ({ metadata }, { leaderUid, remakers }) =>
    metadata.uid === leaderUid &&
    membershipOf(metadata, metadata.namespace ?? '') === undefined &&
    remakers.some(({ uid }) => uid === controllerOf(metadata)?.uid),
};

function viewOf(key: string, pod: PodInfo): GroupView {
  const nobody = new Map<number, PodInfo>();
  return {
    key,
    membership: singleMembership(pod),
    leader: pod,
    members: pod.terminating ? nobody : new Map([[0, pod]]),
    leaving: pod.terminating ? new Map([[0, pod]]) : nobody,
    others: [],
    plan: undefined,
    planWritten: false,
  };
}

/** With all pods of a controller that gives its pods no fixed names: those that are not among them later are new. */
function remakersOfSingle(cache: ClusterCache, { key, leader }: GroupView): readonly Remaker[] {
  if (leader === undefined) return [];
  const keepsName = leader.controller?.kind === 'StatefulSet';
  return remakersOf(keepsName ? [leader] : [...cache.singles(key)]).filter(
    ({ uid }) => uid === leader.controllerUid,
  );
}

/**
 * A pod that was not there when the eviction was decided; of several each goes to the intent whose turn it is. One that
 * another intent closed on is that one's, though it may have come after this one was decided.
 */
function successorOf(cache: ClusterCache, intent: Intent, intents: Intents): PodInfo | undefined {
  const all = intents().filter(({ group }) => group === intent.group);
  const alike = all.filter(({ phase }) => phase !== 'closed').sort((a, b) => a.times.intent - b.times.intent);
  const taken = new Set([...alike.map(({ leaderUid }) => leaderUid), ...all.map(({ nextUid }) => nextUid)]);
  const known = new Set(intent.remakers.flatMap(({ kind, pods }) => (kind === 'StatefulSet' ? [] : pods)));
  const pods = [...cache.singles(intent.group)]
    .filter(pod => !pod.terminating && !taken.has(pod.uid) && !known.has(pod.name))
    .filter(({ controller, name }) => controller?.kind !== 'StatefulSet' || name === intent.leaderName)
    .sort((a, b) => a.createdAtMs - b.createdAtMs || (a.uid < b.uid ? -1 : 1));
  const before = alike.findIndex(({ leaderUid }) => leaderUid === intent.leaderUid);
  return intent.remakers[0]?.kind === 'StatefulSet' ? pods[0] : pods[Math.max(0, before)];
}

/** What keeps every pod off a node without Berth's doing. */
const keptOffByTaint: readonly SignalName[] = ['NodeGone', 'NodeNoExecute', 'NodeNotReady'];

/** Berth gives the successor no plan, so it may have the same bad thing again unless something keeps it off. */
function whyComesBack(cache: ClusterCache, pod: PodInfo, fault: Sighting): string | undefined {
  const { device, blamesNode, signal } = fault;
  const namespace = cache.namespace(pod.namespace);
  if (device !== undefined && !blamesNode) {
    return isKeptOffClaims(cache, device)
      ? undefined
      : 'its successor could get the same device, which no taint keeps it off';
  }
  if (keptOffByTaint.includes(signal)) return undefined;
  if (namespace?.pinsSingles !== true && pod.scheduling && pinnedNodes(pod.scheduling) !== undefined)
    return 'its own node affinity sends its successor to the same node';
  return isKeptOffNodes(namespace, pod)
    ? undefined
    : `its successor could go to the same node; namespace label ${berth.singles}: pin, or a mode with an extender, keeps it off`;
}

/** By a taint that kube-scheduler sees, which may be Berth's own rule: what Berth alone excludes it does not know. */
function isKeptOffClaims(cache: ClusterCache, id: DeviceId): boolean {
  if (isKeptOff(factsOfDevice((driver, pool) => cache.devicePool(driver, pool), id))) return true;
  return [...cache.taintRules()].some(
    ({ selector }) =>
      selector?.driver === id.driver && selector.pool === id.pool && selector.device === id.device,
  );
}

function isKeptOffNodes(namespace: NamespaceRecord | undefined, { claims }: PodInfo): boolean {
  if (namespace === undefined) return false;
  const { mode, pinsSingles } = namespace;
  if (mode === 'extender' || mode === 'pin-extender') return true;
  // Those with claims are not gated.
  return pinsSingles && pinsPods(mode) && claims.length === 0;
}
