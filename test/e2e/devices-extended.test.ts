import t, { type Test } from 'tap';
import { halfMigrated } from '../../hack/bed/fleet-presets.ts';
import type { ResourceClaim } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  domainsOf,
  gpuResources,
  groupsOf,
  isGatedByBerth,
  listNodes,
  listPods,
  openBed,
  runBerth,
  sentenceOn,
  splitGroups,
  waitForBound,
  withFleet,
} from './bed.ts';
import { deviceNamespaces, doublyHeld, listClaims, named, resultsOf, watchStranded } from './devices.ts';

t.setTimeout(300_000);

const size = 4;
const gpusPerMember = 4;
const gpusPerGroup = size * gpusPerMember;
/** Two racks of two hosts with 8 GPUs: one group of 16 GPUs fills a rack. */
const manifest = {
  name: 'llama',
  replicas: 2,
  size,
  gpus: gpusPerMember,
  annotations: { 'berth.dev/required-topology': 'rack' },
};

t.test('one manifest on a fleet that is half on the device plugin and half on DRA', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('half', halfMigrated({ racks: 2, hostsPerRack: 2 })));
  const nodes = await listNodes(cluster);
  const freshNamespace = deviceNamespaces(t, cluster);

  await t.test('stock binds it on either kind of node, over the racks as it comes', async t => {
    const namespace = await freshNamespace(t, {});
    await createLws(cluster, namespace, manifest);
    const pods = await waitForBound(cluster, namespace, 2 * size);
    t.comment(`stock: ${splitGroups(pods, nodes).join('; ') || 'no group split'}`);
    assertCountedOnce(t, pods, await listClaims(cluster, namespace));
  });

  await runBerth(t, cluster);
  await t.test('Berth places one group on each kind, and the next one waits', async t => {
    const namespace = await freshNamespace(t);
    const stranded = watchStranded(t, cluster, namespace);
    await createLws(cluster, namespace, manifest);
    const pods = await waitForBound(cluster, namespace, 2 * size);
    const racks = [...groupsOf(pods).values()].map(members => [...domainsOf(members, nodes)].join());
    t.strictSame(racks.sort(), ['r00', 'r01'], 'each group fills a rack');
    assertCountedOnce(t, pods, await listClaims(cluster, namespace));

    await createLws(cluster, namespace, { ...manifest, name: 'more', replicas: 1 });
    t.match(await sentenceOn(cluster, namespace, 'more-0'), /nvidia\.com\/gpu/, 'it is told what is missing');
    const waiting = await listPods(cluster, namespace, 'leaderworkerset.sigs.k8s.io/name=more');
    t.ok(waiting.every(isGatedByBerth), 'all of it is gated');
    t.strictSame([...stranded], [], 'no pinned pod was ever Unschedulable');
  });

  await t.test('strangers on either kind of node count once', async t => {
    const fillers = await freshNamespace(t, {});
    const namespace = await freshNamespace(t);
    const stranded = watchStranded(t, cluster, namespace);
    // 4 of the 16 GPUs of each rack: what is left is enough for three members.
    const filler = { containers: [{ name: 'main', image: 'filler', resources: gpuResources(4) }] };
    for (const rack of ['r00', 'r01']) {
      const worker = { ...filler, nodeSelector: { 'example.com/rack': rack } };
      await createLws(cluster, fillers, { name: `filler-${rack}`, size: 1, worker });
    }
    await waitForBound(cluster, fillers, 2);
    await createLws(cluster, namespace, { ...manifest, name: 'three', size: 3 });
    const pods = await waitForBound(cluster, namespace, 6);
    t.strictSame(splitGroups(pods, nodes), [], 'two groups of three members have the rest, a rack each');
    await createLws(cluster, namespace, { ...manifest, name: 'more', replicas: 1, size: 1 });
    t.match(await sentenceOn(cluster, namespace, 'more-0'), /nvidia\.com\/gpu/, 'nothing is left');
    t.strictSame([...stranded], [], 'no pinned pod was ever Unschedulable');
  });
});

/** Half of the GPUs come from `allocatable` and half by claims that kube-scheduler makes, one for each pod there. */
function assertCountedOnce(t: Test, pods: readonly Pod[], claims: readonly ResourceClaim[]): void {
  const owners = new Set(claims.flatMap(({ metadata }) => metadata.ownerReferences?.map(({ uid }) => uid)));
  t.equal(owners.size, size, 'the pods of one half have a claim each');
  t.equal(pods.filter(({ metadata }) => owners.has(metadata.uid ?? '')).length, size);
  t.equal(resultsOf(claims).length, gpusPerGroup, 'with all GPUs of the two DRA nodes');
  t.strictSame(doublyHeld(claims), [], 'each once');
}
