import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import { berth } from '../../src/api/names.ts';
import { deviceKey } from '../../src/cluster/devices/device.ts';
import { formatIntent, type Intent } from '../../src/failure/intent.ts';
import { intentName } from '../../src/kube/intent-store.ts';
import {
  conditionOf,
  createLws,
  groupsOf,
  listEvents,
  listPods,
  openBed,
  runBerth,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import {
  createRule,
  devicesOf,
  evictsNobody,
  evictsOnce,
  membersOf,
  present,
  type Scene,
  taintDevice,
} from './device-scenes.ts';
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
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  taintNode,
  watchDestruction,
} from './failures.ts';
import { openWriteGate } from './write-gate.ts';

t.setTimeout(600_000);

const size = 2;
const failure = {
  ...fastFailure,
  certainAfterSeconds: 1,
  suspectAfterSeconds: 4,
  excludeMinutes: 0.5,
  domainMinNodes: 1_000,
  deviceMinCount: 1_000,
  // One object may hit one group.
  blastMaxGroups: 1,
  blastMaxShare: 0.01,
};
const patienceMs = 8_000;
/** Berth reads all records every 30 s, whatever happens. */
const reviewMs = 40_000;
const driver = 'gpu.nvidia.com';
const configMaps = '/api/v1/namespaces/berth-system/configmaps';
const rulesPath = '/apis/resource.k8s.io/v1/devicetaintrules';
const strategicMergePatch = 'application/strategic-merge-patch+json';

t.test('what others write of failures is held and told, and not obeyed', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('p4d', p4dRacks({ racks: 2, hostsPerRack: 4 })));
  const freshNamespace = deviceNamespaces(t, cluster);
  await runBerth(t, cluster, { failure });
  t.teardown(() => halt(cluster, null));
  const namespace = await freshNamespace(t);
  await createClaimTemplate(cluster, namespace, 'gpus', [exactly('gpu', driver, { count: 2 })]);
  await createLws(cluster, namespace, {
    name: 'llama',
    replicas: 4,
    size,
    worker: claiming({ templates: { gpus: 'gpus' } }),
  });
  await waitForReady(cluster, namespace, 4 * size);
  const scene = { cluster, namespace, size, patienceMs };
  await t.test('keys, effects and conditions that nobody knows', t => unknownWords(t, scene));
  await t.test('texts without end, and a halt while a group is about to be evicted', t => endless(t, scene));
  await t.test('records that nobody has decided', t => forgedRecords(t, scene));
  await t.test('a breaker that says nothing of sense', t => nonsenseBreaker(t, scene));
  await t.test('a rule that means more than one group, confirmed later', t => wideRule(t, scene));
});

async function unknownWords(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;
  const [device] = await devicesOf(cluster, namespace, 'llama-0', 1);
  const node = device.pool;
  const setConditions = (status: string) =>
    cluster.request(
      'PATCH',
      `/api/v1/nodes/${node}/status`,
      {
        status: {
          conditions: [
            { type: 'example.com/Odd', status, reason: 'Odd', message: 'odd' },
            {
              type: 'GpuXid',
              status: status === 'True' ? 'Unknown' : 'False',
              reason: 'Odd',
              message: 'odd',
            },
          ],
        },
      },
      strategicMergePatch,
    );
  t.teardown(() => Promise.all([setConditions('False'), taintNode(cluster, node, [])]));
  await evictsNobody(t, scene, async () => {
    await taintNode(cluster, node, [
      { key: 'example.com/odd', value: 'yes', effect: 'PreferNoSchedule' },
      { key: 'example.com/other', effect: 'NoSchedule' },
    ]);
    await setConditions('True');
    await taintDevice(t, cluster, device, { key: 'example.com/odd', effect: 'None' });
    await t.rejects(
      taintNode(cluster, node, [{ key: 'example.com/odd', effect: 'NoMore' }]),
      /422/,
      'the API server takes no other effect on a node',
    );
  });
  await evictsOnce(t, scene, 0, async sick =>
    taintDevice(t, cluster, sick, { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' }),
  );
}

async function endless(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;
  const gate = await openWriteGate(t, cluster, namespace);
  const calls = await watchDestruction(cluster);
  const [leader, worker] = await membersOf(cluster, namespace, 'llama-1');
  const [device] = await devicesOf(cluster, namespace, 'llama-1', 1);
  // The API server takes no more than 1,024 bytes.
  const message = `\u001b[31mXid 79\n${'x'.repeat(1_000)}`;
  // The record is there, and nothing has been evicted yet.
  const halted = gate.holdNext(
    ({ resource, operation }) => resource === 'configmaps' && operation === 'CREATE',
    async () => {
      await halt(cluster, 'true');
      return 'allow';
    },
  );
  await evictsOnce(t, scene, 1, async () => {
    await reportDevice(
      cluster,
      present(worker),
      'Unhealthy',
      'claim:gpus',
      `${driver}/${device.pool}/${device.device}`,
      message,
    );
    await halted;
    await until('it to be held', 20_000, async () =>
      (await listIntents(cluster)).some(
        ({ phase, hold }) => phase === 'evicting' && /has halted/.test(hold ?? ''),
      ),
    );
    await delay(patienceMs);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted while it is halted');
    const pod = (await membersOf(cluster, namespace, 'llama-1'))[0];
    t.equal(pod?.metadata.uid, leader?.metadata.uid);
    t.match(conditionOf(present(pod), 'berth.dev/Failed')?.message, /has halted all evictions/);
    const [intent] = (await listIntents(cluster)).filter(({ phase }) => phase === 'evicting');
    t.match(intent?.cause, /is unhealthy: {2}\[31mXid 79 x{9}/, 'the record says what is wrong');
    t.ok((intent?.cause.length ?? 0) <= 500, 'and is cut');
    const told = (await listEvents(cluster, namespace)).filter(({ reason }) => reason === 'FailureDetected');
    t.ok(
      told.some(event => event.message.includes('[31mXid 79 xxx')),
      'it is told',
    );
    t.ok(told.every(event => event.message.length <= 1_024 && !/\p{Cc}/u.test(event.message)));
    await halt(cluster, null);
  });
}

async function forgedRecords(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;
  const [healthy, foreign, leaving] = await Promise.all(
    [0, 1, 2].map(index => leaderOf(scene, `llama-${index}`)),
  );
  if (healthy === undefined || foreign === undefined || leaving === undefined) throw new Error('no leaders');
  const valid = [
    intentOf(namespace, 'llama-0', healthy),
    // Under the name of a leader of another group.
    intentOf(namespace, 'llama-0', foreign),
    { ...intentOf(namespace, 'llama-2', leaving, 'leaving'), workerSetUid: 'not-there' },
  ];
  const pathLike = formatIntent(intentOf(namespace, 'llama-3', 'x')).replaceAll(
    'llama-3',
    '../../pods/llama-3',
  );
  const records = [
    ...valid.map(intent => [intentName(intent.leaderUid), formatIntent(intent)] as const),
    [intentName('x'), pathLike] as const,
    ['berth-intent-copy', formatIntent(present(valid[0]))] as const,
    ['berth-intent-nothing', '{"version":1'] as const,
  ];
  t.teardown(() => forgetFailures(cluster));
  const calls = await watchDestruction(cluster);
  const before = await uidsOf(scene);
  for (const [name, text] of records) {
    const metadata = { name, labels: { [berth.intent]: 'open' } };
    await cluster.request('POST', configMaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata,
      data: { 'intent.json': text },
    });
  }
  await until('Berth to say that a leader stays', reviewMs, async () =>
    (await listEvents(cluster, namespace)).some(({ message }) =>
      message.includes('says that llama-2 was told to go, which it was not'),
    ),
  );
  await delay(2_000);
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing destructive was called');
  t.strictSame(await uidsOf(scene), before, 'all pods are what they were');

  // As they are told: until then an open record counts as a group that is down.
  await forgetFailures(cluster);
  const [, worker] = await membersOf(cluster, namespace, 'llama-3');
  const [device] = await devicesOf(cluster, namespace, 'llama-3', 1);
  await reportDevice(
    cluster,
    present(worker),
    'Unhealthy',
    'claim:gpus',
    `${driver}/${device.pool}/${device.device}`,
  );
  await until('a group with a fault to be evicted', 40_000, async () => (await calls.byBerth()).length > 0);
  t.strictSame((await calls.byBerth()).map(describeCall), ['create pods/eviction llama-3 201']);
  await waitForReady(cluster, namespace, 4 * size);
  await forgetFailures(cluster);
}

async function nonsenseBreaker(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;
  t.teardown(() => forgetFailures(cluster));
  const make = (name: string, text: string) =>
    cluster.request('POST', configMaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `berth-breaker-${name}`, labels: { [berth.breaker]: name } },
      data: { 'breaker.json': text },
    });
  await make('no-such', '{}');
  await make('device-mass', '{"trippedAt": "yesterday", "lastBadAt": [');
  await evictsOnce(t, scene, 0, async device => {
    const calls = await watchDestruction(cluster);
    await taintDevice(t, cluster, device, { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' });
    await until('it to be held and told', 20_000, async () =>
      (await listEvents(cluster, namespace)).some(
        ({ reason, message }) =>
          reason === 'EvictionHeld' && message.includes('too large a part of the devices of one driver'),
      ),
    );
    await delay(patienceMs);
    t.strictSame((await calls.byBerth()).map(describeCall), [], 'what cannot be read counts as tripped');
    await cluster.request('DELETE', `${configMaps}/berth-breaker-device-mass`);
  });
}

/** All devices of one node, on which several groups have members. */
async function wideRule(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;
  const byPool = new Map<string, Set<string>>();
  const claims = await listClaims(cluster, namespace);
  for (const [group, pods] of groupsOf(await listPods(cluster, namespace)))
    for (const { metadata } of pods)
      for (const { pool } of resultsOf(
        claims.filter(claim => claim.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid)),
      ))
        byPool.set(pool, (byPool.get(pool) ?? new Set()).add(group));
  const [pool, groups] = present([...byPool].sort((a, b) => b[1].size - a[1].size)[0]);
  t.ok(groups.size > 1, `${pool} has devices of ${[...groups].join(', ')}`);
  const calls = await watchDestruction(cluster);
  await evictsNobody(t, scene, async () => {
    await createRule(t, cluster, {
      metadata: { name: 'wide' },
      spec: {
        deviceSelector: { driver, pool },
        taint: { key: 'example.com/repair', effect: 'NoSchedule' },
      },
    });
    await until('all of them to be held and told', 30_000, async () => {
      const told = (await listEvents(cluster, namespace)).filter(({ message }) =>
        message.includes(
          'DeviceTaintRule wide hits too many groups at once; annotate it with berth.dev/confirmed',
        ),
      );
      return [...groups].every(group => told.some(({ involvedObject }) => involvedObject.name === group));
    });
  });
  await cluster.request('PATCH', `${rulesPath}/wide`, {
    metadata: { annotations: { [berth.confirmed]: 'yes' } },
  });
  await until('all of them to be evicted and whole', 120_000, async () => {
    const done = (await listIntents(cluster)).filter(({ outcome }) => outcome === 'recovered');
    return [...groups].every(group =>
      done.some(({ leaderName, cause }) => leaderName === group && /by DeviceTaintRule wide/.test(cause)),
    );
  });
  const made = await calls.byBerth();
  t.strictSame(
    made.map(describeCall).sort(),
    [...groups].map(group => `create pods/eviction ${group} 201`).sort(),
    'each of them once, and no other',
  );
  const intents = new Map((await listIntents(cluster)).map(intent => [intent.leaderName, intent]));
  const inOrder = made.toSorted((a, b) => a.at.getTime() - b.at.getTime());
  for (const [i, next] of inOrder.slice(1).entries()) {
    const readyMs = intents.get(present(inOrder[i]).name)?.times.ready ?? Number.POSITIVE_INFINITY;
    t.ok(next.at.getTime() >= readyMs - 500, `${next.name} only when ${inOrder[i]?.name} was whole again`);
  }
  const taken = resultsOf(await listClaims(cluster)).filter(
    result => result.pool === pool && result.driver === driver,
  );
  t.strictSame(taken.map(deviceKey), [], 'no device of the rule is in use');
}

async function uidsOf({ cluster, namespace }: Scene): Promise<readonly (string | undefined)[]> {
  return (await listPods(cluster, namespace)).map(({ metadata }) => metadata.uid).sort();
}

async function leaderOf({ cluster, namespace }: Scene, group: string): Promise<string> {
  return present((await membersOf(cluster, namespace, group))[0]?.metadata.uid);
}

/** A record as Berth would write it. */
function intentOf(
  namespace: string,
  group: string,
  leaderUid: string,
  phase: 'evicting' | 'leaving' = 'evicting',
): Intent {
  const now = Date.now();
  return {
    shape: 'lws',
    group: `${namespace}/${group}`,
    owner: { name: 'llama', uid: 'some-uid' },
    remakers: [],
    leaderName: group,
    leaderUid,
    workerSetUid: '',
    members: [],
    domains: [],
    avoid: [],
    plan: undefined,
    class: 'certain',
    signal: 'DeviceNoSchedule',
    cause: 'somebody wrote this',
    entity: undefined,
    device: undefined,
    serving: true,
    phase,
    hold: undefined,
    outcome: undefined,
    nextUid: undefined,
    times: {
      signal: now,
      intent: now,
      drain: undefined,
      evicted: phase === 'leaving' ? now - 60_000 : undefined,
      gone: undefined,
      bound: undefined,
      ready: undefined,
    },
  };
}

async function halt(cluster: Cluster, value: string | null): Promise<void> {
  const metadata = { annotations: { [berth.halt]: value } };
  await cluster.request('PATCH', `${configMaps}/berth-config`, { metadata });
}
