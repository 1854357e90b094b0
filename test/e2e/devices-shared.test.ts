import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { migRacks, p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  groupsOf,
  isGatedByBerth,
  listNodes,
  listPods,
  openBed,
  runBerth,
  sentenceOn,
  splitGroups,
  until,
  waitForBound,
  withFleet,
} from './bed.ts';
import {
  claiming,
  createClaim,
  createClaimTemplate,
  deviceNamespaces,
  exactly,
  listClaims,
  named,
  resultsOf,
  selecting,
  takeDevices,
  watchStranded,
} from './devices.ts';

t.setTimeout(300_000);

const inOneRack = { annotations: { 'berth.dev/required-topology': 'rack' } };

t.test('members that share a claim', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('four-p4d', p4dRacks({ racks: 2, hostsPerRack: 2 })));
  await runBerth(t, cluster);
  const freshNamespace = deviceNamespaces(t, cluster);
  const namespace = await freshNamespace(t);
  const stranded = watchStranded(t, cluster, namespace);
  await createClaim(cluster, namespace, 'shared', [exactly('gpu', 'gpu.nvidia.com')]);
  await createClaimTemplate(cluster, namespace, 'nic', [exactly('nic', 'efa.networking.k8s.aws')]);
  const worker = claiming({ templates: { nic: 'nic' }, claims: { gpu: 'shared' } });

  await t.test('are all on the node whose GPU the claim gets', async t => {
    await createLws(cluster, namespace, { name: 'two', size: 2, worker, ...inOneRack });
    const pods = await waitForBound(cluster, namespace, 2);
    const node = await nodeOfShared(t, cluster, namespace, pods);
    t.strictSame([...new Set(pods.map(({ spec }) => spec.nodeName))], [node]);
  });

  await t.test('follow a claim that has its GPU already, as long as its node has room for all', async t => {
    await createLws(cluster, namespace, { name: 'more', size: 2, worker, ...inOneRack });
    const pods = await waitForBound(cluster, namespace, 4);
    const node = await nodeOfShared(t, cluster, namespace, pods);
    t.strictSame([...new Set(pods.map(({ spec }) => spec.nodeName))], [node]);

    // The node has 4 RDMA NICs, all taken now; elsewhere there are 12.
    await createLws(cluster, namespace, { name: 'late', size: 2, worker, ...inOneRack });
    t.comment(`late: ${await sentenceOn(cluster, namespace, 'late-0')}`);
    const late = await listPods(cluster, namespace, 'leaderworkerset.sigs.k8s.io/name=late');
    t.ok(late.every(isGatedByBerth), 'all of it is gated');
    t.strictSame([...stranded], [], 'no pinned pod was ever Unschedulable');
  });
});

t.test('members that want a half of a GPU each, cut by MIG', async t => {
  const cluster = await openBed(t);
  // Two racks with two GPUs each: room for one group of four halves in each.
  await withFleet(t, cluster, named('two-mig', migRacks({ racks: 2, hostsPerRack: 1 })));
  const nodes = await listNodes(cluster);
  const [, second = ''] = [...nodes.keys()].sort();
  const freshNamespace = deviceNamespaces(t, cluster);
  const strangers = await freshNamespace(t, {});
  // Its place is the first memory slice, so one half less can be cut there.
  await takeDevices(cluster, strangers, 'small', second, [migOf('1g.5gb')]);

  await t.test('stock binds a part of a group', async t => {
    const namespace = await freshNamespace(t, {});
    await createHalves(cluster, namespace, 2);
    await until('all but one to be bound', 30_000, async () => (await countBound(cluster, namespace)) === 7);
    const left = (await listPods(cluster, namespace)).find(({ spec }) => spec.nodeName === undefined);
    t.comment(`stock: 7 of 8 bound, ${left?.metadata.name} is not`);
    t.ok(left, 'a group with its GPUs in use, and one member missing');
  });

  await runBerth(t, cluster);
  await t.test(
    'with Berth the group that has room is whole, and the other waits until it has, too',
    async t => {
      const namespace = await freshNamespace(t);
      const stranded = watchStranded(t, cluster, namespace);
      await createHalves(cluster, namespace, 2);
      await until('one group to be bound', 30_000, async () => (await countBound(cluster, namespace)) === 4);
      const pods = await listPods(cluster, namespace);
      const waiting = pods.filter(({ spec }) => spec.nodeName === undefined);
      t.equal(groupsOf(waiting).size, 1, 'those that wait are of one group');
      t.ok(waiting.every(isGatedByBerth), 'all of it is gated');
      const leader = [...groupsOf(waiting).values()][0]?.[0]?.metadata.name ?? '';
      t.comment(`${leader}: ${await sentenceOn(cluster, namespace, leader)}`);

      await cluster.request('DELETE', `/api/v1/namespaces/${strangers}/pods/small`);
      await cluster.request(
        'DELETE',
        `/apis/resource.k8s.io/v1/namespaces/${strangers}/resourceclaims/small`,
      );
      const all = await waitForBound(cluster, namespace, 8);
      t.strictSame(splitGroups(all, nodes), [], 'both are whole in one rack');
      const cuts = resultsOf(await listClaims(cluster, namespace)).map(
        ({ pool, device }) => `${pool} ${device}`,
      );
      t.equal(new Set(cuts).size, 8, 'every member has a cut of its own');
      t.strictSame([...stranded], [], 'no pinned pod was ever Unschedulable');

      await createHalves(cluster, namespace, 1, 'next');
      t.comment(`next-0: ${await sentenceOn(cluster, namespace, 'next-0')}`);
      t.equal(await countBound(cluster, namespace), 8, 'a full fleet takes no further group');
    },
  );
});

async function createHalves(
  cluster: Cluster,
  namespace: string,
  replicas: number,
  name = 'llama',
): Promise<void> {
  const template = 'half';
  if (name === 'llama') await createClaimTemplate(cluster, namespace, template, [migOf('3g.20gb')]);
  const worker = claiming({ templates: { half: template } });
  await createLws(cluster, namespace, { name, replicas, size: 4, worker, ...inOneRack });
}

function migOf(profile: string) {
  return exactly(
    'mig',
    'mig.nvidia.com',
    selecting(`device.attributes["gpu.nvidia.com"].profile == "${profile}"`),
  );
}

async function countBound(cluster: Cluster, namespace: string): Promise<number> {
  return (await listPods(cluster, namespace)).filter(({ spec }) => spec.nodeName !== undefined).length;
}

/** The node of the shared claim's GPU, which it has once, for all pods that use it. */
async function nodeOfShared(
  t: Test,
  cluster: Cluster,
  namespace: string,
  pods: readonly Pod[],
): Promise<string | undefined> {
  const claims = await listClaims(cluster, namespace);
  const shared = claims.find(({ metadata }) => metadata.name === 'shared');
  t.equal(shared?.status?.reservedFor?.length, pods.length, 'all members have reserved it');
  const results = resultsOf(shared === undefined ? [] : [shared]);
  t.equal(results.length, 1, 'it has one GPU');
  return results[0]?.pool;
}
