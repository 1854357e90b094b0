import type { DeviceRequestBody, ResourceClaim } from '../src/api/dra.ts';
import type { PlannedClaim } from '../src/cluster/devices/claims.ts';
import type { Device } from '../src/cluster/devices/device.ts';
import type { DriverPolicy } from '../src/cluster/devices/steering/driver-policy.ts';
import {
  isSteered,
  steerClaim,
  type UnsteeredReason as UnsteerableReason,
  whyNeverSteered,
} from '../src/cluster/devices/steering/steer-claim.ts';
import type { JsonPatchOperation } from '../src/cluster/node-affinity.ts';
import type { PlacementMode } from '../src/group/owner.ts';
import { type ClaimScopeReason, claimScope, forbidsSteering } from './claim-scope.ts';
import type { Operation } from './review.ts';

/** What Berth knows of the place of the pod for which a claim is made. */
export type Seat =
  | {
      readonly kind: 'planned';
      readonly node: string;
      /** Devices for the pod's claims; a claim that is not among them has none planned. */
      readonly claims: readonly PlannedClaim[];
      /** Qualified attribute of an alignment that is demanded and that the plan reaches, see `SteerInput.alignBy`. */
      readonly alignBy?: string;
    }
  /** It is gated, and its group has no plan yet. */
  | { readonly kind: 'waiting' }
  /** Berth does not place it, or has let it go without a plan. */
  | { readonly kind: 'not-ours'; readonly reason: string }
  /** It is not in the cache, and could not be read in time. */
  | { readonly kind: 'unknown' };

export interface ClaimReviewDeps {
  /** The configuration's switch for all of steering. */
  readonly enabled: () => boolean;
  /** Undefined where the namespace has not opted in. */
  readonly namespaceMode: (namespace: string) => PlacementMode | undefined;
  /** False where the namespace says `berth.dev/steer-claims: "false"`. */
  readonly namespaceSteers: (namespace: string) => boolean;
  /**
   * Looks in the cache first and reads the pod live if it is not there, for at most a second. The UID tells incarnations
   * apart: the seat of a pod that had the name before is no seat of this one.
   */
  readonly seatOf: (namespace: string, podName: string, podUid: string) => Promise<Seat>;
  /** Everything that is published for a node, network-attached devices included; also what is taken. */
  readonly devicesOfNode: (node: string) => readonly Device[];
  readonly driverPolicy: (driver: string) => DriverPolicy;
  /** As in `SteerInput`; `offeredBy` makes one of a selector engine. */
  readonly offers?: (body: DeviceRequestBody, device: Device) => boolean;
}

export interface ClaimReviewInput {
  readonly claim: ResourceClaim;
  readonly namespace: string;
  readonly operation: Operation;
}

/** Why a request is not steered: besides what the claim and the plan say, what is not known or went wrong. */
export type UnsteeredReason = UnsteerableReason | 'steering-off' | 'pod-unknown' | 'failed';

export type ClaimVerdict =
  | {
      readonly kind: 'untouched';
      readonly reason: ClaimScopeReason | 'not-created' | 'namespace-observed' | 'not-ours';
      /** What `seatOf` says of a pod that is not Berth's. */
      readonly detail?: string;
    }
  | {
      readonly kind: 'admitted';
      readonly ops: readonly JsonPatchOperation[];
      /** Names of requests. */
      readonly steered: readonly string[];
      readonly unsteered: readonly { readonly request: string; readonly reason: UnsteeredReason }[];
      /** What went wrong, where the reason is `failed`. */
      readonly error?: unknown;
    }
  /** For now: whoever makes the claim tries again. */
  | { readonly kind: 'denied'; readonly message: string };

/** Always the same, for events are counted together by their text. */
export const waitingMessage =
  'Berth has not yet planned devices for the pod of this claim; the claim is made once the pod has its place';

/**
 * Reviews one claim: puts the devices that are planned for its pod before what it asks for. Refused is only the claim of a
 * pod that waits for its plan: kube-controller-manager makes it again when the pod is ungated, and then it is steered.
 * Whatever goes wrong, the claim passes as it was asked, which is what happens without Berth.
 */
export async function reviewClaim(
  { claim, namespace, operation }: ClaimReviewInput,
  deps: ClaimReviewDeps,
): Promise<ClaimVerdict> {
  if (operation !== 'CREATE') return { kind: 'untouched', reason: 'not-created' };
  const owner = claimScope(claim);
  if (typeof owner === 'string') return { kind: 'untouched', reason: owner };
  try {
    const mode = deps.namespaceMode(namespace);
    if (mode === undefined || mode === 'observe') return { kind: 'untouched', reason: 'namespace-observed' };
    if (forbidsSteering(claim) || !deps.enabled() || !deps.namespaceSteers(namespace))
      return unsteered(claim, 'steering-off');
    const seat = await deps.seatOf(namespace, owner.podName, owner.podUid);
    switch (seat.kind) {
      case 'not-ours':
        return { kind: 'untouched', reason: 'not-ours', detail: seat.reason };
      case 'waiting':
        return waiting(claim);
      case 'unknown':
        return unsteered(claim, 'pod-unknown');
      case 'planned':
        return steered(claim, owner.podClaimName, seat, deps);
    }
  } catch (error) {
    return { ...unsteered(claim, 'failed'), error };
  }
}

type Admitted = Extract<ClaimVerdict, { kind: 'admitted' }>;

function steered(
  { spec }: ResourceClaim,
  podClaimName: string,
  { node, claims, alignBy }: Extract<Seat, { kind: 'planned' }>,
  { devicesOfNode, driverPolicy, offers }: ClaimReviewDeps,
): Admitted {
  const result = steerClaim({
    spec,
    planned: claims.find(({ claim }) => claim === podClaimName) ?? { claim: podClaimName, requests: [] },
    devicesOfNode: devicesOfNode(node),
    driverPolicy,
    ...(offers !== undefined && { offers }),
    ...(alignBy !== undefined && { alignBy }),
  });
  return {
    kind: 'admitted',
    ops: result.spec === spec ? [] : [{ op: 'replace', path: '/spec/devices', value: result.spec.devices }],
    steered: result.steered,
    unsteered: result.unsteered,
  };
}

/** A claim that no plan could steer need not wait for one. */
function waiting({ spec }: ResourceClaim): ClaimVerdict {
  const requests = spec.devices?.requests ?? [];
  const left = requests.flatMap(request => {
    const reason = whyNeverSteered(request);
    return reason === undefined ? [] : [{ request: request.name, reason }];
  });
  return left.length < requests.length
    ? { kind: 'denied', message: waitingMessage }
    : { kind: 'admitted', ops: [], steered: [], unsteered: left };
}

/** Requests that were steered in an earlier review are so still. */
function unsteered({ spec }: ResourceClaim, reason: UnsteeredReason): Admitted {
  const requests = (spec.devices?.requests ?? []).filter(request => !isSteered(request));
  return {
    kind: 'admitted',
    ops: [],
    steered: [],
    unsteered: requests.map(({ name }) => ({ request: name, reason })),
  };
}
