import fc from 'fast-check';
import t from 'tap';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import type { DeviceSlice } from '../../../../src/cluster/devices/device.ts';
import { RuleIndex } from '../../../../src/cluster/devices/rule-index.ts';
import { concernsSlice, type TaintRuleRecord } from '../../../../src/cluster/devices/taint-rules.ts';
import { slice } from '../../../builders/devices.ts';

const part = (...names: readonly string[]) => fc.constantFrom(undefined, ...names);
const selector = fc.record({ driver: part('d', 'e'), pool: part('p', 'q'), device: part('gpu-0') });
const step = fc.record({
  key: fc.constantFrom('a', 'b', 'c', 'd'),
  isRemoval: fc.boolean(),
  selector: fc.option(selector, { nil: undefined }),
});

t.test('the rules about a slice are those that a look at all of them finds, in their order', async t => {
  const slices = ['d', 'e'].flatMap(driver => ['p', 'q'].map(pool => sliceOf(driver, pool)));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), steps => {
      const index = new RuleIndex();
      const all = new Map<string, TaintRuleRecord>();
      for (const { key, isRemoval, selector } of steps) {
        const rule = { name: key, selector, taint: { key: 'x', effect: 'NoSchedule' }, isConfirmed: false };
        if (isRemoval) index.remove(key);
        else index.put(key, rule);
        if (isRemoval) all.delete(key);
        else all.set(key, rule);
        for (const each of slices) {
          const found = index.concerning(each);
          const wanted = [...all.values()].filter(known => concernsSlice(known, each));
          if (found.length !== wanted.length || found.some((known, at) => known !== wanted[at])) return false;
        }
      }
      return true;
    }),
  );
  t.pass();
});

t.test('a rule that comes to mean another pool is found there alone', async t => {
  const index = new RuleIndex();
  const rule = (pool: string | undefined): TaintRuleRecord => ({
    name: 'a',
    selector: { driver: 'd', pool, device: 'gpu-0' },
    taint: { key: 'x', effect: 'NoSchedule' },
    isConfirmed: false,
  });
  const found = () => ['p', 'q'].map(pool => index.concerning(sliceOf('d', pool)).length);
  index.put('a', rule('p'));
  t.same(found(), [1, 0]);
  index.put('a', rule('q'));
  t.same(found(), [0, 1]);
  index.put('a', rule(undefined));
  t.same(found(), [1, 1]);
  index.remove('a');
  t.same(found(), [0, 0]);
});

function sliceOf(driver: string, pool: string): DeviceSlice {
  return { ...decodeResourceSlice(slice('s', ['gpu-0'])), driver, pool };
}
