import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { buildGroupView, type GroupView } from '../../../src/cache/group-view.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { decideGroup, type GroupDecision, type GroupFacts } from '../../../src/controller/decide.ts';
import { byPriorityThenAge, firstAged, WindowBudget } from '../../../src/controller/waiting-line.ts';
import { decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation, noPlanYet } from '../../../src/group/plan-annotation.ts';
import { drawFleet } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import type { PodParts } from '../../builders/pods.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
    - c gpu=8
`);
const nodes = new Map(fleet.nodes.map(decodeNode).map(node => [node.name, node]));
const group = new LwsGroup({ size: 3, worker: { gpu: 8 } });

function viewOf(pods: readonly Pod[]): GroupView {
  const sets = new Map([decodeStatefulSet(group.workerSet())].map(set => [set.uid, set]));
  const view = buildGroupView(pods.map(decode), sets, () => undefined);
  if (view === undefined) throw new Error('the pods make no group');
  return view;
}

function decide(pods: readonly Pod[], more: Partial<GroupFacts> = {}): GroupDecision {
  return decideGroup({
    view: viewOf(pods),
    mode: 'pin',
    trouble: name => (nodes.has(name) ? undefined : 'NodeGone'),
    fitsSeat: () => true,
    unschedulableForMs: () => undefined,
    strandedAfterMs: 10_000,
    ungateSent: () => false,
    ...more,
  });
}

/** A leader past its gate that carries the plan a, b, c. */
function planned(seats: readonly string[] = ['a', 'b', 'c'], more: Partial<PodParts> = {}): Pod {
  const plan = {
    leaderUid: group.leaderUid(),
    generation: 1,
    nodes: seats,
    requests: seats.map(() => new Map()),
  };
  return group.leader({
    gated: false,
    node: 'a',
    annotations: { [berth.plan]: formatPlanAnnotation(plan) },
    ...more,
  });
}

t.test('what a group needs next', async t => {
  t.equal(decide([group.leader()]).kind, 'plan', 'a gated leader without a plan waits for one');
  const sent = decide([group.leader()], { ungateSent: () => true });
  t.equal(sent.kind, 'none', 'not twice while the write is on its way');
  t.equal(
    decide([group.leader({ gated: false, node: 'a' })]).kind,
    'adopt',
    'a bound leader without a plan is adopted',
  );
  t.equal(
    decide([group.leader({ gated: false })]).kind,
    'none',
    'an unbound one without gate is kube-scheduler’s',
  );

  const pinned = decide([planned(), group.worker(1, { gated: true })]);
  t.equal(pinned.kind, 'pin', 'a gated worker with a seat is pinned');
  t.equal(
    decide([group.worker(1, { gated: true })]).kind,
    'none',
    'a worker without a live leader is never pinned',
  );
});

t.test('a member whose seat is lost gets another', async t => {
  const worker = group.worker(1, { gated: true });
  const cases: readonly [string, GroupDecision][] = [
    ['NoSeat', decide([planned(['a', '', 'c']), worker])],
    ['NodeGone', decide([planned(['a', 'x', 'c']), worker])],
    ['SeatTaken', decide([planned(), worker], { fitsSeat: () => false })],
    ['NodeGone', decide([planned(['a', 'x', 'c']), group.worker(1, { gated: false, pinnedTo: 'x' })])],
  ];
  for (const [cause, decision] of cases) t.match(decision, { kind: 'reseat', rank: 1, cause });
});

t.test('a pinned worker is stranded only after it was Unschedulable for long enough', async t => {
  const pods = [planned(), group.worker(1, { gated: false, pinnedTo: 'b' })];
  t.equal(decide(pods, { unschedulableForMs: () => 9_999 }).kind, 'none');
  t.match(decide(pods, { unschedulableForMs: () => 10_000 }), { kind: 'reseat', cause: 'Unschedulable' });
});

t.test('where Berth does not place, gates are released and nothing is planned', async t => {
  const mode = 'observe';
  t.equal(decide([group.leader(), group.worker(1, { gated: true })], { mode }).kind, 'release');
  t.equal(decide([planned()], { mode }).kind, 'none', 'nothing to release');
});

t.test(
  'in mode extender the plan alone is written, and written anew for members that are not bound',
  async t => {
    const mode = 'extender';
    const free = { gated: false };
    const worker = group.worker(1, free);
    const forLong = () => 10_000;
    const message = `0/3 nodes are available: 3 ${noPlanYet}.`;
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }];
    const refusedUnplanned: Pod = { ...worker, status: { conditions } };
    const cases: readonly [string, readonly Pod[], Partial<GroupFacts>, Partial<GroupDecision> & object][] = [
      ['gates of another mode go', [group.leader()], {}, { kind: 'release' }],
      ['an unbound leader is planned', [group.leader(free)], {}, { kind: 'plan' }],
      ['a bound one is adopted', [group.leader({ ...free, node: 'a' })], {}, { kind: 'adopt' }],
      ['members with a seat are kube-scheduler’s', [planned(), worker], {}, { kind: 'none' }],
      [
        'unless it refuses them for long',
        [planned(), worker],
        { unschedulableForMs: forLong },
        { kind: 'reseat' },
      ],
      ['or their node is gone', [planned(['a', 'x', 'c']), worker], {}, { kind: 'reseat' }],
      [
        'a member elsewhere than planned draws the others after it',
        [planned(), group.worker(1, { ...free, node: 'x' }), group.worker(2, free)],
        {},
        { kind: 'reseat', rank: 2, cause: 'SeatTaken' },
      ],
      [
        'and is written down when all are bound',
        [planned(), group.worker(1, { ...free, node: 'x' })],
        {},
        { kind: 'adopt' },
      ],
      [
        'who was refused before it had a seat is tried again',
        [planned(), refusedUnplanned],
        { unschedulableForMs: forLong },
        { kind: 'wake', seat: 'b' },
      ],
      ['a rank left out stays out', [planned(['a', '', 'c']), worker], {}, { kind: 'none' }],
    ];
    for (const [what, pods, facts, decision] of cases)
      t.match(decide(pods, { mode, ...facts }), decision, what);
  },
);

t.test('the line is served by priority, then age, then name', async t => {
  const waiting = (key: string, priority: number, createdAtMs: number) => ({ key, priority, createdAtMs });
  const line = [waiting('b', 0, 5), waiting('a', 0, 5), waiting('old', 0, 1), waiting('high', 9, 9)];
  t.strictSame(
    line.sort(byPriorityThenAge).map(w => w.key),
    ['high', 'old', 'a', 'b'],
  );
  t.equal(firstAged(line, 1000, 996)?.key, 'old', 'of those that have waited long enough the first in line');
  t.equal(firstAged(line, 1000, 1000), undefined);
});

t.test('a budget of re-plans is per key and comes back with its window', async t => {
  const budget = new WindowBudget(2, 1000);
  t.ok(budget.take('g', 0));
  t.ok(budget.take('g', 400));
  t.notOk(budget.take('g', 500), 'spent');
  t.ok(budget.take('other', 500), 'others have their own');
  t.equal(budget.waitMs('g', 500), 500);
  t.ok(budget.take('g', 1000), 'the first one has left the window');
  t.equal(new WindowBudget(0, 1000).take('g', 0), false, 'none at all');
});
