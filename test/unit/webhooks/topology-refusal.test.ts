import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth, lws } from '../../../src/api/names.ts';
import { tpuResource } from '../../../src/cluster/tpu-shape.ts';
import { isMembershipError, type Membership, membershipOf } from '../../../src/group/membership.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { placementFrom } from '../../../webhooks/placement.ts';
import { topologyRefusal } from '../../../webhooks/topology-refusal.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { labelledPod } from '../../builders/planning.ts';
import { gpuName } from '../../builders/pods.ts';
import { neverImpossible } from './pod-builders.ts';

const fleet = drawFleet('rack r0\n  - a gpu=8');
const { levels } = fleet;

function memberOf(pod: Pod): Membership {
  const membership = membershipOf(pod.metadata, 'serving');
  if (membership === undefined || isMembershipError(membership)) throw new Error('no member');
  return membership;
}

/** The builders speak of GPUs. */
function onTpus<T>(value: T): T {
  return JSON.parse(JSON.stringify(value).replaceAll(gpuName, tpuResource));
}

t.test('requests that no configuration could grant are refused', async t => {
  const refused = (annotations: Record<string, string>, size = 4, rank = 0) => {
    const group = new LwsGroup({ size, worker: { gpu: 8 }, annotations });
    const pod = rank === 0 ? group.leader() : group.worker(rank);
    const owner = decodeLeaderWorkerSet(group.owner());
    return topologyRefusal(pod, memberOf(pod), { owner, levels })?.field;
  };
  const field = (key: string) => `metadata.annotations[${key}]`;
  t.equal(refused({ [berth.sliceTopology]: 'rack', [berth.sliceSize]: '3' }), field(berth.sliceSize));
  t.equal(refused({ [berth.sliceTopology]: 'rack' }), field(berth.sliceTopology));
  t.equal(
    refused({ [berth.spreadTopology]: 'rack', [berth.spreadPolicy]: 'hard' }),
    field(berth.spreadPolicy),
  );
  t.equal(refused({ [berth.sameDomainAs]: 'rack:llm' }), field(berth.sameDomainAs));
  t.equal(refused({ [berth.sliceTopology]: 'rack', [berth.sliceSize]: '2' }), undefined);
  t.equal(refused({ [berth.requiredTopology]: 'row' }), undefined, 'a level may be configured later');
  t.equal(
    refused({ [berth.sliceTopology]: 'rack', [berth.sliceSize]: '3' }, 4, 1),
    undefined,
    'a worker is not refused for what its owner says by now',
  );
  const labelled = (rank: number) => {
    const pod = labelledPod(4, rank, { gpu: 8, annotations: { [berth.sliceSize]: '3' } });
    return topologyRefusal(pod, memberOf(pod), { owner: undefined, levels })?.field;
  };
  t.equal(labelled(0), field(berth.sliceSize), 'a group without LWS too');
  t.equal(labelled(1), undefined);
});

type Leader = 'on TPUs' | 'without';

/** Whether LWS v0.10 names to each TPU member of a group exactly the hosts of its own subgroup. */
function namesRightHosts(size: number, subgroupSize: number, leaderTakes: boolean): boolean {
  const leaderIsExtra = size % subgroupSize !== 0;
  const labelOf = (rank: number) =>
    rank === 0 ? 0 : Math.floor((leaderIsExtra ? rank - 1 : rank) / subgroupSize);
  const takers = Array.from({ length: size }, (_, rank) => rank).filter(rank => rank > 0 || leaderTakes);
  return takers.every(rank => {
    const own = takers.filter(other => labelOf(other) === labelOf(rank));
    const index = rank > 0 && !leaderTakes ? Math.floor((rank - 1) / subgroupSize) : labelOf(rank);
    const shift = leaderTakes ? 1 : 0;
    const named = Array.from({ length: subgroupSize }, (_, at) => index * subgroupSize + 1 + at - shift);
    return named.join(' ') === own.join(' ');
  });
}

function tpuRefusal(size: number, subgroupSize: number, leader: Leader, policy = 'LeaderWorker') {
  const annotations = { [lws.subgroupSize]: String(subgroupSize), [lws.subgroupPolicyType]: policy };
  const parts: LwsParts = { size, worker: { gpu: 4, annotations } };
  const group = new LwsGroup(leader === 'without' ? { ...parts, leader: { cpu: 1, annotations } } : parts);
  const pod = onTpus(group.leader());
  const owner = decodeLeaderWorkerSet(onTpus(group.owner()));
  return topologyRefusal(pod, memberOf(pod), { owner, levels });
}

t.test('TPU subgroups of which LWS names the wrong hosts are refused, and no others', async t => {
  let refusals = 0;
  for (let size = 2; size <= 12; size++) {
    for (let subgroupSize = 1; subgroupSize <= size; subgroupSize++) {
      if (size % subgroupSize !== 0 && (size - 1) % subgroupSize !== 0) continue;
      for (const leader of ['on TPUs', 'without'] as const) {
        const refused = tpuRefusal(size, subgroupSize, leader) !== undefined;
        if (refused) refusals++;
        const right = namesRightHosts(size, subgroupSize, leader === 'on TPUs');
        t.equal(refused, !right, `size ${size}, subGroupSize ${subgroupSize}, leader ${leader}`);
      }
    }
  }
  t.equal(refusals, 41, 'some are, indeed');
  t.match(tpuRefusal(5, 2, 'on TPUs', 'LeaderExcluded'), {
    field: `metadata.annotations[${lws.subgroupSize}]`,
    message: /LeaderExcluded and a leader on TPUs/,
  });
  t.equal(tpuRefusal(5, 2, 'without', 'LeaderExcluded'), undefined);
});

t.test('subgroups without TPUs may have any shape', async t => {
  const annotations = { [lws.subgroupSize]: '2' };
  for (const size of [4, 5]) {
    const pod = new LwsGroup({ size, worker: { gpu: 8, annotations } }).leader();
    t.equal(topologyRefusal(pod, memberOf(pod), { owner: undefined, levels }), undefined);
  }
});

t.test('the review refuses the leader and names the field', async t => {
  const annotations = { [berth.sliceTopology]: 'rack', [berth.sliceSize]: '3' };
  const group = new LwsGroup({ size: 4, worker: { gpu: 8 }, annotations });
  const cache = cacheOf(fleet);
  const place = placementFrom(cache, () => true, neverImpossible);
  const pod = group.leader({ gated: false });
  t.same(place(pod, memberOf(pod)), { kind: 'gate' }, 'its owner is not in view');
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  t.match(place(pod, memberOf(pod)), {
    kind: 'refuse',
    field: `metadata.annotations[${berth.sliceSize}]`,
    message: /must divide the group size 4; got 3/,
  });
});
