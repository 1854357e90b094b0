import t from 'tap';
import { EvictionLine, type Waiter } from '../../../src/failure/eviction-line.ts';

function waiter(group: string, more: Partial<Waiter> = {}): Waiter {
  return { group, leaderUid: `uid-${group}`, serving: true, class: 'certain', firstSeenMs: 1_000, ...more };
}

t.test('what is certain goes before what is suspect, and then what has stood longest', async t => {
  const line = new EvictionLine();
  const suspect = waiter('s/old', { class: 'suspect', firstSeenMs: 0 });
  const late = waiter('s/late', { firstSeenMs: 9_000 });
  const first = waiter('s/first');
  for (const each of [suspect, late, first]) line.wait(each, 10_000);
  const before = (own: Waiter) => [...line.before(own, 10_000)].sort();
  t.same(before(suspect), ['s/first', 's/late']);
  t.same(before(late), ['s/first']);
  t.same(before(first), [], 'its turn');
  line.leave('s/first');
  t.same(before(suspect), ['s/late']);
  t.same(before(late), []);
  line.clear();
  t.same(before(suspect), []);
});

t.test('groups that serve wait for others that serve, and broken ones for broken ones', async t => {
  const line = new EvictionLine();
  line.wait(waiter('s/broken', { serving: false }), 0);
  t.equal(line.before(waiter('s/new', { firstSeenMs: 2_000 }), 0).size, 0);
  t.same([...line.before(waiter('s/new', { firstSeenMs: 2_000, serving: false }), 0)], ['s/broken']);
});

t.test('nobody waits for one that was not looked at for long', async t => {
  const line = new EvictionLine();
  line.wait(waiter('s/gone'), 0);
  const own = waiter('s/own', { class: 'suspect' });
  t.equal(line.before(own, 14_999).size, 1);
  t.equal(line.before(own, 15_000).size, 0);
});
