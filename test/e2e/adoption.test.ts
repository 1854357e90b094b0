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
  runBerth,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';

t.setTimeout(300_000);

t.test('Berth installed over three groups that stock Kubernetes has placed', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 4, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  const namespace = await makeNamespace(t, cluster, {});
  const spec = { restartPolicy: 'None' };
  await createLws(cluster, namespace, { name: 'old', replicas: 3, size: 4, gpus: 8, ...spec });
  const before = await waitForReady(cluster, namespace, 12);
  const uids = before.map(pod => pod.metadata.uid).sort();

  await runBerth(t, cluster);
  await cluster.request('PATCH', `/api/v1/namespaces/${namespace}`, {
    metadata: { labels: { 'berth.dev/mode': 'pin' } },
  });
  await until('all leaders to carry a plan', 30_000, async () => {
    const leaders = (await listPods(cluster, namespace)).filter(pod =>
      /^old-\d+$/.test(pod.metadata.name ?? ''),
    );
    return (
      leaders.length === 3 && leaders.every(pod => pod.metadata.annotations?.['berth.dev/plan'] !== undefined)
    );
  });
  const adopted = await listPods(cluster, namespace);
  t.strictSame(adopted.map(pod => pod.metadata.uid).sort(), uids, 'no UID has changed');
  t.ok(adopted.every(isReady), 'everything runs on');

  // Twelve of sixteen hosts are taken: a group of four must get exactly the four that are left, wherever they are.
  const other = await makeNamespace(t, cluster);
  await createLws(cluster, other, { name: 'new', size: 4, gpus: 8 });
  const fresh = await waitForReady(cluster, other, 4);
  const taken = new Set(before.map(pod => pod.spec.nodeName));
  t.notOk(
    fresh.some(pod => taken.has(pod.spec.nodeName)),
    'the usage of the adopted groups was counted',
  );
  await deleteLws(cluster, other, 'new');

  const victim = before.find(pod => pod.metadata.name === 'old-1-2');
  await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods/old-1-2`);
  await until('the deleted worker to be back', 30_000, async () => {
    const pod = (await listPods(cluster, namespace)).find(p => p.metadata.name === 'old-1-2');
    return pod !== undefined && pod.metadata.uid !== victim?.metadata.uid && isReady(pod);
  });
  const after = await listPods(cluster, namespace);
  const back = after.find(pod => pod.metadata.name === 'old-1-2');
  t.equal(
    back?.spec.nodeName,
    victim?.spec.nodeName,
    'it returns to the seat that the adopted plan kept for it',
  );
  const group = groupsOf(after).get('old-1') ?? [];
  const leaderRacks = domainsOf(
    group.filter(pod => pod.metadata.name === 'old-1'),
    nodes,
  );
  t.comment(
    `leader in ${[...leaderRacks].join()}, worker back in ${[...domainsOf(back ? [back] : [], nodes)].join()}`,
  );
  t.equal(
    after.filter(pod => pod.metadata.uid !== back?.metadata.uid && uids.includes(pod.metadata.uid)).length,
    11,
  );
  t.comment(`groups that stock had split: ${splitGroups(before, nodes).length}`);
});
