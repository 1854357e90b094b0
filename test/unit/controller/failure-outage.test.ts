import t from 'tap';
import type { FailureSettings } from '../../../src/failure/settings.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

/** No breaker holds. */
const settings: Partial<FailureSettings> = {
  unhealthyAfterSeconds: 5,
  nodeUnknownAfterSeconds: 3_600,
  domainMinNodes: 1_000,
  massMinNodes: 1_000,
};

function start() {
  const cluster = new FakeCluster(groupsOf(1, 2), 16);
  const replica = new Replica(cluster, { settings });
  const [, worker] = cluster.groups.flatMap(group => cluster.podsOf(group));
  if (worker === undefined) throw new Error('no such member');
  return { cluster, replica, worker };
}

const setAll = (cluster: FakeCluster, status: 'True' | 'Unknown', except: readonly string[] = []) => {
  for (const name of cluster.nodes.keys()) if (!except.includes(name)) cluster.setReady(name, status);
};

t.test('after all nodes were silent nothing is evicted for three minutes', async t => {
  const { cluster, replica, worker } = start();
  await replica.run(1_000);
  setAll(cluster, 'Unknown');
  await replica.run(20_000, 500);
  worker.unhealthy = true;
  await replica.run(20_000, 500);
  t.ok(replica.brakes.includes('after-outage'), `while it lasts: ${replica.brakes}`);
  setAll(cluster, 'True');
  await replica.run(170_000, 1_000);
  t.same(cluster.destructive, []);
  t.same(replica.brakes, ['after-outage']);
  t.match(
    replica.events.filter(event => event.startsWith('EvictionHeld')),
    [/not evicted: hardly any node of any domain was ready until just now$/],
  );
  await replica.run(30_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test('a rack that stays well makes it no outage', async t => {
  const { cluster, replica, worker } = start();
  await replica.run(1_000);
  const well = ['n0', 'n1', 'n2', 'n3'];
  setAll(cluster, 'Unknown', well);
  await replica.run(5_000, 500);
  worker.unhealthy = true;
  await replica.run(20_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});

t.test(
  'after the API server was out of reach nothing new is evicted until it has been back for long',
  async t => {
    const { cluster, replica, worker } = start();
    worker.unhealthy = true;
    for (const backForMs of [0, 100_000, 179_000]) {
      replica.apiBackForMs = backForMs;
      await replica.run(20_000, 500);
      t.same(cluster.destructive, []);
      t.same(replica.brakes, ['after-outage'], `${backForMs} ms`);
    }
    replica.apiBackForMs = 181_000;
    await replica.run(20_000, 500);
    t.same(cluster.destructive, ['evict uid-llm-0-1']);
  },
);

t.test('an eviction that had begun before is made all the same', async t => {
  const { cluster, replica, worker } = start();
  worker.unhealthy = true;
  cluster.interrupt = ({ path }, when) => {
    if (when === 'before' && path.endsWith('/eviction')) throw new Error('no answer');
  };
  await replica.run(10_000, 500);
  t.equal([...cluster.configMaps.keys()].filter(name => name.includes('intent')).length, 1, 'it was decided');
  t.same(cluster.destructive, []);
  cluster.interrupt = () => {};
  replica.apiBackForMs = 0;
  await replica.run(90_000, 500);
  t.same(cluster.destructive, ['evict uid-llm-0-1']);
});
