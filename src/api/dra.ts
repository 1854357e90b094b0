/**
 * Wire types of Dynamic Resource Allocation, resource.k8s.io/v1 as of Kubernetes 1.37, narrowed to the fields that Berth
 * reads. Raw JSON, so everything that the API may omit is optional.
 */

import type { KubernetesObject, NodeSelector, Toleration } from './kubernetes.ts';

/** One value of a typed attribute; exactly one field is set. The lists come with gate DRAListTypeAttributes. */
export interface DeviceAttribute {
  readonly int?: number;
  readonly bool?: boolean;
  readonly string?: string;
  readonly version?: string;
  readonly ints?: readonly number[];
  readonly bools?: readonly boolean[];
  readonly strings?: readonly string[];
  readonly versions?: readonly string[];
}

export interface CapacityRequestPolicy {
  readonly default?: string;
  readonly validValues?: readonly string[];
  readonly validRange?: { readonly min?: string; readonly max?: string; readonly step?: string };
}

export interface DeviceCapacity {
  readonly value: string;
  readonly requestPolicy?: CapacityRequestPolicy;
}

export interface CounterSet {
  readonly name: string;
  readonly counters: Readonly<Record<string, { readonly value: string }>>;
}

export interface DeviceCounterConsumption {
  readonly counterSet: string;
  readonly counters: Readonly<Record<string, { readonly value: string }>>;
  /** Behind gate DRADeviceCompatibilityGroups, off by default in 1.37. */
  readonly compatibilityGroups?: readonly string[];
}

export interface DeviceTaint {
  readonly key: string;
  readonly value?: string;
  /** `None`, `NoSchedule` or `NoExecute`. */
  readonly effect: string;
  readonly timeAdded?: string;
}

export interface SliceDevice {
  readonly name: string;
  /** Names without a domain belong to the driver's. */
  readonly attributes?: Readonly<Record<string, DeviceAttribute>>;
  readonly capacity?: Readonly<Record<string, DeviceCapacity>>;
  readonly consumesCounters?: readonly DeviceCounterConsumption[];
  readonly nodeName?: string;
  readonly nodeSelector?: NodeSelector;
  readonly allNodes?: boolean;
  readonly taints?: readonly DeviceTaint[];
  readonly bindsToNode?: boolean;
  readonly bindingConditions?: readonly string[];
  readonly bindingFailureConditions?: readonly string[];
  readonly allowMultipleAllocations?: boolean;
}

export interface ResourceSlice extends KubernetesObject {
  readonly spec: {
    readonly driver: string;
    readonly pool: {
      readonly name: string;
      readonly generation: number;
      readonly resourceSliceCount: number;
    };
    readonly nodeName?: string;
    readonly nodeSelector?: NodeSelector;
    readonly allNodes?: boolean;
    readonly perDeviceNodeSelection?: boolean;
    readonly devices?: readonly SliceDevice[];
    readonly sharedCounters?: readonly CounterSet[];
  };
}

export interface DeviceSelector {
  readonly cel?: { readonly expression: string };
}

/** A device toleration; unlike a pod's it may have an effect only that devices know. */
export type DeviceToleration = Toleration;

/** What `exactly` and the alternatives of `firstAvailable` have in common. */
export interface DeviceRequestBody {
  readonly deviceClassName: string;
  readonly selectors?: readonly DeviceSelector[];
  /** `ExactCount` (default) or `All`. */
  readonly allocationMode?: string;
  /** Default 1, with ExactCount only. */
  readonly count?: number;
  readonly tolerations?: readonly DeviceToleration[];
  readonly capacity?: { readonly requests?: Readonly<Record<string, string>> };
  /** Behind gate DRADerivedAttributes, off by default in 1.37. */
  readonly derivedAttributes?: readonly unknown[];
}

export interface ExactDeviceRequest extends DeviceRequestBody {
  readonly adminAccess?: boolean;
}

export interface DeviceSubRequest extends DeviceRequestBody {
  readonly name: string;
}

/** Exactly one of `exactly` and `firstAvailable` is set. */
export interface DeviceRequest {
  readonly name: string;
  readonly exactly?: ExactDeviceRequest;
  readonly firstAvailable?: readonly DeviceSubRequest[];
}

export interface DeviceConstraint {
  /** Names of requests, or `request/alternative`; all requests when empty. */
  readonly requests?: readonly string[];
  readonly matchAttribute?: string;
  readonly distinctAttribute?: string;
}

export interface DeviceClaimConfiguration {
  /** As in a constraint. Drivers compare these names exactly. */
  readonly requests?: readonly string[];
  readonly opaque?: { readonly driver: string; readonly parameters: unknown };
}

export interface DeviceClaim {
  readonly requests?: readonly DeviceRequest[];
  readonly constraints?: readonly DeviceConstraint[];
  readonly config?: readonly DeviceClaimConfiguration[];
}

export interface ResourceClaimSpec {
  readonly devices?: DeviceClaim;
}

export interface DeviceRequestAllocationResult {
  /** Name of the request, or `request/alternative`. */
  readonly request: string;
  readonly driver: string;
  readonly pool: string;
  readonly device: string;
  readonly adminAccess?: boolean;
  readonly tolerations?: readonly DeviceToleration[];
  readonly shareID?: string;
  readonly consumedCapacity?: Readonly<Record<string, string>>;
}

export interface AllocationResult {
  readonly devices?: {
    readonly results?: readonly DeviceRequestAllocationResult[];
    readonly config?: readonly (DeviceClaimConfiguration & { readonly source: string })[];
  };
  /** Where pods that use the claim may run; anywhere when it is absent. */
  readonly nodeSelector?: NodeSelector;
}

/** What a driver says of an allocated device (gate DRAResourceClaimDeviceStatus); the types of conditions are its own. */
export interface AllocatedDeviceStatus {
  readonly driver: string;
  readonly pool: string;
  readonly device: string;
  readonly shareID?: string;
  readonly conditions?: readonly { readonly type: string; readonly status: string }[];
}

export interface ResourceClaim extends KubernetesObject {
  readonly spec: ResourceClaimSpec;
  readonly status?: {
    readonly allocation?: AllocationResult;
    readonly devices?: readonly AllocatedDeviceStatus[];
    readonly reservedFor?: readonly {
      readonly resource: string;
      readonly name: string;
      readonly uid: string;
    }[];
  };
}

export interface ResourceClaimTemplate extends KubernetesObject {
  readonly spec: {
    readonly metadata?: KubernetesObject['metadata'];
    readonly spec: ResourceClaimSpec;
  };
}

export interface DeviceClass extends KubernetesObject {
  readonly spec: {
    readonly selectors?: readonly DeviceSelector[];
    readonly config?: readonly DeviceClaimConfiguration[];
    /** A resource name, e.g. `nvidia.com/gpu`, that this class stands behind on nodes whose devices come by DRA. */
    readonly extendedResourceName?: string;
  };
}

/** Adds one taint to all devices that the selector matches; without a selector to none. */
export interface DeviceTaintRule extends KubernetesObject {
  readonly spec: {
    readonly deviceSelector?: { readonly driver?: string; readonly pool?: string; readonly device?: string };
    readonly taint: DeviceTaint;
  };
}
