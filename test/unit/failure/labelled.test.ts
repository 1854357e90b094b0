import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { labelledIncarnationsOf, labelledPodsToGo } from '../../../src/failure/labelled.ts';
import { decode } from '../../builders/planning.ts';
import { type PodParts, podOf } from '../../builders/pods.ts';
import { intentOf } from './intents.ts';

const at = (second: number) => `2026-01-01T00:00:0${second}Z`;

function member(rank: number, uid: string, more: Partial<PodParts> = {}) {
  const labels = { [berth.group]: 'g', [berth.groupSize]: '2', [berth.groupRank]: String(rank) };
  return decode(podOf({ name: uid, uid, labels, createdAt: at(1), node: 'n', ...more }));
}

const recordOf = (leaderUid: string, uids: readonly string[], more: Parameters<typeof intentOf>[0] = {}) =>
  intentOf({
    shape: 'labelled',
    group: 'serving/g',
    leaderUid,
    members: uids.map((uid, rank) => ({ rank, name: uid, uid, node: 'n' })),
    phase: 'leaving',
    ...more,
    times: { evicted: 3_000, ...more.times },
  });
const sorted = (...args: Parameters<typeof labelledIncarnationsOf>) =>
  labelledIncarnationsOf(...args).map(({ leaderUid, leader, pods }) => ({
    leaderUid,
    leads: leader !== undefined,
    pods: pods.map(({ uid }) => uid),
  }));

t.test('pods of a group belong to the leader that was there when they were made', async t => {
  const leader = member(0, 'l1', { createdAt: at(2) });
  const worker = member(1, 'w1');
  t.same(
    sorted([worker, leader], []),
    [{ leaderUid: 'l1', leads: true, pods: ['l1', 'w1'] }],
    'though they are older',
  );
  t.same(sorted([worker], []), [], 'without any leader nobody names them twice alike');
  const going = member(0, 'l1', { createdAt: at(2), terminating: true });
  const next = member(0, 'l2', { createdAt: at(4) });
  t.same(sorted([going, next, worker, member(1, 'w2', { createdAt: at(4) })], []), [
    { leaderUid: 'l1', leads: true, pods: ['l1', 'w1'] },
    { leaderUid: 'l2', leads: true, pods: ['l2', 'w2'] },
  ]);
  t.same(
    sorted([leader, member(1, 'w0', { phase: 'Failed' }), worker], []),
    [{ leaderUid: 'l1', leads: true, pods: ['l1', 'w1'] }],
    'what has ended and stays is nobody',
  );
});

t.test('a record tells whose the evicted are, even when their leader is gone', async t => {
  const next = member(0, 'l2', { createdAt: at(4) });
  const old = member(1, 'w1', { terminating: true });
  t.same(sorted([next, old], [recordOf('l1', ['l1', 'w1'])]), [
    { leaderUid: 'l2', leads: true, pods: ['l2'] },
    { leaderUid: 'l1', leads: false, pods: ['w1'] },
  ]);
  const overtaken = recordOf('l1', ['l1', 'w1'], {
    phase: 'closed',
    outcome: 'overtaken',
    times: { evicted: undefined },
  });
  t.same(
    sorted([member(0, 'l1'), member(1, 'w1')], [overtaken]),
    [{ leaderUid: 'l1', leads: true, pods: ['l1', 'w1'] }],
    'one that evicted nobody tells nothing',
  );
});

t.test('while nothing was evicted, who comes to the leader of a record is one of its own', async t => {
  const held = recordOf('l1', ['l1', 'w1'], { phase: 'evicting', times: { evicted: undefined } });
  const leader = member(0, 'l1');
  const remade = member(1, 'w2', { createdAt: at(4) });
  const whole = { leaderUid: 'l1', leads: true, pods: ['l1', 'w2'] };
  t.same(sorted([leader, remade], [held]), [whole]);
  const next = member(0, 'l2', { createdAt: at(5) });
  t.same(
    sorted([leader, remade, next], [held]),
    [whole, { leaderUid: 'l2', leads: true, pods: ['l2'] }],
    'not of one that came later',
  );
  const going = member(0, 'l1', { terminating: true });
  t.same(
    sorted([going, remade], [held]),
    [{ leaderUid: 'l1', leads: true, pods: ['l1'] }],
    'a leader that goes has none come to it',
  );
  t.same(sorted([leader, remade], [recordOf('l1', ['l1', 'w1'])]), [
    { leaderUid: 'l1', leads: true, pods: ['l1'] },
  ]);
});

t.test(
  'who came to a place of the old plan goes with the others, who waits for the new one does not',
  async t => {
    const intent = recordOf('l1', ['l1', 'w1']);
    const late = member(1, 'w2');
    const gated = decode(podOf({ name: 'w3', uid: 'w3', gated: true, labels: late.labels }));
    const next = member(0, 'l2');
    const later = member(1, 'w4', { createdAt: at(2) });
    const pods = [member(1, 'w1'), late, gated, next, later];
    const uids = (more: Partial<typeof intent>, isPlanned = false, others: readonly (typeof intent)[] = []) =>
      labelledPodsToGo(pods, { ...intent, ...more }, [intent, ...others], {
        createdAtMs: next.createdAtMs,
        isPlanned,
      }).map(({ uid }) => uid);
    t.same(uids({}), ['w1', 'w2'], 'nor who came after the next leader');
    t.same(uids({}, true), ['w1'], 'with a plan there are places of the new one');
    t.same(uids({ phase: 'returning' }), ['w1']);
    t.same(uids({}, false, [recordOf('l0', ['w2'])]), ['w1'], 'not what another record names');
    const before = labelledPodsToGo(pods, intent, [intent], undefined).map(({ uid }) => uid);
    t.same(before, ['w1', 'w2', 'w4'], 'before there is a next leader no place is of its plan');
  },
);
