import type { CounterSet, DeviceAttribute, DeviceCapacity, SliceDevice } from '../../src/api/dra.ts';
import { attributes, type MachineDevices, nodePool, uuidOf } from './device-slices.ts';

/** Where a GPU sits in its machine. */
export interface GpuSeat {
  readonly pciBusId: string;
  readonly pcieRoot: string;
  /** Newer drivers publish it where the machine tells; undefined as in all machines of older ones. */
  readonly numaNode?: number;
}

export interface GpuModel {
  readonly productName: string;
  readonly architecture: string;
  readonly computeCapability: string;
  /** As a quantity. */
  readonly memory: string;
}

/** One way to cut a GPU: a MIG profile with the memory slices at which it may begin. */
interface MigProfile {
  readonly name: string;
  readonly id: number;
  readonly memorySlices: number;
  readonly starts: readonly number[];
  readonly capacity: Readonly<Record<string, string>>;
}

export const gpuDriver = 'gpu.nvidia.com';
export const computeDomainDriver = 'compute-domain.nvidia.com';

export const a100: GpuModel = {
  productName: 'NVIDIA A100-SXM4-40GB',
  architecture: 'Ampere',
  computeCapability: '8.0.0',
  memory: '40Gi',
};

export const h100: GpuModel = {
  productName: 'NVIDIA H100 80GB HBM3',
  architecture: 'Hopper',
  computeCapability: '9.0.0',
  memory: '81559Mi',
};

export const gb200: GpuModel = {
  productName: 'NVIDIA GB200',
  architecture: 'Blackwell',
  computeCapability: '10.0.0',
  memory: '189471Mi',
};

export const gb300: GpuModel = {
  productName: 'NVIDIA GB300',
  architecture: 'Blackwell',
  computeCapability: '10.3.0',
  memory: '284208Mi',
};

const memorySlices = 8;
/** Instance profiles of an A100 with 40 GB, as NVML tells them. */
const migProfiles: readonly MigProfile[] = [
  profile('1g.5gb', 19, 1, [0, 1, 2, 3, 4, 5, 6], { sms: 14, copy: 1, decode: 0, memoryMi: 4864 }),
  profile('2g.10gb', 14, 2, [0, 2, 4], { sms: 28, copy: 2, decode: 1, memoryMi: 9856 }),
  profile('3g.20gb', 9, 4, [0, 4], { sms: 42, copy: 3, decode: 2, memoryMi: 19968 }),
  profile('4g.20gb', 5, 4, [0], { sms: 56, copy: 4, decode: 2, memoryMi: 19968 }),
  profile('7g.40gb', 0, 8, [0], { sms: 98, copy: 7, decode: 5, memoryMi: 40192 }),
];
/** The most that any profile takes: what the driver calls the capacity of the whole GPU. */
const wholeGpu = migProfiles[migProfiles.length - 1]?.capacity ?? {};

/** GPUs as the driver publishes them where they are given out whole. */
export function gpus(model: GpuModel, seats: readonly GpuSeat[]): MachineDevices {
  return nodeName => {
    const devices = seats.map((seat, index) => ({
      name: `gpu-${index}`,
      attributes: gpuAttributes(model, nodeName, seat, index),
      capacity: { memory: { value: model.memory } },
    }));
    return nodePool(gpuDriver, nodeName, [{ devices }]);
  };
}

/**
 * GPUs that can be given out whole or cut by MIG: each way to cut one is a device of its own, and all devices of a GPU
 * take from its counters. Uncut, a MIG device has no UUID, so placements of one profile on one GPU look alike to CEL.
 */
export function migGpus(model: GpuModel, seats: readonly GpuSeat[]): MachineDevices {
  return nodeName => {
    const sharedCounters = seats.map(
      (_, index): CounterSet => ({
        name: counterSetOf(index),
        counters: countersOf(wholeGpu, 0, memorySlices),
      }),
    );
    const devices = seats.flatMap((seat, index) => [
      wholeDevice(model, nodeName, seat, index),
      ...migProfiles.flatMap(cut =>
        cut.starts.map(start => migDevice(cut, start, index, gpuAttributes(model, nodeName, seat, index))),
      ),
    ]);
    return nodePool(gpuDriver, nodeName, [{ sharedCounters }, { devices }]);
  };
}

/** What a node of an NVLink domain publishes for IMEX: the one channel that pods get, and the one of the daemon. */
export const imexChannel: MachineDevices = nodeName => {
  const devices: SliceDevice[] = [
    { name: 'channel-0', attributes: attributes({ type: 'channel', id: 0 }) },
    { name: 'daemon', attributes: attributes({ type: 'daemon', id: 0 }) },
  ];
  return nodePool(computeDomainDriver, nodeName, [{ devices }]);
};

function gpuAttributes(model: GpuModel, nodeName: string, seat: GpuSeat, index: number) {
  const { pciBusId, pcieRoot, numaNode } = seat;
  return {
    ...attributes({
      type: 'gpu',
      uuid: `GPU-${uuidOf(nodeName, index)}`,
      productName: model.productName,
      brand: 'Nvidia',
      architecture: model.architecture,
      addressingMode: 'HMM',
      'resource.kubernetes.io/pciBusID': pciBusId,
      'resource.kubernetes.io/pcieRoot': pcieRoot,
      ...(numaNode !== undefined && { 'resource.kubernetes.io/numaNode': numaNode }),
    }),
    cudaComputeCapability: { version: model.computeCapability },
    driverVersion: { version: '580.126.9' },
    cudaDriverVersion: { version: '13.0.0' },
  };
}

function wholeDevice(model: GpuModel, nodeName: string, seat: GpuSeat, index: number): SliceDevice {
  return {
    name: `gpu-${index}`,
    attributes: gpuAttributes(model, nodeName, seat, index),
    capacity: capacityOf(wholeGpu),
    consumesCounters: [{ counterSet: counterSetOf(index), counters: countersOf(wholeGpu, 0, memorySlices) }],
  };
}

function migDevice(
  cut: MigProfile,
  start: number,
  index: number,
  parent: Readonly<Record<string, DeviceAttribute>>,
): SliceDevice {
  const { uuid = {}, ...inherited } = parent;
  return {
    name: `gpu-${index}-mig-${cut.name.replaceAll('.', '')}-${cut.id}-${start}`,
    attributes: {
      ...inherited,
      type: { string: 'mig' },
      profile: { string: cut.name },
      parentUUID: uuid,
    },
    capacity: capacityOf(cut.capacity),
    consumesCounters: [
      { counterSet: counterSetOf(index), counters: countersOf(cut.capacity, start, cut.memorySlices) },
    ],
  };
}

function counterSetOf(index: number): string {
  return `gpu-${index}-counter-set`;
}

/** Each capacity is a counter, too, and each memory slice one of its own, which fixes the place of a cut. */
function countersOf(
  capacity: Readonly<Record<string, string>>,
  firstSlice: number,
  slices: number,
): CounterSet['counters'] {
  const amounts = Object.entries(capacity).map(([name, value]) => [dashed(name), { value }] as const);
  const places = Array.from(
    { length: slices },
    (_, offset) => [`memory-slice-${firstSlice + offset}`, { value: '1' }] as const,
  );
  return Object.fromEntries([...amounts, ...places]);
}

function capacityOf(capacity: Readonly<Record<string, string>>): Record<string, DeviceCapacity> {
  return Object.fromEntries(Object.entries(capacity).map(([name, value]) => [name, { value }]));
}

function profile(
  name: string,
  id: number,
  slices: number,
  starts: readonly number[],
  size: { readonly sms: number; readonly copy: number; readonly decode: number; readonly memoryMi: number },
): MigProfile {
  const capacity = {
    multiprocessors: String(size.sms),
    copyEngines: String(size.copy),
    decoders: String(size.decode),
    encoders: '0',
    jpegEngines: '0',
    ofaEngines: '0',
    memory: `${size.memoryMi}Mi`,
  };
  return { name, id, memorySlices: slices, starts, capacity };
}

/** Counters are named in lower case with dashes. */
function dashed(name: string): string {
  return name.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`);
}
