import t from 'tap';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  domainsOf,
  groupsOf,
  isReady,
  listNodes,
  listPods,
  lwsPath,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  singlePod,
  splitGroups,
  until,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';

t.setTimeout(600_000);

const wholeRack = { size: 4, gpus: 8, annotations: { 'berth.dev/required-topology': 'rack' } };

t.test('plans that cannot come true are made anew', async t => {
  const cluster = await openBed(t);
  const fleet = { name: 'three-racks', nodes: racks({ racks: 3, hostsPerRack: 5, gpus: 8 }) };
  await withFleet(t, cluster, fleet);
  const nodes = await listNodes(cluster);
  await runBerth(t, cluster, { placement: { strandedAfterSeconds: 3 } });

  await t.test('a node deleted between pin and bind: placed elsewhere, with new UIDs', async t => {
    const namespace = await makeNamespace(t, cluster);
    await cluster.stopComponent('kube-scheduler');
    t.teardown(() => cluster.startComponent('kube-scheduler').catch(() => {}));
    await createLws(cluster, namespace, { name: 'early', ...wholeRack });
    const pinned = await waitForPins(cluster, namespace, 4);
    const lost = pinOf(pinned.find(pod => rankOf(pod) === 2));
    await cluster.request('DELETE', `/api/v1/nodes/${lost}`);
    await cluster.startComponent('kube-scheduler');
    const pods = await waitForReady(cluster, namespace, 4);
    t.notOk(
      pods.some(pod => pod.spec.nodeName === lost),
      'nobody is on the lost node',
    );
    t.strictSame(splitGroups(pods, nodes), [], 'whole in one rack');
    const before = new Map(pinned.map(pod => [pod.metadata.name, pod.metadata.uid]));
    const renewed = pods.filter(pod => before.get(pod.metadata.name) !== pod.metadata.uid);
    t.ok(
      renewed.some(pod => rankOf(pod) === 2),
      'the member that had lost its node has a new UID',
    );
    await restoreNode(cluster, fleet.nodes, lost);
  });

  await t.test(
    'leader deleted in background while its workers run: the new group waits for their room only',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      // Three groups fill the three racks but for a host each, so the new incarnation has to wait for its own old workers.
      await createLws(cluster, namespace, { name: 'busy', replicas: 3, ...wholeRack });
      const before = await waitForReady(cluster, namespace, 12);
      const old = groupsOf(before).get('busy-1') ?? [];
      const others = before.filter(pod => !old.includes(pod)).map(pod => pod.metadata.uid);
      const history: Pod[] = [];
      watchPods(t, cluster, namespace, (_type, pod) => history.push(pod));
      const startedMs = Date.now();
      await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods/busy-1`, {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
      });
      const oldUids = new Set(old.map(pod => pod.metadata.uid));
      await until('the group to be new and whole', 60_000, async () => {
        const group = groupsOf(await listPods(cluster, namespace)).get('busy-1') ?? [];
        return group.length === 4 && group.every(pod => isReady(pod) && !oldUids.has(pod.metadata.uid));
      });
      t.comment(`whole again after ${Date.now() - startedMs} ms`);
      const after = await listPods(cluster, namespace);
      t.strictSame(splitGroups(after, nodes), []);
      t.ok(
        others.every(uid => after.some(pod => pod.metadata.uid === uid)),
        'no other group was touched',
      );
      const group = groupsOf(after).get('busy-1') ?? [];
      const currentUids = new Set(group.map(pod => pod.metadata.uid));
      const strayPins = history.filter(
        pod =>
          groupsOf([pod]).has('busy-1') &&
          pinOf(pod) !== '' &&
          !oldUids.has(pod.metadata.uid) &&
          !currentUids.has(pod.metadata.uid),
      );
      t.strictSame(
        [...new Set(strayPins.map(pod => pod.metadata.name))],
        [],
        'no pod of a passing incarnation was pinned',
      );
    },
  );

  for (const restartPolicy of ['None', 'RecreateGroupAfterStart', 'RecreateGroupOnPodRestart']) {
    // In the last case LWS itself remakes the group whenever it sees the worker terminating, which it mostly does.
    const leaderStays = restartPolicy !== 'RecreateGroupOnPodRestart';
    const outcome = leaderStays ? 'the leader keeps its UID' : 'LWS may remake the group, whole';
    await t.test(
      `a CPU pod takes a worker's room (${restartPolicy}): it moves inside the rack, ${outcome}`,
      async t => {
        const namespace = await makeNamespace(t, cluster);
        const strangers = await makeNamespace(t, cluster, {});
        const cpu = { limits: { 'nvidia.com/gpu': '8' }, requests: { cpu: '100' } };
        const worker = { containers: [{ name: 'main', image: 'model-server', resources: cpu }] };
        await cluster.stopComponent('kube-scheduler');
        t.teardown(() => cluster.startComponent('kube-scheduler').catch(() => {}));
        await createLws(cluster, namespace, { name: 'robbed', ...wholeRack, restartPolicy, worker });
        const pinned = await waitForPins(cluster, namespace, 4);
        const leader = pinned.find(pod => rankOf(pod) === 0);
        const taken = pinOf(pinned.find(pod => rankOf(pod) === 3));
        const stranger = singlePod(strangers, 'stranger', { requests: { cpu: '150' } }, { nodeName: taken });
        await cluster.request('POST', `/api/v1/namespaces/${strangers}/pods`, stranger);
        await cluster.startComponent('kube-scheduler');
        await until('the robbed worker to have moved', 30_000, async () => {
          const pods = await listPods(cluster, namespace);
          return pods.some(pod => rankOf(pod) === 3 && isReady(pod) && pod.spec.nodeName !== taken);
        });
        const pods = await waitForReady(cluster, namespace, 4);
        t.equal(domainsOf(pods, nodes).size, 1, 'the group is in one rack still');
        const sameLeader = pods.find(pod => rankOf(pod) === 0)?.metadata.uid === leader?.metadata.uid;
        if (leaderStays) t.ok(sameLeader, outcome);
        else t.comment(`LWS ${sameLeader ? 'has not seen the worker go' : 'has remade the group'}`);
      },
    );
  }

  await t.test('rolling update with maxSurge 1, then scale 2 -> 4 -> 2: never a split group', async t => {
    const namespace = await makeNamespace(t, cluster);
    const split = new Set<string>();
    const seen = new Map<string, Pod>();
    watchPods(t, cluster, namespace, (type, pod) => {
      if (type === 'DELETED') seen.delete(pod.metadata.uid ?? '');
      else seen.set(pod.metadata.uid ?? '', pod);
      for (const found of splitByIncarnation([...seen.values()], nodes)) split.add(found);
    });
    const annotations = { 'berth.dev/required-topology': 'rack' };
    const rolloutStrategy = {
      type: 'RollingUpdate',
      rollingUpdateConfiguration: { maxSurge: 1, maxUnavailable: 1 },
    };
    await createLws(cluster, namespace, {
      name: 'rolling',
      replicas: 2,
      size: 2,
      gpus: 8,
      annotations,
      spec: { rolloutStrategy },
    });
    await waitForReady(cluster, namespace, 4);
    const image = [
      {
        op: 'replace',
        path: '/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image',
        value: 'model-server:2',
      },
    ];
    await cluster.request('PATCH', lwsPath(namespace, 'rolling'), image, 'application/json-patch+json');
    await until('the new image everywhere', 120_000, async () => {
      const pods = await listPods(cluster, namespace);
      return (
        pods.length === 4 &&
        pods.every(pod => isReady(pod) && pod.spec.containers[0]?.image === 'model-server:2')
      );
    });
    for (const [replicas, count] of [
      [4, 8],
      [2, 4],
    ] as const) {
      await cluster.request(
        'PATCH',
        lwsPath(namespace, 'rolling'),
        { spec: { replicas } },
        'application/merge-patch+json',
      );
      const pods = await waitForReady(cluster, namespace, count, 90_000);
      t.strictSame(splitGroups(pods, nodes), [], `${replicas} replicas are whole`);
    }
    t.strictSame([...split], [], 'at no moment was a group split');
  });
});

type Bed = Awaited<ReturnType<typeof openBed>>;

async function waitForPins(cluster: Bed, namespace: string, count: number): Promise<Pod[]> {
  let pods: Pod[] = [];
  await until(`${count} pinned pods`, 30_000, async () => {
    pods = await listPods(cluster, namespace);
    return pods.length === count && pods.every(pod => pinOf(pod) !== '');
  });
  return pods;
}

function pinOf(pod: Pod | undefined): string {
  const terms =
    pod?.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return terms?.[0]?.matchFields?.find(field => field.key === 'metadata.name')?.values?.[0] ?? '';
}

/** Bound pods of one leader's group, by its worker StatefulSet: two incarnations may overlap while one goes. */
function splitByIncarnation(pods: readonly Pod[], nodes: Awaited<ReturnType<typeof listNodes>>): string[] {
  const bound = pods.filter(pod => pod.spec.nodeName !== undefined && rankOf(pod) > 0);
  const sets = new Map<string, Pod[]>();
  for (const pod of bound) {
    const owner = pod.metadata.ownerReferences?.[0]?.uid ?? '';
    sets.set(owner, [...(sets.get(owner) ?? []), pod]);
  }
  return [...sets].filter(([, members]) => domainsOf(members, nodes).size > 1).map(([owner]) => owner);
}

async function restoreNode(
  cluster: Bed,
  all: readonly { metadata: { name?: string } }[],
  name: string,
): Promise<void> {
  const node = all.find(candidate => candidate.metadata.name === name);
  await cluster.request('POST', '/api/v1/nodes', node);
  await until(`node ${name} to be ready`, 30_000, async () => {
    const found = (await listNodes(cluster)).get(name);
    return (
      found?.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') === true &&
      (found.spec?.taints ?? []).length === 0
    );
  });
}
