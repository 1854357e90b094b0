import t from 'tap';
import { allowedBy, excessOver } from '../../../hack/bench/eviction-budget.ts';

const budget = { perSecond: 0.1, burst: 3 };

t.test('a budget allows its burst at once, and one more as often as its rate says', async t => {
  t.equal(allowedBy(budget, [5_000], 5_000), 3);
  t.equal(allowedBy(budget, [5_000], 14_999), 3);
  t.equal(allowedBy(budget, [5_000, 5_100], 15_000), 4);
  t.equal(allowedBy(budget, [], 60_000), 3, 'nothing was drawn yet');
});

t.test('evictions as often as allowed are no excess; one too soon is, in whatever window', async t => {
  const exact = [0, 10, 20, 10_000, 20_000, 30_000];
  t.equal(excessOver(budget, exact, 0), 0);
  t.equal(excessOver(budget, [...exact, 31_000], 0), 1);
  t.equal(excessOver(budget, [0, 40_000, 40_001, 40_002, 40_003, 40_004], 0), 2, 'after a pause');
  t.equal(excessOver(budget, [0, 10, 20, 9_700], 0), 1);
  t.equal(excessOver(budget, [0, 10, 20, 9_700], 500), 0, 'seen a moment too late');
});
