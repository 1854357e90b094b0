import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type {
  DeviceAttribute,
  DeviceRequest,
  ResourceClaimSpec,
  ResourceSlice,
  SliceDevice,
} from '../../../../src/api/dra.ts';
import type { PlannedClaim } from '../../../../src/cluster/devices/claims.ts';
import { type AttributeValue, type Device, deviceKey } from '../../../../src/cluster/devices/device.ts';
import { driverPolicy } from '../../../../src/cluster/devices/steering/driver-policy.ts';
import { type SteerInput, steerClaim } from '../../../../src/cluster/devices/steering/steer-claim.ts';
import { parseQuantity } from '../../../../src/cluster/quantity.ts';
import { corpusFolder } from '../../webhooks/lws-pods.ts';

/** Attributes by name; strings, numbers and truth values stand for themselves. */
export type Attributes = Readonly<Record<string, string | number | boolean | DeviceAttribute>>;

export const nvidia = 'gpu.nvidia.com';
export const dranet = 'dra.net';

/** A device of pool `n1`; attributes without a domain are the driver's. */
export function buildDevice(driver: string, name: string, attributes: Attributes = {}): Device {
  return deviceOf(driver, 'n1', { name, attributes: wireAttributes(attributes) });
}

export function deviceOf(driver: string, pool: string, { name, attributes, capacity }: SliceDevice): Device {
  const id = { driver, pool, device: name };
  return {
    id,
    key: deviceKey(id),
    attributes: new Map(
      Object.entries(attributes ?? {}).map(([key, value]) => [
        key.includes('/') ? key : `${driver}/${key}`,
        attributeOf(value),
      ]),
    ),
    capacity: new Map(
      Object.entries(capacity ?? {}).map(([key, { value }]) => [
        key.includes('/') ? key : `${driver}/${key}`,
        { value: parseQuantity(value), policy: undefined },
      ]),
    ),
    consumesCounters: new Map(),
    reach: undefined,
    taints: [],
    bindsToNode: false,
    hasBindingConditions: false,
    allowMultipleAllocations: false,
  };
}

/** Eight GPUs as on a p4d: two on each PCIe root. */
export const gpus: readonly Device[] = Array.from({ length: 8 }, (_, index) =>
  buildDevice(nvidia, `gpu-${index}`, {
    type: 'gpu',
    uuid: `GPU-${index}${index}`,
    productName: 'A100',
    'resource.kubernetes.io/pciBusID': `0000:${index}0:1c.0`,
    'resource.kubernetes.io/pcieRoot': `pci0000:${Math.floor(index / 2)}0`,
  }),
);

/** Four NICs, one on each PCIe root. */
export const nics: readonly Device[] = Array.from({ length: 4 }, (_, index) =>
  buildDevice(dranet, `nic-${index}`, {
    'dra.net/pciAddress': `0000:${index}0:1b.0`,
    'dra.net/rdma': true,
    'resource.kubernetes.io/pcieRoot': `pci0000:${index}0`,
  }),
);

export function plan(requests: Readonly<Record<string, readonly Device[]>>): PlannedClaim {
  return {
    claim: 'devices',
    requests: Object.entries(requests).map(([request, devices]) => ({
      request,
      devices: devices.map(({ id }) => id),
    })),
  };
}

/** Steers on a node with the GPUs and NICs above unless told otherwise. */
export function steer(
  spec: ResourceClaimSpec,
  requests: Readonly<Record<string, readonly Device[]>>,
  input: Partial<SteerInput> = {},
) {
  return steerClaim({
    spec,
    planned: plan(requests),
    devicesOfNode: [...gpus, ...nics],
    driverPolicy,
    ...input,
  });
}

export function exactly(name: string, deviceClassName: string, extra: object = {}): DeviceRequest {
  return { name, exactly: { deviceClassName, allocationMode: 'ExactCount', count: 1, ...extra } };
}

/** Objects of a kind in a folder of the corpus, and where there is no corpus undefined. */
export function corpusObjects(id: string, kind: string): readonly object[] | undefined {
  const files = globSync(`${id}-*/*.yaml`, { cwd: corpusFolder });
  if (files.length === 0) return undefined;
  return files
    .flatMap(file => parseAllDocuments(readFileSync(join(corpusFolder, file), 'utf8')))
    .flatMap(document => itemsOf(document.toJS()))
    .filter(object => 'kind' in object && object.kind === kind);
}

/** Devices of a slice dump of the corpus. */
export function corpusDevices(id: string): readonly Device[] | undefined {
  return corpusObjects(id, 'ResourceSlice')?.filter(isSlice).flatMap(devicesOfSlice);
}

function itemsOf(document: unknown): readonly object[] {
  if (typeof document !== 'object' || document === null) return [];
  return 'items' in document && Array.isArray(document.items) ? document.items : [document];
}

function isSlice(object: object): object is ResourceSlice {
  return 'kind' in object && object.kind === 'ResourceSlice';
}

function devicesOfSlice({ spec: { driver, pool, devices = [] } }: ResourceSlice): readonly Device[] {
  return devices.map(device => deviceOf(driver, pool.name, device));
}

function wireAttributes(attributes: Attributes): Readonly<Record<string, DeviceAttribute>> {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, wireValue(value)]));
}

function wireValue(value: string | number | boolean | DeviceAttribute): DeviceAttribute {
  switch (typeof value) {
    case 'string':
      return { string: value };
    case 'number':
      return { int: value };
    case 'boolean':
      return { bool: value };
    default:
      return value;
  }
}

function attributeOf({ int, bool, string, version, strings, ints }: DeviceAttribute): AttributeValue {
  if (int !== undefined) return { kind: 'int', value: BigInt(int) };
  if (bool !== undefined) return { kind: 'bool', value: bool };
  if (string !== undefined) return { kind: 'string', value: string };
  if (version !== undefined) return { kind: 'version', value: version };
  if (ints !== undefined) return { kind: 'ints', value: ints.map(BigInt) };
  return { kind: 'strings', value: strings ?? [] };
}
