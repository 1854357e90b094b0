import t from 'tap';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  conditionOf,
  createLws,
  groupsOf,
  listEvents,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { killNode } from './dead-nodes.ts';
import { describeCall, fastFailure, listIntents, watchDestruction } from './failures.ts';

t.setTimeout(300_000);

interface Scene {
  /** Of the LWS. */
  readonly name: string;
  /** Of the member whose node dies. */
  readonly rank: number;
  /** What the person in charge does, as the instruction says it. */
  readonly fence: 'delete' | 'taint';
}

const scenes: readonly Scene[] = [
  { name: 'leader-deleted', rank: 0, fence: 'delete' },
  { name: 'leader-tainted', rank: 0, fence: 'taint' },
  { name: 'worker-deleted', rank: 2, fence: 'delete' },
  { name: 'worker-tainted', rank: 2, fence: 'taint' },
];

interface Patient extends Scene {
  readonly key: string;
  readonly members: readonly Pod[];
  readonly victim: Pod;
  readonly node: string;
}

t.test('fault 20, fault 21: dead nodes of four groups: held until fenced, then whole', async t => {
  const cluster = await openBed(t);
  // One host more in each rack than a group needs.
  await withFleet(t, cluster, { name: 'racks-of-5', nodes: racks({ racks: 5, hostsPerRack: 5, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  // Longer than it takes to be sure that the simulated kubelet stays silent.
  await runBerth(t, cluster, { failure: { ...fastFailure, nodeUnknownAfterSeconds: 4 } });
  const namespace = await makeNamespace(t, cluster);
  for (const name of [...scenes.map(scene => scene.name), 'healthy'])
    await createLws(cluster, namespace, {
      name,
      size: 4,
      annotations: { 'berth.dev/required-topology': 'rack' },
    });
  const before = groupsOf(await waitForReady(cluster, namespace, 20));
  const patients = scenes.map((scene): Patient => {
    const key = `${scene.name}-0`;
    const members = before.get(key) ?? [];
    const victim = members.find(pod => rankOf(pod) === scene.rank);
    if (victim === undefined) throw new Error(`${key} has no rank ${scene.rank}`);
    return { ...scene, key, members, victim, node: victim.spec.nodeName ?? '' };
  });
  const intentOf = async ({ key }: Patient) =>
    (await listIntents(cluster)).find(({ group }) => group === `${namespace}/${key}`);

  const calls = await watchDestruction(cluster);
  const deadMs = Date.now();
  await Promise.all(patients.map(({ node }) => killNode(t, cluster, namespace, node)));
  const instructions = new Map<string, string>();
  await until('all four to be held', 60_000, async () => {
    for (const patient of patients) {
      const hold = (await intentOf(patient))?.hold;
      if (hold !== undefined) instructions.set(patient.key, hold);
    }
    return instructions.size === patients.length;
  });
  t.comment(`held ${Date.now() - deadMs} ms after the nodes died`);

  // A leader in foreground deletion stays until its workers are gone.
  const leftOf = ({ rank, members, victim }: Patient) => (rank === 0 ? [victim] : [members[0], victim]);
  let held = before;
  await until('healthy members to have left', 30_000, async () => {
    held = groupsOf(await listPods(cluster, namespace));
    return patients.every(patient => (held.get(patient.key) ?? []).length <= leftOf(patient).length);
  });
  for (const patient of patients) {
    const { key, node } = patient;
    const instruction = instructions.get(key) ?? '';
    t.match(instruction, `kubectl delete node ${node}.`, `${key}: told how to end it for good`);
    const taint = `kubectl taint node ${node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`;
    t.match(instruction, taint, `${key}: told how to fence it`);
    const left = held.get(key) ?? [];
    t.strictSame(
      left.map(pod => pod.metadata.uid),
      leftOf(patient).map(pod => pod?.metadata.uid),
      `${key}: healthy members have left their nodes, nobody new has come`,
    );
    t.ok(
      left.every(pod => pod.metadata.deletionTimestamp !== undefined),
      `${key}: what is left is going`,
    );
    t.equal((await intentOf(patient))?.signal, 'NodeNotReady', `${key}: for its node`);
  }
  await until('events and conditions to be written', 20_000, async () => {
    const events = (await listEvents(cluster, namespace)).filter(({ reason }) => reason === 'FencingNeeded');
    const leaders = (await listPods(cluster, namespace)).filter(pod => rankOf(pod) === 0);
    return patients.every(
      ({ key, name }) =>
        events.some(({ involvedObject }) => involvedObject.name === key) &&
        events.some(
          ({ involvedObject }) => involvedObject.kind === 'LeaderWorkerSet' && involvedObject.name === name,
        ) &&
        leaders.some(
          leader =>
            leader.metadata.name === key &&
            conditionOf(leader, 'berth.dev/Failed')?.message === instructions.get(key),
        ),
    );
  });
  t.pass('events FencingNeeded on leader and owner, and condition berth.dev/Failed');

  const fencedMs = Date.now();
  for (const { key, fence } of patients) {
    // The very command that the instruction gives.
    const command = new RegExp(`kubectl (${fence} node .*?)(\\. |$)`).exec(instructions.get(key) ?? '')?.[1];
    t.comment(`${key}: ${await cluster.kubectl(...(command ?? '').split(' '))}`.trim());
  }
  const whole = new Map<string, number>();
  await until('all four to be new and bound', 150_000, async () => {
    const groups = groupsOf(await listPods(cluster, namespace));
    for (const { key, members } of patients) {
      const old = members.map(pod => pod.metadata.uid);
      const group = groups.get(key) ?? [];
      const isNew = group.every(pod => !old.includes(pod.metadata.uid) && pod.spec.nodeName !== undefined);
      if (!whole.has(key) && group.length === 4 && isNew) whole.set(key, Date.now() - fencedMs);
    }
    return whole.size === patients.length;
  });
  const after = await waitForReady(cluster, namespace, 20);
  for (const [key, ms] of whole) t.comment(`${key}: whole again ${ms} ms after fencing`);
  await until('the intents to be closed', 20_000, async () =>
    (await listIntents(cluster)).every(({ phase }) => phase === 'closed'),
  );
  const groups = groupsOf(after);
  for (const patient of patients) {
    t.match(await intentOf(patient), { outcome: 'recovered', hold: undefined }, `${patient.key}: recovered`);
    t.notOk(
      groups.get(patient.key)?.some(pod => pod.spec.nodeName === patient.node),
      `${patient.key}: off the dead node`,
    );
  }
  t.equal((await listIntents(cluster)).length, 4, 'one intent each');
  t.strictSame(splitGroups(after, nodes), [], 'every group is whole in one rack');
  t.strictSame(
    groups.get('healthy-0')?.map(pod => pod.metadata.uid),
    before.get('healthy-0')?.map(pod => pod.metadata.uid),
    'the group without a dead node kept all UIDs',
  );

  const byBerth = await calls.byBerth();
  const evictions = byBerth.filter(({ subresource }) => subresource === 'eviction');
  t.strictSame(
    evictions.map(describeCall).sort(),
    patients.map(({ key }) => `create pods/eviction ${key} 201`).sort(),
    'Berth evicted each leader once',
  );
  t.strictSame(
    byBerth
      .filter(({ resource, subresource }) => resource === 'pods' && subresource === '')
      .map(describeCall),
    [],
    'Berth deleted no pod, with whatever grace',
  );
  const byPodGc = (await calls.byAnybody(namespace)).filter(({ user }) =>
    user.endsWith(':pod-garbage-collector'),
  );
  t.strictSame(
    [...new Set(byPodGc.map(({ name }) => name))].sort(),
    patients.map(({ victim }) => victim.metadata.name).sort(),
    'the pod garbage collector ended what was on the dead nodes',
  );
});
