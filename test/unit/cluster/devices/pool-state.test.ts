import t from 'tap';
import type { DeviceTaintRule } from '../../../../src/api/dra.ts';
import { berth } from '../../../../src/api/names.ts';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import { poolStateOf } from '../../../../src/cluster/devices/pool-state.ts';
import { decodeTaintRule, withTaintRules } from '../../../../src/cluster/devices/taint-rules.ts';
import { driver, slice } from '../../../builders/devices.ts';

type SliceParts = NonNullable<Parameters<typeof slice>[2]>;

const sliceOf = (
  name: string,
  devices: readonly string[],
  pool: SliceParts['pool'] = {},
  rest: SliceParts = {},
) => decodeResourceSlice(slice(name, devices, { ...rest, pool }));

t.test('a pool is what the slices of its newest generation say together', async t => {
  const state = (...slices: readonly ReturnType<typeof sliceOf>[]) => {
    const { isComplete, devices } = poolStateOf(slices) ?? { isComplete: undefined, devices: new Map() };
    return [isComplete, [...devices.keys()]];
  };
  t.same(state(), [undefined, []]);
  t.same(state(sliceOf('a', ['gpu-0'])), [true, ['gpu-0']]);
  const two = { resourceSliceCount: 2 };
  t.same(state(sliceOf('a', ['gpu-0'], two)), [false, ['gpu-0']], 'one is still to come');
  t.same(state(sliceOf('a', ['gpu-0'], two), sliceOf('b', ['gpu-1'], two)), [true, ['gpu-0', 'gpu-1']]);
  const newer = { generation: 2 };
  t.same(state(sliceOf('a', ['gpu-0', 'gpu-1']), sliceOf('b', ['gpu-0'], newer)), [true, ['gpu-0']]);
  t.same(
    state(sliceOf('a', ['gpu-0'], newer), sliceOf('b', ['gpu-0', 'gpu-1'])),
    [true, ['gpu-0']],
    'an older one is ignored while the newer one is there',
  );
  t.same(state(sliceOf('b', ['gpu-0', 'gpu-1'])), [true, ['gpu-0', 'gpu-1']], 'and counts when that is gone');
});

t.test('a pool is on a node where all of its slices are', async t => {
  const two = { resourceSliceCount: 2 };
  const here = sliceOf('a', ['gpu-0'], two);
  t.equal(poolStateOf([here, sliceOf('b', ['gpu-1'], two)])?.nodeName, 'n1');
  t.equal(poolStateOf([here, sliceOf('b', ['gpu-1'], two, { nodeName: 'n2' })])?.nodeName, undefined);
  t.equal(poolStateOf([sliceOf('a', ['gpu-0'], {}, { allNodes: true })])?.nodeName, undefined);
});

t.test('an annotation on one of its slices confirms a pool', async t => {
  const raw = slice('a', ['gpu-0']);
  const annotations = { [berth.confirmed]: 'yes' };
  t.equal(poolStateOf([decodeResourceSlice(raw)])?.isConfirmed, false);
  const annotated = { ...raw, metadata: { ...raw.metadata, annotations } };
  t.equal(poolStateOf([decodeResourceSlice(annotated)])?.isConfirmed, true);
});

t.test('a taint says from which rule it comes, and how many devices that can mean', async t => {
  const taint = { key: 'x', effect: 'NoSchedule' };
  const origins = (
    deviceSelector: DeviceTaintRule['spec']['deviceSelector'],
    annotations: Readonly<Record<string, string>> = {},
  ) => {
    const spec = { ...(deviceSelector && { deviceSelector }), taint };
    const rule = decodeTaintRule({ metadata: { name: 'r', annotations }, spec });
    const { devices } = withTaintRules(sliceOf('a', ['gpu-0', 'gpu-1']), [rule]);
    return devices.map(({ taints }) => taints.map(({ rule: origin }) => origin));
  };
  const wide = { name: 'r', isNarrow: false, isConfirmed: false };
  t.same(origins(undefined), [[], []], 'without a selector it means none');
  t.same(origins({}), [[wide], [wide]], 'an empty one means all');
  t.same(origins({ driver, pool: 'n1' }), [[wide], [wide]]);
  t.same(origins({ device: 'gpu-1' }), [[], [wide]], 'every node may have a device of that name');
  t.same(origins({ driver, pool: 'n1', device: 'gpu-1' }), [[], [{ ...wide, isNarrow: true }]]);
  t.same(origins({ driver, pool: 'n2', device: 'gpu-1' }), [[], []]);
  const confirmed = { ...wide, isConfirmed: true };
  t.same(origins({ driver }, { [berth.confirmed]: '' }), [[confirmed], [confirmed]]);
});
