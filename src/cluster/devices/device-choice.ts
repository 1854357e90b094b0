import type { DeviceRequestAllocationResult } from '../../api/dra.ts';
import type { Rung } from './alignment.ts';
import type { NodeDevices } from './choice-input.ts';
import type { PlannedClaim, WantedClaim } from './claims.ts';

/** Which devices the members that are to stand on one node shall have. */
export interface DeviceQuestion extends NodeDevices {
  /** The claims of each member's own. */
  readonly members: readonly (readonly WantedClaim[])[];
  /** The farthest rung that will do, for every member. */
  readonly minRung: Rung | undefined;
  /** Whether the choice can be made to come true; else it is kube-scheduler's, and only foretold. */
  readonly steerable: boolean;
}

export interface MemberDevices {
  readonly claims: readonly PlannedClaim[];
  /** The same as the allocator would write it: what is used of which device. */
  readonly results: readonly DeviceRequestAllocationResult[];
  /** Undefined when it has no devices to align. */
  readonly rung: Rung | undefined;
}

export type DeviceChoice =
  | {
      readonly kind: 'chosen';
      readonly members: readonly MemberDevices[];
      /** Set when kube-scheduler may choose other devices, for Berth cannot evaluate a selector. */
      readonly doubt: string | undefined;
    }
  | {
      readonly kind: 'none';
      readonly cause: string;
      /** Whether there is no choice at all, rather than none found. */
      readonly isCertain: boolean;
    }
  | { readonly kind: 'unknown'; readonly message: string }
  | { readonly kind: 'error'; readonly message: string };

/** Why members have no devices on a node: a stable sentence part. */
export function causeOf(minRung: Rung | undefined): string {
  switch (minRung) {
    case 'pcie':
      return 'no free devices that share a PCIe root';
    case 'numa':
      return 'no free devices that share a NUMA node';
    default:
      return 'no free devices for all claims';
  }
}
