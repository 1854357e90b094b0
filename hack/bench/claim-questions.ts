import type {
  DeviceAttribute,
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  DeviceRequestAllocationResult,
  ResourceClaim,
  ResourceSlice,
  SliceDevice,
} from '../../src/api/dra.ts';
import { Dice } from '../../test/oracles/scheduler/dice.ts';

/** What the claim of a pod would get on a node of which some devices are taken; raw, as the API has it. */
export interface ClaimCase {
  readonly node: {
    readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  };
  readonly slices: readonly ResourceSlice[];
  readonly classes: readonly DeviceClass[];
  readonly claims: readonly ResourceClaim[];
  readonly taken: readonly DeviceRequestAllocationResult[];
}

/** One claim, on a node of devices that it is about. */
interface ClaimQuestion {
  readonly devices: (count: number) => readonly NodeDevice[];
  readonly requests: readonly DeviceRequest[];
  readonly constraints?: readonly DeviceConstraint[];
}

interface NodeDevice {
  readonly driver: string;
  readonly device: SliceDevice;
}

const gpuDriver = 'gpu.nvidia.com';
const nicDriver = 'dra.net';
const pcieRoot = 'resource.kubernetes.io/pcieRoot';
const node = { metadata: { name: 'n0', labels: { 'kubernetes.io/hostname': 'n0' } } };
/** Devices of one slice: half of the 128 that there may be, as many as there may be with counters. */
const perSlice = 64;
/** Partitions of one GPU in the question about these: the whole of it, and seven small ones. */
const perGpu = 8;
/** A pod comes upon nodes from empty to full by four fifths. */
const mostTaken = 80;

const classes: readonly DeviceClass[] = [
  classOf('gpu', `device.driver == '${gpuDriver}' && device.attributes['${gpuDriver}'].type == 'gpu'`),
  classOf('mig', `device.driver == '${gpuDriver}' && device.attributes['${gpuDriver}'].type == 'mig'`),
  classOf('nic', `device.driver == '${nicDriver}' && device.attributes['${nicDriver}'].rdma == true`),
];

const isH100 = `device.attributes['${gpuDriver}'].productName.lowerAscii().matches('^.*h100.*$')`;
const isLarge = `device.capacity['${gpuDriver}'].memory.compareTo(quantity('40Gi')) >= 0`;

const claimQuestions = {
  'a GPU by name and memory': { devices: gpus, requests: [exactly('gpu', 'gpu', 1, isH100, isLarge)] },
  'a GPU and a NIC at one PCIe root': {
    devices: gpusAndNics,
    requests: [exactly('gpu', 'gpu', 1), exactly('nic', 'nic', 1)],
    constraints: [{ requests: ['gpu', 'nic'], matchAttribute: pcieRoot }],
  },
  'four GPUs': { devices: gpus, requests: [exactly('gpus', 'gpu', 4)] },
  'the first available of three models': {
    devices: gpus,
    requests: [
      {
        name: 'gpu',
        firstAvailable: [
          {
            name: 'b200',
            ...bodyOf('gpu', 2, `device.attributes['${gpuDriver}'].productName == 'NVIDIA B200'`),
          },
          { name: 'h100', ...bodyOf('gpu', 2, isH100) },
          { name: 'any', ...bodyOf('gpu', 1) },
        ],
      },
    ],
  },
  'three small partitions': {
    devices: partitions,
    requests: [exactly('mig', 'mig', 3, `device.attributes['${gpuDriver}'].profile == '1g.10gb'`)],
  },
} as const satisfies Readonly<Record<string, ClaimQuestion>>;

export type ClaimQuestionName = keyof typeof claimQuestions;

export const claimQuestionNames: readonly ClaimQuestionName[] = [
  'a GPU by name and memory',
  'a GPU and a NIC at one PCIe root',
  'four GPUs',
  'the first available of three models',
  'three small partitions',
];

/** The same cases for the same seed: a node each, by its share of taken devices from empty to nearly full. */
export function claimCases(
  name: ClaimQuestionName,
  {
    devices: count,
    cases,
    seed,
  }: { readonly devices: number; readonly cases: number; readonly seed: number },
): readonly ClaimCase[] {
  const dice = new Dice(seed);
  const question: ClaimQuestion = claimQuestions[name];
  const devices = question.devices(count);
  const slices = slicesOf(devices);
  const constraints = question.constraints ?? [];
  const claims: readonly ResourceClaim[] = [
    {
      metadata: { name: 'claim', namespace: 'default' },
      spec: { devices: { requests: question.requests, constraints } },
    },
  ];
  return Array.from({ length: cases }, (_, index) => {
    const percent = Math.round((mostTaken * index) / Math.max(1, cases - 1));
    return { node, slices, classes, claims, taken: takenOf(devices, dice, percent) };
  });
}

/** Counters bear only so much: a GPU that is taken whole has no partition taken besides, and none the other way round. */
function takenOf(
  devices: readonly NodeDevice[],
  dice: Dice,
  percent: number,
): readonly DeviceRequestAllocationResult[] {
  const drawn = new Map<string, number>();
  return devices
    .filter(({ device }) => {
      if (!dice.percent(percent)) return false;
      const [consumed] = device.consumesCounters ?? [];
      if (consumed === undefined) return true;
      const slots = Number(consumed.counters['slots']?.value ?? 0);
      const total = (drawn.get(consumed.counterSet) ?? 0) + slots;
      if (total > perGpu - 1) return false;
      drawn.set(consumed.counterSet, total);
      return true;
    })
    .map(({ driver, device }) => ({ request: 'r', driver, pool: node.metadata.name, device: device.name }));
}

function gpus(count: number): readonly NodeDevice[] {
  return Array.from({ length: count }, (_, index) => gpu(index, index));
}

/** A root for each GPU and its NIC; the driver names the NICs the other way round. */
function gpusAndNics(count: number): readonly NodeDevice[] {
  const pairs = Array.from({ length: count / 2 }, (_, index) => index);
  return [
    ...pairs.map(index => nic(index, pairs.length - 1 - index)),
    ...pairs.map(index => gpu(index, index)),
  ];
}

/** GPUs of seven slots, to be had whole or slot by slot. */
function partitions(count: number): readonly NodeDevice[] {
  return Array.from({ length: count }, (_, index) => {
    const [gpuIndex, part] = [Math.floor(index / perGpu), index % perGpu];
    const [profile, slots] = part === 0 ? ['7g.80gb', perGpu - 1] : ['1g.10gb', 1];
    const { device } = gpu(index, gpuIndex);
    return {
      driver: gpuDriver,
      device: {
        ...device,
        attributes: { ...device.attributes, type: { string: 'mig' }, profile: { string: profile } },
        consumesCounters: [{ counterSet: `gpu-${gpuIndex}`, counters: { slots: { value: String(slots) } } }],
      },
    };
  });
}

/** With the attributes that NVIDIA's driver publishes; every other one is an H100. */
function gpu(index: number, root: number): NodeDevice {
  const isNewer = index % 2 === 1;
  const attributes: Readonly<Record<string, DeviceAttribute>> = {
    type: { string: 'gpu' },
    uuid: { string: `GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c${String(index).padStart(3, '0')}` },
    productName: { string: isNewer ? 'NVIDIA H100 80GB HBM3' : 'NVIDIA A100-SXM4-80GB' },
    brand: { string: 'Nvidia' },
    architecture: { string: isNewer ? 'Hopper' : 'Ampere' },
    cudaComputeCapability: { version: isNewer ? '9.0.0' : '8.0.0' },
    driverVersion: { version: '580.65.6' },
    cudaDriverVersion: { version: '13.0.0' },
    [pcieRoot]: { string: rootName(root) },
    'resource.kubernetes.io/pciBusID': { string: `0000:${hex(root)}:00.0` },
  };
  return {
    driver: gpuDriver,
    device: { name: `gpu-${index}`, attributes, capacity: { memory: { value: '80Gi' } } },
  };
}

function nic(index: number, root: number): NodeDevice {
  const attributes: Readonly<Record<string, DeviceAttribute>> = {
    ifName: { string: `rdma${index}` },
    rdma: { bool: true },
    numaNode: { int: index % 2 },
    mtu: { int: 9000 },
    [pcieRoot]: { string: rootName(root) },
  };
  return { driver: nicDriver, device: { name: `nic-${String(index).padStart(3, '0')}`, attributes } };
}

function rootName(root: number): string {
  return `pci0000:${hex(root)}`;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}

/** Each driver's devices in slices of one pool, the counters of partitions in one of their own. */
function slicesOf(devices: readonly NodeDevice[]): readonly ResourceSlice[] {
  const slices: ResourceSlice[] = [];
  for (const [driver, ofDriver] of Map.groupBy(devices, each => each.driver)) {
    const sets = new Set(
      ofDriver.flatMap(({ device }) => (device.consumesCounters ?? []).map(c => c.counterSet)),
    );
    const parts = Math.ceil(ofDriver.length / perSlice);
    const pool = {
      name: node.metadata.name,
      generation: 1,
      resourceSliceCount: parts + (sets.size > 0 ? 1 : 0),
    };
    const spec = { driver, pool, nodeName: node.metadata.name };
    for (let part = 0; part < parts; part++) {
      const ofSlice = ofDriver.slice(part * perSlice, (part + 1) * perSlice).map(({ device }) => device);
      slices.push({ metadata: { name: `${driver}-${part}` }, spec: { ...spec, devices: ofSlice } });
    }
    if (sets.size === 0) continue;
    const slots = { slots: { value: String(perGpu - 1) } };
    const sharedCounters = [...sets].map(name => ({ name, counters: slots }));
    slices.push({ metadata: { name: `${driver}-counters` }, spec: { ...spec, sharedCounters } });
  }
  return slices;
}

function classOf(name: string, expression: string): DeviceClass {
  return { metadata: { name }, spec: { selectors: [{ cel: { expression } }] } };
}

function exactly(
  name: string,
  className: string,
  count: number,
  ...expressions: readonly string[]
): DeviceRequest {
  return { name, exactly: bodyOf(className, count, ...expressions) };
}

function bodyOf(deviceClassName: string, count: number, ...expressions: readonly string[]) {
  return {
    deviceClassName,
    allocationMode: 'ExactCount',
    count,
    selectors: expressions.map(expression => ({ cel: { expression } })),
  };
}
