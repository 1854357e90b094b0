import { setTimeout as delay } from 'node:timers/promises';
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
  runBerth,
  splitGroups,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { createBudget, evictionAnswer, keepUnready, setBudget } from './budgets.ts';
import { describeCall, fastFailure, listIntents, reportDevice, watchDestruction } from './failures.ts';

t.setTimeout(300_000);

interface Scene {
  /** Of the LWS and of its budget. */
  readonly name: string;
  readonly over: 'leader' | 'workers' | 'group';
  readonly locked: Readonly<Record<string, unknown>>;
  readonly freed: Readonly<Record<string, unknown>>;
  /** What the Eviction API would say of the leader while the budget is locked. */
  readonly answer: number;
  /** The leader is not Ready: then Berth's own sum lets it go, and the Eviction API has the last word. */
  readonly unready?: boolean;
}

const scenes: readonly Scene[] = [
  {
    name: 'leader',
    over: 'leader',
    locked: { maxUnavailable: 0 },
    freed: { maxUnavailable: 1 },
    answer: 429,
  },
  { name: 'group', over: 'group', locked: { maxUnavailable: 0 }, freed: { maxUnavailable: 4 }, answer: 429 },
  // The Eviction API asks about the leader alone, though all its workers go with it.
  { name: 'workers', over: 'workers', locked: { minAvailable: 3 }, freed: { minAvailable: 0 }, answer: 201 },
  {
    name: 'one-of-four',
    over: 'group',
    locked: { maxUnavailable: 1 },
    freed: { maxUnavailable: 4 },
    answer: 201,
  },
  {
    name: 'unready',
    over: 'leader',
    locked: { minAvailable: 1 },
    freed: { minAvailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow' },
    answer: 429,
    unready: true,
  },
];

t.test('fault 34: PodDisruptionBudgets that do not allow that a group goes', async t => {
  const cluster = await openBed(t);
  // One host more in each rack than a group needs.
  await withFleet(t, cluster, { name: 'racks-of-5', nodes: racks({ racks: 5, hostsPerRack: 5, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  await runBerth(t, cluster, { failure: fastFailure });
  const namespace = await makeNamespace(t, cluster);
  for (const { name } of scenes)
    await createLws(cluster, namespace, {
      name,
      size: 4,
      annotations: { 'berth.dev/required-topology': 'rack' },
    });
  const before = groupsOf(await waitForReady(cluster, namespace, 4 * scenes.length));
  const membersOf = ({ name }: Scene): readonly Pod[] => before.get(`${name}-0`) ?? [];
  for (const scene of scenes) {
    const [leader] = membersOf(scene);
    if (leader === undefined) throw new Error(`${scene.name} has no leader`);
    if (scene.unready) await keepUnready(cluster, leader);
    await createBudget(cluster, namespace, scene.name, scene.over, scene.locked);
    const answer = await evictionAnswer(cluster, leader.metadata, { dryRun: true });
    t.equal(answer, scene.answer, `${scene.name}: the Eviction API answers ${scene.answer} of the leader`);
  }

  const calls = await watchDestruction(cluster);
  for (const scene of scenes) {
    const worker = membersOf(scene)[2];
    if (worker !== undefined) await reportDevice(cluster, worker, 'Unhealthy');
  }
  const told = async (scene: Scene) => {
    const leader = (await listPods(cluster, namespace)).find(
      ({ metadata }) => metadata.uid === membersOf(scene)[0]?.metadata.uid,
    );
    const condition = leader && conditionOf(leader, 'berth.dev/Failed');
    const event = (await listEvents(cluster, namespace)).find(
      ({ reason, involvedObject }) =>
        reason === 'EvictionHeld' && involvedObject.name === leader?.metadata.name,
    );
    return { condition, event };
  };
  await until('all to be held and told', 30_000, async () => {
    for (const scene of scenes) {
      const { condition, event } = await told(scene);
      if (condition === undefined || event === undefined) return false;
    }
    return true;
  });
  // Berth looks again after 10 s at most.
  await delay(11_000);
  const messages = await Promise.all(scenes.map(async scene => (await told(scene)).condition?.message));
  await until(
    () => `a refused eviction to be asked for again; told: ${messages.join('; ')}`,
    20_000,
    async () => (await calls.byBerth()).length >= 2,
  );
  for (const scene of scenes) {
    const { condition, event } = await told(scene);
    t.comment(`${scene.name}: ${event?.message}`);
    t.equal(condition?.status, 'True', `${scene.name}: condition berth.dev/Failed`);
    t.match(
      event?.message,
      `PodDisruptionBudget ${scene.name} does not allow`,
      `${scene.name}: event EvictionHeld names the budget`,
    );
  }
  const asked = (await calls.byBerth()).map(describeCall);
  t.comment(`${asked.length} evictions asked for while held`);
  t.strictSame(
    [...new Set(asked)],
    ['create pods/eviction unready-0 429'],
    'Berth asked only where its own sum allowed it, and a refusal was never made a delete',
  );
  t.strictSame(
    uidsOf(await listPods(cluster, namespace)),
    uidsOf([...before.values()].flat()),
    'all pods are what they were',
  );

  const freedMs = Date.now();
  for (const { name, freed } of scenes) await setBudget(cluster, namespace, name, freed);
  const old = uidsOf([...before.values()].flat());
  await until('all to be new and bound', 60_000, async () => {
    const pods = await listPods(cluster, namespace);
    return (
      pods.length === 4 * scenes.length &&
      pods.every(({ metadata, spec }) => !old.includes(metadata.uid ?? '') && spec.nodeName !== undefined)
    );
  });
  const after = await waitForReady(cluster, namespace, 4 * scenes.length);
  t.comment(`all whole again ${Date.now() - freedMs} ms after their budgets were freed`);
  t.strictSame(splitGroups(after, nodes), [], 'every group is whole in one rack');
  const done = (await calls.byBerth()).filter(({ code }) => code < 300);
  t.strictSame(
    done.map(describeCall).sort(),
    scenes.map(({ name }) => `create pods/eviction ${name}-0 201`).sort(),
    'each was evicted once its budget allowed it',
  );
  await until('the intents to be closed', 20_000, async () =>
    (await listIntents(cluster)).every(({ phase }) => phase === 'closed'),
  );
  t.strictSame(
    (await listIntents(cluster)).map(({ group, outcome }) => `${group} ${outcome}`).sort(),
    scenes.map(({ name }) => `${namespace}/${name}-0 recovered`).sort(),
    'one intent each',
  );
});

function uidsOf(pods: readonly Pod[]): readonly string[] {
  return pods.map(({ metadata }) => metadata.uid ?? '').sort();
}
