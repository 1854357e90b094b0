import { type Rung, rungs } from '../cluster/devices/alignment.ts';
import type { PlannedClaim, PlannedDevice, RequestDevices } from '../cluster/devices/claims.ts';
import type { PlanAnnotationError } from './plan-annotation.ts';

/** The devices planned for one member. */
export interface SeatDevices {
  readonly claims: readonly PlannedClaim[];
  /** How near they stand; undefined for a member without devices that could be near each other. */
  readonly rung: Rung | undefined;
}

export const noSeatDevices: SeatDevices = { claims: [], rung: undefined };

/**
 * As lists without names, and pools by number, for a large group has thousands of devices and the annotation's room is
 * limited: `"pools":[["driver","pool"],..]`, `"devices":[[["claim",["request",[0,"device"],..],..],..],..]`,
 * `"alignment":["pcie",..]`.
 */
export function writeDevices(byRank: readonly SeatDevices[]): {
  readonly pools: readonly (readonly [string, string])[];
  readonly devices: readonly unknown[];
  readonly alignment: readonly string[];
} {
  const pools: [string, string][] = [];
  const numbers = new Map<string, number>();
  const numberOf = ({ driver, pool }: PlannedDevice): number => {
    const key = `${driver}//${pool}`;
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, pools.length);
    return pools.push([driver, pool]) - 1;
  };
  const written = (device: PlannedDevice) =>
    device.consumedCapacity === undefined
      ? [numberOf(device), device.device]
      : [numberOf(device), device.device, device.consumedCapacity];
  const devices = byRank.map(({ claims }) =>
    claims.map(({ claim, requests }) => [
      claim,
      ...requests.map(request => [
        request.request,
        ...request.devices.filter(({ adminAccess }) => adminAccess !== true).map(written),
      ]),
    ]),
  );
  return { pools, devices, alignment: byRank.map(({ rung }) => rung ?? '') };
}

/** Undefined where the plan has no devices. */
export function readDevices(
  { pools, devices, alignment }: Readonly<Record<string, unknown>>,
  size: number,
): readonly SeatDevices[] | PlanAnnotationError | undefined {
  if (devices === undefined) return undefined;
  if (!isListOf(devices, size)) return invalid('devices must have one list for each node');
  if (!isListOf(alignment, size)) return invalid('alignment must have one word for each node');
  if (!Array.isArray(pools) || !pools.every(isPool))
    return invalid('pools must hold a driver and a name each');
  const byRank: SeatDevices[] = [];
  for (const [rank, lists] of devices.entries()) {
    const claims = Array.isArray(lists) ? lists.map(list => readClaim(list, pools)) : [undefined];
    const known = claims.filter(claim => claim !== undefined);
    if (known.length < claims.length) return invalid(`devices of rank ${rank} cannot be read`);
    const word = alignment[rank];
    const rung = rungs.find(known => known === word);
    if (rung === undefined && word !== '') return invalid(`alignment of rank ${rank} is no rung`);
    byRank.push(known.length === 0 && rung === undefined ? noSeatDevices : { claims: known, rung });
  }
  return byRank;
}

type Pool = readonly [driver: string, pool: string];

function isPool(value: unknown): value is Pool {
  return Array.isArray(value) && value.length === 2 && value.every(part => typeof part === 'string');
}

function readClaim(value: unknown, pools: readonly Pool[]): PlannedClaim | undefined {
  if (!Array.isArray(value)) return undefined;
  const [claim, ...lists] = value;
  if (typeof claim !== 'string') return undefined;
  const requests = lists.flatMap(list => readRequest(list, pools) ?? []);
  return requests.length === lists.length ? { claim, requests } : undefined;
}

function readRequest(value: unknown, pools: readonly Pool[]): RequestDevices | undefined {
  if (!Array.isArray(value)) return undefined;
  const [request, ...lists] = value;
  if (typeof request !== 'string') return undefined;
  const devices = lists.flatMap(list => readDevice(list, pools) ?? []);
  return devices.length === lists.length ? { request, devices } : undefined;
}

function readDevice(value: unknown, pools: readonly Pool[]): PlannedDevice | undefined {
  if (!Array.isArray(value) || value.length > 3) return undefined;
  const [number, device, consumedCapacity] = value;
  const pool = typeof number === 'number' ? pools[number] : undefined;
  if (pool === undefined || typeof device !== 'string') return undefined;
  const id = { driver: pool[0], pool: pool[1], device };
  if (consumedCapacity === undefined) return id;
  return isAmounts(consumedCapacity) ? { ...id, consumedCapacity } : undefined;
}

function isAmounts(value: unknown): value is Readonly<Record<string, string>> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every(amount => typeof amount === 'string')
  );
}

function isListOf(value: unknown, size: number): value is readonly unknown[] {
  return Array.isArray(value) && value.length === size;
}

function invalid(problem: string): PlanAnnotationError {
  return { code: 'InvalidPlan', message: `the plan annotation: ${problem}` };
}
