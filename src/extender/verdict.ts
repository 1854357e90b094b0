import type { ClusterCache } from '../cache/cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from '../cache/group-source.ts';
import { type GroupView, seatOf } from '../cache/group-view.ts';
import { requestsCountedOn } from '../cluster/node-info.ts';
import {
  addResources,
  fits,
  isAcceleratorResource,
  noResources,
  type Resources,
  subtractResources,
} from '../cluster/resources.ts';
import { groupKeyOf, isMembershipError, type Membership } from '../group/membership.ts';
import { pinsPods } from '../group/owner.ts';
import { noPlanYet } from '../group/plan-annotation.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { takesHeldDevices } from './held-devices.ts';

/**
 * Where a pod may go. The sentence is the same for all nodes and over time: kube-scheduler writes it into the pod, and a
 * pod that changes is tried again at once.
 */
export type Verdict =
  | { readonly kind: 'anywhere'; readonly offered?: Offered }
  /** It has a place, and only there. */
  | { readonly kind: 'only'; readonly node: string; readonly sentence: string }
  /** Nowhere yet. */
  | { readonly kind: 'none'; readonly cause: NowhereCause; readonly sentence: string }
  /** Berth does not place it, but keeps it off these nodes. */
  | {
      readonly kind: 'except';
      readonly nodes: ReadonlySet<string>;
      readonly sentence: string;
      readonly offered?: Offered;
    };

/** Nodes that a stranger may choose though a part of their devices is held, and what it would take. */
export interface Offered {
  readonly nodes: ReadonlySet<string>;
  readonly devices: Resources;
}

/** Either no plan says where, or the planned node cannot be had any more: it is excluded, or gone. */
export type NowhereCause = 'unplanned' | 'excluded' | 'gone';

/** What Berth has to do with a pod. */
type Claim =
  | { readonly kind: 'stranger' }
  | { readonly kind: 'planned'; readonly node: string }
  | { readonly kind: 'awaits-plan' };

/** Nothing is refused. */
export const anywhere: Verdict = { kind: 'anywhere' };
const nothingPending = (): Resources => noResources;
const stranger: Claim = { kind: 'stranger' };
const awaitsPlan: Claim = { kind: 'awaits-plan' };

export const sentences = {
  only: 'berth: this pod is planned for another node',
  unplanned: noPlanYet,
  excluded: 'berth: the planned node of this pod is excluded; another place is looked for',
  gone: 'berth: the planned node of this pod is gone; another place is looked for',
  except: 'berth: the devices of this node are held for a planned pod, or the node is excluded',
} as const;

/**
 * Decides from the cache as it is now and the pod as kube-scheduler has sent it; nothing is written or remembered. The
 * cost does not depend on the number of pods, nor on that of nodes without held devices.
 * @param pendingOn what strangers before this one may be about to take on a node
 */
export function verdictFor(
  cache: ClusterCache,
  pod: PodInfo,
  pendingOn: (node: string) => Resources = nothingPending,
): Verdict {
  // Most pods of most clusters.
  if (pod.membership === undefined && !pod.takesAccelerator) return anywhere;
  const claim = claimOn(cache, pod);
  switch (claim.kind) {
    case 'planned':
      return lastWord(cache, claim.node);
    case 'awaits-plan':
      return { kind: 'none', cause: 'unplanned', sentence: sentences.unplanned };
    case 'stranger':
      return pod.takesAccelerator ? keptOffHeldDevices(cache, pod, pendingOn) : anywhere;
  }
}

export function refuses(verdict: Verdict, node: string): boolean {
  switch (verdict.kind) {
    case 'anywhere':
      return false;
    case 'only':
      return node !== verdict.node;
    case 'none':
      return true;
    case 'except':
      return verdict.nodes.has(node);
  }
}

function claimOn(cache: ClusterCache, pod: PodInfo): Claim {
  const { membership } = pod;
  if (pod.foreignOwner !== undefined || isMembershipError(membership)) return stranger;
  if (membership === undefined) return claimOnSingle(cache, pod);
  const view = cache.group(groupKeyOf(membership)) ?? unseenGroup(pod, membership);
  const mode = modeOf(cache, view);
  if (mode === 'observe' || view.leader?.foreignOwner !== undefined) return stranger;
  if (whyGroupNotPlaceable(cache, view) !== undefined) return stranger;
  // Sent to a seat by a plan that may still be lost, a member would stand apart from those of the next plan.
  if (!pinsPods(mode) && view.plan !== undefined && !view.planWritten) return awaitsPlan;
  const node = knownPlace(cache, pod) ?? seatOfUnseen(cache, pod, membership, view);
  if (node !== undefined) return { kind: 'planned', node };
  // Where pods are pinned, a member without a plan has a gate, unless Berth has let it go.
  if (pinsPods(mode) || isLeftOut(view, pod, membership)) return stranger;
  return awaitsPlan;
}

/** A single that Berth has pinned. Anybody else's pin is none of ours. */
function claimOnSingle(cache: ClusterCache, pod: PodInfo): Claim {
  const namespace = cache.namespace(pod.namespace);
  if (namespace === undefined || !pinsPods(namespace.mode) || !namespace.pinsSingles) return stranger;
  const node = knownPlace(cache, pod);
  return node === undefined ? stranger : { kind: 'planned', node };
}

/**
 * Where a pod is to go as the cache knows it, or as its own pin says. kube-scheduler may have seen a pin before us, and
 * since no pin can be taken back, it counts more than a plan that may be older.
 */
function knownPlace(cache: ClusterCache, pod: PodInfo): string | undefined {
  const known = cache.pod(pod.uid);
  if (known === undefined || (pod.pinnedTo !== undefined && known.pinnedTo !== pod.pinnedTo))
    return pod.pinnedTo;
  return cache.plannedNode(known);
}

/**
 * The seat of a worker that kube-scheduler has seen before us: it is certain when the seat is nobody else's and the
 * worker belongs to the live leader. Refused now, it might wait for long, for our seeing it wakes nobody.
 */
function seatOfUnseen(
  cache: ClusterCache,
  pod: PodInfo,
  membership: Membership,
  view: GroupView,
): string | undefined {
  const { leader } = view;
  if (cache.pod(pod.uid) !== undefined || leader === undefined) return undefined;
  if (membership.rank === 0 || view.members.has(membership.rank)) return undefined;
  if (membership.kind !== view.membership.kind || membership.size !== view.membership.size) return undefined;
  if (membership.kind === 'lws' && cache.statefulSet(pod.controllerUid)?.controllerUid !== leader.uid) {
    return undefined;
  }
  return seatOf(view, membership.rank);
}

/** The plan has no seat for this member, which leaves it to kube-scheduler. */
function isLeftOut(view: GroupView, pod: PodInfo, { rank }: Membership): boolean {
  return view.plan?.nodes[rank] === '' && view.members.get(rank)?.uid === pod.uid;
}

/** What there is to say of a group of which the cache has seen no pod. */
function unseenGroup(pod: PodInfo, membership: Membership): GroupView {
  return {
    key: groupKeyOf(membership),
    membership,
    leader: membership.rank === 0 ? pod : undefined,
    members: new Map(),
    leaving: new Map(),
    others: [],
    plan: undefined,
    planWritten: false,
  };
}

/** Looks once more whether the place can be had, since a plan or a pin may be older than what befell its node. */
function lastWord(cache: ClusterCache, node: string): Verdict {
  const cause = cache.excludedNodes.has(node)
    ? 'excluded'
    : cache.node(node) === undefined
      ? 'gone'
      : undefined;
  if (cause !== undefined) return { kind: 'none', cause, sentence: sentences[cause] };
  return { kind: 'only', node, sentence: sentences.only };
}

/**
 * Devices only: CPU and memory are held as far as taints keep strangers off. What is held for the pod itself does not
 * stand in its way.
 */
function keptOffHeldDevices(
  cache: ClusterCache,
  pod: PodInfo,
  pendingOn: (node: string) => Resources,
): Verdict {
  const wanted = devicesOf(pod.requests);
  const takesHeld = takesHeldDevices(cache, pod);
  const own = knownPlace(cache, pod);
  const nodes = new Set(cache.excludedNodes.keys());
  const offered = new Set<string>();
  for (const node of cache.heldNodes()) {
    // A pod of the node itself, DaemonSet's or mirror, has nowhere else to go.
    if (node === own && pod.foreignOwner !== undefined) continue;
    const info = cache.nodeInfo(node);
    if (info === undefined) continue;
    if (takesHeld(info)) {
      nodes.add(node);
      continue;
    }
    const devices = requestsCountedOn(info, wanted);
    const free = node === own ? addResources(info.free, cache.heldFor(pod.uid, node)) : info.free;
    // Most held nodes are held whole: what others may be about to take is asked for the rest only.
    const room = fits(free, devices) && fits(subtractResources(free, pendingOn(node)), devices);
    (room ? offered : nodes).add(node);
  }
  const rest = offered.size === 0 ? {} : { offered: { nodes: offered, devices: wanted } };
  if (nodes.size > 0) return { kind: 'except', nodes, sentence: sentences.except, ...rest };
  return offered.size === 0 ? anywhere : { kind: 'anywhere', ...rest };
}

function devicesOf(requests: Resources): Resources {
  return new Map([...requests].filter(([name]) => isAcceleratorResource(name)));
}
