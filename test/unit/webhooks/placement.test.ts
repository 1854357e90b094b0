import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { isMembershipError, membershipOf } from '../../../src/group/membership.ts';
import { decodeLeaderWorkerSet, decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { placementFrom } from '../../../webhooks/placement.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { gpuName } from '../../builders/pods.ts';
import { neverImpossible } from './pod-builders.ts';

const fleet = drawFleet('rack r0\n  - a gpu=8\n  - b gpu=8');
const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
const eight = new Map([
  [gpuName, 8],
  ['pods', 1],
]);
const plan: PlanAnnotation = {
  leaderUid: group.leaderUid(),
  generation: 1,
  nodes: ['a', 'b'],
  requests: [eight, eight],
};

function world() {
  const cache = cacheOf(fleet);
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  const place = placementFrom(cache, () => true, neverImpossible);
  const verdict = (pod: Pod) => {
    const membership = membershipOf(pod.metadata, group.namespace);
    if (isMembershipError(membership)) throw new Error(membership.message);
    return place(pod, membership);
  };
  return { cache, verdict };
}

t.test(
  'a worker is pinned by a plan that the API server has, and by none that may still be lost',
  async t => {
    const { cache, verdict } = world();
    const leader = decode(group.leader());
    cache.pods.upsert(leader);
    t.same(verdict(group.worker(1)), { kind: 'gate' }, 'there is no plan');
    cache.assumePlan(leader, plan);
    t.same(verdict(group.worker(1)), { kind: 'gate' }, 'the plan is on its way to the API server');
    cache.confirmPlan(leader, plan);
    t.same(verdict(group.worker(1)), { kind: 'pin', node: 'b' }, 'the API server has taken it');
    const moved = { ...plan, generation: 2, nodes: ['a', 'a'] };
    cache.assumePlan(leader, moved);
    t.same(verdict(group.worker(1)), { kind: 'gate' }, 'a newer one is on its way');
    cache.forgetPlan(leader);
    const written = group.leader({ gated: false, annotations: { [berth.plan]: formatPlanAnnotation(plan) } });
    cache.pods.upsert(decode(written));
    t.same(verdict(group.worker(1)), { kind: 'pin', node: 'b' }, 'the watch has shown it');
  },
);
