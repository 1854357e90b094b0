import t from 'tap';
import { type Intent, isIntentError, parseIntent } from '../../../src/failure/intent.ts';
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

t.test(
  'what was decided for one node is not done for another before that has failed for long enough',
  async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const replica = new Replica(cluster);
    const causes = [{ reason: 'DisruptionBudget' }];
    cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
    await replica.run(2_000);
    const [, first = '', second = ''] = [...cluster.pods.values()].map(({ pod }) => pod.spec.nodeName);
    cluster.setReady(first, 'Unknown');
    await replica.run(60_000, 500);
    t.ok(cluster.refusedEvictions > 0, 'decided, and refused by the API server');
    cluster.setReady(first, 'True');
    cluster.setReady(second, 'Unknown');
    cluster.evictionError = undefined;
    await replica.run(12_000, 500);
    t.same(cluster.destructive, [], 'the other node may be back in a moment');
    t.match(recordsOf(cluster), [{ phase: 'closed', outcome: 'overtaken' }]);
    await replica.run(60_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
    t.match(recordsOf(cluster), [{ cause: `node ${second} does not report` }], 'decided for that node');
  },
);

t.test('a process that is new goes on with what was decided, though it sees another fault first', async t => {
  for (const [name, at] of [
    ['the first in the order of names', 1],
    ['the last', 2],
  ] as const) {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const replica = new Replica(cluster);
    const causes = [{ reason: 'DisruptionBudget' }];
    cluster.evictionError = new ApiError({ status: 429, message: 'budget', causes });
    await replica.run(2_000);
    const nodes = [...cluster.pods.values()].map(({ pod }) => pod.spec.nodeName ?? '');
    cluster.setReady(nodes[at] ?? '', 'Unknown');
    await replica.run(60_000, 500);
    t.ok(cluster.refusedEvictions > 0, 'decided, and refused by the API server');
    cluster.setReady(nodes[3 - at] ?? '', 'Unknown');
    replica.kill();
    cluster.evictionError = undefined;
    const next = new Replica(cluster, { clock: replica.clock });
    await next.run(5_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1'], name);
  }
});

t.test(
  'what a rule of the cluster denies is held with what the rule says, and made once it is lifted',
  async t => {
    const message = 'policy freeze denied the request:\nno evictions during the release';
    for (const [what, status, causes] of [
      ['a policy', 422, [{ message: 'no evictions during the release' }]],
      ['a webhook', 422, []],
      ['a webhook of another mind', 400, []],
    ] as const) {
      const cluster = new FakeCluster(groupsOf(1, 3), 16);
      const [, worker] = cluster.pods.values();
      if (worker === undefined) throw new Error('no worker');
      worker.unhealthy = true;
      const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 1 } });
      cluster.evictionError = new ApiError({ status, reason: 'Invalid', message, causes });
      await replica.run(35_000, 500);
      t.match(recordsOf(cluster), [{ phase: 'evicting' }], what);
      const told = replica.events.filter(event => event.startsWith('EvictionHeld'));
      t.same(told, [
        'EvictionHeld: the API server refuses it as invalid: policy freeze denied the request: no evictions during the release',
      ]);
      t.ok(cluster.refusedEvictions <= 4, `asked ${cluster.refusedEvictions} times`);
      cluster.evictionError = undefined;
      await replica.run(11_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1']);
    }
  },
);

t.test(
  'a member that does not end on a node that is well is told, once, and the group comes back after it',
  async t => {
    const cluster = new FakeCluster(groupsOf(1, 3), 16);
    const [, worker] = cluster.pods.values();
    if (worker === undefined) throw new Error('no worker');
    worker.unhealthy = true;
    const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 1 } });
    while (cluster.destructive.length === 0) await replica.run(250);
    await replica.run(250);
    worker.terminatingAtMs = Number.POSITIVE_INFINITY;
    const held = () => replica.events.filter(event => event.startsWith('EvictionHeld'));
    await replica.run(25_000, 500);
    t.same(held(), []);
    await replica.run(60_000, 500);
    t.match(held(), [/^EvictionHeld: llm-0-1 on n1 should have ended by now/]);
    t.match(recordsOf(cluster), [{ phase: 'leaving', hold: /^llm-0-1 on n1/ }]);
    worker.terminatingAtMs = cluster.nowMs;
    await replica.run(20_000, 500);
    t.ok(replica.outcomes.includes('recovered'));
    t.same(cluster.destructive, ['evict uid-llm-0-1'], 'nothing was forced');
  },
);

function recordsOf(cluster: FakeCluster): readonly Intent[] {
  return [...cluster.configMaps.values()].flatMap(({ data }) => {
    const read = parseIntent(data?.['intent.json'] ?? '');
    return isIntentError(read) ? [] : [read];
  });
}
