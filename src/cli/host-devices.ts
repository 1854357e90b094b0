import { isAlignable } from '../cluster/devices/alignment.ts';
import type { DeviceClassRecord } from '../cluster/devices/claims.ts';
import { type Device, type DeviceId, deviceKey } from '../cluster/devices/device.ts';
import type { NodeDeviceInfo } from '../cluster/devices/node-device-info.ts';
import type { NodeInfo, NodeRecord } from '../cluster/node-info.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import { compareText } from '../cluster/topology.ts';

/** Devices of a node that count: of the kind it has most of, e.g. `nvidia.com/gpu` beside network cards. */
export interface MainDevice {
  /** What a container's limits call it; devices that come by DRA have such a name by their class. */
  readonly resource: string;
  readonly count: number;
  /** How many nobody has or holds; below 0 when a node has shrunk. */
  readonly free: number;
  /** How many of these devices are among some that a claim names; 0 where they come by device plugin. */
  readonly countOf: (devices: Iterable<DeviceId>) => number;
}

/** Undefined for a node without devices. */
export function mainDevice(info: NodeInfo): MainDevice | undefined {
  const plugged = pluggedDevice(info.record);
  if (plugged !== undefined && isCompute(plugged.resource)) return pluggedMain(info, plugged);
  const published = info.devices === undefined ? undefined : publishedDevice(info.devices);
  if (published !== undefined) return published;
  return plugged === undefined ? undefined : pluggedMain(info, plugged);
}

interface Counted {
  readonly resource: string;
  readonly count: number;
}

const pluggedDevices = new WeakMap<NodeRecord, Counted | 'none'>();

function pluggedDevice(record: NodeRecord): Counted | undefined {
  const device = pluggedDevices.get(record) ?? findPlugged(record) ?? 'none';
  pluggedDevices.set(record, device);
  return device === 'none' ? undefined : device;
}

function pluggedMain({ free }: NodeInfo, { resource, count }: Counted): MainDevice {
  return { resource, count, free: free.get(resource) ?? 0, countOf: () => 0 };
}

function findPlugged({ allocatable }: NodeRecord): Counted | undefined {
  let main: Counted | undefined;
  for (const [resource, count] of allocatable) {
    if (!isAcceleratorResource(resource) || count <= 0) continue;
    if (main === undefined || weightOf(resource, count) > weightOf(main.resource, main.count))
      main = { resource, count };
  }
  return main;
}

/** Some nodes announce thousands of shares of a network card; compute devices come first. */
function weightOf(resource: string, count: number): number {
  return isCompute(resource) ? 1_000_000 + count : count;
}

function isCompute(name: string): boolean {
  return /gpu|tpu|neuron|gaudi|npu|xpu|deviceclass/i.test(name);
}

const publishedDevices = new WeakMap<NodeDeviceInfo, MainDevice | 'none'>();

function publishedDevice(devices: NodeDeviceInfo): MainDevice | undefined {
  const device = publishedDevices.get(devices) ?? findPublished(devices) ?? 'none';
  publishedDevices.set(devices, device);
  return device === 'none' ? undefined : device;
}

/**
 * Of the classes with compute devices the one with most of them. Hosts of every sort publish their network cards, which
 * therefore make none a host with devices.
 */
function findPublished(devices: NodeDeviceInfo): MainDevice | undefined {
  const { catalog, taken } = devices;
  let main:
    | { readonly resource: string; readonly parts: readonly Device[]; readonly whole: number }
    | undefined;
  for (const [resource, deviceClass] of namesOfClasses(catalog.extended)) {
    const parts = devicesOfClass(devices, deviceClass);
    const whole = new Set(parts.map(wholeOf)).size;
    // Parts of devices, as MIG cuts them, are as many as their devices when counted whole.
    const isMore = whole > (main?.whole ?? 0) || (whole === main?.whole && parts.length < main.parts.length);
    if (isMore) main = { resource, parts, whole };
  }
  if (main === undefined) return undefined;
  const { resource, parts, whole } = main;
  const wholeByKey = new Map(devices.pools.candidates.map(({ device }) => [device.key, wholeOf(device)]));
  const own = new Set(parts.map(wholeOf));
  const countOf = (ids: Iterable<DeviceId>) => {
    const found = new Set<string>();
    for (const id of ids) {
      const key = wholeByKey.get(deviceKey(id));
      if (key !== undefined && own.has(key)) found.add(key);
    }
    return found.size;
  };
  const used = countOf(taken.flatMap(({ results }) => results.filter(result => result.adminAccess !== true)));
  return { resource, count: whole, free: whole - used, countOf };
}

/** One name for each class, that of its own where it has one; in the order of names. */
function namesOfClasses(
  extended: ReadonlyMap<string, DeviceClassRecord>,
): readonly [string, DeviceClassRecord][] {
  const names = new Map<DeviceClassRecord, string>();
  for (const [resource, deviceClass] of extended)
    if (!names.has(deviceClass) || resource === deviceClass.extendedResourceName)
      names.set(deviceClass, resource);
  return [...names]
    .map(([deviceClass, name]): [string, DeviceClassRecord] => [name, deviceClass])
    .sort(([a], [b]) => compareText(a, b));
}

function devicesOfClass(
  { catalog, pools }: NodeDeviceInfo,
  { name, selectors }: DeviceClassRecord,
): readonly Device[] {
  return pools.candidates.flatMap(({ device, reached }) => {
    const counts = reached && isAlignable(device) && (isCompute(device.id.driver) || isCompute(name));
    const isOfClass = () =>
      selectors.every(expression => catalog.selectors.matches(expression, device).kind === 'true');
    return counts && isOfClass() ? [device] : [];
  });
}

/** Devices that draw on one set of counters are parts of one. */
function wholeOf({ key, id, consumesCounters }: Device): string {
  const [set] = consumesCounters.keys();
  return set === undefined ? key : `${id.driver}//${id.pool}//#${set}`;
}
