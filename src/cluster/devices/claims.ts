import type { DeviceClass, DeviceRequestAllocationResult, ResourceClaimSpec } from '../../api/dra.ts';
import type { NodeSelector } from '../../api/kubernetes.ts';
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
  /** Claims of the member's own, made from templates or for extended resources. */
  readonly own: readonly WantedClaim[];
  /** Claims that other pods use, too: by `namespace/name` of the ResourceClaim. */
  readonly shared: readonly string[];
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
