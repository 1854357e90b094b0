import type { DeviceToleration } from '../api/dra.ts';
import type { DeviceConditionRecord } from '../cluster/devices/claims.ts';
import type { ComputeDomainRecord } from '../cluster/devices/compute-domain.ts';
import type { AppliedTaint, Device, DeviceId, DeviceKey } from '../cluster/devices/device.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { Claim } from './claim.ts';
import type { FailureSettings } from './settings.ts';

/** `certain` may evict at once; `suspect` only what has a better place to go to; `info` is counted. */
export type SignalClass = 'certain' | 'suspect' | 'info';

export const signalNames = [
  'DeviceUnhealthy',
  'DeviceNoExecute',
  'DeviceNoSchedule',
  'DeviceNoted',
  'DeviceMissing',
  'DeviceCondition',
  'DeviceDown',
  'DevicePoolIncomplete',
  'NodeNoExecute',
  'NodeGone',
  'NodeNotReady',
  'NodeCondition',
  'NodeShort',
  'NodeRefusesPods',
  'CliqueChanged',
  'ComputeDomainNotReady',
  'TpuSliceBroken',
  'Foreign',
  'Preempted',
] as const;
export type SignalName = (typeof signalNames)[number];

/** Nothing is wrong with such a group: another needs its place. */
export function isPreemption(signal: SignalName): boolean {
  return signal === 'Preempted';
}

/** A device of a ResourceSlice, as the signals look at it. */
export interface DeviceFacts {
  readonly id: DeviceId;
  readonly key: DeviceKey;
  /**
   * `missing`: the newest generation of its pool is complete without it. `incomplete`: that is still being published.
   * `withdrawn`: the pool has no slice at all, as while its driver is made anew.
   */
  readonly state: 'published' | 'missing' | 'incomplete' | 'withdrawn';
  readonly taints: readonly AppliedTaint[];
  /** Attribute `uuid` in the driver's domain, by which agents on the node name it. */
  readonly uuid: string | undefined;
  /** As published; absent where it is not, and where nobody asks. */
  readonly attributes?: Device['attributes'];
  /** It was said to be down often enough of late to be believed, see DownAlerts. */
  readonly wentDownOften?: boolean;
  /** What its driver says of it in the claim that has it. */
  readonly conditions?: readonly Omit<DeviceConditionRecord, 'device'>[];
}

/** A device that is allocated to a member. */
export interface AllocatedDevice extends DeviceFacts {
  /** What the pod calls its claim; undefined for the claim behind extended resources. */
  readonly claim: string | undefined;
  /** Name of the request, or `request/alternative`. */
  readonly request: string;
  readonly tolerations: readonly DeviceToleration[];
}

/** A node as the signals look at it. */
export interface NodeFacts {
  readonly record: NodeRecord;
  /** Accelerator resources of which pods have more than the node still offers, in the order of their names. */
  readonly shortOf: readonly string[];
  /**
   * The kubelet has refused several pods of late that were sent to it (UnexpectedAdmissionError). That hurts nobody who
   * runs there already, so no member is looked at for it.
   */
  readonly refusesPods: boolean;
}

/** What a member that has a channel of a ComputeDomain hangs on. */
export interface NvlinkFacts {
  /** The NVLink clique that its node is to be in; undefined where none is known. */
  readonly clique: string | undefined;
  /** Undefined where there is none of that UID, and where the cluster has no ComputeDomains. */
  readonly domain: ComputeDomainRecord | undefined;
}

/** The TPU slice that a member with TPUs is in. */
export interface TpuSliceFacts {
  readonly name: string;
  /** Hosts of the whole slice; undefined where its shape is not known, or the group does not fill slices of that size. */
  readonly hosts: number | undefined;
  readonly present: number;
}

/** One bound member of a group whose owner still wants it, as the signals look at it. */
export interface MemberFacts {
  readonly pod: PodInfo;
  readonly nodeName: string;
  /** Undefined when no such node exists. */
  readonly node: NodeRecord | undefined;
  readonly shortOf?: readonly string[];
  readonly leads: boolean;
  /** It neither goes nor has ended, and nor has its leader. */
  readonly stays: boolean;
  /** Another member of its incarnation neither goes nor has ended. */
  readonly othersLive: boolean;
  /** A worker that goes comes back alone (LWS restartPolicy None). */
  readonly returnsAlone: boolean;
  /** All members of its incarnation are there and Ready, or would be but for Berth's own readiness gate. */
  readonly groupReady?: boolean;
  /** What its claims hold, by both kinds of claims. */
  readonly devices?: readonly AllocatedDevice[];
  readonly nvlink?: NvlinkFacts;
  readonly tpuSlice?: TpuSliceFacts;
  /** Another group needs the place of this one. */
  readonly claim?: Claim | undefined;
}

/** One object that can hurt many groups at once. */
export type FaultOrigin =
  /** `isNarrow`: it can mean one device only. */
  | { readonly kind: 'rule'; readonly name: string; readonly isNarrow: boolean }
  | { readonly kind: 'pool'; readonly driver: string; readonly pool: string };

/** One signal seen on one entity. Two sights of the same fault have the same `signal` and `entity`, or `device`. */
export interface Sighting {
  readonly signal: SignalName;
  readonly class: SignalClass;
  /** Node UID (or name, when the node is gone), pod UID, pod UID and device, or device. */
  readonly entity: string;
  readonly nodeName: string;
  readonly nodeUid: string | undefined;
  /** The node itself is to blame: plans avoid it and breakers count it. */
  readonly blamesNode: boolean;
  /** The device that has failed. Whatever tells of it, it is one fault. */
  readonly device?: DeviceId | undefined;
  readonly origin?: FaultOrigin | undefined;
  /** The NVLink clique that it speaks against: plans avoid all of it. */
  readonly clique?: string | undefined;
  /** It is about the NVLink of a device, and speaks against the clique of its node where several devices tell so. */
  readonly ofNvlink?: boolean | undefined;
  /** The member that it was seen on; undefined for a node or device by itself. */
  readonly podUid: string | undefined;
  /** One sentence without anything that changes by itself. */
  readonly cause: string;
  readonly debounceMs: number;
}

export type Finding = Pick<
  Sighting,
  'entity' | 'blamesNode' | 'cause' | 'debounceMs' | 'device' | 'origin' | 'clique' | 'ofNvlink'
> & {
  /** Where it differs from the signal's own. */
  readonly class?: SignalClass;
};

/** A member on a node, as far as signals of nodes ask; undefined for a node looked at by itself. */
export interface NodeUser {
  readonly devices: readonly AllocatedDevice[];
  /** It has a NIC by claim or resource, or the network of its host. */
  readonly usesNetwork: boolean;
}

/** Whom a device is allocated to, as far as signals of devices ask; undefined for a device looked at by itself. */
export type DeviceHolder = Pick<PodInfo, 'ready'> & { readonly tolerations: readonly DeviceToleration[] };

/**
 * One way in which a failure shows. `member` signals look at a member and its node, `node` signals at the node alone,
 * `device` signals at one device: the latter two are seen whether members are there or not, so that breakers see them as
 * well.
 */
export type Signal =
  | {
      readonly name: SignalName;
      readonly class: SignalClass;
      readonly scope: 'member';
      /** Members that stay, or those that are on their way out (or ended) with a group that lives on. */
      readonly of: 'staying' | 'going';
      readonly see: (facts: MemberFacts, settings: FailureSettings) => readonly Finding[];
    }
  | {
      readonly name: SignalName;
      readonly class: SignalClass;
      readonly scope: 'node';
      readonly of: 'staying';
      readonly see: (
        node: NodeFacts,
        settings: FailureSettings,
        member: NodeUser | undefined,
      ) => readonly Finding[];
    }
  | {
      readonly name: SignalName;
      readonly class: SignalClass;
      readonly scope: 'device';
      readonly of: 'staying';
      readonly see: (
        device: DeviceFacts,
        settings: FailureSettings,
        holder: DeviceHolder | undefined,
      ) => readonly Finding[];
    };
