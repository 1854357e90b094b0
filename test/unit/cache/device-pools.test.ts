import t from 'tap';
import type { CacheChange } from '../../../src/cache/cache-changes.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeResourceClaim } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeTaintRule } from '../../../src/cluster/devices/taint-rules.ts';
import { driver, slice } from '../../builders/devices.ts';

const ruleOf = (key: string) =>
  decodeTaintRule({
    metadata: { name: 'r' },
    spec: { deviceSelector: { driver, pool: 'n1' }, taint: { key, effect: 'NoExecute' } },
  });

t.test('the cache tells of each pool that has changed, and what it is now', async t => {
  const cache = new ClusterCache({ levels: [] });
  const changes: CacheChange[] = [];
  cache.subscribe(change => changes.push(change));
  const pools = () =>
    changes.splice(0).flatMap(change => (change.kind === 'pool' ? [`${change.driver}/${change.pool}`] : []));
  const first = decodeResourceSlice(slice('a', ['gpu-0']));
  const second = decodeResourceSlice(slice('b', ['gpu-0'], { nodeName: 'n2', pool: { name: 'n2' } }));
  cache.resourceSlices.replace([first, second]);
  t.same(pools(), [`${driver}/n1`, `${driver}/n2`]);
  t.same([...(cache.devicePool(driver, 'n1')?.devices.keys() ?? [])], ['gpu-0']);

  const taintsOn = (pool: string) =>
    [...(cache.devicePool(driver, pool)?.devices.values() ?? [])].flatMap(({ taints }) =>
      taints.map(({ key }) => key),
    );
  cache.resourceSlices.upsert(first);
  t.same(changes, [], 'a slice that is told again as it is changes nothing');
  cache.deviceTaintRules.upsert(ruleOf('x'));
  t.same(pools(), [`${driver}/n1`], 'a rule changes the pools that it means');
  t.same([taintsOn('n1'), taintsOn('n2')], [['x'], []]);
  cache.deviceTaintRules.upsert(ruleOf('x'));
  t.same(pools(), [], 'its status alone changes none');
  cache.deviceTaintRules.upsert(ruleOf('y'));
  t.same([pools(), taintsOn('n1')], [[`${driver}/n1`], ['y']]);
  cache.deviceTaintRules.remove(ruleOf('y'));
  t.same([pools(), taintsOn('n1')], [[`${driver}/n1`], []]);

  const results = [{ request: 'gpu', driver, pool: 'n1', device: 'gpu-0' }];
  cache.resourceClaims.upsert(
    decodeResourceClaim({
      metadata: { name: 'c', namespace: 'serving', uid: 'uid-c' },
      spec: {},
      status: { allocation: { devices: { results } } },
    }),
  );
  cache.resourceSlices.remove(first);
  t.same(pools(), [`${driver}/n1`]);
  t.equal(cache.devicePool(driver, 'n1'), undefined);
  t.same(
    [...cache.claimsOnPool(driver, 'n1')].map(({ name }) => name),
    ['c'],
    'who has its devices is known without it',
  );
  t.same([...cache.claimsOnPool(driver, 'n2')], []);
});
