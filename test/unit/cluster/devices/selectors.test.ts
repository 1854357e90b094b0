import t from 'tap';
import type { SliceDevice } from '../../../../src/api/dra.ts';
import { CelSelectors } from '../../../../src/cluster/devices/cel/engine.ts';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import type { Device } from '../../../../src/cluster/devices/device.ts';

function deviceOf(device: Omit<SliceDevice, 'name'>): Device {
  const pool = { name: 'p', generation: 1, resourceSliceCount: 1 };
  const spec = { driver: 'gpu.example.com', pool, allNodes: true, devices: [{ name: 'gpu-0', ...device }] };
  const [decoded] = decodeResourceSlice({ metadata: { name: 's' }, spec }).devices;
  if (decoded === undefined) throw new Error('no device');
  return decoded;
}

const gpu = deviceOf({
  attributes: { uuid: { string: 'U1' }, 'resource.kubernetes.io/pcieRoot': { string: 'pci0' } },
  capacity: { memory: { value: '80Gi' } },
});
const own = 'device.attributes["gpu.example.com"]';

t.test('what cannot be evaluated is unknown, never false', async t => {
  const engine = new CelSelectors();
  const kind = (expression: string, device = gpu) => engine.matches(expression, device).kind;
  t.equal(kind(`${own}.uuid == "U1"`), 'true');
  t.equal(kind(`${own}.uuid == "U2"`), 'false');
  t.equal(kind(`${own}.serial == "U2"`), 'error', 'Kubernetes fails there too');
  t.equal(kind(`${own}.uuid`), 'error', 'a result that is no truth value');
  t.equal(kind(''), 'unknown');
  t.equal(kind('1 +'), 'unknown');
  t.equal(kind('device.driver.fromTheFuture()'), 'unknown');
  t.equal(kind('nobody.knows == 1'), 'unknown');
  t.equal(kind(`${own}.uuid.matches("(?=U)")`), 'unknown', 'look-ahead is not RE2');
  t.equal(
    kind('true', deviceOf({ attributes: { driverVersion: { version: '1.2' } } })),
    'error',
    'no version',
  );
});

t.test('expressions that would take long are not evaluated', async t => {
  const engine = new CelSelectors();
  const startedMs = performance.now();
  const list = `[${Array.from({ length: 200 }, (_, i) => i).join(', ')}]`;
  const nested = (depth: number): string =>
    depth === 0 ? 'true' : `${list}.all(x${depth}, ${nested(depth - 1)})`;
  t.match(engine.matches(nested(4), gpu), { kind: 'unknown' });
  t.match(engine.matches(`"${'a'.repeat(11_000)}" == ""`, gpu), {
    kind: 'unknown',
    message: 'it is longer than 10240 bytes',
  });
  t.match(engine.matches(`${'('.repeat(4_000)}true${')'.repeat(4_000)}`, gpu), { kind: 'unknown' });
  t.match(engine.matches(`${'!'.repeat(9_000)}true`, gpu), { kind: 'unknown' });
  t.match(engine.matches(`[${'1,'.repeat(4_000)}1].size() == 1`, gpu), { kind: 'unknown' });
  const hard = `"${'a'.repeat(4_000)}b".matches("(a+)+$")`;
  t.equal(engine.matches(hard, gpu).kind, 'false', 'an expression that backtracking would never end');
  t.comment(`took ${Math.round(performance.now() - startedMs)} ms`);
});

t.test('verdicts are remembered by expression and device', async t => {
  const engine = new CelSelectors();
  const first = engine.matches(`${own}.serial == "x"`, gpu);
  t.equal(engine.matches(`${own}.serial == "x"`, gpu), first);
  t.not(engine.matches(`${own}.serial == "x"`, deviceOf({})), first);
  for (let i = 0; i < 3_000; i++) engine.matches(`${own}.uuid == "${i}"`, gpu);
  t.equal(engine.matches(`${own}.uuid == "U1"`, gpu).kind, 'true', 'also after many others');
});

t.test('attributes that an expression names', async t => {
  const engine = new CelSelectors();
  const expression = `has(${own}.uuid) && device.attributes['resource.kubernetes.io'][?"pcieRoot"].orValue("") != "" && ${own}.?index.orValue(0) == 1 && device.capacity["gpu.example.com"].memory.isInteger()`;
  t.same(engine.mentionedAttributes(expression), [
    { domain: 'gpu.example.com', id: 'uuid' },
    { domain: 'resource.kubernetes.io', id: 'pcieRoot' },
    { domain: 'gpu.example.com', id: 'index' },
  ]);
  t.equal(engine.mentionedAttributes('1 +'), undefined);
});

t.test('slices are decoded as their drivers mean them', async t => {
  const pool = { name: 'node-1', generation: 4, resourceSliceCount: 2 };
  const slice = decodeResourceSlice({
    metadata: { name: 's1' },
    spec: {
      driver: 'gpu.example.com',
      pool,
      nodeName: 'node-1',
      devices: [
        {
          name: 'gpu-0',
          attributes: { index: { int: 1 }, 'other.example.com/tags': { strings: ['a'] }, odd: {} },
          capacity: { memory: { value: '1Ki' } },
          consumesCounters: [{ counterSet: 'gpu', counters: { slices: { value: '2' } } }],
        },
      ],
    },
  });
  const { devices, ...rest } = slice;
  t.same(rest, {
    name: 's1',
    driver: 'gpu.example.com',
    pool: 'node-1',
    generation: 4,
    sliceCount: 2,
    reach: { kind: 'node', name: 'node-1' },
    sharedCounters: new Map(),
  });
  const [device] = devices;
  t.same(
    [...(device?.attributes ?? [])],
    [
      ['gpu.example.com/index', { kind: 'int', value: 1n }],
      ['other.example.com/tags', { kind: 'strings', value: ['a'] }],
    ],
  );
  t.equal(device?.capacity.get('gpu.example.com/memory')?.value, 1_024_000_000_000n);
  t.equal(device?.consumesCounters.get('gpu')?.get('slices'), 2_000_000_000n);
  t.equal(device?.key, 'gpu.example.com//node-1//gpu-0');
  t.equal(device?.reach, undefined, 'the slice says where');

  const reachOf = (spec: object) =>
    decodeResourceSlice({ metadata: { name: 's' }, spec: { driver: 'd', pool, ...spec } }).reach;
  t.same(reachOf({ allNodes: true }), { kind: 'all' });
  t.same(reachOf({ perDeviceNodeSelection: true }), { kind: 'per-device' });
  t.same(reachOf({}), { kind: 'selector', selector: { nodeSelectorTerms: [] } }, 'nowhere');
  const perDevice = {
    driver: 'd',
    pool,
    perDeviceNodeSelection: true,
    devices: [{ name: 'x', nodeName: 'n' }],
  };
  t.same(decodeResourceSlice({ metadata: { name: 's' }, spec: perDevice }).devices[0]?.reach, {
    kind: 'node',
    name: 'n',
  });
  const bad = { driver: 'd', pool, devices: [{ name: 'x', capacity: { memory: { value: 'much' } } }] };
  t.throws(() => decodeResourceSlice({ metadata: { name: 's' }, spec: bad }), /capacity/);
});
