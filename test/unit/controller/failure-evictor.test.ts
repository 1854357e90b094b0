import t from 'tap';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.test(
  'a group that was broken when its eviction was decided, and serves again, is decided anew',
  async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const [group] = cluster.groups;
    const members = group === undefined ? [] : cluster.podsOf(group);
    for (const member of members) {
      member.unhealthy = member.rank === 1;
      member.readyAtMs = Number.POSITIVE_INFINITY;
    }
    const replica = new Replica(cluster);
    const causes = [{ reason: 'DisruptionBudget' }];
    cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
    await replica.run(90_000, 500);
    t.ok(cluster.refusedEvictions > 0, 'decided, and refused by the API server');
    for (const member of members) member.readyAtMs = cluster.nowMs;
    Object.assign(replica, { room: false });
    cluster.evictionError = undefined;
    await replica.run(60_000, 1_000);
    t.same(cluster.destructive, [], 'to take it down costs something by now, and there is no other place');
    Object.assign(replica, { room: true });
    await replica.run(60_000, 1_000);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
  },
);
