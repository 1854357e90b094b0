import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { DeviceTaint } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { type DeviceId, deviceKey } from '../../src/cluster/devices/device.ts';
import {
  createLws,
  createPod,
  listEvents,
  openBed,
  runBerth,
  singlePod,
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
  slicesOf,
  spareDevice,
} from './device-scenes.ts';
import {
  claiming,
  createClaim,
  createClaimTemplate,
  deviceNamespaces,
  exactly,
  listClaims,
  named,
  resultsOf,
  selecting,
} from './devices.ts';
import { describeCall, exclusionRules, fastFailure, reportDevice, watchDestruction } from './failures.ts';

t.setTimeout(600_000);

const size = 3;
const unhealthySeconds = 8;
const probationSeconds = 5;
const failure = {
  ...fastFailure,
  unhealthyAfterSeconds: unhealthySeconds,
  certainAfterSeconds: 1,
  suspectAfterSeconds: 60,
  excludeAfterSeconds: 1,
  probationSeconds,
  flapWindowSeconds: 1_800,
  poisonDevices: 3,
  poisonNodes: 2,
  deviceMinCount: 50,
};
const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const rulesPath = '/apis/resource.k8s.io/v1/devicetaintrules';

t.test('sick devices are kept off new claims', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('p4d', p4dRacks({ racks: 2, hostsPerRack: 4 })));
  const freshNamespace = deviceNamespaces(t, cluster);
  const berth = await runBerth(t, cluster, { failure });
  t.comment(`shortened: ${JSON.stringify(failure)}`);
  const namespace = await freshNamespace(t);
  const scene: Scene = { cluster, namespace, size, patienceMs: 2_000 * unhealthySeconds };
  await createClaimTemplate(cluster, namespace, 'gpus', [exactly('gpu', 'gpu.nvidia.com', { count: 4 })]);
  await createLws(cluster, namespace, {
    name: 'llama',
    replicas: 2,
    size,
    annotations: { 'berth.dev/required-topology': 'rack' },
    worker: claiming({ templates: { gpus: 'gpus' } }),
  });
  await waitForReady(cluster, namespace, 2 * size);

  await t.test('fault 5: a device comes back a while after its rule, and no rule is left behind', async t => {
    const strangers = await freshNamespace(t, {});
    const [taken] = await devicesOf(cluster, namespace, 'llama-0', 1);
    const device = await spareDevice(cluster, taken);
    const calls = await watchDestruction(cluster);
    const { driver, pool } = device;
    await createRule(t, cluster, {
      metadata: { name: 'by-hand' },
      spec: {
        deviceSelector: { driver, pool, device: device.device },
        taint: { key: 'example.com/repair', effect: 'NoSchedule' },
      },
    });
    await untilExcluded(berth, 1);
    t.strictSame(await exclusionRules(cluster), [], 'the rule that is there is enough');
    await cluster.request('DELETE', `${rulesPath}/by-hand`);
    await until('a rule of Berth', 10_000, async () => (await exclusionRules(cluster)).length > 0);
    const [rule, ...others] = await exclusionRules(cluster);
    t.strictSame(others, []);
    t.strictSame(rule?.spec.deviceSelector, device, 'it means that device');
    t.equal(rule?.spec.taint.effect, 'NoSchedule');
    await askFor(cluster, strangers, device);
    await until('no rule to be left', 30_000, async () => (await exclusionRules(cluster)).length === 0);
    const leftAtMs = Date.now();
    await until('a stranger to get the device', 30_000, async () => {
      const results = resultsOf(await listClaims(cluster, strangers));
      return results.some(result => deviceKey(result) === deviceKey(device));
    });
    const sinceMs = Date.parse(present(rule?.metadata.creationTimestamp));
    t.ok(leftAtMs - sinceMs >= (probationSeconds - 1) * 1_000, 'after its probation');
    t.strictSame((await calls.byBerth()).map(describeCall), []);
  });

  await t.test(
    'fault 12: a device of a claim that is Unhealthy for a moment is excluded and lifted',
    async t => {
      const pod = present((await membersOf(cluster, namespace, 'llama-0'))[1]);
      const [device] = await devicesOf(cluster, namespace, 'llama-0', 1);
      await evictsNobody(t, scene, async () => {
        await report(cluster, pod, device, 'Unhealthy');
        await until('a rule of Berth', 6_000, async () => (await exclusionRules(cluster)).length > 0);
        await report(cluster, pod, device, 'Healthy');
        t.strictSame((await exclusionRules(cluster))[0]?.spec.deviceSelector, idOf(device));
      });
      t.strictSame(await exclusionRules(cluster), []);
      const told = (await listEvents(cluster, namespace)).filter(
        ({ involvedObject }) => involvedObject.kind === 'LeaderWorkerSet',
      );
      for (const reason of ['DeviceExcluded', 'DeviceReleased'])
        t.ok(
          told.some(
            event => event.reason === reason && event.message.includes(`device ${device.device} of pool`),
          ),
          reason,
        );
    },
  );

  await t.test('fault 15: a taint that comes and goes costs one eviction, and the device a day', async t => {
    let flapping: DeviceId | undefined;
    await evictsOnce(t, scene, 0, async device => {
      flapping = device;
      for (let times = 0; times < 4; times += 1) {
        await setTaint(cluster, device, lost);
        await delay(4_000);
        await setTaint(cluster, device, undefined);
        await delay(2_000);
      }
    });
    const device = present(flapping);
    await delay(2_000 * probationSeconds);
    const [rule, ...others] = await exclusionRules(cluster);
    t.strictSame(others, []);
    t.strictSame(rule?.spec.deviceSelector, idOf(device), 'it is kept off long after it was well');
    t.equal(rule?.metadata.labels?.['berth.dev/excluded'], 'quarantine');
    const { quarantineUntil } = JSON.parse(rule?.metadata.annotations?.['berth.dev/exclusion'] ?? '{}');
    const leftHours = (Date.parse(quarantineUntil) - Date.now()) / 3_600_000;
    t.ok(leftHours > 23.9 && leftHours <= 24, `${leftHours} hours are left`);
    await cluster.request('PATCH', `${rulesPath}/${rule?.metadata.name}`, {
      metadata: { annotations: { 'berth.dev/release': 'firmware' } },
    });
    await until(
      'an administrator to bring it back',
      10_000,
      async () => (await exclusionRules(cluster)).length === 0,
    );
  });
});

/** An allocation says more of a device than its name. */
function idOf({ driver, pool, device }: DeviceId): DeviceId {
  return { driver, pool, device };
}

function report(cluster: Cluster, pod: Pod, device: DeviceId, health: 'Healthy' | 'Unhealthy') {
  const { driver, pool } = device;
  return reportDevice(cluster, pod, health, 'claim:gpus', `${driver}/${pool}/${device.device}`);
}

async function untilExcluded(berth: { metrics(): Promise<string> }, count: number): Promise<void> {
  await until(`${count} excluded devices`, 15_000, async () =>
    (await berth.metrics()).includes(`berth_devices_excluded{driver="gpu.nvidia.com"} ${count}`),
  );
}

/** What a driver says of a device. */
async function setTaint(cluster: Cluster, id: DeviceId, taint: DeviceTaint | undefined): Promise<void> {
  const slices = await slicesOf(cluster);
  const slice = present(
    slices.find(
      ({ spec }) =>
        spec.driver === id.driver &&
        spec.pool.name === id.pool &&
        spec.devices?.some(({ name }) => name === id.device),
    ),
  );
  const at = slice.spec.devices?.findIndex(({ name }) => name === id.device) ?? -1;
  const path = `/spec/devices/${at}/taints`;
  const step = taint === undefined ? { op: 'remove', path } : { op: 'add', path, value: [taint] };
  const slicePath = `/apis/resource.k8s.io/v1/resourceslices/${slice.metadata.name}`;
  await cluster.request('PATCH', slicePath, [step], 'application/json-patch+json');
}

/** A pod that nobody but kube-scheduler places, and that can have this one device only. */
async function askFor(cluster: Cluster, namespace: string, id: DeviceId): Promise<void> {
  const devices = (await slicesOf(cluster)).flatMap(({ spec }) =>
    spec.driver === id.driver && spec.pool.name === id.pool ? (spec.devices ?? []) : [],
  );
  const uuid = devices.find(({ name }) => name === id.device)?.attributes?.['uuid']?.string;
  const expression = `device.attributes["${id.driver}"].uuid == "${present(uuid)}"`;
  await createClaim(cluster, namespace, 'one', [exactly('gpu', id.driver, selecting(expression))]);
  await createPod(cluster, singlePod(namespace, 'stranger', {}, claiming({ claims: { gpu: 'one' } })));
}
