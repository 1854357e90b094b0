import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  domainsOf,
  groupsOf,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  splitGroups,
  until,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';
import {
  describeCall,
  fastFailure,
  listIntents,
  maintenance,
  taintNode,
  watchDestruction,
} from './failures.ts';

t.setTimeout(300_000);

/** Two groups of four hosts, and a node of one of them that is about to get the taint. */
interface Scene {
  readonly cluster: Cluster;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly namespace: string;
  readonly hurt: readonly Pod[];
  readonly other: readonly Pod[];
  readonly victim: Pod;
  /** All UIDs that the hurt group's pods ever had, by pod name. */
  readonly uidsByName: ReadonlyMap<string, ReadonlySet<string>>;
}

t.test('a node is tainted NoExecute', async t => {
  const cluster = await openBed(t);
  // One host more in each rack than a group needs.
  await withFleet(t, cluster, { name: 'racks-of-5', nodes: racks({ racks: 4, hostsPerRack: 5, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  // Then kube-controller-manager is the first to act however busy the machine is, and LWS the second.
  await runBerth(t, cluster, {
    failure: { ...fastFailure, noExecuteAfterSeconds: 1, foreignGraceSeconds: 20 },
  });
  const makeScene = (t: Test, rank: number, restartPolicy: string) =>
    startGroups(t, cluster, nodes, rank, restartPolicy);

  await t.test("a worker's, and its workers return alone: Berth lets it return within its rack", async t => {
    const scene = await makeScene(t, 2, 'None');
    const { namespace, victim, hurt, other } = scene;
    const calls = await watchDestruction(cluster);
    const tainted = await taintNodeOf(t, scene);
    await until('the worker to be new and bound', 30_000, async () => {
      const worker = (await listPods(cluster, namespace)).find(
        ({ metadata }) => metadata.name === victim.metadata.name,
      );
      return worker?.metadata.uid !== victim.metadata.uid && worker?.spec.nodeName !== undefined;
    });
    const after = await waitForReady(cluster, namespace, 8);
    t.comment(`the worker is back ${Date.now() - tainted.atMs} ms after the taint`);
    const group = groupsOf(after).get('llama-1') ?? [];
    t.notOk(
      group.some(({ spec }) => spec.nodeName === tainted.node),
      'the tainted node is not used',
    );
    t.strictSame(domainsOf(group, nodes), domainsOf(hurt, nodes), 'in the rack of its group');
    const stayed = hurt.filter(pod => pod !== victim);
    t.strictSame(
      uidsOf(group.filter(pod => rankOf(pod) !== 2)),
      uidsOf(stayed),
      'the other members kept their UIDs',
    );
    t.strictSame(uidsOf(groupsOf(after).get('llama-0') ?? []), uidsOf(other), 'as did the other group');
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'Berth deleted nothing');
    t.strictSame(await intentsOf(scene), [], 'no intent');
    t.ok(
      (await calls.byAnybody(namespace)).some(
        call => call.name === victim.metadata.name && isByTaintManager(call),
      ),
      'what the taint manager did is seen',
    );
  });

  await t.test("a worker's: LWS takes the group down, and Berth has nothing to add", async t => {
    const scene = await makeScene(t, 2, 'RecreateGroupOnPodRestart');
    const release = await keepBack(t, scene);
    // LWS is quick: without this a busy Berth may hear of the worker and of all the rest in one breath.
    cluster.signal('lws', 'SIGSTOP');
    t.teardown(() => cluster.signal('lws', 'SIGCONT'));
    const calls = await watchDestruction(cluster);
    const tainted = await taintNodeOf(t, scene);
    await until('an intent', 20_000, async () => (await intentsOf(scene)).length > 0);
    cluster.signal('lws', 'SIGCONT');
    await release();
    await madeAnewOnce(t, scene, tainted);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'Berth deleted nothing');
    const others = await calls.byAnybody(scene.namespace);
    t.equal(others.find(isByTaintManager)?.name, 'llama-1-2', 'the taint manager was first');
    t.ok(
      others.some(({ user, name }) => user.includes('lws') && name === 'llama-1'),
      'LWS deleted the leader',
    );
  });

  await t.test(
    "the leader's: Berth deletes the workers' StatefulSet while the leader takes its time",
    async t => {
      const scene = await makeScene(t, 0, 'RecreateGroupOnPodRestart');
      const { namespace, hurt } = scene;
      const release = await keepBack(t, scene);
      const calls = await watchDestruction(cluster);
      const tainted = await taintNodeOf(t, scene);
      const workers = uidsOf(hurt.filter(pod => rankOf(pod) > 0));
      await until('the old workers to be gone', 30_000, async () => {
        const left = uidsOf(await listPods(cluster, namespace));
        return !workers.some(uid => left.includes(uid));
      });
      t.comment(`the workers are gone ${Date.now() - tainted.atMs} ms after the taint`);
      const leader = groupsOf(await listPods(cluster, namespace)).get('llama-1')?.[0];
      t.equal(leader?.metadata.uid, hurt[0]?.metadata.uid, 'the old leader is still there');
      await release();
      await madeAnewOnce(t, scene, tainted);
      t.strictSame((await calls.byBerth()).map(describeCall), ['delete statefulsets llama-1 200']);
      const others = await calls.byAnybody(namespace);
      t.equal(others.find(isByTaintManager)?.name, 'llama-1', 'the taint manager was first');
    },
  );
});

async function startGroups(
  t: Test,
  cluster: Cluster,
  nodes: ReadonlyMap<string, Node>,
  rank: number,
  restartPolicy: string,
): Promise<Scene> {
  const namespace = await makeNamespace(t, cluster);
  const uidsByName = new Map<string, Set<string>>();
  watchPods(t, cluster, namespace, (_type, { metadata: { name = '', uid = '' } }) => {
    if (!name.startsWith('llama-1')) return;
    uidsByName.set(name, (uidsByName.get(name) ?? new Set()).add(uid));
  });
  await createLws(cluster, namespace, {
    name: 'llama',
    replicas: 2,
    size: 4,
    restartPolicy,
    annotations: { 'berth.dev/required-topology': 'rack' },
  });
  const groups = groupsOf(await waitForReady(cluster, namespace, 8));
  const hurt = groups.get('llama-1') ?? [];
  const victim = hurt.find(pod => rankOf(pod) === rank);
  if (victim === undefined) throw new Error(`llama-1 has no rank ${rank}`);
  return { cluster, nodes, namespace, hurt, other: groups.get('llama-0') ?? [], victim, uidsByName };
}

/**
 * KWOK ends pods after 1.5 s whatever their grace period; the victim takes as long as the test says, until what this
 * returns is called.
 */
async function keepBack(t: Test, { cluster, namespace, victim }: Scene): Promise<() => Promise<void>> {
  const path = `/api/v1/namespaces/${namespace}/pods/${victim.metadata.name}`;
  const setFinalizers = async (finalizers: readonly string[]) => {
    await cluster.request('PATCH', path, { metadata: { finalizers } });
  };
  await setFinalizers(['example.com/slow']);
  t.teardown(() => setFinalizers([]).catch(() => {}));
  return () => setFinalizers([]);
}

interface Tainted {
  readonly node: string;
  readonly atMs: number;
}

async function taintNodeOf(t: Test, { cluster, victim }: Scene): Promise<Tainted> {
  const { nodeName: node = '' } = victim.spec;
  t.teardown(() => taintNode(cluster, node, []));
  const atMs = Date.now();
  await taintNode(cluster, node, [maintenance]);
  return { node, atMs };
}

/** Waits until the hurt group is whole again, and checks that it was made anew as a whole and exactly once. */
async function madeAnewOnce(t: Test, scene: Scene, { node, atMs }: Tainted): Promise<void> {
  const { cluster, nodes, namespace, hurt, other, uidsByName } = scene;
  const oldUids = uidsOf(hurt);
  await until('llama-1 to be new and bound', 30_000, async () => {
    const group = groupsOf(await listPods(cluster, namespace)).get('llama-1') ?? [];
    return (
      group.length === 4 &&
      group.every(
        ({ metadata, spec }) => !oldUids.includes(metadata.uid ?? '') && spec.nodeName !== undefined,
      )
    );
  });
  const after = await waitForReady(cluster, namespace, 8);
  t.comment(`whole again ${Date.now() - atMs} ms after the taint`);
  const group = groupsOf(after).get('llama-1') ?? [];
  t.notOk(
    group.some(({ spec }) => spec.nodeName === node),
    'the tainted node is not used',
  );
  t.strictSame(splitGroups(after, nodes), [], 'whole in one rack');
  t.strictSame(uidsOf(groupsOf(after).get('llama-0') ?? []), uidsOf(other), 'the other group kept all UIDs');
  await until('the intent to be closed', 20_000, async () =>
    (await intentsOf(scene)).every(({ phase }) => phase === 'closed'),
  );
  const intents = await intentsOf(scene);
  t.equal(intents.length, 1, 'one intent');
  t.match(intents[0], { outcome: 'recovered', leaderUid: oldUids[0], group: `${namespace}/llama-1` });
  t.strictSame(
    [...uidsByName].map(([name, uids]) => `${name} ${uids.size}`).sort(),
    hurt.map(({ metadata }) => `${metadata.name} 2`).sort(),
    'every member was made anew once',
  );
}

async function intentsOf({ cluster, namespace }: Scene) {
  return (await listIntents(cluster)).filter(({ group }) => group.startsWith(`${namespace}/`));
}

function isByTaintManager({ user }: { readonly user: string }): boolean {
  return user === 'system:serviceaccount:kube-system:node-controller';
}

function uidsOf(pods: readonly Pod[]): readonly string[] {
  return pods.map(({ metadata }) => metadata.uid ?? '');
}
