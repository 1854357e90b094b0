import t from 'tap';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import type { DeviceSlice } from '../../../../src/cluster/devices/device.ts';
import { type NodePools, poolsFor } from '../../../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../../../src/cluster/devices/slice-index.ts';
import { answerTo, claim, device, request, slice, told } from '../../../builders/devices.ts';

const n1 = { name: 'n1', labels: { zone: 'a' } };

function seenIn(pools: NodePools): readonly string[] {
  return pools.pools.map(({ pool, state, reason, slices }) =>
    [pool, state, reason ?? slices.flatMap(each => each.devices.map(({ id }) => id.device)).join(' ')].join(
      ': ',
    ),
  );
}

const seen = (...slices: Parameters<typeof decodeResourceSlice>[0][]) =>
  seenIn(poolsFor(n1, new SliceIndex(slices.map(decodeResourceSlice))));

t.test('pools come by name, their slices by object name, those with binding conditions last', async t => {
  t.strictSame(
    seen(
      slice('2', ['d'], { pool: { name: 'b' } }),
      slice('z', ['c'], { pool: { name: 'c', resourceSliceCount: 2 } }),
      slice('y', ['e'], { pool: { name: 'c', resourceSliceCount: 2 } }),
      slice('1', [{ name: 'a', bindingConditions: ['ready'] }], { pool: { name: 'a' } }),
    ),
    ['b: usable: d', 'c: usable: e c', 'a: usable: a'],
  );
});

t.test('a pool that stays incomplete is never allocated from, and says how much of it is there', async t => {
  const slices = [slice('s', ['a'], { pool: { resourceSliceCount: 3, generation: 4 } })];
  t.strictSame(seen(...slices), ['n1: incomplete: 1 of 3 slices of generation 4 are there']);
  t.equal(told(answerTo({ slices, claims: [claim('c', [request('r')])] })), 'none: no-matching-devices c r');
});

t.test('a device name that stands twice makes the pool invalid', async t => {
  const slices = [slice('s', ['a', 'b', 'a'])];
  t.strictSame(seen(...slices), ['n1: invalid: duplicate device name a']);
  t.equal(told(answerTo({ slices, claims: [claim('c', [request('r')])] })), 'none: invalid-pools c r');
});

t.test(
  'the newest generation counts, and one that goes back is seen once its newer slice is gone',
  async t => {
    const index = new SliceIndex([
      decodeResourceSlice(slice('new', ['b'], { pool: { generation: 5 } })),
      decodeResourceSlice(slice('old', ['a'], { pool: { generation: 4 } })),
    ]);
    t.strictSame(seenIn(poolsFor(n1, index)), ['n1: usable: b']);
    index.put(decodeResourceSlice(slice('new', ['b'], { pool: { generation: 3 } })));
    t.strictSame(seenIn(poolsFor(n1, index)), ['n1: usable: a'], 'a driver that counts anew');
    index.remove('old');
    t.strictSame(seenIn(poolsFor(n1, index)), ['n1: usable: b']);
  },
);

t.test('a pool whose newer generation has nothing for the node is out of date there', async t => {
  t.strictSame(
    seen(
      slice('old', ['a'], { pool: { name: 'p', resourceSliceCount: 2 } }),
      slice('new', ['b'], { nodeName: 'n2', pool: { name: 'p', generation: 2 } }),
    ),
    [],
  );
});

t.test('slices of other nodes are not looked at', async t => {
  const asked: string[] = [];
  const index = new SliceIndex([
    decodeResourceSlice(slice('s', ['a'])),
    decodeResourceSlice(slice('t', ['b'], { nodeName: 'n2', pool: { name: 'n2' } })),
    decodeResourceSlice(slice('u', ['c'], { allNodes: true, pool: { name: 'net' } })),
  ]);
  const noted = (slices: Iterable<DeviceSlice>) => {
    const list = [...slices];
    asked.push(...list.map(({ name }) => name));
    return list;
  };
  const pools = poolsFor(n1, {
    ofNode: name => noted(index.ofNode(name)),
    shared: () => noted(index.shared()),
    ofPool: (driver, pool) => index.ofPool(driver, pool),
  });
  t.strictSame(asked, ['s', 'u']);
  t.strictSame(seenIn(pools), ['n1: usable: a', 'net: usable: c']);
});

t.test('a slice that is put again moves with its node', async t => {
  const index = new SliceIndex([decodeResourceSlice(slice('s', ['a']))]);
  index.put(decodeResourceSlice(slice('s', ['a'], { nodeName: 'n2' })));
  t.strictSame([...index.ofNode('n1')], []);
  t.equal([...index.ofNode('n2')].length, 1);
  t.equal(index.size, 1);
});

t.test('a slice of 128 devices with 32 attributes each is searched to its last device', async t => {
  const attributes = Object.fromEntries(
    Array.from({ length: 32 }, (_, index) => [`a${index}`, `value-${index}`]),
  );
  const slices = [
    slice(
      's',
      Array.from({ length: 128 }, (_, index) => device(`gpu-${index}`, { ...attributes, a0: index })),
    ),
  ];
  const selectors = [{ cel: { expression: 'device.attributes["gpu.example.com"].a0 == 127' } }];
  t.equal(told(answerTo({ slices, claims: [claim('c', [request('r', { selectors })])] })), 'c: r=gpu-127');
});
