import type { DeviceRequest, DeviceRequestBody, DeviceToleration } from '../../../api/dra.ts';
import { parseQuantity } from '../../quantity.ts';
import type { DeviceClassRecord, WantedClaim } from '../claims.ts';
import type { Device } from '../device.ts';
import { type DeviceNode, type DevicePool, reaches } from '../pools.ts';
import type { SelectorEngine } from '../selectors.ts';
import { type Amounts, capacityTaken } from './capacity.ts';

/** Most devices that the allocation of one claim can hold (AllocationResultsMaxSize of resource.k8s.io). */
export const mostResults = 32;

/** Why no node can take the pod, whatever is free: kube-scheduler gives the pod's attempt up with an error. */
export type AllocationErrorCode =
  | 'ClassMissing'
  | 'SelectorFails'
  | 'PoolIncomplete'
  | 'PoolInvalid'
  | 'TooManyDevices'
  | 'ConstraintUnmet'
  | 'CapacityInvalid'
  | 'Unsupported';

/** Ends an allocation; never leaves the allocator. */
export class AllocationFailure extends Error {
  readonly code: AllocationErrorCode | 'Unknown';

  constructor(code: AllocationErrorCode | 'Unknown', message: string) {
    super(message);
    this.code = code;
  }
}

/** A device where it is found. */
export interface Candidate {
  readonly device: Device;
  readonly pool: DevicePool;
}

/** A request, or one alternative of it, as the search sees it. */
export interface PreparedRequest {
  /** Name of the request. */
  readonly request: string;
  readonly alternative: string | undefined;
  readonly count: number;
  readonly adminAccess: boolean;
  readonly tolerations: readonly DeviceToleration[];
  readonly capacity: Amounts | undefined;
  /** All of these, with mode `All`. */
  readonly all: readonly Candidate[] | undefined;
  /** Whether class and request select the device, and the node may use it. */
  readonly selects: (device: Device) => boolean;
}

export interface PreparedClaim {
  readonly name: string;
  /** For each request what may be done for it, in the order of preference. */
  readonly requests: readonly (readonly PreparedRequest[])[];
}

export interface RequestContext {
  readonly node: DeviceNode;
  readonly pools: readonly DevicePool[];
  readonly classes: (name: string) => DeviceClassRecord | undefined;
  readonly selectors: SelectorEngine;
}

/** @throws AllocationFailure */
export function prepareClaim(claim: WantedClaim, context: RequestContext): PreparedClaim {
  let least = 0;
  const requests = (claim.spec.devices?.requests ?? []).map(request => {
    const prepared = alternativesOf(request).map(({ body, alternative }) =>
      prepareRequest(claim, request.name, alternative, body, context),
    );
    least += Math.min(...prepared.map(({ count }) => count));
    if (least > mostResults) {
      const message = `claim ${claim.name} asks for more than the ${mostResults} devices that a claim may have`;
      throw new AllocationFailure('TooManyDevices', message);
    }
    return prepared;
  });
  return { name: claim.name, requests };
}

interface Alternative {
  readonly alternative: string | undefined;
  readonly body: DeviceRequestBody & { readonly adminAccess?: boolean };
}

function alternativesOf({ exactly, firstAvailable = [] }: DeviceRequest): readonly Alternative[] {
  if (firstAvailable.length > 0) return firstAvailable.map(body => ({ alternative: body.name, body }));
  return [{ alternative: undefined, body: exactly ?? { deviceClassName: '' } }];
}

function prepareRequest(
  claim: WantedClaim,
  request: string,
  alternative: string | undefined,
  body: Alternative['body'],
  context: RequestContext,
): PreparedRequest {
  const name = alternative === undefined ? request : `${request}/${alternative}`;
  const about = `request ${name} of claim ${claim.name}`;
  const deviceClass = context.classes(body.deviceClassName);
  if (deviceClass === undefined) {
    const message = `${about}: the DeviceClass ${JSON.stringify(body.deviceClassName)} is not there`;
    throw new AllocationFailure('ClassMissing', message);
  }
  const own = (body.selectors ?? []).map(({ cel }) => cel?.expression);
  if (own.includes(undefined)) throw new AllocationFailure('Unsupported', `${about}: a selector is not CEL`);
  const expressions = [...deviceClass.selectors, ...own.filter(expression => expression !== undefined)];
  const selects = remembered(device => {
    if (!matchesAll(expressions, device, context.selectors, about)) return false;
    return device.reach === undefined || reaches(device.reach, context.node);
  });
  const wanted = body.capacity?.requests;
  const capacity =
    wanted && new Map(Object.entries(wanted).map(([key, value]) => [key, parseQuantity(value)]));
  const mode = body.allocationMode ?? 'ExactCount';
  if (mode !== 'ExactCount' && mode !== 'All')
    throw new AllocationFailure('Unsupported', `${about}: allocation mode ${mode} is not known`);
  const all = mode === 'All' ? allOf(context.pools, selects, capacity, about) : undefined;
  return {
    request,
    alternative,
    count: all?.length ?? body.count ?? 1,
    adminAccess: body.adminAccess === true,
    tolerations: body.tolerations ?? [],
    capacity,
    all,
    selects,
  };
}

function allOf(
  pools: readonly DevicePool[],
  selects: (device: Device) => boolean,
  capacity: Amounts | undefined,
  about: string,
): readonly Candidate[] {
  const found: Candidate[] = [];
  for (const pool of pools) {
    if (pool.state !== 'complete') {
      const code = pool.state === 'incomplete' ? 'PoolIncomplete' : 'PoolInvalid';
      const message = `${about}: it asks for all devices, and the slices of pool ${pool.driver}/${pool.name} are ${pool.state}`;
      throw new AllocationFailure(code, message);
    }
    for (const { devices } of pool.slices) {
      for (const device of devices) {
        if (!selects(device)) continue;
        const granted = capacityTaken(device, capacity, []);
        if (granted !== undefined && 'message' in granted)
          throw new AllocationFailure('CapacityInvalid', `${about}: ${granted.message}`);
        if (granted !== undefined) found.push({ device, pool });
      }
    }
  }
  return found;
}

function matchesAll(
  expressions: readonly string[],
  device: Device,
  selectors: SelectorEngine,
  about: string,
): boolean {
  for (const expression of expressions) {
    const verdict = selectors.matches(expression, device);
    if (verdict.kind === 'false') return false;
    if (verdict.kind === 'true') continue;
    const code = verdict.kind === 'error' ? 'SelectorFails' : 'Unknown';
    throw new AllocationFailure(code, `${about}: selector ${JSON.stringify(expression)}: ${verdict.message}`);
  }
  return true;
}

function remembered(decide: (device: Device) => boolean): (device: Device) => boolean {
  const known = new Map<Device, boolean>();
  return device => {
    const before = known.get(device);
    if (before !== undefined) return before;
    const decided = decide(device);
    known.set(device, decided);
    return decided;
  };
}
