import t from 'tap';
import { racks } from '../../hack/bed/fleet-presets.ts';
import {
  type BedEvent,
  conditionOf,
  createLws,
  deleteLws,
  gpuResources,
  isGatedByBerth,
  isReady,
  listEvents,
  listNodes,
  listPods,
  lwsPath,
  makeNamespace,
  openBed,
  runBerth,
  singlePod,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';

t.setTimeout(400_000);

t.test('groups that wait', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'two-racks', nodes: racks({ racks: 2, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  const berth = await runBerth(t, cluster, { placement: { agedAfterSeconds: 4 } });
  const wholeRack = { size: 4, gpus: 8, annotations: { 'berth.dev/required-topology': 'rack' } };

  await t.test('two race for the last rack: one whole, the other holds no GPU and says why', async t => {
    const fillers = await makeNamespace(t, cluster, {});
    const filler = singlePod(fillers, 'filler', gpuResources(1), { nodeName: 'r00-h00' });
    await cluster.request('POST', `/api/v1/namespaces/${fillers}/pods`, filler);
    const namespace = await makeNamespace(t, cluster);
    await Promise.all([
      createLws(cluster, namespace, { name: 'first', ...wholeRack }),
      createLws(cluster, namespace, { name: 'second', ...wholeRack }),
    ]);
    await until('one group whole and the other gated', 30_000, async () => {
      const pods = await listPods(cluster, namespace);
      return (
        pods.length === 8 && pods.filter(isReady).length === 4 && pods.filter(isGatedByBerth).length === 4
      );
    });
    const pods = await listPods(cluster, namespace);
    const winners = new Set(
      pods.filter(isReady).map(pod => pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/name']),
    );
    t.equal(winners.size, 1, 'all four ready pods are of one group');
    const [winner = ''] = winners;
    const loser = winner === 'first' ? 'second' : 'first';
    const gated = pods.filter(isGatedByBerth);
    t.ok(
      gated.every(pod => pod.spec.nodeName === undefined),
      'no pod of the other group has a node',
    );

    let message = '';
    await until('a sentence on the waiting leader', 10_000, async () => {
      const leader = (await listPods(cluster, namespace)).find(pod => pod.metadata.name === `${loser}-0`);
      message = (leader && conditionOf(leader, 'berth.dev/Placed')?.message) ?? '';
      return message !== '';
    });
    t.match(message, /^4 pods do not fit in one rack: the best of 2 racks has room for 3 of 4; /);
    // Events are written beside the condition, not before it.
    const told = async (isMeant: (event: BedEvent) => boolean) =>
      (await listEvents(cluster, namespace)).some(event => event.reason === 'GroupWaiting' && isMeant(event));
    await until('an event on the leader that tells it too', 10_000, () =>
      told(({ involvedObject }) => involvedObject.name === `${loser}-0`),
    );
    await until('and one on its LeaderWorkerSet', 10_000, () =>
      told(({ involvedObject }) => involvedObject.kind === 'LeaderWorkerSet'),
    );
    t.pass('events on the leader and on its LeaderWorkerSet tell it too');
    t.match(await berth.metrics(), /berth_groups_waiting\{reason="NoRoom"\} 1/, 'the metric counts it');

    await deleteLws(cluster, namespace, winner);
    await waitForReady(cluster, namespace, 4, 30_000, `leaderworkerset.sigs.k8s.io/name=${loser}`);
    const placed = await listPods(cluster, namespace, `leaderworkerset.sigs.k8s.io/name=${loser}`);
    t.strictSame(splitGroups(placed, nodes), [], 'the waiting group is placed whole when the first has gone');
    t.equal(
      conditionOf(
        placed.find(pod => pod.metadata.name === `${loser}-0`) ?? (placed[0] as never),
        'berth.dev/Placed',
      )?.status,
      'True',
    );
  });

  await t.test('an endless stream of small groups does not starve a large one', async t => {
    const namespace = await makeNamespace(t, cluster);
    // Both racks are kept busy by groups of one that come faster than they go.
    const lifetimeMs = 6_000;
    let streaming = true;
    let made = 0;
    const alive = new Set<Promise<void>>();
    const stream = (async () => {
      while (streaming) {
        const name = `small-${made++}`;
        await createLws(cluster, namespace, {
          name,
          size: 2,
          gpus: 8,
          annotations: { 'berth.dev/required-topology': 'rack' },
        });
        const end = new Promise(resolve => setTimeout(resolve, lifetimeMs)).then(() =>
          cluster.request('DELETE', lwsPath(namespace, name)).then(() => {}),
        );
        alive.add(end);
        await new Promise(resolve => setTimeout(resolve, 1_000));
      }
    })();
    await until(
      'the racks to be busy',
      30_000,
      async () => (await listPods(cluster, namespace)).filter(isReady).length >= 6,
    );
    const startedMs = Date.now();
    await createLws(cluster, namespace, { name: 'large', ...wholeRack });
    await waitForReady(cluster, namespace, 4, 60_000, 'leaderworkerset.sigs.k8s.io/name=large');
    const waitedMs = Date.now() - startedMs;
    streaming = false;
    await stream;
    t.comment(`the large group was placed after ${waitedMs} ms, ${made} small ones were made`);
    const large = await listPods(cluster, namespace, 'leaderworkerset.sigs.k8s.io/name=large');
    t.strictSame(splitGroups(large, nodes), []);
    await Promise.all(alive);
  });
});
