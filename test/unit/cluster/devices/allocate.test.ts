import t from 'tap';
import type { DeviceClaim, ResourceSlice, SliceDevice } from '../../../../src/api/dra.ts';
import { allocate } from '../../../../src/cluster/devices/allocator/allocate.ts';
import { CelSelectors } from '../../../../src/cluster/devices/cel/engine.ts';
import type { DeviceClassRecord } from '../../../../src/cluster/devices/claims.ts';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import { noDeviceUse } from '../../../../src/cluster/devices/device.ts';
import { indexSlices, poolsOf } from '../../../../src/cluster/devices/pools.ts';

const node = { name: 'n0', labels: {} };
const pcieRoot = 'resource.kubernetes.io/pcieRoot';
const selectors = new CelSelectors();

function classOf(name: string): DeviceClassRecord {
  const expression = `device.driver == "${name}.example.com"`;
  return { name, selectors: [expression], extendedResourceName: undefined, createdAtMs: 0, spec: {} };
}

function sliceOf(driver: string, devices: readonly SliceDevice[], more: object = {}): ResourceSlice {
  const pool = { name: 'n0', generation: 1, resourceSliceCount: 1 };
  return {
    metadata: { name: driver },
    spec: { driver: `${driver}.example.com`, pool, nodeName: 'n0', devices, ...more },
  };
}

const rooted = (name: string, root: string): SliceDevice => ({
  name,
  attributes: { [pcieRoot]: { string: root } },
});

function ask(
  slices: readonly ResourceSlice[],
  devices: DeviceClaim,
  more: { used?: readonly string[]; mostSteps?: number } = {},
) {
  const { used = [], mostSteps } = more;
  return allocate({
    node,
    pools: poolsOf(node, indexSlices(slices.map(decodeResourceSlice))),
    classes: name => (['gpu', 'nic'].includes(name) ? classOf(name) : undefined),
    selectors,
    claims: [{ name: 'devices', spec: { devices } }],
    used: { ...noDeviceUse, devices: new Set(used) },
    ...(mostSteps !== undefined && { mostSteps }),
  });
}

function devicesIn(answer: ReturnType<typeof ask>): readonly string[] | string {
  if (answer.kind !== 'allocated') return answer.kind === 'none' ? answer.cause : answer.message;
  return answer.claims.flatMap(({ results }) => results.map(({ request, device }) => `${request} ${device}`));
}

const machine = [
  sliceOf('gpu', [rooted('gpu-0', 'a'), rooted('gpu-1', 'a'), rooted('gpu-2', 'b')]),
  sliceOf('nic', [{ name: 'nic-0' }, rooted('nic-1', 'b')]),
];
const pair = [
  { name: 'gpu', exactly: { deviceClassName: 'gpu' } },
  { name: 'nic', exactly: { deviceClassName: 'nic' } },
];

t.test('the first devices that fit are taken, and constraints send the search on', async t => {
  t.same(devicesIn(ask(machine, { requests: pair })), ['gpu gpu-0', 'nic nic-0']);
  const aligned = { requests: pair, constraints: [{ matchAttribute: pcieRoot }] };
  t.same(devicesIn(ask(machine, aligned)), ['gpu gpu-2', 'nic nic-1']);
  const used = ['gpu.example.com//n0//gpu-2'];
  t.same(devicesIn(ask(machine, aligned, { used })), 'no free devices for its claims');
});

t.test('what is wrong with a claim is named', async t => {
  const requests = [{ name: 'gpu', exactly: { deviceClassName: 'tpu' } }];
  t.same(
    devicesIn(ask(machine, { requests })),
    'request gpu of claim devices: the DeviceClass "tpu" is not there',
  );
  const many = [{ name: 'gpu', exactly: { deviceClassName: 'gpu', count: 33 } }];
  t.match(devicesIn(ask(machine, { requests: many })), /more than the 32 devices/);
  const cel = { expression: 'device.attributes["gpu.example.com"].serial == "x"' };
  const strict = [{ name: 'gpu', exactly: { deviceClassName: 'gpu', selectors: [{ cel }] } }];
  t.match(ask(machine, { requests: strict }), { kind: 'error', code: 'SelectorFails' });
  const future = [
    {
      name: 'gpu',
      exactly: { deviceClassName: 'gpu', selectors: [{ cel: { expression: 'device.new()' } }] },
    },
  ];
  t.match(ask(machine, { requests: future }), { kind: 'unknown' }, 'never false');
  t.match(ask(machine, { requests: pair, constraints: [{}] }), { kind: 'error', code: 'Unsupported' });
});

t.test('slices that are not whole, or contradict each other, give nothing', async t => {
  const all = { requests: [{ name: 'gpu', exactly: { deviceClassName: 'gpu', allocationMode: 'All' } }] };
  const one = { requests: [{ name: 'gpu', exactly: { deviceClassName: 'gpu' } }] };
  const pool = { name: 'n0', generation: 1, resourceSliceCount: 2 };
  const partial = [sliceOf('gpu', [rooted('gpu-0', 'a')], { pool })];
  t.equal(devicesIn(ask(partial, one)), 'no free devices for its claims');
  t.match(ask(partial, all), { kind: 'error', code: 'PoolIncomplete' });
  const twice = [sliceOf('gpu', [rooted('gpu-0', 'a'), rooted('gpu-0', 'b')])];
  t.equal(devicesIn(ask(twice, one)), 'contradicting ResourceSlices');
  t.match(ask(twice, all), { kind: 'error', code: 'PoolInvalid' });
  const old = [
    ...machine,
    sliceOf('gpu', [rooted('new', 'a')], { pool: { ...pool, generation: 2, resourceSliceCount: 1 } }),
  ];
  t.same(devicesIn(ask(old, one)), ['gpu new'], 'the newest generation counts');
  t.same(devicesIn(ask([], one)), 'no free devices for its claims');
});

t.test('a machine of 128 devices with 32 attributes, and a search without end', async t => {
  const attributes = Object.fromEntries(
    Array.from({ length: 32 }, (_, at) => [`example.com/a${at}`, { string: `${at}` }]),
  );
  const devices = Array.from({ length: 128 }, (_, at) => ({
    name: `gpu-${at}`,
    attributes: { ...attributes, 'example.com/odd': { int: at % 2 }, 'example.com/own': { int: at } },
  }));
  const slices = [sliceOf('gpu', devices)];
  const requests = [{ name: 'gpu', exactly: { deviceClassName: 'gpu', count: 16 } }];
  const same = [{ matchAttribute: 'example.com/odd' }];
  t.equal(devicesIn(ask(slices, { requests, constraints: same })).length, 16);
  const never = [{ matchAttribute: 'example.com/odd' }, { distinctAttribute: 'example.com/odd' }];
  t.same(devicesIn(ask(slices, { requests, constraints: never })), 'no free devices for its claims');
  const three = [{ name: 'gpu', exactly: { deviceClassName: 'gpu', count: 32 } }];
  const hard = { requests: three, constraints: [{ matchAttribute: 'example.com/odd' }] };
  const used = devices.filter((_, at) => at >= 62).map(({ name }) => `gpu.example.com//n0//${name}`);
  t.match(ask(slices, hard, { used, mostSteps: 1_000 }), { kind: 'unknown' });
});
