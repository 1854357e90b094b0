import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createPod,
  domainsOf,
  gpuResources,
  listEvents,
  listNodes,
  makeNamespace,
  openBed,
  runBerth,
  singlePod,
  until,
  withFleet,
} from './bed.ts';
import { evictionAnswer } from './budgets.ts';
import { describeCall, fastFailure, listIntents, reportDevice, watchDestruction } from './failures.ts';
import { createLabelledGroup, createWorkload, nameOf, newAndReady, uidsOf } from './workloads.ts';

t.setTimeout(300_000);

const failure = { ...fastFailure, domainMinNodes: 100, massMinNodes: 100 };
/** Longer than a certain or suspect fault would take to be acted on. */
const patienceMs = 8_000;

t.test('what fails under pods that no LeaderWorkerSet owns', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 4, hostsPerRack: 4, gpus: 8 }) });
  await runBerth(t, cluster, { failure });

  await t.test('a group by labels goes whole, and comes back whole elsewhere', async t => {
    const namespace = await makeNamespace(t, cluster);
    await createLabelledGroup(cluster, namespace, 'g', ['Deployment', 'Deployment']);
    await createLabelledGroup(cluster, namespace, 'calm', ['StatefulSet', 'StatefulSet']);
    const group = await newAndReady(cluster, namespace, 'berth.dev/group=g', 2);
    const calm = await newAndReady(cluster, namespace, 'berth.dev/group=calm', 2);
    const calls = await watchDestruction(cluster);
    const [, worker] = group;
    if (worker === undefined) throw new Error('g has no worker');

    const faultMs = Date.now();
    await reportDevice(cluster, worker, 'Unhealthy');
    const after = await newAndReady(cluster, namespace, 'berth.dev/group=g', 2, group);
    t.comment(`whole again ${Date.now() - faultMs} ms after the report`);
    await allClosed(cluster);
    t.strictSame(
      (await calls.byBerth()).map(describeCall).sort(),
      group.map(pod => `create pods/eviction ${nameOf(pod)} 201`).sort(),
      'every member was evicted once',
    );
    t.notOk(
      after.some(({ spec }) => spec.nodeName === worker.spec.nodeName),
      'the bad node is not used',
    );
    t.equal(domainsOf(after, await listNodes(cluster)).size, 1, 'in one rack');
    const intents = await intentsIn(cluster, namespace);
    t.equal(intents.length, 1, 'one record');
    t.match(intents[0], { shape: 'labelled', group: `${namespace}/g`, outcome: 'recovered' });
    t.strictSame(
      uidsOf(await newAndReady(cluster, namespace, 'berth.dev/group=calm', 2)),
      uidsOf(calm),
      'the other group kept all UIDs',
    );
    const reasons = (await listEvents(cluster, namespace)).map(({ reason }) => reason);
    for (const reason of ['FailureDetected', 'GroupEvicted', 'GroupRecovered'])
      t.ok(reasons.includes(reason), `event ${reason}`);

    await t.test('whoever is drained takes the others along', async t => {
      const calls = await watchDestruction(cluster);
      const [leader, drained] = calm;
      if (leader === undefined || drained === undefined) throw new Error('calm has two members');
      t.equal(await evictionAnswer(cluster, drained.metadata, { dryRun: false }), 201);
      const renewed = await newAndReady(cluster, namespace, 'berth.dev/group=calm', 2, calm);
      await allClosed(cluster);
      await delay(patienceMs);
      t.strictSame(
        (await calls.byBerth()).map(describeCall),
        [`create pods/eviction ${nameOf(leader)} 201`],
        'the other one was evicted, and nobody again',
      );
      t.strictSame(
        uidsOf(await newAndReady(cluster, namespace, 'berth.dev/group=calm', 2)),
        uidsOf(renewed),
        'the new ones stay',
      );
      t.strictSame(
        uidsOf(await newAndReady(cluster, namespace, 'berth.dev/group=g', 2)),
        uidsOf(after),
        'the other group kept all UIDs',
      );
    });
  });

  await t.test('a group with pods of a Job is left where it is, until their template agrees', async t => {
    const namespace = await makeNamespace(t, cluster);
    await createLabelledGroup(cluster, namespace, 'batch', ['Job', 'Job']);
    await createLabelledGroup(cluster, namespace, 'agreed', ['Job', 'Job'], { 'berth.dev/failure': 'evict' });
    const batch = await newAndReady(cluster, namespace, 'berth.dev/group=batch', 2);
    const agreed = await newAndReady(cluster, namespace, 'berth.dev/group=agreed', 2);
    const calls = await watchDestruction(cluster);
    await heldWith(t, { cluster, namespace, victim: batch[1], reason: /backoffLimit/ });
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing destructive was called');
    if (agreed[1] === undefined) throw new Error('agreed has two members');
    await reportDevice(cluster, agreed[1], 'Unhealthy');
    await until('both that agreed to be evicted', 60_000, async () => {
      return (await calls.byBerth()).length === 2;
    });
    t.strictSame(
      (await calls.byBerth()).map(describeCall).sort(),
      agreed.map(pod => `create pods/eviction ${nameOf(pod)} 201`).sort(),
      'control: the others',
    );
    await allClosed(cluster);
  });
});

t.test('a pod outside groups', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 2, hostsPerRack: 4, gpus: 8 }) });
  await runBerth(t, cluster, { failure });
  const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin', 'berth.dev/singles': 'pin' });

  await t.test('of a Job, or bare, stays where it is', async t => {
    await createWorkload(cluster, namespace, { kind: 'Job', name: 'batch' });
    await createPod(cluster, singlePod(namespace, 'bare', gpuResources(8), {}, { app: 'bare' }));
    const [ofJob] = await newAndReady(cluster, namespace, 'app=batch', 1);
    const [bare] = await newAndReady(cluster, namespace, 'app=bare', 1);
    const calls = await watchDestruction(cluster);
    await heldWith(t, { cluster, namespace, victim: ofJob, reason: /backoffLimit/ });
    await heldWith(t, { cluster, namespace, victim: bare, reason: /no controller/ });
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing destructive was called');
    t.strictSame(await intentsIn(cluster, namespace), [], 'and no record made');
  });

  await t.test('of a Deployment is evicted once and comes back elsewhere', async t => {
    await createWorkload(cluster, namespace, { kind: 'Deployment', name: 'web', replicas: 2 });
    const before = await newAndReady(cluster, namespace, 'app=web', 2);
    const [sick, calm] = before;
    if (sick === undefined || calm === undefined) throw new Error('web has two pods');
    const calls = await watchDestruction(cluster);
    await reportDevice(cluster, sick, 'Unhealthy');
    const after = await newAndReady(cluster, namespace, 'app=web', 2, [sick]);
    await allClosed(cluster);
    t.strictSame((await calls.byBerth()).map(describeCall), [`create pods/eviction ${nameOf(sick)} 201`]);
    t.ok(uidsOf(after).includes(calm.metadata.uid), 'the other one stayed');
    t.notOk(
      after.some(({ spec }) => spec.nodeName === sick.spec.nodeName),
      'the bad node is not used',
    );
    const intents = await intentsIn(cluster, namespace);
    t.equal(intents.length, 1, 'one record');
    t.match(intents[0], { shape: 'single', outcome: 'recovered', group: /\/ReplicaSet\/web-/ });
  });

  await t.test('stays where kube-scheduler could send it back', async t => {
    const loose = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin' });
    await createWorkload(cluster, loose, { kind: 'Deployment', name: 'free' });
    const [pod] = await newAndReady(cluster, loose, 'app=free', 1);
    const calls = await watchDestruction(cluster);
    await heldWith(t, { cluster, namespace: loose, victim: pod, reason: /same node/ });
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing destructive was called');
    const labels = { 'berth.dev/singles': 'pin' };
    await cluster.request('PATCH', `/api/v1/namespaces/${loose}`, { metadata: { labels } });
    await newAndReady(cluster, loose, 'app=free', 1, pod && [pod]);
    t.equal((await calls.byBerth()).length, 1, 'control: once Berth says where it goes');
    await allClosed(cluster);
  });
});

/** A sick device under a pod that must stay: it is told why, and stays beyond the time in which it would have gone. */
async function heldWith(
  t: Test,
  scene: {
    readonly cluster: Cluster;
    readonly namespace: string;
    readonly victim: Pod | undefined;
    readonly reason: RegExp;
  },
): Promise<void> {
  const { cluster, namespace, victim, reason } = scene;
  if (victim === undefined) throw new Error('there is no such pod');
  await reportDevice(cluster, victim, 'Unhealthy');
  await until('the reason to be told', 30_000, async () =>
    (await listEvents(cluster, namespace)).some(
      event => event.reason === 'EvictionHeld' && reason.test(event.message),
    ),
  );
  await delay(patienceMs);
  t.pass(`held: ${reason.source}`);
}

async function allClosed(cluster: Cluster): Promise<void> {
  await until('no record to be open', 60_000, async () =>
    (await listIntents(cluster)).every(({ phase }) => phase === 'closed'),
  );
}

async function intentsIn(cluster: Cluster, namespace: string) {
  return (await listIntents(cluster)).filter(({ group }) => group.startsWith(`${namespace}/`));
}
