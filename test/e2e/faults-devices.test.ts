import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { DeviceTaint, DeviceTaintRule, ResourceSlice } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { type DeviceId, deviceKey } from '../../src/cluster/devices/device.ts';
import {
  createLws,
  groupsOf,
  listEvents,
  listPods,
  openBed,
  runBerth,
  until,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';
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
  watchDestruction,
} from './failures.ts';

t.setTimeout(600_000);

const size = 3;
const suspectSeconds = 6;
const failure = {
  ...fastFailure,
  unhealthyAfterSeconds: suspectSeconds,
  certainAfterSeconds: 1,
  suspectAfterSeconds: suspectSeconds,
  // The faults follow each other within minutes, and the fleet has two groups.
  deviceMinCount: 50,
  blastMaxGroups: 1,
};
/** Long enough that what is suspect would have been acted on. */
const patienceMs = 2_000 * suspectSeconds;
const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const api = '/apis/resource.k8s.io/v1';
/** What stands for GPUs by DRA where a pod asks for a resource. */
const resourceName = 'deviceclass.resource.kubernetes.io/gpu.nvidia.com';

interface Scene {
  readonly cluster: Cluster;
  readonly berth: BerthProcess;
  readonly namespace: string;
}

t.test('devices of claims fail', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('p4d', p4dRacks({ racks: 2, hostsPerRack: 4 })));
  const freshNamespace = deviceNamespaces(t, cluster);
  const berth = await runBerth(t, cluster, { failure });
  t.teardown(() => forgetFailures(cluster));
  const namespace = await freshNamespace(t);
  const scene = { cluster, berth, namespace };
  await createClaimTemplate(cluster, namespace, 'gpus', [exactly('gpu', 'gpu.nvidia.com', { count: 4 })]);
  await createLws(cluster, namespace, {
    name: 'llama',
    replicas: 2,
    size,
    annotations: { 'berth.dev/required-topology': 'rack' },
    worker: claiming({ templates: { gpus: 'gpus' } }),
  });
  await waitForReady(cluster, namespace, 2 * size);

  await t.test('fault 1: a certain taint on a device of a group evicts that group, and no other', async t => {
    await evictsOnce(t, scene, 1, device => taintDevice(t, cluster, device, lost));
  });

  await t.test(
    'fault 2: a taint without effect, an XID of applications and a sick spare evict nobody',
    async t => {
      const [first, second] = await devicesOf(cluster, namespace, 'llama-0', 1);
      const spare = await spareDevice(cluster, first);
      await evictsNobody(t, scene, async () => {
        await taintDevice(t, cluster, first, { ...lost, effect: 'None' });
        await taintDevice(t, cluster, second, {
          key: 'gpu.nvidia.com/xid',
          value: '31',
          effect: 'NoSchedule',
        });
        await taintDevice(t, cluster, spare, lost);
        await until('they to be counted', 20_000, async () => {
          const metrics = await berth.metrics();
          return ['DeviceNoted', 'DeviceNoSchedule'].every(signal =>
            metrics.includes(`berth_failures{signal="${signal}"} 1`),
          );
        });
      });
    },
  );

  await t.test(
    'fault 3: kube-controller-manager is first to act on NoExecute, and the group is remade once',
    async t => {
      const uids = seenUids(t, scene);
      await renewedWhole(t, scene, 0, 2, device =>
        taintDevice(t, cluster, device, { key: 'example.com/dead', effect: 'NoExecute' }),
      );
      // Its StatefulSet makes the worker anew before LWS takes the group down.
      t.equal(uids.get('llama-0')?.size, 2, 'the leader was made anew once');
    },
  );

  await t.test('fault 5: a rule about one device keeps the group off it until the rule is gone', async t => {
    await evictsOnce(t, scene, 0, async ({ driver, pool, device }) => {
      const deviceSelector = { driver, pool, device };
      await createRule(t, cluster, {
        metadata: { name: 'one' },
        spec: { deviceSelector, taint: { key: 'example.com/repair', effect: 'NoSchedule' } },
      });
    });
    await cluster.request('DELETE', `${api}/devicetaintrules/one`);
    const { items } = await cluster.request<{ items: DeviceTaintRule[] }>('GET', `${api}/devicetaintrules`);
    t.strictSame(items, [], 'no rule is left behind');
  });

  await t.test('fault 6: a rule that means every device is held and told, and evicts nobody', async t => {
    await evictsNobody(t, scene, async () => {
      await createRule(t, cluster, {
        metadata: { name: 'all' },
        spec: { deviceSelector: {}, taint: { key: 'example.com/oops', effect: 'NoSchedule' } },
      });
      await until('both groups to be held', 30_000, async () =>
        (await berth.metrics()).includes('berth_brake_active{brake="blast-radius"} 2'),
      );
      await until('it to be told of both', 30_000, async () => {
        const told = (await listEvents(cluster, namespace)).filter(
          ({ reason, message }) =>
            reason === 'EvictionHeld' &&
            message?.includes('DeviceTaintRule all hits too many groups at once; annotate it'),
        );
        return new Set(told.map(({ involvedObject }) => involvedObject.name)).size >= 2;
      });
    });
    await cluster.request('DELETE', `${api}/devicetaintrules/all`);
  });

  await t.test(
    'fault 12: a device that is Unhealthy for a moment evicts nobody, one that stays so does',
    async t => {
      const resource = 'claim:gpus';
      const [, victim] = await membersOf(cluster, namespace, 'llama-0');
      const pod = present(victim);
      await evictsNobody(t, scene, async () => {
        await reportDevice(cluster, pod, 'Unhealthy', resource);
        await delay(1_000);
        await reportDevice(cluster, pod, 'Healthy', resource);
      });
      await renewedWhole(t, scene, 0, 1, () => reportDevice(cluster, pod, 'Unhealthy', resource));
    },
  );

  await t.test(
    'fault 14: a device behind extended resources is found by the claim of kube-scheduler',
    async t => {
      const apart = { ...scene, namespace: await freshNamespace(t) };
      const resources = { limits: { [resourceName]: '2' } };
      await createLws(cluster, apart.namespace, {
        name: 'llama',
        size,
        worker: { containers: [{ name: 'main', image: 'model-server', resources }] },
      });
      await waitForReady(cluster, apart.namespace, size);
      await evictsOnce(t, apart, 0, device => taintDevice(t, cluster, device, lost));
    },
  );
});

/** A fault of a worker's device ends with one eviction of its group by Berth; what holds after every fault is checked. */
async function evictsOnce(
  t: Test,
  scene: Scene,
  index: number,
  inject: (device: DeviceId) => Promise<void>,
): Promise<void> {
  const calls = await watchDestruction(scene.cluster);
  const before = (await listIntents(scene.cluster)).length;
  await renewedWhole(t, scene, index, 1, inject);
  t.strictSame((await calls.byBerth()).map(describeCall), [`create pods/eviction llama-${index} 201`]);
  const intents = await listIntents(scene.cluster);
  t.equal(intents.length, before + 1, 'one record');
}

/** After a fault of a device the group has all new pods, none of them with that device; the other group keeps its own. */
async function renewedWhole(
  t: Test,
  { cluster, namespace }: Scene,
  index: number,
  rank: number,
  inject: (device: DeviceId) => Promise<void>,
): Promise<void> {
  const name = `llama-${index}`;
  const before = groupsOf(await listPods(cluster, namespace));
  const old = new Set((before.get(name) ?? []).map(({ metadata }) => metadata.uid));
  const others = uidsBut(before, name);
  const [device] = await devicesOf(cluster, namespace, name, rank);
  const faultMs = Date.now();
  await inject(device);
  await until(`${name} to be new and whole`, 90_000, async () => {
    const group = groupsOf(await listPods(cluster, namespace)).get(name) ?? [];
    return (
      group.length === size &&
      group.every(({ metadata, spec }) => !old.has(metadata.uid) && spec.nodeName !== undefined)
    );
  });
  await until('no record to be open', 30_000, async () =>
    (await listIntents(cluster)).every(({ phase }) => phase === 'closed'),
  );
  t.comment(`whole again ${Date.now() - faultMs} ms after the fault`);
  const after = groupsOf(await listPods(cluster, namespace));
  t.strictSame(uidsBut(after, name), others, 'other groups kept all UIDs');
  const taken = resultsOf(await listClaims(cluster)).map(deviceKey);
  t.notOk(taken.includes(deviceKey(device)), 'the bad device is in no allocation');
}

/** Nothing destructive is called within the time in which it would be. */
async function evictsNobody(
  t: Test,
  { cluster, namespace }: Scene,
  inject: () => Promise<void>,
): Promise<void> {
  const calls = await watchDestruction(cluster);
  const before = uidsBut(groupsOf(await listPods(cluster, namespace)), '');
  const records = (await listIntents(cluster)).length;
  await inject();
  await delay(patienceMs);
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing destructive was called');
  t.strictSame((await calls.byAnybody(namespace)).map(describeCall), []);
  t.strictSame(uidsBut(groupsOf(await listPods(cluster, namespace)), ''), before, 'all pods are the same');
  t.equal((await listIntents(cluster)).length, records, 'no further record');
}

function uidsBut(groups: ReadonlyMap<string, readonly Pod[]>, name: string): readonly (string | undefined)[] {
  return [...groups]
    .flatMap(([key, pods]) => (key === name ? [] : pods.map(({ metadata }) => metadata.uid)))
    .sort();
}

/** UIDs of each pod name, from now on. */
function seenUids(t: Test, { cluster, namespace }: Scene): ReadonlyMap<string, ReadonlySet<string>> {
  const seen = new Map<string, Set<string>>();
  watchPods(t, cluster, namespace, (_, { metadata: { name = '', uid = '' } }) => {
    seen.set(name, (seen.get(name) ?? new Set()).add(uid));
  });
  return seen;
}

async function membersOf(cluster: Cluster, namespace: string, group: string): Promise<readonly Pod[]> {
  return groupsOf(await listPods(cluster, namespace)).get(group) ?? [];
}

/** The first two devices of a member. */
async function devicesOf(
  cluster: Cluster,
  namespace: string,
  group: string,
  rank: number,
): Promise<readonly [DeviceId, DeviceId]> {
  const pod = present((await membersOf(cluster, namespace, group))[rank]);
  const claims = (await listClaims(cluster, namespace)).filter(({ metadata }) =>
    metadata.ownerReferences?.some(({ uid }) => uid === pod.metadata.uid),
  );
  const [first, second] = resultsOf(claims);
  return [present(first), present(second)];
}

/** A GPU of the same driver that nobody has. */
async function spareDevice(cluster: Cluster, { driver }: DeviceId): Promise<DeviceId> {
  const taken = new Set(resultsOf(await listClaims(cluster)).map(deviceKey));
  const ids = (await slicesOf(cluster)).flatMap(({ spec }) =>
    (spec.devices ?? []).map(({ name }) => ({ driver: spec.driver, pool: spec.pool.name, device: name })),
  );
  return present(ids.find(id => id.driver === driver && !taken.has(deviceKey(id))));
}

async function slicesOf(cluster: Cluster): Promise<readonly ResourceSlice[]> {
  return (await cluster.request<{ items: ResourceSlice[] }>('GET', `${api}/resourceslices`)).items;
}

/** What a driver does; taken back when the test ends. */
async function taintDevice(t: Test, cluster: Cluster, id: DeviceId, taint: DeviceTaint): Promise<void> {
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
  const path = `${api}/resourceslices/${slice.metadata.name}`;
  const taints = `/spec/devices/${at}/taints`;
  const patch = (steps: readonly unknown[]) =>
    cluster.request('PATCH', path, steps, 'application/json-patch+json');
  await patch([{ op: 'add', path: taints, value: [taint] }]);
  t.teardown(() => patch([{ op: 'remove', path: taints }]));
}

async function createRule(t: Test, cluster: Cluster, rule: DeviceTaintRule): Promise<void> {
  const path = `${api}/devicetaintrules`;
  await cluster.request('POST', path, { apiVersion: 'resource.k8s.io/v1', kind: 'DeviceTaintRule', ...rule });
  t.teardown(() => cluster.request('DELETE', `${path}/${rule.metadata.name}`).catch(() => {}));
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('there is none');
  return value;
}
