import type { DeviceClass, DeviceRequestAllocationResult, ResourceClaimSpec } from '../../api/dra.ts';
import type { NodeSelector, PodSpec } from '../../api/kubernetes.ts';
import type { DeviceId } from './device.ts';

/** One claim of a pod that is still to be allocated, whoever makes the object. */
export interface WantedClaim {
  /**
   * What the pod calls it (`spec.resourceClaims[].name`). For devices behind extended resources, whose claim
   * kube-scheduler makes, it is {@link extendedResourceClaim}.
   */
  readonly name: string;
  readonly spec: ResourceClaimSpec;
}

export const extendedResourceClaim = '<extended-resources>';

/** What a member asks of DRA. */
export interface DeviceDemand {
  /**
   * Claims that are to be allocated for this member alone: made from templates, or the only member's that names them.
   * Those that kube-scheduler makes for extended resources are not among them, for they hang on the node.
   */
  readonly own: readonly WantedClaim[];
  /** Where claims that are allocated already let the member go; all of them must match. */
  readonly reach: readonly NodeSelector[];
  /** The alignment that its devices must reach. */
  readonly minRung: Rung | undefined;
}

/** How close a member's devices stand, the finest first; see alignment.ts. */
export type Rung = (typeof rungs)[number];
export const rungs = ['pcie', 'numa', 'host'] as const;

/** A claim as a pod names it; exactly one of the two is set. */
export interface PodClaimRef {
  readonly name: string;
  readonly template: string | undefined;
  readonly claim: string | undefined;
}

export const noClaimRefs: readonly PodClaimRef[] = [];

export function claimRefsOf({
  resourceClaims = [],
}: Pick<PodSpec, 'resourceClaims'>): readonly PodClaimRef[] {
  if (resourceClaims.length === 0) return noClaimRefs;
  return resourceClaims.map(({ name, resourceClaimName, resourceClaimTemplateName }) => ({
    name,
    template: resourceClaimTemplateName,
    claim: resourceClaimName,
  }));
}

/** What Berth keeps of a ResourceClaim. */
export interface ClaimRecord {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** UID of the pod it was made for from a template, or for extended resources. */
  readonly podUid: string | undefined;
  /** What that pod calls it (annotation `resource.kubernetes.io/pod-claim-name`). */
  readonly podClaimName: string | undefined;
  readonly spec: ResourceClaimSpec;
  /** Undefined as long as it is not allocated. */
  readonly allocation: ClaimAllocation | undefined;
  readonly reservedFor: readonly string[];
  readonly terminating: boolean;
}

export interface ClaimAllocation {
  readonly results: readonly DeviceRequestAllocationResult[];
  readonly nodeSelector: NodeSelector | undefined;
}

/** What Berth keeps of a DeviceClass. */
export interface DeviceClassRecord {
  readonly name: string;
  readonly selectors: readonly string[];
  readonly extendedResourceName: string | undefined;
  readonly createdAtMs: number;
  readonly spec: DeviceClass['spec'];
}

/** What a request of a claim got, or is to get. */
export interface RequestDevices {
  /** Name of the request, or `request/alternative`. */
  readonly request: string;
  readonly devices: readonly DeviceId[];
}

/** The devices planned for one claim of a member. */
export interface PlannedClaim {
  /** As in {@link WantedClaim}. */
  readonly claim: string;
  readonly requests: readonly RequestDevices[];
}
