import type { Device } from './device.ts';
import { type Localities, type Locality, localityOf } from './locality.ts';

/** How near a pod's devices are to each other, the nearest first: one PCIe root, one NUMA node, one host. */
export type Rung = 'pcie' | 'numa' | 'host';

export const rungs: readonly Rung[] = ['pcie', 'numa', 'host'];

/** The devices that one request of one claim of a pod has. */
export interface GrantedRequest {
  readonly claim: string;
  /** Name of the request, or `request/alternative`. */
  readonly request: string;
  readonly className: string;
  readonly adminAccess: boolean;
  readonly devices: readonly Device[];
}

/** Devices whose place says nothing about how fast a pod is. */
const apart: readonly { readonly why: string; readonly is: (device: Device) => boolean }[] = [
  {
    why: 'IMEX channels and daemons are software, on no bus',
    is: ({ id }) => id.driver === 'compute-domain.nvidia.com',
  },
  {
    why: 'a share of a NUMA node or socket, in any number: an amount, not a device to pair others with',
    is: ({ id, allowMultipleAllocations }) => id.driver === 'dra.cpu' && allowMultipleAllocations,
  },
];

/** Beyond this many tries, devices at several values at once are taken for unaligned. */
const mostTries = 4096;

/** Whether a rung is as near as is demanded. Without devices to align, every demand is met. */
export function isWithin(rung: Rung | undefined, demanded: Rung | undefined): boolean {
  if (rung === undefined || demanded === undefined) return true;
  return rungs.indexOf(rung) <= rungs.indexOf(demanded);
}

/** Whether a device counts when a pod's devices are to be near each other. */
export function isAlignable(device: Device): boolean {
  return !apart.some(({ is }) => is(device));
}

/** Devices of one driver and class are of one kind: they are counted together. */
export function kindOf(driver: string, className: string): string {
  return `${driver}//${className}`;
}

/**
 * The nearest rung at which a pod's devices are aligned; undefined when it has none that count.
 *
 * They are aligned at a rung when each has a value for it and the kinds stand at every value in the proportion in which
 * the pod has them: a GPU and a NIC at one root, 8 GPUs and 4 NICs two and one at each of four. Devices of one kind alone
 * are aligned at one value only. A device at several values, as a list says, counts at any one of them.
 */
export function rungOf(granted: readonly GrantedRequest[], localities: Localities): Rung | undefined {
  const kinds = new Map<string, Locality[]>();
  for (const { className, adminAccess, devices } of granted) {
    // Admin access looks at devices that others use.
    if (adminAccess) continue;
    for (const device of devices) {
      if (!isAlignable(device)) continue;
      const kind = kindOf(device.id.driver, className);
      const locality = localityOf(localities, device);
      const ofKind = kinds.get(kind);
      if (ofKind === undefined) kinds.set(kind, [locality]);
      else ofKind.push(locality);
    }
  }
  return rungOfKinds([...kinds.values()]);
}

/** As {@link rungOf}, of the places of devices by kind, none of them empty. */
export function rungOfKinds(kinds: readonly (readonly Locality[])[]): Rung | undefined {
  if (kinds.length === 0) return undefined;
  for (const rung of ['pcie', 'numa'] as const) {
    if (isAligned(kinds.map(ofKind => ofKind.map(locality => locality[rung])))) return rung;
  }
  return 'host';
}

/** `kinds`: for each kind, for each device, the values it is at. */
function isAligned(kinds: readonly (readonly (readonly string[])[])[]): boolean {
  const devices = kinds.flat();
  if (devices.some(values => values.length === 0)) return false;
  const [first = []] = devices;
  if (first.some(value => devices.every(values => values.includes(value)))) return true;
  if (kinds.length === 1) return false;
  return canBeInProportion(kinds);
}

function canBeInProportion(kinds: readonly (readonly (readonly string[])[])[]): boolean {
  const counts = kinds.map(() => new Map<string, number>());
  const devices = kinds.flatMap((ofKind, kind) => ofKind.map(values => ({ kind, values })));
  let tries = 0;
  const place = (index: number): boolean => {
    const device = devices[index];
    if (device === undefined) return isInProportion(kinds, counts);
    const count = counts[device.kind];
    for (const value of device.values) {
      if (++tries > mostTries) return false;
      count?.set(value, (count.get(value) ?? 0) + 1);
      if (place(index + 1)) return true;
      count?.set(value, (count.get(value) ?? 0) - 1);
    }
    return false;
  };
  return place(0);
}

function isInProportion(
  kinds: readonly (readonly unknown[])[],
  counts: readonly ReadonlyMap<string, number>[],
): boolean {
  const values = new Set(counts.flatMap(count => [...count.keys()]));
  const total = kinds[0]?.length ?? 0;
  for (const value of values) {
    const here = counts[0]?.get(value) ?? 0;
    for (const [kind, count] of counts.entries()) {
      if ((count.get(value) ?? 0) * total !== here * (kinds[kind]?.length ?? 0)) return false;
    }
  }
  return true;
}
