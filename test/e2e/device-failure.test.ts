import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { racks } from '../../hack/bed/fleet-presets.ts';
import {
  createLws,
  groupsOf,
  listEvents,
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
import { describeCall, fastFailure, listIntents, reportDevice, watchDestruction } from './failures.ts';

t.setTimeout(300_000);

const wanted = {
  name: 'llama',
  replicas: 2,
  size: 4,
  annotations: { 'berth.dev/required-topology': 'rack' },
};

t.test('a device that stays Unhealthy', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 4, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  await runBerth(t, cluster, { failure: fastFailure });
  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, wanted);
  const before = await waitForReady(cluster, namespace, 8);
  const hurt = groupsOf(before).get('llama-1') ?? [];
  const other = groupsOf(before).get('llama-0') ?? [];
  const victim = hurt[2];
  if (victim === undefined) throw new Error('llama-1 has no rank 2');

  const calls = await watchDestruction(cluster);
  const oldUids = new Set(hurt.map(pod => pod.metadata.uid));
  const faultMs = Date.now();
  await reportDevice(cluster, victim, 'Unhealthy');
  await until('llama-1 to be new and whole', 60_000, async () => {
    const group = groupsOf(await listPods(cluster, namespace)).get('llama-1') ?? [];
    return (
      group.length === 4 &&
      group.every(pod => !oldUids.has(pod.metadata.uid) && pod.spec.nodeName !== undefined)
    );
  });
  const after = await waitForReady(cluster, namespace, 8);
  t.comment(`whole again ${Date.now() - faultMs} ms after the report`);
  await until('the intent to be closed', 20_000, async () =>
    (await listIntents(cluster)).every(intent => intent.phase === 'closed'),
  );
  const intents = await listIntents(cluster);
  t.equal(intents.length, 1, 'one intent');
  t.match(intents[0], { outcome: 'recovered', signal: 'DeviceUnhealthy', group: `${namespace}/llama-1` });
  const { times } = intents[0] ?? {};
  const steps = [times?.signal, times?.intent, times?.evicted, times?.gone, times?.bound, times?.ready];
  t.ok(
    steps.every((at, i) => at !== undefined && at >= (steps[i - 1] ?? 0)),
    `t0 to t5 are recorded and in order: ${steps.map(at => (at ?? 0) - (steps[0] ?? 0)).join(', ')} ms`,
  );
  t.strictSame((await calls.byBerth()).map(describeCall), ['create pods/eviction llama-1 201']);
  const group = groupsOf(after).get('llama-1') ?? [];
  t.notOk(
    group.some(pod => pod.spec.nodeName === victim.spec.nodeName),
    'the bad node is not used',
  );
  t.strictSame(splitGroups(after, nodes), [], 'whole in one rack');
  t.strictSame(
    (groupsOf(after).get('llama-0') ?? []).map(pod => pod.metadata.uid),
    other.map(pod => pod.metadata.uid),
    'the other group kept all UIDs',
  );
  const reasons = (await listEvents(cluster, namespace)).map(event => event.reason);
  for (const reason of ['FailureDetected', 'GroupEvicted', 'GroupRecovered'])
    t.ok(reasons.includes(reason), `event ${reason}`);

  await t.test('one that is Unhealthy for less than its time is nothing', async t => {
    const calls = await watchDestruction(cluster);
    const pod = other[1];
    if (pod === undefined) throw new Error('llama-0 has no rank 1');
    await reportDevice(cluster, pod, 'Unhealthy');
    await delay(1_000);
    await reportDevice(cluster, pod, 'Healthy');
    await delay(4_000);
    t.strictSame((await calls.byBerth()).map(describeCall), []);
    t.equal((await listIntents(cluster)).length, 1, 'no further intent');
  });
});
