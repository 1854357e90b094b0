import { createHash } from 'node:crypto';
import type { CounterSet, DeviceAttribute, ResourceSlice, SliceDevice } from '../../src/api/dra.ts';

/** What the drivers of one machine publish, by the name of its node. */
export type MachineDevices = (nodeName: string) => readonly ResourceSlice[];

/** One slice of a driver's pool on a node: devices, or the counters that devices of the pool share. */
export type SliceContent =
  | { readonly devices: readonly SliceDevice[] }
  | { readonly sharedCounters: readonly CounterSet[] };

const groupVersion = 'resource.k8s.io/v1';

/** All slices of a driver on a node, as kubelet plugins publish them: one pool, which has the name of the node. */
export function nodePool(
  driver: string,
  nodeName: string,
  contents: readonly SliceContent[],
): ResourceSlice[] {
  return contents.map((content, index) => ({
    apiVersion: groupVersion,
    kind: 'ResourceSlice',
    metadata: { name: `${nodeName}-${driver}-${index}` },
    spec: {
      driver,
      nodeName,
      pool: { name: nodeName, generation: 1, resourceSliceCount: contents.length },
      ...content,
    },
  }));
}

/** Attributes of a device from plain values; numbers are integers. */
export function attributes(
  values: Readonly<Record<string, string | number | boolean>>,
): Record<string, DeviceAttribute> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]): [string, DeviceAttribute] => {
      if (typeof value === 'number') return [name, { int: value }];
      if (typeof value === 'boolean') return [name, { bool: value }];
      return [name, { string: value }];
    }),
  );
}

/** The same UUID for the same words, another for others. */
export function uuidOf(...words: readonly (string | number)[]): string {
  const hex = createHash('sha256').update(words.join('/')).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}
