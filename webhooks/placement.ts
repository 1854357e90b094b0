import type { LeaderWorkerSet, Pod } from '../src/api/kubernetes.ts';
import type { ClusterCache } from '../src/cache/cluster-cache.ts';
import { seatOf } from '../src/cache/group-view.ts';
import { withPodSlot } from '../src/cluster/node-info.ts';
import { podRequests, requestsAccelerator, usesResourceClaims } from '../src/cluster/pod-requests.ts';
import { QuantityError } from '../src/cluster/quantity.ts';
import type { Resources } from '../src/cluster/resources.ts';
import { requestSources } from '../src/group/group-info.ts';
import { controllerOf, groupKeyOf, type Membership } from '../src/group/membership.ts';
import { whyNotPlaceable } from '../src/group/placeable.ts';
import { alignmentRefusal, type ImpossiblePolicy, impossibleFinding } from './device-refusal.ts';
import type { PlacementVerdict } from './pod.ts';
import { topologyRefusal } from './topology-refusal.ts';

const gate: PlacementVerdict = { kind: 'gate' };

/**
 * Decides at CREATE whether a pod is gated or pinned, from the cache alone and without a trace: nothing is reserved, so
 * a dry run or a later refusal needs no undoing, and any replica may answer. When in doubt the pod is gated, which the
 * placement controller mends within milliseconds; a wrong pin could not be mended at all. So a plan that is still on its
 * way to the API server pins nobody: were it lost, the next plan would have the others elsewhere.
 */
export function placementFrom(
  cache: ClusterCache,
  synced: () => boolean,
  impossible: ImpossiblePolicy,
): (pod: Pod, membership: Membership | undefined) => PlacementVerdict {
  return (pod, membership) => {
    const requests = readRequests(pod);
    if (requests === undefined || 'kind' in requests) return requests ?? gate;
    if (membership === undefined) return placeSingle(pod);
    if (!synced()) return gate;
    if (membership.kind === 'lws') {
      const owner = ownerOf(cache, membership);
      const why = whyNotPlaceable({ spec: pod.spec, annotations: pod.metadata.annotations ?? {}, owner });
      // Without its owner in view a pod that asks for nothing special may still belong to a group that does.
      if (why !== undefined && owner !== undefined) return { kind: 'leave', reason: why };
    }
    const owner = ownerOf(cache, membership);
    const never = topologyRefusal(pod, membership, { owner, levels: cache.levels });
    if (never !== undefined) return { kind: 'refuse', field: never.field, message: never.message };
    if (membership.rank !== 0) return placeWorker(cache, pod, membership, requests.resources);
    return placeLeader({ cache, impossible }, pod, membership, owner);
  };
}

/** A leader has no plan yet when it comes. What can never be is answered on it alone, as for topology. */
function placeLeader(
  { cache, impossible }: { readonly cache: ClusterCache; readonly impossible: ImpossiblePolicy },
  pod: Pod,
  { namespace, size }: Membership,
  owner: LeaderWorkerSet | undefined,
): PlacementVerdict {
  const sources = requestSources(pod.metadata.annotations ?? {}, owner);
  const unreadable = alignmentRefusal(sources);
  if (unreadable !== undefined) return { kind: 'refuse', ...unreadable };
  const worker = owner?.spec.leaderWorkerTemplate.workerTemplate;
  const templates = { namespace, leader: pod, worker, size, sources };
  const finding = impossibleFinding(templates, cache.claims, impossible);
  if (finding === undefined) return gate;
  if (impossible.policy === 'refuse') return { kind: 'refuse', ...finding };
  return { kind: 'gate', warnings: [finding.message] };
}

function ownerOf(cache: ClusterCache, membership: Membership): LeaderWorkerSet | undefined {
  if (membership.kind !== 'lws') return undefined;
  return cache.leaderWorkerSet(membership.namespace, membership.owner);
}

/** The devices of a single's claims stand in no plan, so they could not be kept for it: kube-scheduler places it. */
function placeSingle(pod: Pod): PlacementVerdict {
  if (usesResourceClaims(pod.spec)) return { kind: 'leave', reason: 'resource-claims' };
  return requestsAccelerator(pod.spec) ? gate : { kind: 'leave', reason: 'no-accelerator' };
}

/** A worker gets the seat that its own live leader's plan gives it, if it still can be had. */
function placeWorker(
  cache: ClusterCache,
  pod: Pod,
  membership: Membership,
  requests: Resources,
): PlacementVerdict {
  const key = groupKeyOf(membership);
  const view = cache.group(key);
  if (view?.leader === undefined || !view.planWritten) return gate;
  if (membership.kind === 'lws' && !belongsTo(cache, pod, view.leader.uid)) return gate;
  const seat = seatOf(view, membership.rank);
  if (seat === undefined || view.members.get(membership.rank)?.nodeName !== undefined) return gate;
  const fits = cache.fitsSeat(key, membership.rank, seat, requests, pod.spec.tolerations);
  if (!fits || !cache.hasPlannedDevices(key, membership.rank)) return gate;
  const alignment = view.plan?.devices?.[membership.rank]?.rung;
  return { kind: 'pin', node: seat, ...(alignment !== undefined && { alignment }) };
}

/**
 * The pod has no UID yet, and LWS reuses every name: only its StatefulSet, owned by a leader's UID, tells the worker of
 * this incarnation from one that the old StatefulSet makes while it is going.
 */
function belongsTo(cache: ClusterCache, pod: Pod, leaderUid: string): boolean {
  const set = controllerOf(pod.metadata);
  return set !== undefined && cache.statefulSet(set.uid)?.controllerUid === leaderUid;
}

function readRequests(pod: Pod): { readonly resources: Resources } | PlacementVerdict | undefined {
  try {
    return { resources: withPodSlot(podRequests(pod)) };
  } catch (error) {
    if (!(error instanceof QuantityError)) throw error;
    return { kind: 'refuse', field: error.field ?? 'spec.containers', message: error.message };
  }
}
