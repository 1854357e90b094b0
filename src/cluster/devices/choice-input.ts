import type { DeviceRequestAllocationResult } from '../../api/dra.ts';
import { allocate } from './allocator/allocate.ts';
import type { AllocationQuestion, NoneCause } from './allocator/question.ts';
import type { PlannedClaim, PlannedDevice, WantedClaim } from './claims.ts';
import type { Device, DeviceKey, DeviceUse } from './device.ts';
import { DeviceLedger } from './device-ledger.ts';
import type { NumaOf } from './locality.ts';
import type { NodePools } from './pools.ts';
import type { SelectorEngine } from './selectors.ts';

/** Everything about a node that a choice of its devices depends on. */
export interface NodeDevices
  extends Pick<AllocationQuestion, 'node' | 'pools' | 'used' | 'classes' | 'selectors' | 'budget'> {
  readonly numaOf?: NumaOf | undefined;
}

export type Served =
  | {
      readonly kind: 'allocated';
      readonly claims: readonly PlannedClaim[];
      readonly results: readonly DeviceRequestAllocationResult[];
      readonly doubt: string | undefined;
    }
  | { readonly kind: 'none'; readonly cause: NoneCause }
  | { readonly kind: 'error'; readonly message: string }
  | { readonly kind: 'unknown'; readonly message: string };

/** The devices that a node may use, in the order in which kube-scheduler searches them. */
export function devicesOn({ candidates }: NodePools): readonly Device[] {
  return candidates.flatMap(({ device, reached }) => (reached ? [device] : []));
}

/** Asks the allocator for claims on a node, beside what is used. */
export function serveClaims(
  nodeDevices: NodeDevices,
  claims: readonly WantedClaim[],
  used: DeviceUse,
  selectors: SelectorEngine = nodeDevices.selectors,
): Served {
  const answer = allocate({ ...nodeDevices, claims, used, selectors });
  if (answer.kind !== 'allocated') return answer;
  return {
    kind: 'allocated',
    claims: answer.claims.map(({ claim, results }) => ({ claim, requests: byRequest(results) })),
    results: answer.claims.flatMap(({ results }) => results),
    doubt: answer.doubt,
  };
}

/** What is used of the devices of one node, to which more can be added without a copy of the whole cluster's. */
export class NodeUse implements DeviceUse {
  readonly #added = new DeviceLedger();
  readonly #devices = new Set<DeviceKey>();
  readonly #capacity = new Map<DeviceKey, ReadonlyMap<string, bigint>>();

  constructor({ pools }: NodePools, used: DeviceUse) {
    for (const { slices, otherSlices } of pools) {
      for (const { devices } of [...slices, ...otherSlices]) {
        for (const { key } of devices) {
          if (used.devices.has(key)) this.#devices.add(key);
          const shares = used.capacity.get(key);
          if (shares !== undefined) this.#capacity.set(key, shares);
        }
      }
    }
  }

  get devices(): ReadonlySet<DeviceKey> {
    return this.#devices;
  }

  get capacity(): ReadonlyMap<DeviceKey, ReadonlyMap<string, bigint>> {
    return this.#capacity;
  }

  add(results: readonly DeviceRequestAllocationResult[]): void {
    const before = new Map(this.#added.capacity);
    this.#added.add(results);
    for (const key of this.#added.devices) this.#devices.add(key);
    for (const [key, amounts] of this.#added.capacity) {
      const shares = new Map(this.#capacity.get(key));
      for (const [name, amount] of amounts) {
        const more = amount - (before.get(key)?.get(name) ?? 0n);
        shares.set(name, (shares.get(name) ?? 0n) + more);
      }
      this.#capacity.set(key, shares);
    }
  }
}

function byRequest(results: readonly DeviceRequestAllocationResult[]): PlannedClaim['requests'] {
  const devices = new Map<string, PlannedDevice[]>();
  for (const { request, driver, pool, device, adminAccess, consumedCapacity } of results) {
    const ofRequest = devices.get(request) ?? [];
    devices.set(request, ofRequest);
    ofRequest.push({
      driver,
      pool,
      device,
      ...(adminAccess === true && { adminAccess }),
      ...(consumedCapacity !== undefined && { consumedCapacity }),
    });
  }
  return [...devices].map(([request, ofRequest]) => ({ request, devices: ofRequest }));
}
