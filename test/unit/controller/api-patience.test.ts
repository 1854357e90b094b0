import t from 'tap';
import { ApiPatience } from '../../../src/controller/api-patience.ts';
import { ApiError, ApiUnreachable, failureKind } from '../../../src/kube/api-errors.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(120_000);

const broken = new ApiError({ status: 500, message: 'broken' });
const busy = (retryAfterMs?: number) => new ApiError({ status: 429, message: 'busy', retryAfterMs });

function failing(patience: ApiPatience, group: string, error: unknown, nowMs: number): void {
  patience.failed(group, error, failureKind(error), nowMs);
}

t.test('a group waits twice as long with each failure in a row, a minute at most', async t => {
  const patience = new ApiPatience();
  const waits: number[] = [];
  let nowMs = 0;
  for (let i = 0; i < 8; i += 1) {
    failing(patience, 'a', i % 2 === 0 ? broken : new ApiUnreachable('cut'), nowMs);
    const waitMs = patience.waitMs('a', nowMs);
    waits.push(waitMs);
    nowMs += waitMs;
    t.equal(patience.waitMs('a', nowMs), 0);
  }
  t.strictSame(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  t.equal(patience.waitMs('b', nowMs - 1), 0, 'others do not wait for it');
  patience.succeeded('a');
  failing(patience, 'a', broken, nowMs);
  t.equal(patience.waitMs('a', nowMs), 1_000, 'and begins anew after a success');
  patience.clear();
  t.equal(patience.waitMs('a', nowMs), 0);
});

t.test('what the server asks for holds for all, but no longer than a minute', async t => {
  const patience = new ApiPatience();
  failing(patience, 'a', busy(7_000), 0);
  t.equal(patience.waitMs('a', 0), 7_000);
  t.equal(patience.waitMs('b', 0), 7_000);
  failing(patience, 'b', busy(), 1_000);
  t.equal(patience.waitMs('b', 1_000), 6_000, 'a later word does not shorten it');
  failing(patience, 'b', busy(3_600_000), 10_000);
  t.equal(patience.waitMs('c', 10_000), 60_000);
});

t.test('what does not pass by itself has nobody wait', async t => {
  const patience = new ApiPatience();
  for (const status of [400, 403, 404, 409, 422])
    failing(patience, 'a', new ApiError({ status, message: 'no' }), 0);
  t.equal(patience.waitMs('a', 0), 0);
});

const cases: readonly {
  readonly what: string;
  readonly error: ApiError;
  readonly within: readonly [number, number];
}[] = [
  { what: '429 with Retry-After of 20 s', error: busy(20_000), within: [3, 4] },
  { what: '500', error: broken, within: [4, 7] },
];
for (const { what, error, within } of cases)
  for (const [step, isStep] of [
    ['intents', /\/configmaps$/],
    ['evictions', /\/eviction$/],
  ] as const)
    t.test(`fault 26: ${what} to ${step}: not asked sooner because the group changes`, async t => {
      const cluster = new FakeCluster(groupsOf(1, 3), 16);
      const replica = new Replica(cluster);
      let asked = 0;
      let isBroken = true;
      cluster.interrupt = ({ method, path }, when) => {
        if (when !== 'before' || method !== 'POST' || !isStep.test(path)) return;
        asked += 1;
        if (isBroken) throw error;
      };
      const [state] = [...cluster.pods.values()].filter(({ rank }) => rank === 1);
      if (state === undefined) throw new Error('no worker');
      state.unhealthy = true;
      await replica.run(60_000, 500);
      for (let second = 0; second < 60; second += 1) {
        await replica.run(1_000, 500);
        replica.controller.reviewAll();
      }
      t.same(cluster.destructive, []);
      const [least, most] = within;
      t.ok(asked >= least && asked <= most, `asked ${asked} times within a minute`);
      isBroken = false;
      await replica.run(70_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1']);
      t.equal([...cluster.configMaps.keys()].filter(name => name.includes('intent')).length, 1);
    });
