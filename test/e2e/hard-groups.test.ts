import t from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import {
  conditionOf,
  createLws,
  deleteLws,
  domainsOf,
  gpuResources,
  groupsOf,
  isGatedByBerth,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  sentenceOn,
  singlePod,
  splitGroups,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';
import { runForeignWebhook } from './foreign-webhook.ts';

t.setTimeout(400_000);

const roleLabel = 'example.com/role';
const inOneRack = { annotations: { 'berth.dev/required-topology': 'rack' } };

t.test('groups that are hard to place', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, {
    name: 'three-racks-with-heads',
    nodes: [...racks({ racks: 3, hostsPerRack: 5, gpus: 8 }), ...heads(3)],
  });
  const nodes = await listNodes(cluster);
  await runBerth(t, cluster);

  await t.test('a CPU leader that may run on one node of the rack only, its workers on GPUs', async t => {
    const namespace = await makeNamespace(t, cluster);
    const head = { nodeSelector: { [roleLabel]: 'head' }, containers: [cpuContainer('4')] };
    await createLws(cluster, namespace, { name: 'served', replicas: 3, size: 5, leader: head, ...inOneRack });
    const pods = await waitForReady(cluster, namespace, 15);
    t.strictSame(splitGroups(pods, nodes), [], 'every group is whole in one rack');
    for (const [key, members] of groupsOf(pods)) {
      t.match(members[0]?.spec.nodeName, /-head$/, `the leader of ${key} is on the head node of its rack`);
      t.equal(
        members.filter(pod => /-h\d+$/.test(pod.spec.nodeName ?? '')).length,
        4,
        'the workers on GPU hosts',
      );
    }
    await deleteLws(cluster, namespace, 'served');
  });

  await t.test('a CPU leader that may run in one rack only draws its workers there', async t => {
    const namespace = await makeNamespace(t, cluster);
    const only = { nodeSelector: { 'example.com/uplink': 'yes' }, containers: [cpuContainer('4')] };
    await createLws(cluster, namespace, { name: 'served', size: 5, leader: only, ...inOneRack });
    const pods = await waitForReady(cluster, namespace, 5);
    t.strictSame([...domainsOf(pods, nodes)], ['r01'], 'all five are in the rack with the uplink');
    await deleteLws(cluster, namespace, 'served');
  });

  await t.test('exclusive-topology of LWS works on beside Berth, with the manifest as it is', async t => {
    const namespace = await makeNamespace(t, cluster);
    const stranded = strandedIn(t, cluster, namespace);
    const annotations = { 'leaderworkerset.sigs.k8s.io/exclusive-topology': 'example.com/rack' };
    await createLws(cluster, namespace, { name: 'alone', replicas: 3, size: 4, annotations });
    const pods = await waitForReady(cluster, namespace, 12);
    t.strictSame(splitGroups(pods, nodes), [], 'every group is whole in one rack');
    const used = [...groupsOf(pods).values()].map(members => [...domainsOf(members, nodes)].join());
    t.strictSame(used.sort(), ['r00', 'r01', 'r02'], 'each has a rack of its own');
    const leader = pods.find(pod => rankOf(pod) === 0);
    t.ok(leader?.spec.affinity?.podAntiAffinity, 'LWS has put its own terms into the leader');
    t.ok(
      pods.find(pod => rankOf(pod) === 1)?.spec.nodeSelector?.['example.com/rack'],
      'and into the workers',
    );
    t.strictSame([...stranded], [], 'no pinned pod was ever Unschedulable');
    await deleteLws(cluster, namespace, 'alone');
  });
});

t.test('pods that admission makes larger than their template', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'three-racks', nodes: racks({ racks: 3, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  await runBerth(t, cluster);
  // Hosts have 192 CPUs. The template asks for 100; the sidecar brings 20, the LimitRange 10 more.
  const namespace = await makeNamespace(t, cluster);
  const fillers = await makeNamespace(t, cluster, {});
  for (const node of ['r00-h03', 'r01-h00']) {
    await fill(cluster, fillers, node, { requests: { cpu: '72' } });
  }
  // The third rack is the last resort: three of its four hosts are all a group of four could need.
  const template = {
    containers: [cpuContainer('100', gpuResources(8)), { name: 'exporter', image: 'exporter' }],
  };
  const shape = {
    size: 4,
    leader: template,
    worker: template,
    spec: { startupPolicy: 'LeaderReady' },
    ...inOneRack,
  };

  await t.test('control: without the enlargement a group fits into a rack with a fuller node', async t => {
    await fill(cluster, fillers, 'r02-h00', gpuResources(1), 'closed');
    await createLws(cluster, namespace, { name: 'small', ...shape });
    const pods = await waitForReady(cluster, namespace, 4);
    t.not([...domainsOf(pods, nodes)].join(), 'r02', 'it is in a rack whose fuller node has 120 CPUs left');
    await deleteLws(cluster, namespace, 'small');
    await cluster.request('DELETE', `/api/v1/namespaces/${fillers}/pods/closed`, { gracePeriodSeconds: 0 });
  });

  const title = 'a LeaderReady group with an injected sidecar and a LimitRange: the larger pods count';
  await t.test(title, async t => {
    await cluster.request('POST', `/api/v1/namespaces/${namespace}/limitranges`, {
      apiVersion: 'v1',
      kind: 'LimitRange',
      metadata: { name: 'defaults' },
      spec: { limits: [{ type: 'Container', defaultRequest: { cpu: '10' } }] },
    });
    await runForeignWebhook(t, cluster, { name: 'aa-sidecar-injector', namespace, mutate: addSidecar });
    const stranded = strandedIn(t, cluster, namespace);
    await createLws(cluster, namespace, { name: 'enlarged', ...shape });
    const pods = await waitForReady(cluster, namespace, 4);
    const sizes = pods.map(cpusOf);
    t.strictSame(sizes, Array(4).fill('100,10,20'), 'all four have the sidecar and the default request');
    const used = [...domainsOf(pods, nodes)];
    t.strictSame(used, ['r02'], 'they are in the only rack where the larger pods fit');
    t.strictSame([...stranded], [], 'no pinned pod was ever Unschedulable');

    await createLws(cluster, namespace, { name: 'waiting', ...shape });
    t.match(await sentenceOn(cluster, namespace, 'waiting-0'), /insufficient cpu/, 'a second one waits');
    const waiting = await listPods(cluster, namespace, 'leaderworkerset.sigs.k8s.io/name=waiting');
    const isHeld = (pod: Pod) => pod.spec.nodeName === undefined && isGatedByBerth(pod);
    t.ok(waiting.every(isHeld), 'all of it is gated');
  });
});

/** One node without GPUs in each rack; only that of the second has the uplink. */
function heads(count: number): Node[] {
  return racks({ racks: count, hostsPerRack: 1, gpus: 0 }).map((node, rack) => {
    const name = `r${String(rack).padStart(2, '0')}-head`;
    const labels = {
      ...node.metadata.labels,
      'kubernetes.io/hostname': name,
      [roleLabel]: 'head',
      ...(rack === 1 && { 'example.com/uplink': 'yes' }),
    };
    return { ...node, metadata: { ...node.metadata, name, labels } };
  });
}

function cpuContainer(cpu: string, resources: Readonly<Record<string, unknown>> = {}) {
  return { name: 'main', image: 'model-server', resources: { ...resources, requests: { cpu } } };
}

async function fill(
  cluster: Cluster,
  namespace: string,
  nodeName: string,
  resources: Readonly<Record<string, unknown>>,
  name = `filler-${nodeName}`,
): Promise<void> {
  const pod = singlePod(namespace, name, resources, { nodeName });
  await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
}

function addSidecar(pod: Pod) {
  if (pod.spec.containers.some(container => container.name === 'sidecar')) return [];
  const sidecar = { name: 'sidecar', image: 'proxy', resources: { requests: { cpu: '20' } } };
  return [{ op: 'add' as const, path: '/spec/containers/-', value: sidecar }];
}

function cpusOf(pod: Pod): string {
  return pod.spec.containers.map(container => container.resources?.requests?.['cpu']).join();
}

/** Names of pods that kube-scheduler has refused though they were pinned, as they come. */
function strandedIn(t: Parameters<typeof watchPods>[0], cluster: Cluster, namespace: string): Set<string> {
  const stranded = new Set<string>();
  watchPods(t, cluster, namespace, (_type, pod) => {
    const isPinned =
      pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution !== undefined;
    const scheduled = conditionOf(pod, 'PodScheduled');
    if (isPinned && scheduled?.reason === 'Unschedulable')
      stranded.add(`${pod.metadata.name}: ${scheduled.message}`);
  });
  return stranded;
}
