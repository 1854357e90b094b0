import t from 'tap';
import { racks } from '../../hack/bed/fleet-presets.ts';
import {
  createLws,
  deleteLws,
  domainsOf,
  groupsOf,
  isReady,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';

t.setTimeout(300_000);

t.test('Berth installed over three groups that stock Kubernetes has placed', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 4, hostsPerRack: 5, gpus: 8 }) });
  const namespace = await makeNamespace(t, cluster, {});
  const annotations = { 'berth.dev/required-topology': 'rack' };
  const shape = { replicas: 3, size: 4, gpus: 8, restartPolicy: 'None', annotations };
  await createLws(cluster, namespace, { name: 'old', ...shape });
  const before = await waitForReady(cluster, namespace, 12);
  const uids = before.map(pod => pod.metadata.uid).sort();
  // kube-scheduler tends to fill the leaders' racks first: a host more in each gives strays room at home.
  const sixth = racks({ racks: 4, hostsPerRack: 6, gpus: 8 }).filter(node =>
    /h0?5$/.test(node.metadata.name ?? ''),
  );
  await withFleet(t, cluster, { name: 'sixth hosts', nodes: sixth });
  const nodes = await listNodes(cluster);

  await runBerth(t, cluster);
  const optIn = { metadata: { labels: { 'berth.dev/mode': 'pin' } } };
  await cluster.request('PATCH', `/api/v1/namespaces/${namespace}`, optIn);
  await until('all leaders to carry a plan', 30_000, async () => {
    const leaders = (await listPods(cluster, namespace)).filter(pod => rankOf(pod) === 0);
    return (
      leaders.length === 3 && leaders.every(pod => pod.metadata.annotations?.['berth.dev/plan'] !== undefined)
    );
  });
  const adopted = await listPods(cluster, namespace);
  t.strictSame(adopted.map(pod => pod.metadata.uid).sort(), uids, 'no UID has changed');
  t.ok(adopted.every(isReady), 'everything runs on');

  await t.test('their usage is counted: a new group gets hosts that are free', async t => {
    const other = await makeNamespace(t, cluster);
    await createLws(cluster, other, { name: 'new', size: 2, gpus: 8 });
    const fresh = await waitForReady(cluster, other, 2);
    const taken = new Set(before.map(pod => pod.spec.nodeName));
    t.notOk(fresh.some(pod => taken.has(pod.spec.nodeName)));
    await deleteLws(cluster, other, 'new');
  });

  await t.test("a deleted worker returns into its leader's rack, a lone one to its own seat", async t => {
    const free = freeHostsByRack(nodes, before);
    const victims = [...groupsOf(before)].flatMap(([, [leader, ...workers]]) => {
      const home = rackOf(nodes, leader?.spec.nodeName);
      return workers.map(worker => ({ worker, home, strays: rackOf(nodes, worker.spec.nodeName) !== home }));
    });
    const stray = victims.find(({ strays, home }) => strays && (free.get(home) ?? 0) > 0);
    const resident = victims.find(({ strays, worker }) => !strays && worker !== stray?.worker);
    t.comment(
      `${victims.filter(v => v.strays).length} of 9 workers had been placed outside their leader's rack`,
    );
    for (const victim of [stray, resident]) {
      if (victim === undefined) continue;
      const { name = '', uid } = victim.worker.metadata;
      await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}`);
      await until(`${name} to be back`, 30_000, async () => {
        const pod = (await listPods(cluster, namespace)).find(p => p.metadata.name === name);
        return pod !== undefined && pod.metadata.uid !== uid && isReady(pod);
      });
      const back = (await listPods(cluster, namespace)).filter(pod => pod.metadata.name === name);
      t.strictSame([...domainsOf(back, nodes)], [victim.home], `${name} is in its leader's rack`);
      if (!victim.strays) {
        t.equal(back[0]?.spec.nodeName, victim.worker.spec.nodeName, 'on the seat that was kept for it');
      }
    }
    t.ok(stray, 'stock placement has left a worker outside whose leader had room at home');
    const after = (await listPods(cluster, namespace)).map(pod => pod.metadata.uid);
    const deleted = [stray, resident].filter(victim => victim !== undefined).length;
    t.equal(uids.filter(uid => after.includes(uid)).length, 12 - deleted, 'nobody else was touched');
  });
});

type Nodes = Awaited<ReturnType<typeof listNodes>>;

function rackOf(nodes: Nodes, nodeName: string | undefined): string {
  return nodes.get(nodeName ?? '')?.metadata.labels?.['example.com/rack'] ?? '';
}

function freeHostsByRack(
  nodes: Nodes,
  pods: Awaited<ReturnType<typeof listPods>>,
): ReadonlyMap<string, number> {
  const taken = new Set(pods.map(pod => pod.spec.nodeName));
  const free = new Map<string, number>();
  for (const name of nodes.keys()) {
    if (!taken.has(name)) free.set(rackOf(nodes, name), (free.get(rackOf(nodes, name)) ?? 0) + 1);
  }
  return free;
}
