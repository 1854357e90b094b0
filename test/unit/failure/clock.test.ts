import t from 'tap';
import { FakeClock } from '../kube/fake-clock.ts';
import { FakeCluster, groupsOf } from './fake-cluster.ts';
import { Replica } from './replica.ts';

t.setTimeout(120_000);

const minuteMs = 60_000;

/** Somebody sets the wall clock; time itself goes on as before. */
class SkewedClock extends FakeClock {
  skewMs = 0;

  override wallMs(): number {
    return super.wallMs() + this.skewMs;
  }
}

function start(groups: number, settings = {}) {
  const cluster = new FakeCluster(groupsOf(groups, 3), 24);
  const clock = new SkewedClock();
  return { cluster, clock, replica: new Replica(cluster, { clock, settings }) };
}

function hurt(cluster: FakeCluster, index: number): void {
  const group = cluster.groups[index];
  const worker = group && cluster.podsOf(group).find(({ rank }) => rank === 1);
  if (worker === undefined) throw new Error('no worker');
  worker.unhealthy = true;
}

for (const minutes of [-10, 10]) {
  const skewMs = minutes * minuteMs;
  t.test(`fault 36: the clock is set by ${minutes} minutes`, async t => {
    await t.test('while a fault ripens: it takes as long as it should', async t => {
      const { cluster, clock, replica } = start(1);
      hurt(cluster, 0);
      await replica.run(30_000, 500);
      clock.skewMs = skewMs;
      await replica.run(28_000, 500);
      t.same(cluster.destructive, [], 'not at once');
      await replica.run(10_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1'], 'nor never');
      await replica.run(10_000);
      t.same(replica.outcomes, ['evicted', 'recovered']);
    });

    await t.test('after an eviction: the group comes back, and the rate holds', async t => {
      const { cluster, clock, replica } = start(2, { servingBurst: 1, inFlightPerOwner: 2 });
      hurt(cluster, 0);
      await replica.run(55_000, 500);
      hurt(cluster, 1);
      await replica.run(7_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1']);
      clock.skewMs = skewMs;
      await replica.run(50_000, 500);
      t.same(replica.outcomes, ['evicted', 'recovered']);
      await replica.run(2_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1'], 'the other has not ripened');
      await replica.run(30_000, 500);
      t.same(cluster.destructive, ['evict uid-llm-0-1', 'evict uid-llm-1-1']);
    });

    await t.test(
      'right after an eviction at the rate of one in 20 s: neither sooner nor much later',
      async t => {
        const limits = { servingBurst: 1, servingEvictionsPerSecond: 0.05, inFlightPerOwner: 2 };
        const { cluster, clock, replica } = start(2, limits);
        hurt(cluster, 0);
        hurt(cluster, 1);
        await replica.run(61_000, 500);
        t.equal(cluster.destructive.length, 1);
        clock.skewMs = skewMs;
        await replica.run(15_000, 500);
        t.equal(cluster.destructive.length, 1, 'not sooner');
        await replica.run(15_000, 500);
        t.equal(cluster.destructive.length, 2, 'nor much later');
      },
    );

    await t.test(
      'when others deleted the leader in background: its workers are told all the same',
      async t => {
        const { cluster, clock, replica } = start(1);
        await replica.run(1_000);
        cluster.disrupt('uid-llm-0-1', 'DeletionByDeviceTaintManager');
        await replica.run(250);
        clock.skewMs = skewMs;
        await replica.run(10_000);
        t.same(cluster.destructive, ['delete-set uid-workers-llm-0-1']);
        t.ok(replica.outcomes.includes('recovered'));
      },
    );

    await t.test('and another replica with the old clock finishes what was begun', async t => {
      const { cluster, clock, replica } = start(1);
      await replica.run(1_000);
      cluster.disrupt('uid-llm-0-1', 'DeletionByDeviceTaintManager');
      await replica.run(250);
      replica.kill();
      clock.skewMs = skewMs;
      const next = new Replica(cluster, { clock });
      await next.run(15_000);
      t.same(cluster.destructive, ['delete-set uid-workers-llm-0-1']);
      t.ok(next.outcomes.includes('recovered'));
    });

    await t.test('and another replica finishes a group of which LWS has missed a worker', async t => {
      const { cluster, clock, replica } = start(1);
      await replica.run(1_000);
      cluster.lwsMissesWorkers = true;
      cluster.disrupt('uid-llm-0-1-1');
      await replica.run(250);
      replica.kill();
      clock.skewMs = skewMs;
      const next = new Replica(cluster, { clock });
      await next.run(20_000);
      t.same(cluster.destructive, ['evict uid-llm-0-1']);
    });
  });
}
