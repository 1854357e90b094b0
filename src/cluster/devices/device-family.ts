import type { AttributeValue, Device, DeviceKey } from './device.ts';

/** Attributes, by the part of the name after the domain, that tell what a device is rather than which one it is. */
const tellingStrings: ReadonlySet<string> = new Set(['type', 'productName', 'profile', 'partitionProfile']);

/**
 * What a device is, for guesses about who may want it: driver, product, and what is true of it. An RDMA NIC and the
 * management NIC beside it are of two families; two GPUs of a node are of one.
 */
export function familyOf({ id, attributes }: Device): string {
  const telling: string[] = [];
  for (const [name, attribute] of attributes)
    if (tellsFamily(name, attribute)) telling.push(`${name}=${attribute.value}`);
  return [id.driver, ...telling.sort()].join(' ');
}

export function tellsFamily(name: string, { kind }: AttributeValue): boolean {
  return kind === 'bool' || (kind === 'string' && tellingStrings.has(name.slice(name.indexOf('/') + 1)));
}

/** NICs that cannot do RDMA on a node where others of their driver can: these, not they, are wanted beside GPUs. */
export function withoutRdma(devices: readonly Device[]): ReadonlySet<DeviceKey> {
  const drivers = new Set<string>();
  for (const device of devices) if (doesRdma(device) === true) drivers.add(device.id.driver);
  return new Set(
    devices.flatMap(device =>
      drivers.has(device.id.driver) && doesRdma(device) === false ? [device.key] : [],
    ),
  );
}

function doesRdma({ id, attributes }: Device): boolean | undefined {
  const rdma = attributes.get(`${id.driver}/rdma`);
  return rdma?.kind === 'bool' ? rdma.value : undefined;
}
