import fc from 'fast-check';
import t from 'tap';
import { WorkQueue, type WorkQueueOptions } from '../../../src/kube/work-queue.ts';
import { silentLog } from './fake-api-server.ts';
import { FakeClock, settle } from './fake-clock.ts';

function setUp(options: Partial<WorkQueueOptions> = {}) {
  const clock = new FakeClock();
  const processed: { readonly key: string; readonly atMs: number }[] = [];
  const queue = new WorkQueue({
    name: 'groups',
    log: silentLog,
    clock,
    ...options,
    process(key) {
      processed.push({ key, atMs: clock.nowMs() });
      return options.process?.(key);
    },
  });
  return { clock, queue, processed, keys: () => processed.map(({ key }) => key) };
}

/** Times between the calls for one key. */
function gaps(processed: readonly { readonly atMs: number }[]): number[] {
  return processed.slice(1).map(({ atMs }, index) => atMs - (processed[index]?.atMs ?? 0));
}

/** Workers that stand still until the test lets them go. */
function gate() {
  const open: (() => void)[] = [];
  return {
    wait: () => new Promise<void>(resolve => open.push(resolve)),
    release: () => open.shift()?.(),
    get waiting() {
      return open.length;
    },
  };
}

t.test('processes a waiting key once, in order of arrival, from start on', async t => {
  const { queue, keys } = setUp();
  for (const key of ['b', 'a', 'b', 'c', 'a']) queue.add(key);
  await settle();
  t.strictSame(keys(), []);
  t.equal(queue.depth, 3);
  queue.start();
  t.strictSame(keys(), [], 'never in the stack of the caller');
  await settle();
  t.strictSame(keys(), ['b', 'a', 'c']);
  t.equal(queue.depth, 0);
});

t.test('processes a key again that was added meanwhile, never twice at once', async t => {
  const workers = gate();
  const { queue, keys } = setUp({ concurrency: 2, process: workers.wait });
  queue.start();
  queue.add('a');
  await settle();
  queue.add('a');
  queue.add('a');
  queue.add('b');
  await settle();
  t.strictSame(keys(), ['a', 'b'], 'the second worker does not take a');
  t.equal(queue.depth, 0);
  workers.release();
  await settle();
  t.strictSame(keys(), ['a', 'b', 'a']);
  workers.release();
  workers.release();
  await settle();
  t.strictSame(keys(), ['a', 'b', 'a']);
});

t.test('works on as many keys at once as it may', async t => {
  const workers = gate();
  const { queue } = setUp({ concurrency: 3, process: workers.wait });
  queue.start();
  for (const key of ['a', 'b', 'c', 'd', 'e']) queue.add(key);
  await settle();
  t.equal(workers.waiting, 3);
  t.equal(queue.depth, 2);
});

t.test('adds after a delay, the shortest of several', async t => {
  const { clock, queue, processed } = setUp();
  queue.start();
  const startMs = clock.nowMs();
  queue.addAfter('a', 5000);
  queue.addAfter('a', 1000);
  queue.addAfter('a', 3000);
  queue.addAfter('b', 0);
  await clock.advance(10_000);
  t.strictSame(processed, [
    { key: 'b', atMs: startMs },
    { key: 'a', atMs: startMs + 1000 },
  ]);
});

t.test('brings a key back after a failure, later each time, up to 30 s', async t => {
  const { clock, queue, processed } = setUp({
    process() {
      throw new Error('no');
    },
  });
  queue.start();
  queue.add('a');
  await clock.advance(120_000);
  t.strictSame(
    gaps(processed).slice(0, 15),
    [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_480, 30_000, 30_000],
  );
});

t.test('forgives after a success, but not when the work itself asked for a retry', async t => {
  const outcomes = ['throw', 'throw', 'ok', 'retry', 'retry', 'ok'];
  const bed = setUp({
    async process(key) {
      const outcome = outcomes.shift();
      if (outcome === 'throw') throw new Error('no');
      if (outcome === 'retry') bed.queue.addRateLimited(key);
    },
  });
  const { clock, queue, processed } = bed;
  queue.start();
  queue.add('a');
  await clock.advance(1000);
  t.equal(queue.retries('a'), 0);
  queue.add('a');
  await clock.advance(1000);
  t.strictSame(gaps(processed), [5, 10, 985, 5, 10]);
  t.equal(queue.retries('a'), 0, 'the last one succeeded');
  queue.addRateLimited('b');
  queue.addRateLimited('b');
  t.equal(queue.retries('b'), 2);
  queue.forget('b');
  t.equal(queue.retries('b'), 0);
});

t.test('lets I/O have its turn however many keys there are', async t => {
  let turns = 0;
  const { queue, processed } = setUp();
  for (let n = 0; n < 5000; n += 1) queue.add(`k${n}`);
  queue.start();
  while (processed.length < 5000) {
    await new Promise(resolve => setImmediate(resolve));
    turns += 1;
  }
  t.ok(turns > 1000, `${turns} turns of the event loop`);
});

t.test('shutdown works off what waits, drops what is delayed and takes nothing more', async t => {
  const workers = gate();
  const { clock, queue, keys } = setUp({ process: workers.wait });
  queue.start();
  for (const key of ['a', 'b']) queue.add(key);
  queue.addAfter('late', 10);
  await settle();
  let isDown = false;
  const down = queue.shutdown().then(() => {
    isDown = true;
  });
  queue.add('c');
  queue.addAfter('d', 1);
  await clock.advance(100);
  t.equal(isDown, false);
  workers.release();
  await settle();
  t.equal(isDown, false);
  workers.release();
  await down;
  t.strictSame(keys(), ['a', 'b']);
  t.strictSame(clock.pendingMs, []);
  await setUp().queue.shutdown();
  const idle = setUp();
  idle.queue.add('never started');
  await idle.queue.shutdown();
  t.strictSame(idle.keys(), []);
});

t.test('never loses a key and never runs one twice at once, whatever happens', async t => {
  const step = fc.record({
    key: fc.constantFrom('a', 'b', 'c'),
    how: fc.constantFrom('add', 'after', 'limited'),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40 }),
      fc.infiniteStream(fc.integer({ min: 0, max: 5 })),
      async (steps, luck) => {
        const running = new Set<string>();
        const lastAdded = new Map<string, number>();
        const lastBegun = new Map<string, number>();
        let tick = 0;
        const bed = setUp({
          concurrency: 2,
          async process(key) {
            tick += 1;
            if (running.has(key)) t.fail(`${key} runs twice`);
            running.add(key);
            lastBegun.set(key, tick);
            const draw = luck.next().value ?? 0;
            if (draw > 2) await new Promise<void>(resolve => bed.clock.setTimer(draw, resolve));
            running.delete(key);
            if (draw === 5) throw new Error('no');
          },
        });
        bed.queue.start();
        for (const { key, how } of steps) {
          tick += 1;
          lastAdded.set(key, tick);
          if (how === 'add') bed.queue.add(key);
          if (how === 'after') bed.queue.addAfter(key, 3);
          if (how === 'limited') bed.queue.addRateLimited(key);
          if (tick % 3 === 0) await bed.clock.advance(2);
        }
        await bed.clock.advance(200_000);
        for (const [key, added] of lastAdded) {
          if ((lastBegun.get(key) ?? 0) < added) t.fail(`${key} was not processed after it was last added`);
        }
        await bed.queue.shutdown();
      },
    ),
    { numRuns: 40 },
  );
  t.pass();
});
