import type { DeviceRequestBody } from '../../api/dra.ts';
import { type GrantedRequest, isAlignable, type Rung, rungOf } from './alignment.ts';
import { devicesOn, type NodeDevices } from './choice-input.ts';
import type { PlannedClaim, WantedClaim } from './claims.ts';
import { type Device, type DeviceKey, deviceKey } from './device.ts';
import { type Localities, localitiesOf, localityOf } from './locality.ts';

/** Where the devices of a node are: looks up the rung of claims, and the places to look for devices in. */
export class NodePlaces {
  readonly #devices: readonly Device[];
  readonly #byKey: ReadonlyMap<DeviceKey, Device>;
  readonly #localities: Localities;

  constructor({ pools, node, numaOf }: Pick<NodeDevices, 'pools' | 'node' | 'numaOf'>) {
    this.#devices = devicesOn(pools);
    this.#byKey = new Map(this.#devices.map(device => [device.key, device]));
    this.#localities = localitiesOf(this.#devices, node, numaOf);
  }

  rungOf(wanted: readonly WantedClaim[], planned: readonly PlannedClaim[]): Rung | undefined {
    const granted = planned.flatMap(({ claim, requests }) => {
      const spec = wanted.find(({ name }) => name === claim)?.spec;
      return requests.map(({ request, devices }): GrantedRequest => {
        const body = bodyOf(spec, request);
        return {
          claim,
          request,
          className: body?.deviceClassName ?? '',
          adminAccess: body !== undefined && 'adminAccess' in body && body.adminAccess === true,
          devices: devices.flatMap(id => this.#byKey.get(deviceKey(id)) ?? []),
        };
      });
    });
    return rungOf(granted, this.#localities);
  }

  /** The places at a rung, those with the fewest free devices first: the tightest that does shall be used. */
  placesAt(rung: 'pcie' | 'numa', used: ReadonlySet<DeviceKey>): readonly string[] {
    const free = new Map<string, number>();
    for (const device of this.#devices) {
      if (!isAlignable(device) || used.has(device.key)) continue;
      for (const place of localityOf(this.#localities, device)[rung])
        free.set(place, (free.get(place) ?? 0) + 1);
    }
    return [...free].sort(([, left], [, right]) => left - right).map(([place]) => place);
  }

  /** Whether a device is at a place, or need not be. */
  isAt(rung: 'pcie' | 'numa', place: string, device: Device): boolean {
    return !isAlignable(device) || localityOf(this.#localities, device)[rung].includes(place);
  }
}

/** The request, or alternative of one, that a result names. */
function bodyOf(spec: WantedClaim['spec'] | undefined, label: string): DeviceRequestBody | undefined {
  const [name, alternative] = label.split('/');
  const request = spec?.devices?.requests?.find(candidate => candidate.name === name);
  if (alternative === undefined) return request?.exactly;
  return request?.firstAvailable?.find(candidate => candidate.name === alternative);
}
