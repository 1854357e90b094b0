import type { LeaderWorkerSet, Pod, PodTemplateSpec } from '../src/api/kubernetes.ts';
import type { ClaimSource } from '../src/group/claims.ts';
import { requestSources } from '../src/group/group-info.ts';
import type { PlacementMode } from '../src/group/owner.ts';
import {
  alignmentRefusal,
  type DeviceRefusal,
  type ImpossiblePolicy,
  impossibleFinding,
} from './device-refusal.ts';
import { type ScopeReason, whyNotOurs } from './scope.ts';

export interface OwnerReviewDeps {
  /** Undefined where the namespace has not opted in. */
  readonly namespaceMode: (namespace: string) => PlacementMode | undefined;
  /** Whether the whole cluster has been read. */
  readonly synced: () => boolean;
  readonly claims: ClaimSource;
  readonly impossible: ImpossiblePolicy;
}

export type OwnerVerdict =
  | { readonly kind: 'untouched'; readonly reason: ScopeReason | 'not-synced' }
  | { readonly kind: 'admitted'; readonly warnings: readonly string[] }
  | ({ readonly kind: 'denied' } & DeviceRefusal);

const templateField = 'spec.leaderWorkerTemplate';

/**
 * Reviews a LeaderWorkerSet when it is created: what its groups would ask of devices is answered to whoever creates it,
 * who never sees the answers to its pods. Nothing is changed, and the pods are asked again when they come.
 */
export function reviewOwner(owner: LeaderWorkerSet, namespace: string, deps: OwnerReviewDeps): OwnerVerdict {
  const { size = 1, leaderTemplate, workerTemplate: worker } = owner.spec.leaderWorkerTemplate;
  const leader = leaderTemplate ?? worker;
  const reason = whyNotOurs(podFrom(leader), { namespaceMode: deps.namespaceMode(namespace) });
  if (reason !== undefined) return { kind: 'untouched', reason };
  if (!deps.synced()) return { kind: 'untouched', reason: 'not-synced' };
  const sources = requestSources(leader.metadata?.annotations ?? {}, owner);
  const unreadable = alignmentRefusal(sources);
  if (unreadable !== undefined) return { kind: 'denied', ...unreadable };
  const finding = impossibleFinding(
    { namespace, leader, worker, size, sources },
    deps.claims,
    deps.impossible,
  );
  if (finding === undefined) return { kind: 'admitted', warnings: [] };
  if (deps.impossible.policy === 'warn') return { kind: 'admitted', warnings: [finding.message] };
  const { field, message } = finding;
  return { kind: 'denied', field: field.startsWith('spec.') ? templateField : field, message };
}

function podFrom({ metadata = {}, spec }: PodTemplateSpec): Pod {
  return { metadata, spec };
}
