import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { type Cluster, startCluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { reviveNode, silenceNode } from '../../hack/bed/fleets.ts';
import {
  createLws,
  groupsOf,
  listNodes,
  listPods,
  makeNamespace,
  runBerth,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { present } from './device-scenes.ts';
import { describeCall, fastFailure, listIntents, reportDevice, watchDestruction } from './failures.ts';

t.setTimeout(400_000);

/** The bed's own is for fleets so large that their leases are renewed seldom; much less, and a busy machine is late. */
const nodeGraceSeconds = 40;
const unknownAfterSeconds = 8;
const failure = {
  ...fastFailure,
  // kube-controller-manager looks every 5 s: all are found silent before one of them counts.
  nodeUnknownAfterSeconds: unknownAfterSeconds,
  nodeNotReadyAfterSeconds: unknownAfterSeconds,
  badNodeWindowSeconds: 30,
  breakerQuietSeconds: 20,
  domainMinNodes: 1_000,
};
const configMaps = '/api/v1/namespaces/berth-system/configmaps';
const breaker = 'berth-breaker-mass-failure';
/** Berth reads breakers anew every 30 s. */
const reviewMs = 60_000;

t.test('fault 19: all nodes fall silent and come back: nobody is evicted, then or afterwards', async t => {
  const cluster = await startCluster({
    extraArgs: {
      'kube-controller-manager': [`--node-monitor-grace-period=${nodeGraceSeconds}s`],
      kwok: ['--node-lease-duration-seconds=20'],
    },
  });
  t.teardown(() => cluster.stop());
  await withFleet(t, cluster, { name: 'racks-12', nodes: racks({ racks: 3, hostsPerRack: 4, gpus: 8 }) });
  await runBerth(t, cluster, { failure });
  t.comment(`shortened: ${JSON.stringify({ ...failure, nodeGraceSeconds })}`);
  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, { name: 'llama', replicas: 3, size: 2 });
  const pods = await waitForReady(cluster, namespace, 6);
  const uids = async () => (await listPods(cluster, namespace)).map(({ metadata }) => metadata.uid).sort();
  const before = await uids();
  const names = [...(await listNodes(cluster)).keys()];
  const calls = await watchDestruction(cluster);
  const assertNothing = async (what: string) => {
    t.strictSame((await calls.byBerth()).map(describeCall), [], what);
    t.strictSame(await listIntents(cluster), [], 'nor is it recorded that anybody shall be');
    t.strictSame(await uids(), before, 'all pods are what they were');
  };

  const silentMs = Date.now();
  await Promise.all(names.map(name => silenceNode(cluster, name)));
  await until('all nodes to be Unknown', 120_000, async () => (await readyCount(cluster, 'Unknown')) === 12);
  t.comment(
    `kube-controller-manager called all of them Unknown ${Date.now() - silentMs} ms after their last word`,
  );
  await until('the breaker to be kept', reviewMs, () => isTripped(cluster));
  // Longer than it must be quiet before one may be evicted as a trial.
  await delay(1_500 * failure.breakerQuietSeconds);
  await assertNothing('nobody is evicted while they are silent');

  // The last ones look dead while the first ones are back.
  for (const name of names) {
    await reviveNode(cluster, name);
    await delay(500);
  }
  await until('all nodes to be Ready', 90_000, async () => (await readyCount(cluster, 'True')) === 12);
  await delay(2_000 * unknownAfterSeconds);
  await assertNothing('nobody is evicted on their return');
  let statuses = '';
  await until(
    () => `the breaker to close, with nodes Ready ${statuses}`,
    2 * reviewMs,
    async () => {
      statuses = await readyText(cluster);
      return !(await isTripped(cluster));
    },
  );
  await assertNothing('nor when the breaker closes');

  const victim = present(groupsOf(pods).get('llama-1')?.[1]);
  await reportDevice(cluster, victim, 'Unhealthy');
  await until('its group to be evicted', 60_000, async () => (await calls.byBerth()).length > 0);
  await until('its intent to be closed', 60_000, async () => {
    const intents = await listIntents(cluster);
    return intents.length > 0 && intents.every(({ phase }) => phase === 'closed');
  });
  t.strictSame(
    (await calls.byBerth()).map(describeCall),
    ['create pods/eviction llama-1 201'],
    'while what fails afterwards is dealt with',
  );
});

async function readyCount(cluster: Cluster, status: string): Promise<number> {
  return (await readyText(cluster)).split(' ').filter(each => each === status).length;
}

/** What each node says of itself: `True False Unknown`. */
async function readyText(cluster: Cluster): Promise<string> {
  return [...(await listNodes(cluster)).values()]
    .map(({ status }) => status?.conditions?.find(({ type }) => type === 'Ready')?.status)
    .join(' ');
}

async function isTripped(cluster: Cluster): Promise<boolean> {
  return cluster.request('GET', `${configMaps}/${breaker}`).then(
    () => true,
    () => false,
  );
}
