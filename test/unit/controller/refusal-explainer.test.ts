import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { type ExplainedRefusal, RefusalExplainer } from '../../../src/controller/refusal-explainer.ts';
import { WaitingList } from '../../../src/controller/waiting-list.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { WorkQueue } from '../../../src/kube/work-queue.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { silentLog } from '../kube/fake-api-server.ts';
import { FakeClock } from '../kube/fake-clock.ts';

const everyMs = 15_000;

/** Two racks of two hosts, one of which is cordoned, and an explainer that is listened to. */
function world() {
  const fleet = drawFleet(`
    rack r0
      - a gpu=8
      - b gpu=8 used=8
    rack r1
      - c gpu=8
      - d gpu=8 cordoned
  `);
  const cache = cacheOf(fleet);
  const clock = new FakeClock();
  const time = { nowMs: () => clock.nowMs(), wallMs: () => clock.wallMs() };
  const waiting = new WaitingList({
    cache,
    ...time,
    agedAfterMs: 600_000,
    membersLateAfterMs: 0,
    onPlanned: () => {},
  });
  const told: ExplainedRefusal[] = [];
  const state = { acts: true };
  const explainer = new RefusalExplainer({
    cache,
    waiting,
    tell: explained => told.push(explained),
    nowMs: time.nowMs,
    mayAct: () => state.acts,
    makeQueue: process =>
      new WorkQueue({ name: 'explanation', process, log: silentLog, clock, concurrency: 1 }),
    everyMs,
  });
  explainer.start();
  t.teardown(() => explainer.stop());
  const come = (name: string) => {
    const annotations = { [berth.requiredTopology]: 'rack' };
    const group = new LwsGroup({ name, size: 2, worker: { gpu: 8 }, annotations });
    cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
    cache.pods.upsert(decode(group.leader()));
    waiting.addGroup(group.key);
    return group.key;
  };
  return { cache, clock, waiting, told, state, explainer, come, fleet };
}

t.test(
  'a refusal is explained by level, with what would make the group fit, in words and as data',
  async t => {
    const { clock, told, explainer, come } = world();
    explainer.refused(come('big'));
    await clock.advance(0);
    t.equal(told.length, 1);
    t.match(told[0]?.text, /^rack: 2 of 2 racks lack 1 free host\b.*fits if .*\bd\b/);
    t.match(told[0]?.explanation.levels, [{ name: 'rack', domains: 2, wanted: 2 }, { name: 'host' }]);
    t.match(told[0]?.unblock, {
      kind: 'ways',
      ways: [{ units: [{ key: 'others/stranger-b-0' }] }, { nodes: [{ name: 'd', state: 'cordoned' }] }],
    });
  },
);

t.test('explanations come one at a time, and one group is not explained twice at once', async t => {
  const { clock, told, explainer, come } = world();
  const keys = ['one', 'two', 'three'].map(come);
  for (const key of [...keys, ...keys]) explainer.refused(key);
  await clock.advance(0);
  t.same(
    told.map(({ key }) => key),
    keys.slice(0, 1),
  );
  await clock.advance(everyMs);
  t.same(
    told.map(({ key }) => key),
    keys.slice(0, 2),
  );
  await clock.advance(10 * everyMs);
  t.same(
    told.map(({ key }) => key),
    keys,
  );
});

t.test('nothing is told of a group', async t => {
  await t.test('that waits no more', async t => {
    const { clock, told, explainer, come, waiting } = world();
    const key = come('big');
    explainer.refused(key);
    waiting.remove(key);
    await clock.advance(everyMs);
    t.same(told, []);
  });
  await t.test('that fits by now', async t => {
    const { clock, told, explainer, come, cache, fleet } = world();
    explainer.refused(come('big'));
    for (const pod of fleet.pods) cache.pods.remove(decode(pod));
    await clock.advance(everyMs);
    t.same(told, []);
  });
  await t.test('by a replica that does not plan', async t => {
    const { clock, told, explainer, come, state } = world();
    state.acts = false;
    explainer.refused(come('big'));
    await clock.advance(everyMs);
    t.same(told, []);
  });
});
