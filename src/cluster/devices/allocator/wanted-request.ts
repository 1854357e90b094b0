import type { DeviceRequest, DeviceRequestBody, DeviceToleration } from '../../../api/dra.ts';
import { parseQuantity, type Quantity, QuantityError } from '../../quantity.ts';
import type { Candidate } from '../pools.ts';
import { type CapacityAmounts, consumptionOf } from './capacity.ts';
import { type AllocationFault, type AllocationQuestion, fault } from './question.ts';
import { Selection } from './selection.ts';

/** Most devices that one claim may get (resource.k8s.io AllocationResultsMaxSize). */
export const maxResults = 32;

/** A request without alternatives, or one alternative of a request. */
export interface WantedRequest {
  readonly claimIndex: number;
  readonly requestIndex: number;
  /** As results name it: `request`, or `request/alternative`. */
  readonly name: string;
  readonly base: string;
  /** Name of the alternative, or ''. */
  readonly alternative: string;
  readonly adminAccess: boolean;
  readonly tolerations: readonly DeviceToleration[] | undefined;
  readonly capacity: CapacityAmounts;
  readonly count: number;
  /** The very devices to get, for allocation mode All. */
  readonly all: readonly Candidate[] | undefined;
  /** Devices in the order in which this request tries them. */
  readonly candidates: readonly Candidate[];
  readonly selection: Selection;
}

/** By claim and request, the alternatives in order; a plain request is the only one. */
export type WantedRequests = readonly (readonly (readonly WantedRequest[])[])[];

type Refusal = AllocationFault | { readonly kind: 'unknown'; readonly message: string };

const noCapacity: CapacityAmounts = new Map();

/**
 * Reads the requests of all claims as kube-scheduler does before it searches. What it refuses here, it refuses on every
 * node (Allocate and validateDeviceRequest of structured/internal/incubating, v0.37.2).
 */
export function wantedRequests(question: AllocationQuestion): WantedRequests | Refusal {
  const claims: WantedRequest[][][] = [];
  for (const [claimIndex, claim] of question.claims.entries()) {
    const requests: WantedRequest[][] = [];
    let least = 0;
    for (const request of claim.spec.devices?.requests ?? []) {
      const alternatives: WantedRequest[] = [];
      for (const variant of variantsOf(request)) {
        const wanted = wantedRequest(
          question,
          { claimIndex, requestIndex: requests.length, base: request.name },
          variant,
        );
        if ('kind' in wanted) return wanted;
        alternatives.push(wanted);
      }
      const where = `claim ${claim.name}, request ${request.name}`;
      if (alternatives.length === 0) return fault('unsupported', `${where}: unsupported request type`);
      const leastHere = Math.min(...alternatives.map(({ count }) => count));
      if (leastHere > maxResults - least)
        return fault('too-many-devices', `${where}: a claim can get no more than ${maxResults} devices`);
      least += leastHere;
      requests.push(alternatives);
    }
    claims.push(requests);
  }
  return claims;
}

interface RequestVariant {
  readonly body: DeviceRequestBody;
  readonly alternative: string;
  readonly adminAccess: boolean;
}

function variantsOf({ exactly, firstAvailable = [] }: DeviceRequest): readonly RequestVariant[] {
  if (firstAvailable.length > 0)
    return firstAvailable.map(body => ({ body, alternative: body.name, adminAccess: false }));
  return exactly === undefined
    ? []
    : [{ body: exactly, alternative: '', adminAccess: exactly.adminAccess === true }];
}

function wantedRequest(
  question: AllocationQuestion,
  place: Pick<WantedRequest, 'claimIndex' | 'requestIndex' | 'base'>,
  { body, alternative, adminAccess }: RequestVariant,
): WantedRequest | Refusal {
  const claim = question.claims[place.claimIndex]?.name ?? '';
  const name = alternative === '' ? place.base : `${place.base}/${alternative}`;
  const where = `claim ${claim}, request ${name}`;
  if ((body.derivedAttributes?.length ?? 0) > 0)
    return fault('unsupported', `${where}: derived attributes are off by default`);
  const expressions: string[] = [];
  for (const [index, { cel }] of (body.selectors ?? []).entries()) {
    if (cel === undefined) return fault('unsupported', `${where}, selector #${index}: no CEL expression`);
    expressions.push(cel.expression);
  }
  if (!body.deviceClassName) return fault('unsupported', `${where}: no device class`);
  const deviceClass = question.classes(body.deviceClassName);
  if (deviceClass === undefined)
    return fault('missing-class', `${where}: device class ${body.deviceClassName} does not exist`);
  const capacity = capacityOf(body);
  if (capacity === undefined) return fault('capacity', `${where}: an amount of capacity is no quantity`);
  const wanted = {
    ...place,
    name,
    alternative,
    adminAccess,
    tolerations: body.tolerations,
    capacity,
    candidates: inOrder(question.pools.candidates, question.prefer?.(claim, name)),
    selection: new Selection(where, question.selectors, [...deviceClass.selectors, ...expressions]),
  };
  switch (body.allocationMode ?? 'ExactCount') {
    case 'ExactCount':
      return { ...wanted, count: body.count ?? 1, all: undefined };
    case 'All': {
      const all = allDevices(question, wanted, where);
      return 'kind' in all ? all : { ...wanted, count: all.length, all };
    }
    default:
      return fault('unsupported', `${where}: unsupported allocation mode ${body.allocationMode}`);
  }
}

function capacityOf({ capacity }: DeviceRequestBody): CapacityAmounts | undefined {
  const requests = Object.entries(capacity?.requests ?? {});
  if (requests.length === 0) return noCapacity;
  try {
    return new Map(requests.map(([name, text]): [string, Quantity] => [name, parseQuantity(text)]));
  } catch (error) {
    if (error instanceof QuantityError) return undefined;
    throw error;
  }
}

/**
 * Devices that are in use, or short of capacity for now, are among them, so that the request fails rather than gets
 * fewer. A pool that is being updated may have more, so it fails the pod.
 */
function allDevices(
  { pools }: AllocationQuestion,
  { selection, capacity }: Pick<WantedRequest, 'selection' | 'capacity'>,
  where: string,
): readonly Candidate[] | Refusal {
  const all: Candidate[] = [];
  let next = 0;
  for (const pool of pools.pools) {
    if (!pool.usable) {
      const id = `${pool.driver}/${pool.pool}`;
      return fault(
        'pool-not-usable',
        `${where}: asks for all devices, but resource pool ${id} is ${pool.state}`,
      );
    }
    for (; pools.candidates[next]?.pool === pool; next++) {
      const candidate = pools.candidates[next];
      if (candidate === undefined) break;
      const verdict = selection.of(candidate);
      if (verdict.kind === 'error') return fault('selector-error', verdict.message);
      if (verdict.kind === 'unknown') return verdict;
      if (verdict.kind === 'false') continue;
      const consumption = consumptionOf(candidate.device, capacity);
      if (consumption.kind === 'error') return fault('capacity', `${where}: ${consumption.message}`);
      if (consumption.kind === 'amounts' && isWithin(consumption.amounts, candidate)) all.push(candidate);
    }
  }
  return all;
}

function isWithin(amounts: CapacityAmounts, { device }: Candidate): boolean {
  for (const [name, amount] of amounts) if (amount > (device.capacity.get(name)?.value ?? 0n)) return false;
  return true;
}

function inOrder(
  candidates: readonly Candidate[],
  first: readonly string[] | undefined,
): readonly Candidate[] {
  if (first === undefined || first.length === 0) return candidates;
  const rank = new Map(first.map((key, index) => [key, index]));
  const rankOf = ({ device }: Candidate): number => rank.get(device.key) ?? first.length;
  return [...candidates].sort((a, b) => rankOf(a) - rankOf(b) || a.index - b.index);
}
