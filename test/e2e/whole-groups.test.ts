import t from 'tap';
import { presetFleet, racks } from '../../hack/bed/fleet-presets.ts';
import {
  createLws,
  gpuResources,
  groupsOf,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  removeNamespace,
  runBerth,
  singlePod,
  splitGroups,
  until,
  waitForBound,
  withFleet,
} from './bed.ts';

t.setTimeout(600_000);

const wanted = {
  name: 'llama',
  replicas: 3,
  size: 4,
  gpus: 8,
  annotations: { 'berth.dev/required-topology': 'rack' },
};

t.test('4 racks x 4 hosts: three groups of four whole hosts', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 4, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);

  await t.test('without Berth the same manifest splits groups over racks', async t => {
    const namespace = await makeNamespace(t, cluster, {});
    await createLws(cluster, namespace, wanted);
    const pods = await waitForBound(cluster, namespace, 12);
    const split = splitGroups(pods, nodes);
    t.comment(`stock kube-scheduler: ${split.length} of 3 groups split (${split.join('; ')})`);
    t.ok(split.length > 0, 'stock placement splits at least one group');
  });

  await t.test('with Berth every group is whole in one rack, ranks in order', async t => {
    await runBerth(t, cluster);
    const namespace = await makeNamespace(t, cluster);
    const startedMs = Date.now();
    await createLws(cluster, namespace, wanted);
    const pods = await waitForBound(cluster, namespace, 12);
    t.comment(`12 pods bound ${Date.now() - startedMs} ms after creation`);
    t.strictSame(splitGroups(pods, nodes), [], 'no group is split');
    const groups = groupsOf(pods);
    t.equal(groups.size, 3);
    for (const [key, members] of groups) {
      t.strictSame(members.map(rankOf), [0, 1, 2, 3], `${key} has all ranks`);
      const hosts = members.map(pod => pod.spec.nodeName ?? '');
      t.strictSame(hosts, [...hosts].sort(), `${key}: ranks follow the hosts of the rack`);
    }
  });
});

t.test('1,000 nodes in 56 racks, half full of singles', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, presetFleet('thousand'));
  const nodes = await listNodes(cluster);
  const names = [...nodes.keys()].sort();

  // Every second host has one GPU taken, pinned there so that both arms see the same fleet.
  const fillers = await makeNamespace(t, cluster, {});
  const taken = names.filter((_, i) => i % 2 === 0);
  await Promise.all(
    taken.map((nodeName, i) =>
      cluster.request(
        'POST',
        `/api/v1/namespaces/${fillers}/pods`,
        singlePod(fillers, `filler-${i}`, gpuResources(1), { nodeName }),
      ),
    ),
  );
  await until(
    'fillers to be bound',
    60_000,
    async () => (await listPods(cluster, fillers)).length === taken.length,
  );

  const stock = await makeNamespace(t, cluster, {});
  await createLws(cluster, stock, wanted);
  const split = splitGroups(await waitForBound(cluster, stock, 12), nodes);
  t.comment(`stock kube-scheduler: ${split.length} of 3 groups split (${split.join('; ')})`);
  t.ok(split.length > 0, 'stock placement splits at least one group');
  await removeNamespace(cluster, stock);

  await runBerth(t, cluster);
  const namespace = await makeNamespace(t, cluster);
  const startedMs = Date.now();
  await createLws(cluster, namespace, wanted);
  const pods = await waitForBound(cluster, namespace, 12);
  t.comment(`12 pods bound ${Date.now() - startedMs} ms after creation`);
  t.strictSame(splitGroups(pods, nodes), [], 'no group is split');
});
