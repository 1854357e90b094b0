import t from 'tap';
import type { ConfigMap } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { nodeConditionsOf } from '../../../src/cluster/node-conditions.ts';
import { formatIntent, type Intent } from '../../../src/failure/intent.ts';
import { intentName } from '../../../src/kube/intent-store.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { intentOf } from '../failure/intents.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(120_000);

function keep(cluster: FakeCluster, intent: Intent, name = intentName(intent.leaderUid)): string {
  const object: ConfigMap = {
    metadata: { name, labels: { [berth.intent]: 'open' }, resourceVersion: '1' },
    data: { 'intent.json': formatIntent(intent) },
  };
  cluster.configMaps.set(name, object);
  return name;
}

function workerOf(cluster: FakeCluster, index: number) {
  const group = cluster.groups[index];
  const state = group && cluster.podsOf(group).find(({ rank }) => rank === 1);
  if (state === undefined) throw new Error('no worker');
  return state;
}

t.test('a record of an eviction that nobody has decided is not obeyed', async t => {
  const cases: readonly {
    readonly what: string;
    readonly edit: Parameters<typeof intentOf>[0];
    readonly told?: RegExp;
    readonly outcome?: string;
  }[] = [
    { what: 'of a group that is well', edit: {}, outcome: 'overtaken' },
    {
      what: 'which says that it is leaving',
      edit: { phase: 'leaving', times: { evicted: 2_000 } },
      told: /says that llm-0 was told to go, which it was not; delete that ConfigMap/,
    },
    {
      what: 'which says that it has left',
      edit: { phase: 'returning', times: { evicted: 2_000, gone: 3_000 } },
      told: /says that llm-0 was told to go/,
    },
    {
      what: 'with the leader of another group',
      edit: { leaderUid: 'uid-llm-1-1' },
    },
    {
      what: 'with the workers of another group',
      edit: { phase: 'leaving', workerSetUid: 'uid-workers-llm-1-1', times: { evicted: 2_000 } },
      told: /was told to go/,
    },
    { what: 'of a group that is not there', edit: { group: 'serving/no-9', leaderName: 'no-9' } },
  ];
  for (const { what, edit, told, outcome } of cases)
    await t.test(what, async t => {
      const cluster = new FakeCluster(groupsOf(2, 3), 16);
      const name = keep(cluster, intentOf({ plan: undefined, ...edit }));
      const replica = new Replica(cluster);
      for (let i = 0; i < 4; i += 1) {
        await replica.run(30_000, 1_000);
        replica.controller.reviewAll();
      }
      t.same(cluster.destructive, []);
      if (outcome !== undefined) t.equal(replica.outcomes.at(-1), outcome);
      if (told !== undefined)
        t.ok(
          replica.events.some(event => told.test(event)),
          `${replica.events}`,
        );
      // As it is told to do; the record of that leader would stand for its eviction.
      cluster.configMaps.delete(name);
      replica.controller.reviewAll();
      await replica.run(1_000);
      workerOf(cluster, 1).unhealthy = true;
      await replica.run(80_000, 1_000);
      t.same(cluster.destructive, ['evict uid-llm-1-1'], 'while a fault evicts');
    });
});

/** A group by labels of three, or a pod outside groups, with a record that says that it was evicted. */
const goingByThemselves = {
  labelled(cluster: FakeCluster) {
    const labels = (rank: number) => ({
      [berth.group]: 'g',
      [berth.groupSize]: '3',
      [berth.groupRank]: String(rank),
    });
    cluster.addWorkload({ kind: 'StatefulSet', name: 'head', replicas: 1, labels: () => labels(0) });
    cluster.addWorkload({ kind: 'StatefulSet', name: 'work', replicas: 2, labels: i => labels(i + 1) });
    const members = ['head-0', 'work-0', 'work-1'].map((name, rank) => memberOf(name, rank));
    const pods = ['head-0'];
    return {
      group: 'serving/g',
      owner: { name: 'g', uid: '' },
      members,
      remakers: [{ kind: 'StatefulSet', name: 'head', uid: 'uid-StatefulSet-head', pods }],
    } as const;
  },
  single(cluster: FakeCluster) {
    cluster.namespaceLabels = { [berth.mode]: 'pin', [berth.singles]: 'pin' };
    cluster.addWorkload({ kind: 'StatefulSet', name: 'web', replicas: 1 });
    const pods = ['web-0'];
    return {
      group: 'serving/StatefulSet/web',
      owner: { name: 'web', uid: 'uid-StatefulSet-web' },
      members: [memberOf('web-0', 0)],
      remakers: [{ kind: 'StatefulSet', name: 'web', uid: 'uid-StatefulSet-web', pods }],
    } as const;
  },
};

function memberOf(name: string, rank: number) {
  return { rank, name, uid: `uid-${name}-1`, node: '' };
}

for (const shape of ['labelled', 'single'] as const)
  for (const [phase, times] of [
    ['leaving', { evicted: 2_000 }],
    ['returning', { evicted: 2_000, gone: 3_000 }],
  ] as const)
    t.test(`nor is one of shape ${shape} that says it is ${phase}`, async t => {
      const cluster = new FakeCluster([], 16);
      const parts = goingByThemselves[shape](cluster);
      const [{ name: leaderName = '', uid: leaderUid = '' } = {}] = parts.members;
      const edit = { ...parts, shape, leaderName, leaderUid, workerSetUid: '' };
      const name = keep(cluster, intentOf({ ...edit, plan: undefined, phase, times }));
      const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 1 } });
      for (let i = 0; i < 4; i += 1) {
        await replica.run(30_000, 1_000);
        replica.controller.reviewAll();
      }
      t.same(cluster.destructive, []);
      t.ok(
        replica.events.some(event => event.includes(`says that ${leaderName} was told to go`)),
        `${replica.events}`,
      );
      cluster.configMaps.delete(name);
      replica.controller.reviewAll();
      await replica.run(1_000);
      for (const { uid } of parts.members.slice(-1)) {
        const state = cluster.pods.get(uid);
        if (state === undefined) throw new Error('no member');
        state.unhealthy = true;
      }
      await replica.run(20_000, 1_000);
      t.same(
        [...cluster.destructive].sort(),
        parts.members.map(({ uid }) => `evict ${uid}`),
        'while a fault evicts',
      );
    });

t.test('a record that names a pod of another controller is given up, which is told', async t => {
  const cluster = new FakeCluster([], 16);
  const { remakers, ...parts } = goingByThemselves.single(cluster);
  const others = remakers.map(remaker => ({ ...remaker, uid: 'uid-of-another' }));
  const edit = {
    ...parts,
    remakers: others,
    leaderName: 'web-0',
    leaderUid: 'uid-web-0-1',
    workerSetUid: '',
  };
  const name = keep(cluster, intentOf({ ...edit, shape: 'single', plan: undefined }));
  const replica = new Replica(cluster);
  await replica.run(30_000, 1_000);
  t.same(cluster.destructive, []);
  t.same(replica.outcomes, ['failed']);
  t.match(replica.events, [
    /^EvictionFailed: its eviction was given up: .*not the leader.* delete ConfigMap /,
  ]);
  t.ok(replica.events[0]?.includes(`${name} to let Berth decide anew`));
});

t.test('a record from years ahead does not stop evictions for ever', async t => {
  const cluster = new FakeCluster(groupsOf(2, 3), 16);
  for (const index of [1, 2, 3])
    keep(
      cluster,
      intentOf({
        leaderUid: `uid-of-${index}`,
        phase: 'closed',
        outcome: 'recovered',
        times: { intent: Date.UTC(9_999, 0), evicted: Date.UTC(9_999, 0) },
      }),
    );
  const replica = new Replica(cluster);
  workerOf(cluster, 0).unhealthy = true;
  await replica.run(90_000, 1_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('what agents say without end is cut, and the group is evicted all the same', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const state = workerOf(cluster, 0);
  const message = `\u001b[31m${'Xid \n'.repeat(150_000)}`;
  const replica = new Replica(cluster);
  await replica.run(1_000);
  const told: string[] = [];
  cluster.interrupt = ({ method, body }, when) => {
    if (when === 'before' && method === 'POST') told.push(JSON.stringify(body));
  };
  cluster.messages.set(state.pod.metadata.uid ?? '', message);
  state.unhealthy = true;
  await replica.run(80_000, 1_000);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  t.ok(
    told.every(text => text.length < 10_000),
    `intents of ${told.map(({ length }) => length)} bytes`,
  );
  const detected = replica.events.find(event => event.startsWith('FailureDetected')) ?? '';
  t.ok(detected.length > 100 && detected.length < 600, `an event of ${detected.length} characters`);
  t.match(detected, /is unhealthy: {1,2}\[31mXid +Xid /);
  t.notMatch(detected, /\p{Cc}/u, 'without what terminals obey');
});

t.test('times of conditions say nothing, whatever they say', async t => {
  const at = (lastTransitionTime: unknown) =>
    nodeConditionsOf({
      metadata: { name: 'a' },
      status: { conditions: [{ type: 'GpuXid', status: 'True', lastTransitionTime }] },
    } as never);
  for (const time of [
    undefined,
    '2999-01-01T00:00:00Z',
    '1970-01-01T00:00:00Z',
    'yesterday',
    '',
    7,
    null,
    {},
  ])
    t.same(at(time), at('2026-01-01T00:00:00Z'), JSON.stringify(time));
});

t.test('of two processes with other settings the one that holds the Lease decides, by its own', async t => {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  const bold = new Replica(cluster);
  cluster.interrupt = ({ path }, when) => {
    if (when === 'before' && path.endsWith('/eviction')) {
      bold.kill();
      throw new Error('killed');
    }
  };
  workerOf(cluster, 0).unhealthy = true;
  await bold.run(65_000, 500);
  t.ok(bold.isDead, 'the first one has decided and written it down');
  cluster.interrupt = () => {};

  for (const settings of [{ mode: 'observe' }, { mode: 'cordon' }, { dryRun: true }] as const) {
    const shy = new Replica(cluster, { settings });
    await shy.run(60_000, 1_000);
    t.same(cluster.destructive, [], JSON.stringify(settings));
    shy.kill();
  }
  const other = new Replica(cluster, { settings: { unhealthyAfterSeconds: 1 } });
  await other.run(30_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
  const made = [...cluster.configMaps.values()].filter(({ metadata }) => metadata.labels?.[berth.intent]);
  t.equal(made.length, 1, 'by the same record');
});
