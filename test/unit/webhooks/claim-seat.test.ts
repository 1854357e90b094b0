import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { seatLookup } from '../../../webhooks/claim-seat.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';

const group = new LwsGroup({ size: 2, worker: { cpu: 1, claims: { devices: 'pair' } } });
const claims = [
  {
    claim: 'devices',
    requests: [{ request: 'gpu', devices: [{ driver: 'd', pool: 'a', device: 'gpu-0' }] }],
  },
];
const plan: PlanAnnotation = {
  leaderUid: group.leaderUid(),
  generation: 1,
  nodes: ['a', 'b'],
  requests: [new Map([['pods', 1]]), new Map([['pods', 1]])],
  devices: [
    { claims, rung: 'pcie' },
    { claims, rung: 'host' },
  ],
};
const annotations = { [berth.plan]: formatPlanAnnotation(plan) };

function worldOf({ mode = 'pin', demanded }: { mode?: string; demanded?: string } = {}): ClusterCache {
  const cache = new ClusterCache({ levels: [], steersClaims: true });
  cache.namespaces.replace([
    decodeNamespace({ metadata: { name: 'serving', labels: { [berth.mode]: mode } } }),
  ]);
  cache.nodes.replace(['a', 'b'].map(name => decodeNode(nodeOf({ name }))));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  const owner = group.owner();
  const more = demanded === undefined ? {} : { [berth.minAlignment]: demanded };
  cache.leaderWorkerSets.upsert(
    decodeLeaderWorkerSet({ ...owner, metadata: { ...owner.metadata, annotations: more } }),
  );
  return cache;
}

/** The seat of a pod; the API server has the pods in `live`. */
function seat(
  cache: ClusterCache,
  pod: Pod,
  { live = [] as Pod[], synced = true, sleep = async (_ms: number): Promise<void> => {} } = {},
) {
  const lookup = seatLookup({
    cache,
    synced: () => synced,
    readPod: async (namespace, name) =>
      live.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
    sleep,
  });
  const { namespace = '', name = '', uid = '' } = pod.metadata;
  return lookup(namespace, name, uid);
}

t.test('a member with a seat has the devices planned for it', async t => {
  const cache = worldOf();
  cache.pods.upsert(decode(group.leader({ gated: false, pinnedTo: 'a', annotations })));
  cache.pods.upsert(decode(group.worker(1, { gated: false, pinnedTo: 'b' })));
  t.same(await seat(cache, group.leader()), { kind: 'planned', node: 'a', claims });
  t.same(await seat(cache, group.worker(1)), { kind: 'planned', node: 'b', claims });
});

t.test('an alignment that is demanded and reached goes into claims that cannot be steered', async t => {
  const alignBy = async (demanded: string) => {
    const cache = worldOf({ demanded });
    cache.pods.upsert(decode(group.leader({ gated: false, pinnedTo: 'a', annotations })));
    const found = await seat(cache, group.leader());
    return found.kind === 'planned' ? found.alignBy : found.kind;
  };
  t.equal(await alignBy('pcie'), 'resource.kubernetes.io/pcieRoot');
  t.equal(await alignBy('numa'), 'resource.kubernetes.io/numaNode');
  t.equal(await alignBy('host'), undefined);
});

t.test('who is gated waits, also while the plan is on its way', async t => {
  const cache = worldOf();
  const leader = decode(group.leader());
  cache.pods.upsert(leader);
  t.same(await seat(cache, group.leader()), { kind: 'waiting' });
  cache.assumePlan(leader, plan);
  t.same(await seat(cache, group.leader()), { kind: 'waiting' }, 'the plan may still be lost');
  cache.confirmPlan(leader, plan);
  t.match(await seat(cache, group.leader()), { kind: 'planned', node: 'a' });
});

t.test('in mode extender a member waits without a gate', async t => {
  const cache = worldOf({ mode: 'extender' });
  cache.pods.upsert(decode(group.leader({ gated: false })));
  t.same(await seat(cache, group.leader()), { kind: 'waiting' });
});

t.test('a worker that the cache has not seen is read live and must be of the live leader', async t => {
  const cache = worldOf();
  cache.pods.upsert(decode(group.leader({ gated: false, pinnedTo: 'a', annotations })));
  const worker = group.worker(1, { gated: false, pinnedTo: 'b' });
  t.match(await seat(cache, worker, { live: [worker] }), { kind: 'planned', node: 'b' });
  t.same(await seat(cache, worker), { kind: 'unknown' }, 'not there');
  const later = group.worker(1, { gated: false }, 2);
  t.same(await seat(cache, later, { live: [worker] }), { kind: 'unknown' }, 'another has the name by now');
  t.match(await seat(cache, later, { live: [later] }), { kind: 'not-ours' }, 'of another incarnation');
  const first = group.leader({ gated: true }, 3);
  t.match(await seat(worldOf(), first, { live: [first] }), { kind: 'waiting' }, 'the first of its group');
});

t.test('what Berth does not place is none of its business, and unsynced it knows nothing', async t => {
  const single = podOf({ name: 's', claims: { devices: 'pair' } });
  const cache = worldOf();
  cache.pods.upsert(decode(single));
  t.same(await seat(cache, single), { kind: 'not-ours', reason: 'in no group' });
  const observed = worldOf({ mode: 'observe' });
  observed.pods.upsert(decode(group.leader({ gated: false })));
  t.same(await seat(observed, group.leader()), { kind: 'not-ours', reason: 'mode observe' });
  const released = worldOf();
  released.pods.upsert(decode(group.leader({ gated: false, node: 'a' })));
  t.match(await seat(released, group.leader()), { kind: 'not-ours' });
  t.same(await seat(cache, group.leader(), { synced: false }), { kind: 'unknown' });
});

t.test('a plan that is about to be made is waited for, once for each pod', async t => {
  const cache = worldOf();
  const leader = decode(group.leader());
  cache.pods.upsert(leader);
  let slept = 0;
  const sleep = async (ms: number) => {
    slept += ms;
    if (slept !== 60) return;
    cache.assumePlan(leader, plan);
    cache.confirmPlan(leader, plan);
  };
  t.match(await seat(cache, group.leader(), { sleep }), { kind: 'planned', node: 'a' });
  t.equal(slept, 60);

  const full = worldOf();
  full.pods.upsert(decode(group.leader()));
  let waitedMs = 0;
  const lookup = seatLookup({
    cache: full,
    synced: () => true,
    readPod: async () => undefined,
    sleep: async ms => {
      waitedMs += ms;
    },
  });
  for (const _ of [1, 2, 3])
    t.same(await lookup('serving', group.leaderName, group.leaderUid()), { kind: 'waiting' });
  t.equal(waitedMs, 300, 'and not a second time');
});
