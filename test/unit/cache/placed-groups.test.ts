import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth, lws } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { PlacedGroups } from '../../../src/cache/placed-groups.ts';
import { decodeLeaderWorkerSet, decodeStatefulSet } from '../../../src/group/owner.ts';
import type { TopologyRequest } from '../../../src/group/topology-request.ts';
import type { PlacedGroup } from '../../../src/planner/plan-input.ts';
import { cacheOf, drawFleet, labelOf } from '../../builders/fleet.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import type { PodParts } from '../../builders/pods.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8
    - d gpu=8
`);
const rack = 0;

const anywhere: TopologyRequest = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };
const exclusive: TopologyRequest = { ...anywhere, exclusiveLevel: rack };

function groupOf(name: string, parts: Partial<LwsParts> = {}, index = 0): LwsGroup {
  return new LwsGroup({ name, size: 2, worker: { gpu: 8 }, ...parts }, index);
}

/** Lets the cache see a group with its members on these nodes, the leader's first. */
function bind(cache: ClusterCache, group: LwsGroup, ...nodes: readonly string[]): void {
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  nodes.forEach((node, rank) => {
    cache.pods.upsert(decode(memberOf(group, rank, { gated: false, node })));
  });
}

function memberOf(group: LwsGroup, rank: number, parts: Partial<PodParts>): Pod {
  return rank === 0 ? group.leader(parts) : group.worker(rank, parts);
}

/** `key@nodes`, the owner before it where it has one, `!` where it keeps its racks for itself. */
function told(groups: readonly PlacedGroup[]): readonly string[] {
  return groups
    .map(
      ({ key, owner, nodes, exclusiveLevel }) =>
        `${owner || 'going'}: ${key}@${[...nodes].sort().join(',')}${exclusiveLevel === undefined ? '' : '!'}`,
    )
    .sort();
}

t.test('groups with their places, bound or held', async t => {
  const cache = cacheOf(fleet);
  const before = groupOf('before');
  bind(cache, before, 'a', 'b');
  const placed = new PlacedGroups(cache);
  t.same(told(placed.all()), ['serving/before: serving/before-0@a,b'], 'what was there before');

  const planned = groupOf('planned');
  const leader = decode(planned.leader());
  cache.pods.upsert(leader);
  t.equal(placed.all().length, 1, 'a group that waits has no place');
  const requests = [new Map(), new Map()];
  cache.assumePlan(leader, { leaderUid: leader.uid, generation: 1, nodes: ['c', 'd'], requests });
  t.ok(
    told(placed.all()).includes('serving/planned: serving/planned-0@c,d'),
    'seats of members that are not there yet',
  );
  cache.forgetPlan(leader);
  t.equal(placed.all().length, 1, 'a plan that was taken back');

  cache.pods.upsert(decode({ ...labelledPod(2, 0, { gpu: 8 }), spec: { containers: [], nodeName: 'c' } }));
  t.ok(told(placed.all()).includes('serving/g: serving/g@c'), 'a group without LWS is its own owner');

  cache.pods.remove(decode(before.leader({ node: 'a' })));
  t.ok(
    told(placed.all()).includes('going: serving/before-0@b'),
    'without its leader the rest is going, and nothing to be near to',
  );
  cache.pods.remove(decode(before.worker(1, { node: 'b' })));
  t.same(told(placed.all()), ['serving/g: serving/g@c']);
});

t.test('members that are going are told apart', async t => {
  const cache = cacheOf(fleet);
  const group = groupOf('llm');
  bind(cache, group, 'a', 'b');
  const placed = new PlacedGroups(cache);
  cache.pods.upsert(decode(group.worker(1, { gated: false, node: 'b', terminating: true })));
  t.same(told(placed.all()), ['going: serving/llm-0@b', 'serving/llm: serving/llm-0@a']);
});

t.test('only those are neighbours that matter', async t => {
  const cache = cacheOf(fleet);
  const placed = new PlacedGroups(cache);
  bind(cache, groupOf('llm'), 'a', 'b');
  bind(cache, groupOf('llm', {}, 1), 'c');
  bind(cache, groupOf('other'), 'd');
  const neighbours = (wish: Partial<TopologyRequest>, key = 'serving/llm-1') =>
    told(placed.neighboursOf(key, { ...anywhere, ...wish }));
  const sibling = 'serving/llm: serving/llm-0@a,b';
  const other = 'serving/other: serving/other-0@d';
  t.same(neighbours({}), [], 'no wishes, no neighbours');
  t.same(neighbours(exclusive), [sibling, other], 'all of them, but not itself');
  t.same(neighbours({ spread: { level: rack, owner: 'serving/llm', required: false } }), [sibling]);
  t.same(neighbours({ sameDomainAs: { owner: 'serving/other', level: rack } }), [other]);
  t.same(neighbours({ sameDomainAs: { owner: 'serving/none', level: rack } }), []);

  const keeper = groupOf('keeper', { annotations: { [berth.exclusiveTopology]: 'rack' } });
  bind(cache, keeper, 'c', 'd');
  const kept = 'serving/keeper: serving/keeper-0@c,d!';
  t.same(neighbours({}), [kept], 'one that keeps its racks matters to every group');
  t.same(placed.neighboursOf(undefined, anywhere), [], 'but to no pod outside any group');
  t.same(neighbours({}, 'serving/keeper-0'), []);

  cache.leaderWorkerSets.upsert(
    decodeLeaderWorkerSet({ ...keeper.owner(), metadata: { ...keeper.owner().metadata, annotations: {} } }),
  );
  t.same(neighbours({}), [], 'until its owner asks for it no more');
  bind(cache, keeper, 'c', 'd');
  cache.pods.upsert(decode(keeper.leader({ gated: false, node: 'c', terminating: true })));
  t.same(neighbours({}), [], 'nor when it goes as a whole');
});

t.test('subgroups are kept from subgroups of their namespace, as LWS does it', async t => {
  const cache = cacheOf(fleet);
  const placed = new PlacedGroups(cache);
  const subgroups = { [lws.subgroupSize]: '2', [lws.subgroupPolicyType]: 'LeaderWorker' };
  const apart = { ...subgroups, [lws.subgroupExclusiveTopology]: labelOf('rack') };
  const withAnnotations = (name: string, annotations: Record<string, string>, namespace = 'serving') =>
    groupOf(name, { namespace, worker: { gpu: 8, annotations } });
  bind(cache, withAnnotations('apart', apart), 'a');
  bind(cache, withAnnotations('sliced', subgroups), 'b');
  bind(cache, withAnnotations('plain', {}), 'c');
  bind(cache, withAnnotations('remote', subgroups, 'elsewhere'), 'd');
  const neighbours = (key: string, request: TopologyRequest) => told(placed.neighboursOf(key, request));
  const among: TopologyRequest = { ...exclusive, exclusiveAmong: 'subgroups' };
  t.same(neighbours('serving/apart-0', among), ['serving/sliced: serving/sliced-0@b']);
  t.same(
    neighbours('serving/sliced-0', anywhere),
    ['serving/apart: serving/apart-0@a!'],
    'and the other way round',
  );
  t.same(neighbours('serving/plain-0', anywhere), [], 'what it keeps is open to others');
  t.same(neighbours('elsewhere/remote-0', anywhere), []);
  t.equal(neighbours('serving/plain-0', exclusive).length, 3, 'one that wants its own looks at all');
});
