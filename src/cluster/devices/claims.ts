import type { DeviceClass, DeviceRequestAllocationResult, ResourceClaimSpec } from '../../api/dra.ts';
import type { NodeSelector, PodSpec } from '../../api/kubernetes.ts';
import type { Rung } from './alignment.ts';
import type { DeviceId, DeviceKey } from './device.ts';

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
  /** Berth may have a say in which devices its own claims get: all of them are made from templates, and nobody forbids it. */
  readonly steerable: boolean;
  /** The ComputeDomain whose channels it claims: it may go to nodes of no other. */
  readonly computeDomain: string | undefined;
}

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
  /** Empty once a claim that was made for a pod is allocated; others may be allocated anew. */
  readonly spec: ResourceClaimSpec;
  /** Undefined as long as it is not allocated. */
  readonly allocation: ClaimAllocation | undefined;
  /** What drivers say of the devices that it has; absent where they say nothing. */
  readonly conditions?: readonly DeviceConditionRecord[];
  /** UID of the ComputeDomain of whose channels it has one or wants one. */
  readonly computeDomain?: string;
  /** UIDs of the pods that may use it. */
  readonly reservedFor: readonly string[];
  /** The user wants no hand of Berth's in it (annotation `berth.dev/steer-claims: "false"`). */
  readonly steeringOff: boolean;
  readonly terminating: boolean;
}

/** A condition of an allocated device, without its time: that comes from another clock. */
export interface DeviceConditionRecord {
  readonly device: DeviceKey;
  readonly type: string;
  readonly status: string;
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
  readonly devices: readonly PlannedDevice[];
}

export interface PlannedDevice extends DeviceId {
  /** By capacity what it takes of a device that others may share; absent for one that is taken whole. */
  readonly consumedCapacity?: Readonly<Record<string, string>>;
  /** It is only looked at, which takes nothing. */
  readonly adminAccess?: true;
}

/** The devices planned for one claim of a member. */
export interface PlannedClaim {
  /** As in {@link WantedClaim}. */
  readonly claim: string;
  readonly requests: readonly RequestDevices[];
}

/** A ResourceClaimTemplate as far as claims are made from it. */
export interface ClaimTemplateRecord {
  readonly namespace: string;
  readonly name: string;
  /** Annotations that the claims will have. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: ResourceClaimSpec;
}

/** Planned devices as an allocation of them would be written. */
export function resultsOfPlan({ requests }: PlannedClaim): readonly DeviceRequestAllocationResult[] {
  return requests.flatMap(({ request, devices }) => devices.map(device => ({ request, ...device })));
}
