import type { Pod } from '../src/api/kubernetes.ts';
import { berth, ownedAnnotations } from '../src/api/names.ts';
import type { Rung } from '../src/cluster/devices/alignment.ts';
import { type JsonPatchOperation, matchesNoNode, pinOps } from '../src/cluster/node-affinity.ts';
import { isMembershipError, type Membership, membershipOf } from '../src/group/membership.ts';
import type { PlacementMode } from '../src/group/owner.ts';
import { envOps, type LeaderIdentity } from './inject-env.ts';
import { modelOps } from './model-volume.ts';
import { annotationField, isRefusal, nothingToInject, type Operation, pointerSegment } from './review.ts';
import { type ScopeReason, whyNotOurs } from './scope.ts';

/** What is to become of a pod's place at CREATE. */
export type PlacementVerdict =
  /** Its group has no plan yet: it waits behind Berth's scheduling gate. */
  | { readonly kind: 'gate'; readonly warnings?: readonly string[] }
  /** Its live leader's plan names the node. */
  | { readonly kind: 'pin'; readonly node: string; readonly alignment?: Rung }
  /** The scheduler's alone. */
  | { readonly kind: 'leave'; readonly reason: string }
  /** It asks for something that can never be. */
  | { readonly kind: 'refuse'; readonly field: string; readonly message: string };

export interface PodReviewDeps {
  /** Undefined where the namespace has not opted in. */
  readonly namespaceMode: (namespace: string) => PlacementMode | undefined;
  /** Whether single pods of a namespace are placed too (namespace label `berth.dev/singles: pin`). */
  readonly gateSingles: (namespace: string) => boolean;
  /** Membership is undefined for single pods. */
  readonly placement: (pod: Pod, membership: Membership | undefined) => PlacementVerdict;
  /** The live leader of a group without LWS. */
  readonly leaderOf: (membership: Membership) => LeaderIdentity | undefined;
}

export interface PodReviewInput {
  readonly pod: Pod;
  /** From the request: the object itself may not name its namespace yet. */
  readonly namespace: string;
  readonly operation: Operation;
  /** A review has no side effects, so dry runs are reviewed like all others. */
  readonly dryRun: boolean;
}

export type PodVerdict =
  | { readonly kind: 'untouched'; readonly reason: ScopeReason | 'not-created' }
  | {
      readonly kind: 'admitted';
      readonly ops: readonly JsonPatchOperation[];
      readonly warnings: readonly string[];
      readonly placement: 'gated' | 'pinned' | 'left';
    }
  | { readonly kind: 'denied'; readonly field: string; readonly message: string };

/**
 * Reviews one pod: drops what only Berth may write, injects addresses and model weights, and gates or pins. Reviewing
 * the result again changes nothing, for the API server calls a second time when a later webhook has changed the pod.
 */
export function reviewPod({ pod, namespace, operation }: PodReviewInput, deps: PodReviewDeps): PodVerdict {
  if (operation !== 'CREATE') return { kind: 'untouched', reason: 'not-created' };
  const mode = deps.namespaceMode(namespace);
  const reason = whyNotOurs(pod, { namespaceMode: mode });
  if (reason !== undefined) return { kind: 'untouched', reason };

  const membership = membershipOf(pod.metadata, namespace);
  if (isMembershipError(membership)) return denied(membership);
  if (membership !== undefined && matchesNoNode(pod.spec)) return denied(unpinnable);
  const env = membership === undefined ? nothingToInject : membersEnv(pod, membership, deps);
  if (isRefusal(env)) return denied(env);
  const model = modelOps(pod);
  if (isRefusal(model)) return denied(model);
  const place = mode === 'extender' ? left : placeOps(pod, membership, namespace, deps);
  if (place.kind === 'denied') return place;

  const forged = forgedAnnotations(pod);
  return {
    kind: 'admitted',
    ops: [...forged.map(dropAnnotation), ...env.ops, ...model.ops, ...place.ops],
    warnings: [...forged.map(tellDropped), ...env.warnings, ...model.warnings, ...place.warnings],
    placement: place.placement,
  };
}

const termsField =
  'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms';

/** Its group could never be whole, and the API server lets nobody fill an empty term later. */
const unpinnable = {
  field: termsField,
  message: `${termsField} must have a term that is not empty; an empty term matches no node`,
};

type Denied = Extract<PodVerdict, { kind: 'denied' }>;
type Placed = Extract<PodVerdict, { kind: 'admitted' }>;

const left: Placed = { kind: 'admitted', placement: 'left', ops: [], warnings: [] };

function denied({ field, message }: { readonly field: string; readonly message: string }): Denied {
  return { kind: 'denied', field, message };
}

function membersEnv(pod: Pod, membership: Membership, deps: PodReviewDeps) {
  const leader = membership.kind === 'labelled' ? deps.leaderOf(membership) : undefined;
  return envOps(pod, membership, { leader });
}

function placeOps(
  pod: Pod,
  membership: Membership | undefined,
  namespace: string,
  deps: PodReviewDeps,
): Placed | Denied {
  // A single pod that matches no node hurts nobody else, and kube-scheduler tells it.
  if (membership === undefined && (!deps.gateSingles(namespace) || matchesNoNode(pod.spec))) return left;
  const verdict = deps.placement(pod, membership);
  if (verdict.kind === 'refuse') return denied(verdict);
  // Gated in the first round of admission: only the write that pins takes the gate off, or it would pin twice.
  if (hasGate(pod)) return { ...left, placement: 'gated' };
  switch (verdict.kind) {
    case 'leave':
      return left;
    case 'gate':
      return { ...left, placement: 'gated', ops: [addGate(pod)], warnings: verdict.warnings ?? [] };
    case 'pin':
      return pinned(pod, verdict);
  }
}

function hasGate({ spec }: Pod): boolean {
  return spec.schedulingGates?.some(gate => gate.name === berth.placementGate) ?? false;
}

function addGate({ spec }: Pod): JsonPatchOperation {
  const gate = { name: berth.placementGate };
  return spec.schedulingGates === undefined
    ? { op: 'add', path: '/spec/schedulingGates', value: [gate] }
    : { op: 'add', path: '/spec/schedulingGates/-', value: gate };
}

/** Nobody else writes during a review, so there is nothing to test for. */
function pinned(pod: Pod, { node, alignment }: Extract<PlacementVerdict, { kind: 'pin' }>): Placed {
  const ops = pinOps(pod.spec, node).filter(({ op }) => op !== 'test');
  return { ...left, placement: 'pinned', ops: [...ops, ...alignmentOps(pod, alignment)] };
}

/** After what drops a forged one. */
function alignmentOps({ metadata }: Pod, alignment: Rung | undefined): readonly JsonPatchOperation[] {
  if (alignment === undefined) return [];
  const write: JsonPatchOperation = {
    op: 'add',
    path: `/metadata/annotations/${pointerSegment(berth.alignment)}`,
    value: alignment,
  };
  return metadata.annotations === undefined
    ? [{ op: 'add', path: '/metadata/annotations', value: {} }, write]
    : [write];
}

function forgedAnnotations({ metadata }: Pod): readonly string[] {
  return ownedAnnotations.filter(key => metadata.annotations?.[key] !== undefined);
}

function dropAnnotation(key: string): JsonPatchOperation {
  return { op: 'remove', path: `/metadata/annotations/${pointerSegment(key)}` };
}

function tellDropped(key: string): string {
  return `${annotationField(key)} is written by Berth alone and was dropped`;
}
