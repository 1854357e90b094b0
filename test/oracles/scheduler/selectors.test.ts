import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import type { ResourceSlice, SliceDevice } from '../../../src/api/dra.ts';
import { CelSelectors } from '../../../src/cluster/devices/cel/engine.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { isRecord } from '../../../src/kube/raw-object.ts';
import { ask } from './oracle.ts';
import { selectorExpressions, unknownExpressions } from './selector-expressions.ts';

const corpus = join(import.meta.dirname, '../../../../shared/corpus');

interface Published {
  readonly driver: string;
  readonly device: SliceDevice;
}

/** One of everything an attribute or capacity may be. */
const made: readonly Published[] = [
  {
    driver: 'gpu.example.com',
    device: {
      name: 'gpu-0',
      attributes: {
        uuid: { string: 'GPU-18db0e85-99e9-c746-8531-ffeb86328b39' },
        model: { string: 'LATEST-GPU-MODEL' },
        index: { int: 3 },
        healthy: { bool: true },
        driverVersion: { version: '1.10.0' },
        odd: { string: 'ÄÖ a+b"c\\d' },
        'resource.kubernetes.io/pcieRoot': { string: 'pci0000:10' },
        'other.example.com/weight': { int: -7 },
      },
      capacity: { memory: { value: '80Gi' }, 'other.example.com/cores': { value: '1500m' } },
      allowMultipleAllocations: true,
    },
  },
  { driver: 'gpu.example.com', device: { name: 'gpu-1' } },
  {
    driver: 'nic.example.com',
    device: {
      name: 'nic-0',
      attributes: {
        'gpu.example.com/uuid': { string: '' },
        'gpu.example.com/index': { string: '3' },
        rdma: { bool: false },
      },
      capacity: { 'gpu.example.com/memory': { value: '1k' } },
    },
  },
  {
    driver: 'gpu.example.com',
    device: {
      name: 'pre',
      attributes: { driverVersion: { version: '1.10.0-rc.1+build' }, index: { int: 0 } },
    },
  },
];

function objectsUnder(folder: string): readonly unknown[] {
  return globSync('**/*.yaml', { cwd: folder }).flatMap(file =>
    parseAllDocuments(readFileSync(join(folder, file), 'utf8')).flatMap(document => {
      if (document.errors.length > 0) return [];
      const value: unknown = document.toJS();
      return isRecord(value) && Array.isArray(value['items']) ? value['items'] : [value];
    }),
  );
}

function published(objects: readonly unknown[]): readonly Published[] {
  const slices = objects.filter(
    (object): object is ResourceSlice => isRecord(object) && object['kind'] === 'ResourceSlice',
  );
  return slices.flatMap(({ spec }) => (spec.devices ?? []).map(device => ({ driver: spec.driver, device })));
}

/** Every string under a key `expression` that is about devices. */
function expressionsIn(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap(expressionsIn);
  if (!isRecord(value)) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === 'expression' && typeof inner === 'string' && inner.includes('device.')
      ? [inner]
      : expressionsIn(inner),
  );
}

function decoded({ driver, device }: Published) {
  const spec = {
    driver,
    pool: { name: 'p', generation: 1, resourceSliceCount: 1 },
    allNodes: true,
    devices: [device],
  };
  const [only] = decodeResourceSlice({ metadata: { name: 's' }, spec }).devices;
  if (only === undefined) throw new Error('a slice has lost its device');
  return only;
}

t.test('selectors say of devices what Kubernetes says', async t => {
  const objects = existsSync(corpus) ? objectsUnder(corpus) : [];
  if (objects.length === 0)
    t.comment('the corpus is not there: only devices and expressions made here are asked about');
  const devices = [...made, ...published(objects)];
  const expressions = [
    ...new Set([...selectorExpressions, ...unknownExpressions, ...objects.flatMap(expressionsIn)]),
  ];
  const asked = expressions.flatMap(text => devices.map(device => ({ kind: 'selector', text, device })));
  const answers = await ask(asked);
  const engine = new CelSelectors();
  const records = devices.map(decoded);
  const tally = new Map<string, number>();
  const wrong: string[] = [];
  const unknown = new Set<string>();
  for (const [i, { text, device }] of asked.entries()) {
    const theirs = String(answers[i]?.['value']);
    const record = records[i % devices.length];
    if (record === undefined) continue;
    const ours = engine.matches(text, record);
    const pair = `${theirs} -> ${ours.kind}`;
    tally.set(pair, (tally.get(pair) ?? 0) + 1);
    // Lists as values come with a gate that is off: Kubernetes fails at them in one way or another.
    if (ours.kind === 'unknown' && theirs !== 'runtime') unknown.add(text);
    const agrees =
      ours.kind === 'unknown' ||
      ours.kind === theirs ||
      (ours.kind === 'error' && ['compile', 'runtime'].includes(theirs));
    if (!agrees) wrong.push(`${pair}: ${text} on ${device.device.name}: ${answers[i]?.['message'] ?? ''}`);
  }
  t.comment(
    [...tally]
      .sort()
      .map(([pair, count]) => `${pair}: ${count}`)
      .join(', '),
  );
  t.strictSame(wrong, [], 'no verdict differs');
  t.strictSame(
    [...unknown].sort(),
    [...unknownExpressions].sort(),
    'only those are unknown that are said to be',
  );
});
