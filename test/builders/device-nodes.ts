import type { DeviceAttribute, DeviceRequestBody, ResourceSlice, SliceDevice } from '../../src/api/dra.ts';
import type { NodeDevices } from '../../src/cluster/devices/choice-input.ts';
import type { WantedClaim } from '../../src/cluster/devices/claims.ts';
import { decodeDeviceClass } from '../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../src/cluster/devices/decode-slice.ts';
import { type Device, noDeviceUse } from '../../src/cluster/devices/device.ts';
import { poolsFor } from '../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../src/cluster/devices/slice-index.ts';
import { claim, device, deviceClass, request, simpleSelectors, slice } from './devices.ts';

export const pcieRoot = 'resource.kubernetes.io/pcieRoot';
export const numaNode = 'resource.kubernetes.io/numaNode';
export const gpuDriver = 'gpu.nvidia.com';
export const nicDriver = 'dra.net';

type Value = number | string | boolean | readonly string[] | readonly number[];
export type Attributes = Readonly<Record<string, Value>>;
type Counters = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Classes for the nodes below: `gpu`, `nic` (RDMA only), `mig-1g`, `mig-3g`, `mig-7g`. */
export const nodeClasses = new Map(
  [
    deviceClass('gpu', `device.driver == "${gpuDriver}" && device.attributes["${gpuDriver}"].type == "gpu"`),
    deviceClass('nic', `device.driver == "${nicDriver}" && device.attributes["${nicDriver}"].rdma == true`),
    ...['1g', '3g', '7g'].map(profile =>
      deviceClass(
        `mig-${profile}`,
        `device.driver == "${gpuDriver}" && device.attributes["${gpuDriver}"].profile == "${profile}"`,
      ),
    ),
  ].map(raw => [raw.metadata.name ?? '', decodeDeviceClass(raw)]),
);

/** A node `n1` with these slices, nothing in use. */
export function nodeWith(
  slices: readonly ResourceSlice[],
  { taken = [], ...rest }: Partial<NodeDevices> & { readonly taken?: readonly string[] } = {},
): NodeDevices {
  const node = { name: 'n1', labels: {} };
  const pools = poolsFor(node, new SliceIndex(slices.map(decodeResourceSlice)));
  const keys = pools.candidates.flatMap(({ device }) =>
    taken.includes(device.id.device) ? [device.key] : [],
  );
  return {
    node,
    pools,
    used: taken.length === 0 ? noDeviceUse : { devices: new Set(keys), capacity: new Map() },
    classes: name => nodeClasses.get(name),
    selectors: simpleSelectors,
    ...rest,
  };
}

/** A claim `name` of exact requests: a count of a class, or a body. */
export function wants(
  name: string,
  requests: Readonly<Record<string, readonly [className: string, count: number] | DeviceRequestBody>>,
  ...matchAttributes: readonly string[]
): WantedClaim {
  return claim(
    name,
    Object.entries(requests).map(([request_, asked]) =>
      request(request_, 'deviceClassName' in asked ? asked : { deviceClassName: asked[0], count: asked[1] }),
    ),
    matchAttributes.map(matchAttribute => ({ matchAttribute })),
  );
}

/** As p4d: four roots of two GPUs and one NIC, two roots to a NUMA node, which only the NICs tell. */
export function p4dLike(): readonly ResourceSlice[] {
  const roots = ['pci0000:10', 'pci0000:20', 'pci0000:90', 'pci0000:a0'];
  const gpus = roots.flatMap((root, index) => [
    gpu(2 * index, { [pcieRoot]: root }),
    gpu(2 * index + 1, { [pcieRoot]: root }),
  ]);
  const nics = roots.flatMap((root, index) => {
    const place = { [pcieRoot]: root, numaNode: index < 2 ? 0 : 1 };
    const management = device(`ens${index}`, { rdma: false, ...place });
    const fabric = device(`efa${index}`, { rdma: true, ...place });
    return index === 0 ? [fabric] : [management, fabric];
  });
  return gpusAndNics(gpus, nics);
}

/** As GB300: four GPUs with a root each, four NICs without; two of each to a NUMA node. */
export function gb300Like(): readonly ResourceSlice[] {
  const gpus = [0, 1, 2, 3].map(index =>
    gpu(index, { [pcieRoot]: `pci000${index}:00`, [numaNode]: index < 2 ? 0 : 1 }),
  );
  const nics = [0, 1, 2, 3].map(index => nic(index, { numaNode: index < 2 ? 0 : 1 }));
  return gpusAndNics(gpus, nics);
}

/** As DGX: eight roots with a GPU and a NIC each, four to a NUMA node; the NICs are listed the other way round. */
export function dgxLike(): readonly ResourceSlice[] {
  const places = [0, 1, 2, 3, 4, 5, 6, 7].map(index => ({
    [pcieRoot]: `pci${index}`,
    [numaNode]: index < 4 ? 0 : 1,
  }));
  return gpusAndNics(
    places.map((place, index) => gpu(index, place)),
    places.map((place, index) => nic(index, place)).reverse(),
  );
}

/** Two GPUs with a root, a NIC and seven slices each, to be had whole (7g), by 3 at either end (3g), or one by one (1g). */
export function migLike(): readonly ResourceSlice[] {
  const devices: SliceDevice[] = [];
  const counters: Record<string, Record<string, number>> = {};
  for (const index of [0, 1]) {
    const set = `gpu-${index}`;
    const slices = Array.from({ length: 7 }, (_, number) => `slice-${number}`);
    counters[set] = { memory: 7, ...Object.fromEntries(slices.map(name => [name, 1])) };
    const partition = (profile: string, start: number, size: number): SliceDevice => ({
      ...sliceDevice(`gpu-${index}-${profile}-${start}`, {
        type: 'mig',
        profile,
        [pcieRoot]: `pci${index}`,
        [numaNode]: index,
      }),
      consumesCounters: [
        {
          counterSet: set,
          counters: amounts({
            memory: size,
            ...Object.fromEntries(slices.slice(start, start + size).map(name => [name, 1])),
          }),
        },
      ],
    });
    devices.push(partition('7g', 0, 7), partition('3g', 0, 3), partition('3g', 4, 3));
    for (const start of slices.keys()) devices.push(partition('1g', start, 1));
  }
  const nics = [0, 1].map(index => nic(index, { [pcieRoot]: `pci${index}`, [numaNode]: index }));
  return gpusAndNics(devices, nics, counters);
}

export function gpu(index: number, place: Attributes): SliceDevice {
  return sliceDevice(`gpu-${index}`, { type: 'gpu', uuid: `GPU-${index}`, ...place });
}

export function nic(index: number, place: Attributes): SliceDevice {
  return sliceDevice(`nic-${index}`, { rdma: true, ...place });
}

export function gpusAndNics(
  gpus: readonly SliceDevice[],
  nics: readonly SliceDevice[],
  counters: Counters = {},
): readonly ResourceSlice[] {
  const sharedCounters = Object.entries(counters).map(([name, of]) => ({ name, counters: amounts(of) }));
  const pool = { resourceSliceCount: sharedCounters.length === 0 ? 1 : 2 };
  return [
    slice('n1-dra.net', nics, { driver: nicDriver }),
    slice('n1-gpu.nvidia.com', gpus, { driver: gpuDriver, pool }),
    ...(sharedCounters.length === 0
      ? []
      : [slice('n1-gpu.nvidia.com-counters', [], { driver: gpuDriver, pool, sharedCounters })]),
  ];
}

/** A device of `driver` as the decoder makes it. */
export function decodedDevice(
  driver: string,
  name: string,
  attributes: Attributes = {},
  rest: Partial<SliceDevice> = {},
): Device {
  const raw = slice('one', [{ ...sliceDevice(name, attributes), ...rest }], { driver });
  const [decoded] = decodeResourceSlice(raw).devices;
  if (decoded === undefined) throw new Error('no device');
  return decoded;
}

export function sliceDevice(name: string, attributes: Attributes): SliceDevice {
  return {
    name,
    attributes: Object.fromEntries(
      Object.entries(attributes).map(([key, value]) => [key, attributeOf(value)]),
    ),
  };
}

function attributeOf(value: Value): DeviceAttribute {
  if (typeof value === 'number') return { int: value };
  if (typeof value === 'string') return { string: value };
  if (typeof value === 'boolean') return { bool: value };
  const strings = value.filter(item => typeof item === 'string');
  return strings.length > 0 ? { strings } : { ints: value.filter(item => typeof item === 'number') };
}

function amounts(counters: Readonly<Record<string, number>>): Record<string, { readonly value: string }> {
  return Object.fromEntries(
    Object.entries(counters).map(([name, amount]) => [name, { value: String(amount) }]),
  );
}
