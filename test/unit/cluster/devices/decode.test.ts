import t from 'tap';
import type { DeviceClass, ResourceClaim, ResourceSlice } from '../../../../src/api/dra.ts';
import { decodeDeviceClass, decodeResourceClaim } from '../../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice, decodeSliceAgain } from '../../../../src/cluster/devices/decode-slice.ts';
import { DeviceFormatError } from '../../../../src/cluster/devices/format-error.ts';
import { QuantityError } from '../../../../src/cluster/quantity.ts';
import { device, driver, slice } from '../../../builders/devices.ts';

/** What is wrong by the word of a decoder. */
function refusedField(decode: () => unknown): string | undefined {
  try {
    decode();
  } catch (error) {
    if (error instanceof DeviceFormatError || error instanceof QuantityError) return error.field;
    throw error;
  }
  return 'nothing';
}

t.test('a slice is read with names that have their domain', async t => {
  const decoded = decodeResourceSlice(
    slice('s', [
      {
        name: 'gpu-0',
        attributes: {
          type: { string: 'gpu' },
          'resource.kubernetes.io/numaNode': { int: 1 },
          driverVersion: { version: '1.2.3' },
        },
        capacity: { memory: { value: '40Gi' } },
        taints: [{ key: 'sick', effect: 'NoSchedule' }],
        allowMultipleAllocations: true,
      },
    ]),
  );
  const [gpu] = decoded.devices;
  t.strictSame(
    [...(gpu?.attributes ?? [])],
    [
      [`${driver}/type`, { kind: 'string', value: 'gpu' }],
      ['resource.kubernetes.io/numaNode', { kind: 'int', value: 1n }],
      [`${driver}/driverVersion`, { kind: 'version', value: '1.2.3' }],
    ],
  );
  t.equal(gpu?.capacity.get(`${driver}/memory`)?.value, 40n * 2n ** 30n * 1_000_000_000n);
  t.equal(gpu?.key, `${driver}//n1//gpu-0`);
  t.equal(gpu?.taints.length, 1);
  t.equal(gpu?.allowMultipleAllocations, true);
  t.strictSame(decoded.reach, { kind: 'node', name: 'n1' });
});

t.test('lists are kept, and kinds that are not known yet are left out', async t => {
  const future = { name: 'a', attributes: { roots: { strings: ['x', 'y'] }, later: { matrix: [[1]] } } };
  const [first] = decodeResourceSlice(slice('s', [future as never])).devices;
  t.strictSame([...(first?.attributes ?? [])], [[`${driver}/roots`, { kind: 'strings', value: ['x', 'y'] }]]);
});

t.test('parts that are written the same are kept once', async t => {
  const twins = ['a', 'b'].map(name =>
    device(name, { type: 'gpu' }, { capacity: { memory: { value: '8Gi' } } }),
  );
  const [a, b] = decodeResourceSlice(slice('s', twins)).devices;
  t.equal(a?.attributes, b?.attributes);
  t.equal(a?.capacity, b?.capacity);
});

t.test('of a slice that is read again what has not changed is what was there', async t => {
  const written = (changes: Readonly<Record<string, object>> = {}) =>
    slice(
      's',
      ['a', 'b'].map(name => ({
        name,
        attributes: {
          uuid: { string: `uuid-${name}` },
          [`${driver}/numa`]: { int: 1 },
          isFast: { bool: true },
          driverVersion: { version: '1.2.3' },
        },
        capacity: { memory: { value: '8Gi' } },
        taints: [{ key: 'sick', effect: 'NoSchedule', timeAdded: '2026-01-01T00:00:00Z' }],
        ...changes[name],
      })) as never,
    );
  const before = decodeResourceSlice(written());
  const again = (changes: Readonly<Record<string, object>>) => {
    const raw = written(changes);
    const after = decodeSliceAgain(raw, before);
    t.strictSame(
      after,
      decodeResourceSlice(raw),
      'it says what it would say if it were read for the first time',
    );
    return after.devices.map((each, index) => each === before.devices[index]);
  };
  t.equal(decodeSliceAgain(written(), before), before);
  const later = { taints: [{ key: 'sick', effect: 'NoSchedule', timeAdded: '2026-02-02T00:00:00Z' }] };
  t.equal(decodeSliceAgain(written({ a: later }), before), before, 'a taint that is told again is the same');
  t.same(again({ a: { taints: [] } }), [false, true]);
  t.same(again({ b: { taints: [{ key: 'sick', value: 'very', effect: 'NoSchedule' }] } }), [true, false]);
  const attributes = { uuid: { string: 'uuid-a' }, numa: { int: 1 }, isFast: { bool: true } };
  const version = { driverVersion: { version: '1.2.3' } };
  t.same(
    again({ a: { attributes: { ...attributes, ...version } } }),
    [true, true],
    'with or without the domain',
  );
  for (const other of [
    attributes,
    { ...attributes, ...version, more: { int: 0 } },
    { ...attributes, ...version, uuid: { string: 'other' } },
    { ...attributes, ...version, numa: { int: 2 } },
    { ...attributes, ...version, isFast: { bool: false } },
    { ...attributes, driverVersion: { string: '1.2.3' } },
    { ...attributes, ...version, roots: { strings: ['x'] } },
    { ...attributes, ...version, later: { matrix: 1 } },
  ])
    t.same(again({ a: { attributes: other } })[1], true);
  t.same(again({ a: { attributes: { ...attributes, ...version, isFast: { bool: false } } } })[0], false);
  t.same(again({ a: { capacity: { memory: { value: '9Gi' } } } }), [false, true]);
  t.same(again({ a: { name: 'c' } }), [false, true]);
  const moved = { ...written(), spec: { ...written().spec, nodeName: 'n9' } };
  t.strictSame(decodeSliceAgain(moved, before), decodeResourceSlice(moved));
  t.throws(() => decodeSliceAgain(written({ a: { attributes: { numa: { int: 'many' } } } }), before));
});

const badSlices: readonly (readonly [field: string, spec: object])[] = [
  ['spec.driver', { driver: '' }],
  ['spec.pool.name', { pool: { generation: 1, resourceSliceCount: 1 } }],
  ['spec.pool.generation', { pool: { name: 'p', generation: 'new', resourceSliceCount: 1 } }],
  ['spec.pool.resourceSliceCount', { pool: { name: 'p', generation: 1 } }],
  ['spec.devices', { devices: {} }],
  ['spec.devices[0].name', { devices: [{}] }],
  ['spec.devices[0].attributes[a]', { devices: [{ name: 'd', attributes: { a: 'text' } }] }],
  ['spec.devices[0].attributes[a].int', { devices: [{ name: 'd', attributes: { a: { int: 1.5 } } }] }],
  ['spec.devices[0].capacity[m].value', { devices: [{ name: 'd', capacity: { m: { value: 'much' } } }] }],
  [
    'spec.devices[0].capacity[m].requestPolicy.validRange.step',
    {
      devices: [{ name: 'd', capacity: { m: { value: '1', requestPolicy: { validRange: { step: 'x' } } } } }],
    },
  ],
  ['spec.devices[0].consumesCounters[0].counterSet', { devices: [{ name: 'd', consumesCounters: [{}] }] }],
  ['spec.devices[0].taints[0].effect', { devices: [{ name: 'd', taints: [{ key: 'k' }] }] }],
  ['spec.nodeSelector.nodeSelectorTerms', { nodeName: '', nodeSelector: { nodeSelectorTerms: 'all' } }],
];

for (const [field, spec] of badSlices) {
  t.test(`a slice that is wrong in ${field} is refused by that name`, async t => {
    const good = slice('s', ['a']);
    t.equal(
      refusedField(() => decodeResourceSlice({ ...good, spec: { ...good.spec, ...spec } } as ResourceSlice)),
      field,
    );
  });
}

t.test('a claim is read with its pod, its allocation and who uses it', async t => {
  const raw: ResourceClaim = {
    metadata: {
      name: 'pod-gpu-x',
      namespace: 'ns',
      uid: 'u',
      deletionTimestamp: '2026-01-01T00:00:00Z',
      annotations: { 'resource.kubernetes.io/pod-claim-name': 'gpu' },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'pod', uid: 'p', controller: true }],
    },
    spec: { devices: { requests: [{ name: 'r' }] } },
    status: {
      allocation: { devices: { results: [{ request: 'r', driver, pool: 'n1', device: 'a' }] } },
      reservedFor: [{ resource: 'pods', name: 'pod', uid: 'p' }],
    },
  };
  const record = decodeResourceClaim(raw);
  t.strictSame(
    [
      record.podUid,
      record.podClaimName,
      record.allocation?.results.length,
      record.reservedFor,
      record.terminating,
    ],
    ['p', 'gpu', 1, ['p'], true],
  );
  t.strictSame(record.spec, {}, 'what was asked for is over');
  const { ownerReferences: _, ...metadata } = raw.metadata;
  t.strictSame(
    decodeResourceClaim({ ...raw, metadata }).spec,
    raw.spec,
    'one that pods name is allocated anew',
  );
  const allocation = { devices: { results: [{ request: 'r', driver, pool: 'n1' }] } };
  t.equal(
    refusedField(() => decodeResourceClaim({ ...raw, status: { allocation } } as unknown as ResourceClaim)),
    'status.allocation.devices.results[0].device',
  );
});

t.test('a class is read with its expressions and its age', async t => {
  const raw: DeviceClass = {
    metadata: { name: 'gpu', creationTimestamp: '1970-01-01T00:00:01Z' },
    spec: { selectors: [{ cel: { expression: 'true' } }], extendedResourceName: 'example.com/gpu' },
  };
  const { selectors, extendedResourceName, createdAtMs } = decodeDeviceClass(raw);
  t.strictSame([selectors, extendedResourceName, createdAtMs], [['true'], 'example.com/gpu', 1000]);
  t.equal(
    refusedField(() => decodeDeviceClass({ ...raw, spec: { selectors: [{}] } })),
    'spec.selectors[0].cel.expression',
  );
});
