import type { ResourceClaim } from '../src/api/dra.ts';
import type { OwnerReference } from '../src/api/kubernetes.ts';
import { berth, k8s } from '../src/api/names.ts';
import type { MatchCondition } from './scope.ts';

/** Why a claim is none of Berth's, by what stands on it. */
export type ClaimScopeReason =
  /** kube-scheduler makes it for extended resources when it has chosen the devices already. */
  | 'extended-resource'
  /** Not by kube-controller-manager from a template for a pod. */
  | 'made-by-others';

/** The pod for which a claim is made, and what that pod calls it. */
export interface ClaimOwner {
  readonly podName: string;
  readonly podUid: string;
  readonly podClaimName: string;
}

/** As for pods (scope.ts): said once for the process and once in CEL for the webhook configuration. */
interface ClaimRule {
  readonly reason: ClaimScopeReason;
  readonly excludes: (claim: ResourceClaim) => boolean;
  readonly included: string;
}

const annotationsCel = 'object.metadata.?annotations.orValue({})';

const rules: readonly ClaimRule[] = [
  {
    reason: 'extended-resource',
    excludes: claim => claim.metadata.annotations?.[k8s.extendedResourceClaim] !== undefined,
    included: `!('${k8s.extendedResourceClaim}' in ${annotationsCel})`,
  },
  {
    reason: 'made-by-others',
    excludes: claim => ownerOf(claim) === undefined,
    included:
      `'${k8s.podClaimName}' in ${annotationsCel} && object.metadata.?ownerReferences.orValue([]).exists(owner, ` +
      `owner.?controller.orValue(false) && owner.apiVersion == 'v1' && owner.kind == 'Pod')`,
  },
];

/** The conditions of the claim webhook, the single source for deploy/. */
export const claimMatchConditions: readonly MatchCondition[] = rules.map(({ reason, included }) => ({
  name: `not-${reason}`,
  expression: included,
}));

/** The first reason to leave a claim alone, or the pod for which it is made. */
export function claimScope(claim: ResourceClaim): ClaimOwner | ClaimScopeReason {
  const excluding = rules.find(rule => rule.excludes(claim));
  return excluding?.reason ?? ownerOf(claim) ?? 'made-by-others';
}

function ownerOf({ metadata }: ResourceClaim): ClaimOwner | undefined {
  const podClaimName = metadata.annotations?.[k8s.podClaimName];
  const pod = metadata.ownerReferences?.find(isControllingPod);
  if (podClaimName === undefined || pod === undefined) return undefined;
  return { podName: pod.name, podUid: pod.uid, podClaimName };
}

function isControllingPod({ apiVersion, kind, controller }: OwnerReference): boolean {
  return apiVersion === 'v1' && kind === 'Pod' && controller === true;
}

/** Annotation `berth.dev/steer-claims: "false"`, which the claim has from its template. */
export function forbidsSteering({ metadata }: ResourceClaim): boolean {
  return metadata.annotations?.[berth.steerClaims] === 'false';
}
