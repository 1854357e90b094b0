import t from 'tap';
import { FitMemo } from '../../../src/planner/fit.ts';
import type { PlanInput } from '../../../src/planner/plan.ts';
import { drawFleet, labelOf, snapshotOf } from '../../builders/fleet.ts';
import { outcomeOf } from '../../builders/planning.ts';
import { type Ask, requiredDuringScheduling } from '../../builders/pods.ts';
import { demandsOf, requestOf, slicesOf } from './plain-questions.ts';

const snapshot = snapshotOf(
  drawFleet(`
    block b0
      rack r0
        - a0 gpu=8
        - a1 gpu=8
      rack r1
        - b0 gpu=8 used=4
    block b1
      rack r2
        - c0 gpu=8
      rack r3
        - d0 gpu=8
      rack r4
        - e0 gpu=8
  `),
);

const [block, rack] = [0, 1];

function lone(gpu: number, key = labelOf('rack')): Ask {
  const term = { topologyKey: key, labelSelector: { matchLabels: { app: 'lone' } } };
  return {
    gpu,
    labels: { app: 'lone' },
    affinity: { podAntiAffinity: { [requiredDuringScheduling]: [term] } },
  };
}

function outcome(asks: readonly Ask[], topology: Partial<PlanInput['topology']> = {}): string {
  return outcomeOf({
    demands: demandsOf(asks),
    topology: requestOf(topology),
    snapshot,
    memo: new FitMemo(),
  });
}

t.test('members that keep away from each other over racks', async t => {
  t.equal(outcome([lone(4), lone(4)]), 'a0 b0', 'stand in two racks of one block');
  t.equal(outcome([lone(8), lone(8), lone(8)]), 'c0 d0 e0', 'in the block that has enough of them');
  t.equal(outcome(Array(5).fill(lone(4))), 'a0 b0 c0 d0 e0', 'in two blocks where one does not do');
  t.match(
    outcome(Array(6).fill(lone(4))),
    /^6 pods do not fit in the cluster: there is no room for all of them/,
  );
  t.match(
    outcome([lone(4), lone(4)], { requiredLevel: rack }),
    /none of 5 holds them all/,
    'but not in one rack',
  );
  t.equal(
    outcome([lone(8), lone(8), { gpu: 4 }], { requiredLevel: block }),
    'c0 d0 e0',
    'with one that does not mind',
  );
});

t.test('slices count with it', async t => {
  const asks = [lone(2), { gpu: 2 }, lone(2), { gpu: 2 }];
  t.equal(outcome(asks, slicesOf(rack, [2, 2])), 'a0 a0 b0 b0');
  t.match(outcome(asks, slicesOf(rack, [4])), /^4 pods do not fit/);
  t.equal(outcome([lone(2), lone(2)], { ...slicesOf(rack, [1, 1], true), requiredLevel: block }), 'b0 a0');
});

t.test('a search that does not end says so', async t => {
  const racks = Array.from({ length: 60 }, (_, at) => `rack r${at}\n  - n${at} gpu=8 label=side=${at % 20}`);
  const wide = snapshotOf(drawFleet(racks.join('\n')));
  const asks = Array.from({ length: 21 }, () => lone(8, 'side'));
  const input = { demands: demandsOf(asks), topology: requestOf(), snapshot: wide, memo: new FitMemo() };
  t.match(outcomeOf(input), /^undecided: the inter-pod affinity between its own members/);
});
