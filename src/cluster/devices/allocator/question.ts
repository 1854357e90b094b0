import type { DeviceRequestAllocationResult } from '../../../api/dra.ts';
import type { NodeSelector } from '../../../api/kubernetes.ts';
import type { DeviceClassRecord, WantedClaim } from '../claims.ts';
import type { DeviceKey, DeviceUse } from '../device.ts';
import type { NodePools } from '../pools.ts';
import type { ReachingNode } from '../reach.ts';
import type { SelectorEngine } from '../selectors.ts';

/** Would these claims of one pod, in this order, get devices on this node? */
export interface AllocationQuestion {
  readonly node: ReachingNode;
  readonly claims: readonly WantedClaim[];
  readonly pools: NodePools;
  readonly used: DeviceUse;
  readonly classes: (name: string) => DeviceClassRecord | undefined;
  readonly selectors: SelectorEngine;
  /** How many devices may be looked at before giving up; see {@link defaultBudget}. */
  readonly budget?: number | undefined;
  /**
   * Devices that a request (`request`, or `request/alternative`) of a claim is to try before all others, in this order.
   * Without it they are tried in kube-scheduler's order.
   */
  readonly prefer?: ((claim: string, request: string) => readonly DeviceKey[] | undefined) | undefined;
  /** What Berth demands besides the claims' own constraints. */
  readonly extraConstraints?: readonly ExtraConstraint[] | undefined;
}

/** All devices of these requests, of whatever claim, must have the same value of an attribute. */
export interface ExtraConstraint {
  /** Qualified name. */
  readonly matchAttribute: string;
  readonly among: readonly {
    /** As in {@link WantedClaim}. */
    readonly claim: string;
    /** Names of requests, or `request/alternative`; all requests of the claim when absent. */
    readonly requests?: readonly string[] | undefined;
  }[];
}

/** Tens of milliseconds of search; kube-scheduler itself searches for up to 10 s per node. */
export const defaultBudget = 200_000;

export type AllocationAnswer =
  | {
      readonly kind: 'allocated';
      readonly claims: readonly ClaimResult[];
      /**
       * Set when devices were passed over because Berth cannot evaluate a selector for them: the claims do fit, but
       * kube-scheduler may choose other devices.
       */
      readonly doubt: string | undefined;
    }
  | { readonly kind: 'none'; readonly cause: NoneCause; readonly claim: string; readonly request: string }
  /** kube-scheduler fails the pod's whole attempt for it, on every node. */
  | { readonly kind: 'error'; readonly code: AllocationErrorCode; readonly message: string }
  | { readonly kind: 'unknown'; readonly message: string };

/** The furthest request that found no devices, and why:  */
export type NoneCause =
  /** Nothing fits, and there are pools whose slices contradict each other. */
  | 'invalid-pools'
  /** The node has fewer devices that match its selectors than it asks for. */
  | 'no-matching-devices'
  /** There would be enough if some were not taken. */
  | 'devices-in-use'
  /** Enough are free, but not together: constraints, taints, counters, capacity, or what the pod's other requests take. */
  | 'not-together';

export type AllocationErrorCode =
  | 'missing-class'
  | 'selector-error'
  | 'pool-not-usable'
  | 'too-many-devices'
  | 'constraint-on-all'
  | 'capacity'
  | 'node-selector'
  | 'unsupported';

export interface ClaimResult {
  /** As in {@link WantedClaim}. */
  readonly claim: string;
  /**
   * In the order of allocation. `shareID`, which is random, is left out; `consumedCapacity` is there for every device
   * that may be allocated several times, even if empty, and for no other.
   */
  readonly results: readonly DeviceRequestAllocationResult[];
  readonly nodeSelector: NodeSelector | undefined;
}

/** Ends a search at once. */
export interface AllocationFault {
  readonly kind: 'error';
  readonly code: AllocationErrorCode;
  readonly message: string;
}

export function fault(code: AllocationErrorCode, message: string): AllocationFault {
  return { kind: 'error', code, message };
}
