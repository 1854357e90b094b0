import type {
  DeviceClaim,
  DeviceRequest,
  DeviceRequestBody,
  DeviceSubRequest,
  ExactDeviceRequest,
  ResourceClaimSpec,
} from '../../../api/dra.ts';
import type { PlannedClaim, RequestDevices } from '../claims.ts';
import { type Device, type DeviceKey, deviceKey } from '../device.ts';
import { bodiesOf } from '../request-selection.ts';
import { alignmentConstraints } from './alignment-constraints.ts';
import type { DriverPolicy } from './driver-policy.ts';
import { exactSelector } from './exact-selector.ts';
import { bytesOf, exceedsLimits, maxExpressionBytes } from './limits.ts';
import { addAlternativeBeside, nameAlternatives } from './request-names.ts';

/** Why a request is left as it was asked. Few and stable: they are values of a metric's label. */
export type UnsteeredReason =
  /** The plan has no devices for it. */
  | 'not-planned'
  | 'admin-access'
  /** `allocationMode: All` leaves nothing to choose. */
  | 'all-devices'
  /** Berth has not been tested with what the driver does with names of alternatives. */
  | 'driver-not-tested'
  /** The driver's devices stand for something else, as IMEX channels do. */
  | 'driver-excluded'
  | 'several-drivers'
  /** A planned device is not (any more) among those that are published for the node. */
  | 'device-not-published'
  /** The plan holds another number of devices than is asked for. */
  | 'count-differs'
  /** No attribute tells the planned devices from others, and CEL knows no device names. */
  | 'no-attribute'
  /** The claim would exceed what the API takes. */
  | 'limit';

export interface UnsteeredRequest {
  readonly request: string;
  readonly reason: UnsteeredReason;
}

export interface SteerInput {
  readonly spec: ResourceClaimSpec;
  readonly planned: PlannedClaim;
  /** Everything that is published for the planned node, whatever the driver, and also what is taken. */
  readonly devicesOfNode: readonly Device[];
  readonly driverPolicy: (driver: string) => DriverPolicy;
  /**
   * Whether class and selectors of a request may let a device through; when in doubt, they do. Without it every device
   * of the node counts, and fewer requests can be steered.
   */
  readonly offers?: (body: DeviceRequestBody, device: Device) => boolean;
  /**
   * Qualified attribute on whose value the devices of the plan agree, for requests whose driver is not tested. Such a
   * constraint is no wish: where it cannot be met any more the pod waits. Only for an alignment that is demanded.
   */
  readonly alignBy?: string;
}

export interface SteeredClaim {
  /** The very object that was given, when nothing is to be changed. */
  readonly spec: ResourceClaimSpec;
  /** Names of the requests that are steered now and were not before. */
  readonly steered: readonly string[];
  /** Those that were steered before are in neither list. */
  readonly unsteered: readonly UnsteeredRequest[];
}

/** Names of alternatives: the planned devices, and what was asked for before. */
export const plannedAlternative = 'berth';
export const askedAlternative = 'asked';

/**
 * Puts the planned devices of every request before what it asks for:
 *
 *     gpu: exactly E   becomes   gpu: firstAvailable [berth: E on exactly these devices, asked: E]
 *
 * The stock allocator tries alternatives in order, so it takes the planned devices while they are free and does as it was
 * asked when they are not. Class, selectors, tolerations, capacity, count and fields that Berth does not know are carried
 * over. Constraints go on naming the request, which covers its alternatives. Configurations have to name each alternative,
 * for drivers compare with the name in the result, which is `gpu/berth` or `gpu/asked` then.
 *
 * A claim that is steered already is left alone, so steering twice is steering once.
 */
export function steerClaim(input: SteerInput): SteeredClaim {
  const { spec } = input;
  if (spec.devices === undefined) return { spec, steered: [], unsteered: [] };
  const onNode = new Map(input.devicesOfNode.map(device => [device.key, device]));
  const steered: string[] = [];
  const unsteered: UnsteeredRequest[] = [];
  let claim = spec.devices;
  for (const request of spec.devices.requests ?? []) {
    if (isSteered(request)) continue;
    const outcome = steerRequest(claim, request, input, onNode);
    if (typeof outcome === 'string') unsteered.push({ request: request.name, reason: outcome });
    else {
      claim = outcome;
      steered.push(request.name);
    }
  }
  claim = alignmentConstraints(claim, unsteered, { ...input, onNode });
  return { spec: claim === spec.devices ? spec : { ...spec, devices: claim }, steered, unsteered };
}

/** Whether a request has an alternative of Berth's. */
export function isSteered({ firstAvailable }: DeviceRequest): boolean {
  return firstAvailable?.some(({ name }) => name === plannedAlternative) ?? false;
}

/** Why a request cannot be steered whatever the plan says; undefined for one that may be. */
export function whyNeverSteered(request: DeviceRequest): UnsteeredReason | undefined {
  if (request.exactly?.adminAccess === true) return 'admin-access';
  const bodies = bodiesOf(request);
  return bodies.length > 0 && bodies.every(asksForAll) ? 'all-devices' : undefined;
}

function asksForAll({ allocationMode }: DeviceRequestBody): boolean {
  return allocationMode === 'All';
}

/** What a request asks for, and what the plan has for it. */
interface Wish {
  /** Name of the alternative that the plan chose; undefined where there is nothing to choose from. */
  readonly alternative: string | undefined;
  readonly body: DeviceRequestBody;
  readonly planned: RequestDevices;
}

function steerRequest(
  claim: DeviceClaim,
  request: DeviceRequest,
  { planned, driverPolicy, offers = () => true, devicesOfNode }: SteerInput,
  onNode: ReadonlyMap<DeviceKey, Device>,
): DeviceClaim | UnsteeredReason {
  const never = whyNeverSteered(request);
  if (never !== undefined) return never;
  const wish = wishOf(request, planned);
  if (wish === undefined) return 'not-planned';
  const { body } = wish;
  if (asksForAll(body)) return 'all-devices';
  const refusal = whyNotDrivers(wish.planned, driverPolicy);
  if (refusal !== undefined) return refusal;
  if (wish.planned.devices.length !== (body.count ?? 1)) return 'count-differs';
  const devices = publishedOf(wish.planned, onNode);
  if (devices === undefined) return 'device-not-published';
  const expression = exactSelector(
    devices,
    devicesOfNode.filter(device => devices.includes(device) || offers(body, device)),
  );
  if (expression === undefined) return 'no-attribute';
  if (bytesOf(expression) > maxExpressionBytes) return 'limit';
  const next = withAlternative(claim, request, wish, expression);
  return exceedsLimits(next, request.name) ? 'limit' : next;
}

function wishOf(request: DeviceRequest, { requests }: PlannedClaim): Wish | undefined {
  if (request.exactly !== undefined) {
    const planned = requests.find(({ request: name }) => name === request.name);
    return planned && { alternative: undefined, body: request.exactly, planned };
  }
  for (const alternative of request.firstAvailable ?? []) {
    const planned = requests.find(({ request: name }) => name === `${request.name}/${alternative.name}`);
    if (planned !== undefined) return { alternative: alternative.name, body: alternative, planned };
  }
  return undefined;
}

function whyNotDrivers(
  { devices }: RequestDevices,
  policyOf: (driver: string) => DriverPolicy,
): UnsteeredReason | undefined {
  const drivers = [...new Set(devices.map(({ driver }) => driver))];
  const policies = drivers.map(policyOf);
  if (policies.includes('leave')) return 'driver-excluded';
  if (policies.includes('align')) return 'driver-not-tested';
  return drivers.length > 1 ? 'several-drivers' : undefined;
}

/** Undefined unless all of them are published. A device that is shared counts once. */
function publishedOf(
  { devices }: RequestDevices,
  onNode: ReadonlyMap<DeviceKey, Device>,
): readonly Device[] | undefined {
  const found = [...new Set(devices.map(deviceKey))].map(key => onNode.get(key));
  return found.every(device => device !== undefined) ? found : undefined;
}

function withAlternative(
  claim: DeviceClaim,
  request: DeviceRequest,
  { alternative, body }: Wish,
  expression: string,
): DeviceClaim {
  const asked = alternative === undefined ? [named(askedAlternative, body)] : (request.firstAvailable ?? []);
  const selectors = [...(body.selectors ?? []), { cel: { expression } }];
  const first = { ...named(plannedAlternative, body), selectors };
  const { exactly: _, ...rest } = request;
  const next: DeviceRequest = { ...rest, firstAvailable: [first, ...asked] };
  const replaced = {
    ...claim,
    requests: (claim.requests ?? []).map(other => (other.name === request.name ? next : other)),
  };
  return alternative === undefined
    ? nameAlternatives(replaced, request.name, [plannedAlternative, askedAlternative])
    : addAlternativeBeside(replaced, request.name, { beside: alternative, add: plannedAlternative });
}

/** Alternatives have no field for admin access, and here it is false at most. */
function named(name: string, body: ExactDeviceRequest): DeviceSubRequest {
  const { adminAccess: _, ...carried } = body;
  return { ...carried, name };
}
