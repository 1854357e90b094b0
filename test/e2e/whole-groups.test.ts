import t, { type Test } from 'tap';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { presetFleet, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
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
import { awaitSteering, countCalls, withExtender } from './extender.ts';

t.setTimeout(600_000);

type PlacementMode = 'pin' | 'pin-extender' | 'extender';
const modes: readonly PlacementMode[] = ['pin', 'pin-extender', 'extender'];

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

  const berth = await runBerth(t, cluster);
  for (const mode of modes) {
    await t.test(`mode ${mode}: every group is whole in one rack, ranks in order`, async t => {
      const pods = await placedInMode(t, cluster, berth, mode);
      t.strictSame(splitGroups(pods, nodes), [], 'no group is split');
      const groups = groupsOf(pods);
      t.equal(groups.size, 3);
      for (const [key, members] of groups) {
        t.strictSame(members.map(rankOf), [0, 1, 2, 3], `${key} has all ranks`);
        const hosts = members.map(pod => pod.spec.nodeName ?? '');
        t.strictSame(hosts, [...hosts].sort(), `${key}: ranks follow the hosts of the rack`);
      }
    });
  }
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

  const berth = await runBerth(t, cluster);
  for (const mode of modes) {
    await t.test(`mode ${mode}: every group is whole in one rack`, async t => {
      t.strictSame(splitGroups(await placedInMode(t, cluster, berth, mode), nodes), [], 'no group is split');
    });
  }
});

/** Has Berth place the groups in a mode, with the scheduler configured for it; their bound pods. */
async function placedInMode(
  t: Test,
  cluster: Cluster,
  berth: BerthProcess,
  mode: PlacementMode,
): Promise<Pod[]> {
  if (mode !== 'pin') await withExtender(t, cluster, mode, berth);
  const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': mode });
  if (mode === 'extender') await awaitSteering(cluster, berth, namespace);
  const callsBefore = await countCalls(berth, 'filter');
  const startedMs = Date.now();
  await createLws(cluster, namespace, wanted);
  const pods = await waitForBound(cluster, namespace, 12);
  t.comment(`12 pods bound ${Date.now() - startedMs} ms after creation`);
  const affinities = pods.filter(pod => pod.spec.affinity?.nodeAffinity !== undefined).length;
  t.equal(affinities, mode === 'extender' ? 0 : 12, 'pods are pinned unless the extender carries the plan');
  if (mode !== 'pin') {
    const calls = await countCalls(berth, 'filter');
    t.ok(
      (calls.get('only') ?? 0) - (callsBefore.get('only') ?? 0) >= 12,
      `filter was asked for every pod: ${JSON.stringify([...calls])}`,
    );
  }
  return pods;
}
