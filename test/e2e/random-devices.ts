import { attributes, nodePool, type SliceContent } from '../../hack/bed/device-slices.ts';
import type {
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  DeviceTaint,
  ResourceSlice,
  SliceDevice,
} from '../../src/api/dra.ts';
import { exactly, selecting } from './devices.ts';

type Random = () => number;

/** What one claim asks for. */
export interface Wish {
  readonly requests: readonly DeviceRequest[];
  readonly constraints?: readonly DeviceConstraint[];
}

/** What the nodes of a small fleet publish, and what a group wants of it. */
export interface DeviceCase {
  readonly kind: string;
  readonly slices: readonly ResourceSlice[];
  /** Taken beforehand, where it can be had. */
  readonly strangers: readonly { readonly node: string; readonly wish: Wish }[];
  readonly templates: readonly Wish[];
  /** Index of its template, by rank. */
  readonly members: readonly number[];
  /** A claim that all members use besides. */
  readonly shared: Wish | undefined;
}

/** Devices of a node by driver, and claims that make sense there. */
interface Kind {
  readonly drivers: (random: Random) => Readonly<Record<string, readonly SliceContent[]>>;
  readonly wish: (random: Random) => Wish;
}

const pcieRoot = 'resource.kubernetes.io/pcieRoot';
const numaNode = 'resource.kubernetes.io/numaNode';
const gpuDriver = 'gpu.nvidia.com';
const nicDriver = 'dra.net';
/** Nobody has told Berth how this one reads the names of requests. */
const unknownDriver = 'npu.example.com';
const broken: DeviceTaint = { key: 'example.com/broken', effect: 'NoSchedule' };

export const classes: readonly DeviceClass[] = [gpuDriver, nicDriver, unknownDriver].map(driver => ({
  apiVersion: 'resource.k8s.io/v1',
  kind: 'DeviceClass',
  metadata: { name: driver },
  spec: { selectors: [{ cel: { expression: `device.driver == "${driver}"` } }] },
}));

const gpuAttribute = (name: string) => `device.attributes["${gpuDriver}"].${name}`;

const kinds: Readonly<Record<string, Kind>> = {
  'pairs on one root': {
    drivers: random => ({
      ...gpusOn(random, between(random, 1, 4)),
      ...nicsOn(random, between(random, 1, 3)),
    }),
    wish: random => {
      const requests = [
        exactly('gpu', gpuDriver, { count: between(random, 1, 2) }),
        exactly('nic', nicDriver),
      ];
      const together = { matchAttribute: pick(random, [pcieRoot, pcieRoot, numaNode]) };
      return { requests, ...(random() < 0.7 && { constraints: [together] }) };
    },
  },
  selectors: {
    drivers: random => gpusOn(random, between(random, 1, 4)),
    wish: random => ({
      requests: [
        exactly('gpu', gpuDriver, {
          count: between(random, 1, 2),
          ...selecting(
            pick(random, [
              `${gpuAttribute('productName')} == "A100"`,
              `${gpuAttribute('productName')} in ["A100", "L40"]`,
              `device.capacity["${gpuDriver}"].memory.compareTo(quantity("40Gi")) >= 0`,
              `${gpuAttribute('driverVersion')}.isGreaterThan(semver("570.0.0"))`,
              `${gpuAttribute('?slow')}.orValue(false) == false`,
            ]),
          ),
        }),
      ],
    }),
  },
  'first available': {
    drivers: random => gpusOn(random, between(random, 1, 4)),
    wish: random => ({
      requests: [
        {
          name: 'gpu',
          firstAvailable: [
            {
              name: 'big',
              deviceClassName: gpuDriver,
              ...selecting(`${gpuAttribute('productName')} == "A100"`),
            },
            {
              name: 'small',
              deviceClassName: gpuDriver,
              count: 2,
              ...selecting(`${gpuAttribute('productName')} == "L40"`),
            },
          ],
        },
        ...(random() < 0.3 ? [exactly('any', gpuDriver)] : []),
      ],
    }),
  },
  'distinct values': {
    drivers: random => gpusOn(random, between(random, 2, 5)),
    wish: random => ({
      requests: [exactly('a', gpuDriver), exactly('b', gpuDriver)],
      constraints: [
        { distinctAttribute: pcieRoot },
        ...(random() < 0.5 ? [{ matchAttribute: numaNode }] : []),
      ],
    }),
  },
  'shared counters': {
    drivers: random => partitions(between(random, 1, 2)),
    wish: random => ({
      requests: [
        exactly('part', gpuDriver, {
          count: random() < 0.2 ? 2 : 1,
          ...selecting(`${gpuAttribute('slices')} == ${pick(random, [1, 2, 2, 4])}`),
        }),
      ],
    }),
  },
  'consumable capacity': {
    drivers: random => ({
      [nicDriver]: [{ devices: range(between(random, 1, 2)).map(index => sharedNic(index)) }],
    }),
    wish: random => ({
      requests: [
        exactly('nic', nicDriver, {
          capacity: { requests: { bandwidth: `${pick(random, [10, 25, 40, 55])}G` } },
        }),
      ],
    }),
  },
  taints: {
    drivers: random => gpusOn(random, between(random, 1, 4), 0.4),
    wish: random => ({
      requests: [
        exactly('gpu', gpuDriver, {
          ...(random() < 0.4 && { tolerations: [{ key: broken.key, operator: 'Exists' as const }] }),
        }),
      ],
    }),
  },
  'all devices': {
    drivers: random => ({
      ...gpusOn(random, between(random, 1, 3)),
      ...nicsOn(random, between(random, 0, 2)),
    }),
    wish: random => ({
      requests: [
        exactly('gpu', gpuDriver),
        ...(random() < 0.6 ? [exactly('nics', nicDriver, { allocationMode: 'All' })] : []),
      ],
    }),
  },
  'a driver that is not known': {
    drivers: random => ({
      [unknownDriver]: [
        {
          devices: range(between(random, 1, 4)).map(index => ({
            name: `npu-${index}`,
            attributes: attributes({ ring: between(random, 0, 1), index }),
          })),
        },
      ],
    }),
    wish: random => ({
      requests: [exactly('npus', unknownDriver, { count: between(random, 1, 2) })],
      ...(random() < 0.6 && { constraints: [{ matchAttribute: `${unknownDriver}/ring` }] }),
    }),
  },
};

/** A group of 2 to 4 members on the given nodes, of one or two claim templates. Kinds come in turn. */
export function randomCase(index: number, nodes: readonly string[], random: Random): DeviceCase {
  const names = Object.keys(kinds);
  const name = names[index % names.length] ?? '';
  const kind = kinds[name];
  if (kind === undefined) throw new Error(`there is no kind ${name}`);
  const slices = nodes.flatMap(node =>
    Object.entries(kind.drivers(random)).flatMap(([driver, contents]) => nodePool(driver, node, contents)),
  );
  const templates = range(random() < 0.3 ? 2 : 1).map(() => kind.wish(random));
  const members = range(between(random, 2, 4)).map(() => between(random, 0, templates.length - 1));
  const strangers = nodes.flatMap(node => (random() < 0.3 ? [{ node, wish: kind.wish(random) }] : []));
  const shared = random() < 0.08 ? kind.wish(random) : undefined;
  return { kind: name, slices, strangers, templates, members, shared };
}

function gpusOn(random: Random, count: number, tainted = 0): Readonly<Record<string, SliceContent[]>> {
  const devices = range(count).map((index): SliceDevice => {
    const root = between(random, 0, 2);
    const isBig = random() < 0.6;
    return {
      name: `gpu-${index}`,
      attributes: {
        ...attributes({
          uuid: `GPU-${index}`,
          productName: isBig ? 'A100' : 'L40',
          ...(random() < 0.3 && { slow: random() < 0.5 }),
          ...(random() < 0.9 && { [pcieRoot]: `pci0000:${root}0` }),
          [numaNode]: root % 2,
        }),
        driverVersion: { version: random() < 0.7 ? '580.1.0' : '550.0.1' },
      },
      capacity: { memory: { value: isBig ? '80Gi' : '24Gi' } },
      ...(random() < tainted && { taints: [broken] }),
    };
  });
  return { [gpuDriver]: [{ devices }] };
}

function nicsOn(random: Random, count: number): Readonly<Record<string, SliceContent[]>> {
  const devices = range(count).map((index): SliceDevice => {
    const root = between(random, 0, 2);
    const seat = { ...(random() < 0.8 && { [pcieRoot]: `pci0000:${root}0` }), [numaNode]: root % 2 };
    return {
      name: `nic-${index}`,
      attributes: attributes({ 'dra.net/pciAddress': `0000:${root}0:0${index}.0`, ...seat }),
    };
  });
  return { [nicDriver]: [{ devices }] };
}

/** GPUs of 4 slices, to be had as a whole, in halves or in quarters. */
function partitions(gpus: number): Readonly<Record<string, SliceContent[]>> {
  const set = (gpu: number) => `gpu-${gpu}`;
  const places = (first: number, size: number) =>
    Object.fromEntries(range(size).map(offset => [`slice-${first + offset}`, { value: '1' }] as const));
  const sharedCounters = range(gpus).map(gpu => ({ name: set(gpu), counters: places(0, 4) }));
  const devices = range(gpus).flatMap(gpu =>
    [4, 2, 1].flatMap(size =>
      range(4 / size).map(
        (index): SliceDevice => ({
          name: `gpu-${gpu}-${size}-${index}`,
          attributes: attributes({ slices: size, gpu }),
          consumesCounters: [{ counterSet: set(gpu), counters: places(index * size, size) }],
        }),
      ),
    ),
  );
  return { [gpuDriver]: [{ sharedCounters }, { devices }] };
}

function sharedNic(index: number): SliceDevice {
  const requestPolicy = { default: '10G', validRange: { min: '10G', max: '100G', step: '10G' } };
  return {
    name: `nic-${index}`,
    attributes: attributes({ 'dra.net/pciAddress': `0000:00:0${index}.0` }),
    allowMultipleAllocations: true,
    capacity: { bandwidth: { value: '100G', requestPolicy } },
  };
}

function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1));
}

function pick<T>(random: Random, values: readonly [T, ...T[]]): T {
  return values[Math.floor(random() * values.length)] ?? values[0];
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
