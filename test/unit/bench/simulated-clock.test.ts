import t from 'tap';
import { SimulatedClock } from '../../../hack/bench/simulated-clock.ts';

t.test('timers fire in their order, and what follows from each comes before the next', async t => {
  const clock = new SimulatedClock();
  const startMs = clock.nowMs();
  const fired: string[] = [];
  const fire = (name: string) => () => fired.push(`${name} at ${clock.nowMs() - startMs}`);
  clock.setTimer(30, fire('late'));
  clock.setTimer(10, () => {
    fire('first')();
    clock.setTimer(5, fire('child'));
  });
  clock.setTimer(20, fire('never')).cancel();
  let settled = 0;
  const settle = async () => {
    settled += 1;
  };
  await clock.advance(29, settle);
  t.same(fired, ['first at 10', 'child at 15']);
  await clock.advance(1, settle);
  t.same(fired.at(-1), 'late at 30');
  t.equal(clock.nowMs() - startMs, 30);
  t.ok(settled >= 5, 'at the start of each move and after each moment in which something fell due');
});
