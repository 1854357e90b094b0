import t from 'tap';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeResourceClaim } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import type { PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { driver, request, slice } from '../../builders/devices.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { decode, labelledPod } from '../../builders/planning.ts';

const device = { driver, pool: 'a', device: 'd0' };

function cacheWithNodes(): ClusterCache {
  const cache = new ClusterCache({ levels: [] });
  cache.nodes.replace(['a', 'b'].map(name => decodeNode(nodeOf({ name }))));
  return cache;
}

/** A group of one that names the claim `shared`, planned on node `a` with the device of it. */
function planned(cache: ClusterCache) {
  const pod = labelledPod(1, 0, {});
  const claims = [{ name: 'common', resourceClaimName: 'shared' }];
  const leader = decode({ ...pod, spec: { ...pod.spec, resourceClaims: claims } });
  cache.pods.upsert(leader);
  const plan: PlanAnnotation = {
    leaderUid: leader.uid,
    generation: 1,
    nodes: ['a'],
    requests: [leader.requests],
    devices: [
      {
        claims: [{ claim: 'common', requests: [{ request: 'gpu', devices: [device] }] }],
        rung: undefined,
      },
    ],
  };
  cache.assumePlan(leader, plan);
  return { leader, plan };
}

function slicesOf(pool: string, name = pool, generation = 1) {
  return decodeResourceSlice(slice(name, ['d0'], { nodeName: pool, pool: { name: pool, generation } }));
}

t.test('the first slice of a cluster without classes says that all nodes have no others', async t => {
  const cache = cacheWithNodes();
  t.equal(cache.snapshot().nodes.at(1)?.devices, undefined, 'nobody has said anything of devices');
  cache.resourceSlices.upsert(slicesOf('a'));
  t.strictSame(cache.snapshot().nodes.at(1)?.devices?.pools.pools, [], 'b has none');
  cache.resourceSlices.remove(slicesOf('a'));
  t.equal(cache.snapshot().nodes.at(1)?.devices, undefined);
});

t.test('a slice that goes may leave the rest of its pool usable, which waiting groups are told', async t => {
  const cache = cacheWithNodes();
  cache.resourceSlices.upsert(slicesOf('a'));
  const newer = decodeResourceSlice(
    slice('newer', ['d1'], { nodeName: 'a', pool: { name: 'a', generation: 2, resourceSliceCount: 2 } }),
  );
  cache.resourceSlices.upsert(newer);
  t.strictSame(cache.devicesOn('a'), [], 'the newer generation is incomplete');
  const told: string[] = [];
  cache.subscribe(({ kind }) => told.push(kind));
  cache.resourceSlices.remove(newer);
  t.strictSame(
    cache.devicesOn('a').map(({ id }) => id.device),
    ['d0'],
  );
  t.ok(told.includes('room'));
});

t.test('a claim that is allocated for a pod outside the group ends what the group holds for it', async t => {
  const cache = cacheWithNodes();
  const shared = {
    metadata: { name: 'shared', namespace: 'serving', uid: 'uid-shared' },
    spec: { devices: { requests: [request('gpu')] } },
  };
  cache.resourceClaims.upsert(decodeResourceClaim(shared));
  planned(cache);
  t.strictSame([...cache.heldDevices('serving/g').keys()], ['a']);
  const status = {
    allocation: { devices: { results: [{ request: 'gpu', ...device }] } },
    reservedFor: [{ resource: 'pods', name: 'other', uid: 'uid-other' }],
  };
  cache.resourceClaims.upsert(decodeResourceClaim({ ...shared, status }));
  t.strictSame([...cache.heldDevices('serving/g').keys()], []);
  cache.resourceClaims.upsert(decodeResourceClaim(shared));
  t.strictSame([...cache.heldDevices('serving/g').keys()], ['a'], 'held again when it is taken back');
});

t.test('a plan made anew without devices holds an accelerator no longer', async t => {
  const cache = cacheWithNodes();
  const { leader, plan } = planned(cache);
  t.strictSame([...cache.heldNodes()], ['a']);
  const { devices: _, ...plain } = plan;
  cache.assumePlan(leader, { ...plain, generation: 2 });
  t.strictSame([...cache.heldNodes()], []);
  t.equal(cache.nodeInfo('a')?.untouched, true);
});

t.test('slices that contradict each other about their number make the same pool in either order', async t => {
  const raws = [1, 2].map(resourceSliceCount =>
    decodeResourceSlice(
      slice(`s${resourceSliceCount}`, [`d${resourceSliceCount}`], {
        nodeName: 'a',
        pool: { name: 'a', resourceSliceCount },
      }),
    ),
  );
  const statesIn = (order: typeof raws) => {
    const cache = cacheWithNodes();
    for (const each of order) cache.resourceSlices.upsert(each);
    return cache.nodeInfo('a')?.devices?.pools.pools.map(({ state }) => state);
  };
  t.strictSame(statesIn(raws), ['incomplete']);
  t.strictSame(statesIn(raws.toReversed()), ['incomplete']);
});
