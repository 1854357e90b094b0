import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { nvlinkDomains, p4dRacks, tpuV6e } from '../../hack/bed/fleet-presets.ts';
import { createFleet, deleteFleet } from '../../hack/bed/fleets.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { deviceKey } from '../../src/cluster/devices/device.ts';
import {
  conditionOf,
  createLws,
  groupsOf,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { evictsNobody, membersOf, present, type Scene, seenUids } from './device-scenes.ts';
import {
  claiming,
  createClaimTemplate,
  deviceNamespaces,
  exactly,
  listClaims,
  named,
  resultsOf,
} from './devices.ts';
import {
  deviceHeldBy,
  installComputeDomains,
  labelNode,
  nodesOf,
  playComputeDomain,
  remade,
  sayLinkState,
  spareNic,
} from './fabric-scenes.ts';
import { describeCall, exclusionRules, fastFailure, listIntents, watchDestruction } from './failures.ts';

t.setTimeout(600_000);

const suspectSeconds = 8;
const cliqueSeconds = 30;
const excludeSeconds = 3;
const failure = {
  ...fastFailure,
  certainAfterSeconds: 1,
  suspectAfterSeconds: suspectSeconds,
  excludeAfterSeconds: excludeSeconds,
  cliqueAfterSeconds: cliqueSeconds,
  computeDomainAfterSeconds: 2,
  // The faults follow each other within minutes on few nodes.
  deviceMinCount: 50,
  domainMinNodes: 100,
  massMinNodes: 100,
  excludeMinutes: 0.25,
};
const patienceMs = 2_000 * suspectSeconds;
/** Zones of all, racks of the one fleet and TPU slices of another. */
const topology = {
  levels: [
    { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
    { name: 'rack', nodeLabel: 'example.com/rack' },
    {
      name: 'slice',
      nodeLabel: 'cloud.google.com/gke-nodepool',
      shapeLabel: 'cloud.google.com/gke-tpu-topology',
    },
  ],
};
const cliqueLabel = 'nvidia.com/gpu.clique';
const partitionLabel = 'cloud.google.com/gke-tpu-partition-4x4x4-state';

t.test('what ties nodes together fails', async t => {
  const cluster = await openBed(t);
  await installComputeDomains(t, cluster);
  const berth = await runBerth(t, cluster, { topology, failure });
  t.comment(`shortened: ${JSON.stringify(failure)}`);

  await t.test('fault 40: a NIC goes down once: nothing; twice: it is kept off, and who has it goes', t =>
    nicDown(t, cluster, berth),
  );
  await t.test('fault 41: a clique vanishes, a ComputeDomain is not ready: only who has channels goes', t =>
    nvlinkFails(t, cluster, berth),
  );
  await t.test('fault 42: a TPU pool is made anew: one eviction, and never a place on a part of it', t =>
    tpuPoolRemade(t, cluster),
  );
});

async function nicDown(t: Test, cluster: Cluster, berth: BerthProcess): Promise<void> {
  await withFleet(t, cluster, named('p4d', p4dRacks({ racks: 2, hostsPerRack: 2 })));
  const namespace = await deviceNamespaces(t, cluster)(t);
  const scene: Scene = { cluster, namespace, size: 2, patienceMs };
  await createClaimTemplate(cluster, namespace, 'pair', [
    exactly('gpu', 'gpu.nvidia.com', { count: 3 }),
    exactly('nic', 'efa.networking.k8s.aws'),
  ]);
  await createClaimTemplate(cluster, namespace, 'gpu', [exactly('gpu', 'gpu.nvidia.com')]);
  const inOneRack = { 'berth.dev/required-topology': 'rack' };
  await createLws(cluster, namespace, {
    name: 'llama',
    size: 2,
    annotations: inOneRack,
    worker: claiming({ templates: { pair: 'pair' } }),
  });
  await waitForReady(cluster, namespace, 2);
  const [leader, worker] = (await membersOf(cluster, namespace, 'llama-0')).map(present);
  const node = worker?.spec.nodeName ?? '';
  // A neighbour on the host of the worker that has GPUs alone.
  await createLws(cluster, namespace, {
    name: 'plain',
    size: 2,
    worker: { ...claiming({ templates: { gpu: 'gpu' } }), nodeSelector: { 'kubernetes.io/hostname': node } },
  });
  await waitForReady(cluster, namespace, 4);
  const nic = await deviceHeldBy(cluster, present(worker), 'dra.net');
  const spare = await spareNic(cluster, node);

  await t.test('once', async t => {
    const once = await deviceHeldBy(cluster, present(leader), 'dra.net');
    await sayLinkState(cluster, once, 'up');
    await evictsNobody(t, scene, async () => {
      await sayLinkState(cluster, once, 'down');
      await until('it to be counted', 20_000, async () =>
        (await berth.metrics()).includes('berth_failures{signal="DeviceDown"} 1'),
      );
    });
    t.strictSame(await exclusionRules(cluster), [], 'nor is it kept off new claims');
    await sayLinkState(cluster, once, 'up');
  });

  await t.test('twice, in use and not', async t => {
    for (const id of [nic, spare])
      for (const state of ['up', 'down', 'up']) {
        await sayLinkState(cluster, id, state);
        await delay(500);
      }
    const before = groupsOf(await listPods(cluster, namespace));
    const calls = await watchDestruction(cluster);
    const faultMs = Date.now();
    await sayLinkState(cluster, spare, 'down');
    await sayLinkState(cluster, nic, 'down');
    await until('both to be kept off new claims', 20_000, async () => {
      const rules = await exclusionRules(cluster);
      const meant = rules.map(({ spec }) => spec.deviceSelector?.device);
      return [nic, spare].every(({ device }) => meant.includes(device));
    });
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'before anybody is evicted');
    await untilRenewed(cluster, namespace, 'llama-0', before);
    t.ok(Date.now() - faultMs >= 1_000 * suspectSeconds, 'the evidence had to persist');
    await assertOnlyEvicted(t, cluster, { namespace, group: 'llama-0', before, calls });
    const taken = resultsOf(await listClaims(cluster)).map(deviceKey);
    for (const id of [nic, spare]) t.notOk(taken.includes(deviceKey(id)), `${id.device} is in no allocation`);
  });
}

async function nvlinkFails(t: Test, cluster: Cluster, berth: BerthProcess): Promise<void> {
  await withFleet(t, cluster, named('nvl72', nvlinkDomains({ racks: 2 })));
  const namespace = await deviceNamespaces(t, cluster)(t);
  const domain = await playComputeDomain(t, cluster, namespace, 'channel');
  await createClaimTemplate(cluster, namespace, 'gpus', [exactly('gpu', 'gpu.nvidia.com', { count: 4 })]);
  const withChannel = claiming({ templates: { gpus: 'gpus', channel: 'channel' } });
  await createLws(cluster, namespace, { name: 'mesh', size: 3, worker: withChannel });
  await waitForReady(cluster, namespace, 3);
  const cliqueOf = async (node: string) =>
    (await listNodes(cluster)).get(node)?.metadata.labels?.[cliqueLabel];
  const [, node = ''] = await nodesOf(cluster, namespace, 'mesh');
  const clique = present(await cliqueOf(node));
  // A neighbour in the rack that has no channel.
  await createLws(cluster, namespace, {
    name: 'plain',
    size: 3,
    worker: { ...claiming({ templates: { gpus: 'gpus' } }), nodeSelector: { [cliqueLabel]: clique } },
  });
  await waitForReady(cluster, namespace, 6);
  const scene: Scene = { cluster, namespace, size: 3, patienceMs };

  await t.test('the label is away for less than its time', async t => {
    await evictsNobody(t, scene, async () => {
      await labelNode(cluster, node, cliqueLabel, null);
      t.teardown(() => labelNode(cluster, node, cliqueLabel, clique));
      await until('it to be seen', 10_000, async () =>
        (await berth.metrics()).includes('berth_failures{signal="CliqueChanged"} 1'),
      );
      await delay(1_500 * excludeSeconds);
      await createLws(cluster, namespace, { name: 'late', size: 2, worker: withChannel });
      await waitForReady(cluster, namespace, 8, 15_000);
      await labelNode(cluster, node, cliqueLabel, clique);
    });
    const late = await Promise.all((await nodesOf(cluster, namespace, 'late')).map(cliqueOf));
    t.equal(new Set(late).size, 1);
    t.not(late[0], clique, 'a group that came meanwhile went to the other clique');
    await until(
      'no clique to be suspect',
      10_000,
      async () => !(await berth.metrics()).includes('berth_failures{signal="CliqueChanged"} 1'),
    );
  });

  await t.test('the node is in another clique for good', async t => {
    const before = groupsOf(await listPods(cluster, namespace));
    const calls = await watchDestruction(cluster);
    await labelNode(cluster, node, cliqueLabel, `${clique}0`);
    t.teardown(() => labelNode(cluster, node, cliqueLabel, clique));
    await untilRenewed(cluster, namespace, 'mesh-0', before);
    await assertOnlyEvicted(t, cluster, { namespace, group: 'mesh-0', before, calls });
    const nodes = await nodesOf(cluster, namespace, 'mesh');
    t.notOk(nodes.includes(node), 'off the node');
    t.equal(new Set(await Promise.all(nodes.map(cliqueOf))).size, 1, 'in one clique');
  });

  await t.test('the ComputeDomain is not ready', async t => {
    const [bad = ''] = await nodesOf(cluster, namespace, 'mesh');
    await evictsNobody(t, scene, async () => {
      await domain.break([bad]);
      await until('it to be seen', 10_000, async () =>
        (await berth.metrics()).includes('berth_failures{signal="ComputeDomainNotReady"} 1'),
      );
      await domain.break([]);
    });
    const before = groupsOf(await listPods(cluster, namespace));
    const calls = await watchDestruction(cluster);
    await domain.break([bad]);
    await untilRenewed(cluster, namespace, 'mesh-0', before);
    await assertOnlyEvicted(t, cluster, { namespace, group: 'mesh-0', before, calls });
    t.notOk(
      (await nodesOf(cluster, namespace, 'mesh')).includes(bad),
      'off the node whose daemon is not ready',
    );
  });
}

async function tpuPoolRemade(t: Test, cluster: Cluster): Promise<void> {
  const pools = tpuV6e({ '4x4': 2 });
  const of = (pool: string) =>
    pools.filter(({ metadata }) => metadata.labels?.['cloud.google.com/gke-nodepool'] === pool);
  const [first, second] = [of('v6e-4x4-00'), of('v6e-4x4-01')];
  await withFleet(t, cluster, { name: 'first pool', nodes: first });
  const anew = remade(first, 'b');
  t.teardown(() => deleteFleet(cluster, { name: 'all pools', nodes: [...anew, ...second] }));
  const namespace = await makeNamespace(t, cluster);
  const resources = { limits: { 'google.com/tpu': '4' } };
  await createLws(cluster, namespace, {
    name: 'gemma',
    size: 4,
    worker: {
      containers: [{ name: 'main', image: 'model-server', resources }],
      tolerations: [{ key: 'google.com/tpu', operator: 'Exists', effect: 'NoSchedule' }],
    },
  });
  const pods = await waitForReady(cluster, namespace, 4);
  const uids = seenUids(t, { cluster, namespace, size: 4, patienceMs });

  await t.test('a host is gone, and the pool is made anew', async t => {
    const before = groupsOf(pods);
    const calls = await watchDestruction(cluster);
    const lost = before.get('gemma-0')?.[3]?.spec.nodeName ?? '';
    await cluster.request('DELETE', `/api/v1/nodes/${lost}`);
    await until('the eviction', 20_000, async () => (await calls.byBerth()).length > 0);
    for (const { metadata } of first)
      if (metadata.name !== lost) await cluster.request('DELETE', `/api/v1/nodes/${metadata.name}`);
    await createFleet(cluster, { name: 'part of the pool', nodes: anew.slice(0, 3) });
    await until('the group to wait for the rest', 120_000, async () => {
      const leader = (await membersOf(cluster, namespace, 'gemma-0'))[0];
      return leader !== undefined && whyWaiting(leader).includes('TPU slice that lacks hosts');
    });
    await delay(patienceMs);
    t.strictSame(boundTo(anew, await listPods(cluster, namespace)), [], 'nobody is on a part of the pool');
    await createFleet(cluster, { name: 'rest of the pool', nodes: anew.slice(3) });
    await untilRenewed(cluster, namespace, 'gemma-0', before);
    await assertOnlyEvicted(t, cluster, { namespace, group: 'gemma-0', before, calls });
    t.strictSame(await nodesOf(cluster, namespace, 'gemma'), namesOf(anew), 'whole on the new pool');
    t.equal(uids.get('gemma-0')?.size, 2, 'the leader was made anew once');
  });

  await t.test('its state is bad, and there is another pool', async t => {
    await waitForReady(cluster, namespace, 4);
    await createFleet(cluster, { name: 'second pool', nodes: second });
    const before = groupsOf(await listPods(cluster, namespace));
    const calls = await watchDestruction(cluster);
    const [host] = namesOf(anew);
    await labelNode(cluster, present(host), partitionLabel, 'DEGRADED');
    await delay(patienceMs);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'a degraded one serves');
    await labelNode(cluster, present(host), partitionLabel, 'UNHEALTHY');
    await untilRenewed(cluster, namespace, 'gemma-0', before);
    await assertOnlyEvicted(t, cluster, { namespace, group: 'gemma-0', before, calls });
    t.strictSame(await nodesOf(cluster, namespace, 'gemma'), namesOf(second), 'whole on the other pool');
  });
}

function whyWaiting(pod: Pod): string {
  return conditionOf(pod, 'berth.dev/Placed')?.message ?? '';
}

function namesOf(nodes: readonly Node[]): readonly string[] {
  return nodes.map(({ metadata }) => metadata.name ?? '').sort();
}

function boundTo(nodes: readonly Node[], pods: readonly Pod[]): readonly (string | undefined)[] {
  const names = new Set(namesOf(nodes));
  return pods.flatMap(({ metadata, spec }) => (names.has(spec.nodeName ?? '') ? [metadata.name] : []));
}

/** Waits until the group has as many members as before, all of them new and bound. */
async function untilRenewed(
  cluster: Cluster,
  namespace: string,
  name: string,
  before: ReadonlyMap<string, readonly Pod[]>,
): Promise<void> {
  const old = (before.get(name) ?? []).map(({ metadata }) => metadata.uid);
  await until(`${name} to be new and whole`, 120_000, async () => {
    const pods = groupsOf(await listPods(cluster, namespace)).get(name) ?? [];
    return (
      pods.length === old.length &&
      pods.every(({ metadata, spec }) => !old.includes(metadata.uid) && spec.nodeName !== undefined)
    );
  });
}

/** Berth evicted that group once, by one record, and nobody else; the others kept all UIDs. */
async function assertOnlyEvicted(
  t: Test,
  cluster: Cluster,
  fault: {
    readonly namespace: string;
    readonly group: string;
    readonly before: ReadonlyMap<string, readonly Pod[]>;
    readonly calls: Awaited<ReturnType<typeof watchDestruction>>;
  },
): Promise<void> {
  const { namespace, group, before, calls } = fault;
  const records = async () =>
    (await listIntents(cluster)).filter(intent => intent.group === `${namespace}/${group}`);
  await until('no record to be open', 60_000, async () =>
    (await records()).every(({ phase }) => phase === 'closed'),
  );
  t.strictSame((await calls.byBerth()).map(describeCall), [`create pods/eviction ${group} 201`]);
  const uidsOf = (pods: readonly Pod[] = []) => pods.map(({ metadata }) => metadata.uid);
  const old = new Set(uidsOf(before.get(group)));
  const about = (await records()).filter(({ leaderUid }) => old.has(leaderUid));
  t.equal(about.length, 1, 'one record');
  t.comment(`${about[0]?.signal} ${about[0]?.class}: ${about[0]?.cause}`);
  const after = groupsOf(await listPods(cluster, namespace));
  for (const [other, pods] of before)
    if (other !== group) t.strictSame(uidsOf(after.get(other)), uidsOf(pods), `${other} kept all UIDs`);
}
