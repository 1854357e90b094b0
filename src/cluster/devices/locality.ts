import type { Labels } from '../labels.ts';
import type { AttributeValue, Device, DeviceKey } from './device.ts';
import {
  machineTypeAttributes,
  machineTypeLabel,
  numaNodeOfGpu,
  vendorNumaAttributes,
} from './numa-facts.ts';

/** Standard attributes (k8s.io/dynamic-resource-allocation deviceattribute v0.37.2). */
export const pcieRootAttribute = 'resource.kubernetes.io/pcieRoot';
export const numaNodeAttribute = 'resource.kubernetes.io/numaNode';
const pciBusIdAttribute = 'resource.kubernetes.io/pciBusID';

/** PCIe roots and NUMA nodes that a device is at: as a rule one each, none when nothing tells them. */
export interface Locality {
  readonly pcie: readonly string[];
  readonly numa: readonly string[];
}

export type Localities = ReadonlyMap<DeviceKey, Locality>;

/** The NUMA nodes of a device as something other than its slice knows them, e.g. a NodeResourceTopology. */
export type NumaOf = (device: Device) => readonly number[] | undefined;

export const nowhere: Locality = { pcie: [], numa: [] };

/**
 * Where the devices of one node are. A PCIe root hangs on one NUMA node: a device of which only the root is known is
 * taken to be where its neighbours on that root are.
 */
export function localitiesOf(
  devices: readonly Device[],
  node: { readonly labels: Labels },
  numaOf?: NumaOf,
): Localities {
  const machineType = machineTypeOf(devices, node);
  const localities = new Map<DeviceKey, Locality>();
  const numaByRoot = new Map<string, readonly string[] | 'several'>();
  for (const device of devices) {
    const locality = {
      pcie: pcieRootsOf(device),
      numa: numaNodesOf(device, machineType, numaOf),
    };
    localities.set(device.key, locality);
    const [root] = locality.pcie;
    if (root === undefined || locality.pcie.length > 1 || locality.numa.length === 0) continue;
    const known = numaByRoot.get(root);
    const agrees = known === undefined || (known !== 'several' && sameValues(known, locality.numa));
    numaByRoot.set(root, agrees ? locality.numa : 'several');
  }
  for (const [key, { pcie, numa }] of localities) {
    const [root] = pcie;
    if (root === undefined || pcie.length > 1 || numa.length > 0) continue;
    const ofNeighbours = numaByRoot.get(root);
    if (ofNeighbours !== undefined && ofNeighbours !== 'several')
      localities.set(key, { pcie, numa: ofNeighbours });
  }
  return localities;
}

export function localityOf(localities: Localities, device: Device): Locality {
  return localities.get(device.key) ?? nowhere;
}

/** An attribute's values as text, with the kind: values of different kinds never match. */
export function valuesOf(attribute: AttributeValue | undefined): readonly string[] {
  if (attribute === undefined) return [];
  switch (attribute.kind) {
    case 'int':
    case 'bool':
    case 'string':
    case 'version':
      return [`${attribute.kind}:${attribute.value}`];
    case 'ints':
    case 'bools':
    case 'strings':
    case 'versions': {
      const kind = attribute.kind.slice(0, -1);
      return [...new Set(attribute.value.map(value => `${kind}:${value}`))];
    }
  }
}

function pcieRootsOf({ attributes }: Device): readonly string[] {
  const attribute = attributes.get(pcieRootAttribute);
  if (attribute?.kind === 'string') return attribute.value === '' ? [] : [attribute.value];
  return attribute?.kind === 'strings' ? [...new Set(attribute.value)] : [];
}

function numaNodesOf(
  device: Device,
  machineType: string | undefined,
  numaOf: NumaOf | undefined,
): readonly string[] {
  for (const name of [numaNodeAttribute, ...vendorNumaAttributes]) {
    const nodes = intsOf(device.attributes.get(name));
    if (nodes.length > 0) return nodes;
  }
  const busId = device.attributes.get(pciBusIdAttribute);
  if (machineType !== undefined && busId?.kind === 'string') {
    const node = numaNodeOfGpu(machineType, busId.value);
    if (node !== undefined) return [String(node)];
  }
  return (numaOf?.(device) ?? []).map(String);
}

/** The kernel says -1 for a device without a NUMA node, and some drivers pass that on. */
function intsOf(attribute: AttributeValue | undefined): readonly string[] {
  if (attribute?.kind === 'int') return attribute.value < 0n ? [] : [String(attribute.value)];
  if (attribute?.kind !== 'ints') return [];
  return [...new Set(attribute.value.filter(value => value >= 0n).map(String))];
}

function machineTypeOf(
  devices: readonly Device[],
  { labels }: { readonly labels: Labels },
): string | undefined {
  const label = labels[machineTypeLabel];
  if (label !== undefined) return label;
  for (const { attributes } of devices) {
    for (const name of machineTypeAttributes) {
      const attribute = attributes.get(name);
      if (attribute?.kind === 'string') return attribute.value;
    }
  }
  return undefined;
}

function sameValues(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every(value => right.includes(value));
}
