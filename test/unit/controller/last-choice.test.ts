import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { withLastChoiceLast } from '../../../src/controller/last-choice.ts';
import { formatIntent } from '../../../src/failure/intent.ts';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import type { SeatDevices } from '../../../src/group/planned-devices.ts';
import { intentName } from '../../../src/kube/intent-store.ts';
import type { GroupPlan } from '../../../src/planner/plan.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { intentOf } from '../failure/intents.ts';
import { Replica } from '../failure/replica.ts';
import { FakeClock } from '../kube/fake-clock.ts';

t.setTimeout(180_000);

const planOn = (nodes: readonly string[], more: Partial<GroupPlan> = {}): GroupPlan => ({
  kind: 'plan',
  nodes,
  level: 1,
  domain: [],
  ...more,
});
const seatWith = (device: string): SeatDevices => ({
  claims: [{ claim: 'gpus', requests: [{ request: 'gpu', devices: [{ driver: 'd', pool: 'a', device }] }] }],
  rung: undefined,
});

t.test(
  'only a plan that uses what has come back is made again, and only for one as near together',
  async t => {
    const asked: string[][] = [];
    const choose = (
      plan: GroupPlan,
      other: GroupPlan | { readonly kind: 'undecided'; readonly reason: string },
      fixed?: ReadonlyMap<number, string>,
    ) => {
      const lastChoice = { nodes: new Set(['x']), devices: new Map([['d//a//gpu-1', 'a']]) };
      const planOff = (nodes: ReadonlySet<string>) => {
        asked.push([...nodes].sort());
        return other;
      };
      return withLastChoiceLast(plan, lastChoice, fixed, planOff).nodes.join();
    };
    t.equal(choose(planOn(['a', 'b']), planOn(['c', 'd'])), 'a,b');
    t.equal(
      choose(planOn(['x', 'b']), planOn(['c', 'd']), new Map([[0, 'x']])),
      'x,b',
      'a member that stays there',
    );
    t.equal(
      choose(planOn(['a'], { devices: [seatWith('gpu-0')] }), planOn(['c'])),
      'a',
      'another device there',
    );
    t.same(asked, [], 'nothing was planned again');
    t.equal(choose(planOn(['x', 'b']), planOn(['c', 'd'])), 'c,d');
    t.equal(choose(planOn(['a'], { devices: [seatWith('gpu-1')] }), planOn(['c'])), 'c');
    t.same(asked.splice(0), [['x'], ['a', 'x']]);
    t.equal(choose(planOn(['x', 'b']), planOn(['c', 'd'], { level: 0 })), 'x,b', 'the other one is wider');
    t.equal(choose(planOn(['x', 'b']), { kind: 'undecided', reason: '' }), 'x,b', 'there is no other');
  },
);

const settings: Partial<FailureSettings> = {
  unhealthyAfterSeconds: 5,
  probationSeconds: 60,
  excludeMinutes: 1,
  lastChoiceHours: 1,
};
const device = (cluster: FakeCluster, rank: number) => {
  const [group] = cluster.groups;
  const member = group && cluster.podsOf(group).find(pod => pod.rank === rank);
  if (member === undefined) throw new Error('no such member');
  const node = member.pod.spec.nodeName ?? '';
  return { member, node, key: `gpu.example.com//${node}//gpu-1` };
};

t.test('a device that has come back is used last, for its time', async t => {
  const cluster = new FakeCluster(groupsOf(1, 2), 16, 4, { claims: true });
  const replica = new Replica(cluster, { settings: { ...settings, mode: 'cordon' } });
  const { member, node, key } = device(cluster, 1);
  member.unhealthy = true;
  await replica.run(20_000, 500);
  member.unhealthy = false;
  await replica.run(50_000, 1_000);
  t.equal(replica.cache.lastChoice.devices.size, 0, 'it is excluded');
  await replica.run(30_000, 1_000);
  t.same([...replica.cache.lastChoice.devices], [[key, node]]);
  await replica.run(3_600_000, 30_000);
  replica.controller.reviewAll();
  await replica.run(1_000, 500);
  t.equal(replica.cache.lastChoice.devices.size, 0);
});

t.test('a restart forgets those alone that cost no group its place', async t => {
  const cluster = new FakeCluster(groupsOf(1, 2), 16, 4, { claims: true });
  const replica = new Replica(cluster, { settings });
  const { member, key } = device(cluster, 1);
  member.unhealthy = true;
  await replica.run(20_000, 500);
  t.equal(cluster.destructive.length, 1);
  replica.kill();
  const next = new Replica(cluster, { settings, clock: replica.clock });
  await next.run(5_000, 500);
  t.ok(next.cache.lastChoice.devices.has(key), 'the record of the eviction tells of it');
});

t.test('what was taken back before anything was evicted speaks against no device and no group', async t => {
  for (const evicted of [true, false]) {
    const cluster = new FakeCluster(groupsOf(1, 2), 16, 4, { claims: true });
    const clock = new FakeClock();
    const atMs = clock.wallMs();
    for (let i = 0; i < 5; i += 1) {
      const intent = intentOf({
        leaderUid: `uid-of-${i}`,
        avoid: [],
        device: { driver: 'gpu.example.com', pool: `n${10 + i}`, device: 'gpu-1' },
        phase: 'closed',
        outcome: evicted ? 'recovered' : 'overtaken',
        times: { signal: atMs, intent: atMs, evicted: evicted ? atMs : undefined },
      });
      const name = intentName(intent.leaderUid);
      cluster.configMaps.set(name, {
        metadata: { name, labels: { [berth.intent]: 'closed' }, resourceVersion: '1' },
        data: { 'intent.json': formatIntent(intent) },
      });
    }
    const replica = new Replica(cluster, { settings, clock });
    await replica.run(5_000, 500);
    t.equal(replica.cache.lastChoice.devices.size, evicted ? 5 : 0);
    t.equal(replica.poisonous, evicted ? 1 : 0);
  }
});
