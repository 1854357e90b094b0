import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { DeviceTaint, ResourceSlice } from '../../src/api/dra.ts';
import type { ConfigMap } from '../../src/api/kubernetes.ts';
import { deviceKey } from '../../src/cluster/devices/device.ts';
import {
  createLws,
  deleteLws,
  groupsOf,
  listPods,
  openBed,
  runBerth,
  sentenceOn,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import { keepUnready } from './budgets.ts';
import {
  devicesOf,
  evictsNobody,
  evictsOnce,
  membersOf,
  poolSlices,
  present,
  publishSlice,
  renewedWhole,
  type Scene,
  slicesOf,
  taintDevice,
  withdrawSlice,
} from './device-scenes.ts';
import {
  claiming,
  createClaimTemplate,
  deviceNamespaces,
  exactly,
  holdGate,
  listClaims,
  named,
  release,
  resultsOf,
} from './devices.ts';
import { describeCall, fastFailure, reportDevice, watchDestruction } from './failures.ts';

t.setTimeout(600_000);

const size = 3;
const suspectSeconds = 5;
const patienceMs = 1_600 * suspectSeconds;
const settings = {
  ...fastFailure,
  unhealthyAfterSeconds: suspectSeconds,
  deviceMissingAfterSeconds: suspectSeconds,
  suspectAfterSeconds: suspectSeconds,
  // kube-controller-manager is to be first.
  certainAfterSeconds: 3,
};
/** The faults follow each other within minutes. */
const manyFaults = { ...settings, deviceMinCount: 500, deviceMassMinCount: 500 };
/** As shipped, over a window as long as these tests take. */
const breakers = {
  ...settings,
  deviceMassMinCount: 3,
  badNodeWindowSeconds: 20,
  breakerQuietSeconds: 5,
};
const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const driver = 'gpu.nvidia.com';
const configMaps = '/api/v1/namespaces/berth-system/configmaps';
const reviewMs = 60_000;

t.test('devices come and go as drivers publish them', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('p4d', p4dRacks({ racks: 2, hostsPerRack: 4 })));
  const freshNamespace = deviceNamespaces(t, cluster);
  await t.test('pools', async t => pools(t, await startScene(t, manyFaults)));
  await t.test('breakers', async t => wholeDriver(t, await startScene(t, breakers)));

  async function startScene(t: Test, failure: Readonly<Record<string, unknown>>): Promise<Scene> {
    await runBerth(t, cluster, { failure, placement: { strandedAfterSeconds: 3 } });
    const namespace = await freshNamespace(t);
    await createClaimTemplate(cluster, namespace, 'gpus', [exactly('gpu', driver, { count: 3 })]);
    await createClaimTemplate(cluster, namespace, 'all', [exactly('gpu', driver, { count: 8 })]);
    await createLws(cluster, namespace, {
      name: 'llama',
      replicas: 2,
      size,
      annotations: { 'berth.dev/required-topology': 'rack' },
      worker: claiming({ templates: { gpus: 'gpus' } }),
    });
    await waitForReady(cluster, namespace, 2 * size);
    return { cluster, namespace, size, patienceMs };
  }
});

async function pools(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;

  await t.test("fault 4: NoExecute on the leader's device: its workers are told at once", async t => {
    const calls = await watchDestruction(cluster);
    const members = await membersOf(cluster, namespace, 'llama-0');
    const [leader, ...workers] = members;
    const release = await keepBack(t, scene, present(leader).metadata.name ?? '');
    await renewedWhole(t, scene, 0, 0, async device => {
      await taintDevice(t, cluster, device, { key: 'example.com/dead', effect: 'NoExecute' });
      await until('the old workers to be gone', 30_000, async () => {
        const left = (await membersOf(cluster, namespace, 'llama-0')).map(({ metadata }) => metadata.uid);
        return !workers.some(({ metadata }) => left.includes(metadata.uid));
      });
      const [still] = await membersOf(cluster, namespace, 'llama-0');
      t.equal(still?.metadata.uid, leader?.metadata.uid, 'while the leader takes its time');
      await release();
    });
    t.strictSame((await calls.byBerth()).map(describeCall), ['delete statefulsets llama-0 200']);
    t.ok(
      (await calls.byAnybody(namespace)).some(
        ({ user, name }) => user.includes('device-taint') && name === 'llama-0',
      ),
      'kube-controller-manager deleted the leader',
    );
  });

  await t.test('fault 7: a node without slices for a while gets nobody new, and loses nobody', async t => {
    const [{ pool }] = await devicesOf(cluster, namespace, 'llama-1', 1);
    await evictsNobody(t, scene, async () => {
      const slices = await poolSlices(cluster, { driver, pool });
      for (const slice of slices) await withdrawSlice(cluster, slice);
      const probe = await makeProbe(t, scene, pool);
      await sentenceOn(cluster, namespace, `${probe}-0`);
      await delay(patienceMs);
      for (const slice of slices) await publishSlice(cluster, slice);
      await isPlaced(scene, probe);
    });
    await deleteProbes(scene);
  });

  await t.test('fault 10: nothing is planned on half a generation, and it is no loss', async t => {
    const [{ pool }] = await devicesOf(cluster, namespace, 'llama-1', 1);
    await evictsNobody(t, scene, async () => {
      const slice = present((await poolSlices(cluster, { driver, pool }))[0]);
      const devices = slice.spec.devices ?? [];
      const half = (from: number, to: number, name: string) =>
        inGeneration(slice, 1, { name, devices: devices.slice(from, to), count: 2 });
      await withdrawSlice(cluster, slice);
      await publishSlice(cluster, half(0, 2, `${slice.metadata.name}-a`));
      const probe = await makeProbe(t, scene, pool);
      await sentenceOn(cluster, namespace, `${probe}-0`);
      await delay(patienceMs);
      await publishSlice(cluster, half(2, devices.length, `${slice.metadata.name}-b`));
      await isPlaced(scene, probe);
      await restorePool(cluster, slice);
    });
    await deleteProbes(scene);
  });

  await t.test('fault 11: an old generation says nothing, one that starts again at 1 does', async t => {
    const [device] = await devicesOf(cluster, namespace, 'llama-1', 1);
    const first = present((await poolSlices(cluster, device))[0]);
    const newer = inGeneration(first, 5);
    await withdrawSlice(cluster, first);
    await publishSlice(cluster, newer);
    t.teardown(() => restorePool(cluster, first));
    const sick = inGeneration(first, -first.spec.pool.generation + 1, {
      name: `${first.metadata.name}-again`,
      devices: (first.spec.devices ?? []).map(each =>
        each.name === device.device ? { ...each, taints: [lost] } : each,
      ),
      count: 1,
    });
    await evictsNobody(t, scene, () => publishSlice(cluster, sick));
    await evictsOnce(t, scene, 1, () => withdrawSlice(cluster, newer));
  });

  await t.test(
    'fault 9: a device that is gone for good costs a group that is not Ready its place',
    async t => {
      const [device] = await devicesOf(cluster, namespace, 'llama-0', 1);
      const slice = present((await poolSlices(cluster, device))[0]);
      const without = (slice.spec.devices ?? []).filter(({ name }) => name !== device.device);
      t.teardown(() => restorePool(cluster, slice));
      const [, worker] = await membersOf(cluster, namespace, 'llama-0');
      await evictsNobody(t, scene, async () => {
        await withdrawSlice(cluster, slice);
        await publishSlice(
          cluster,
          inGeneration(slice, 1, { name: slice.metadata.name ?? '', devices: without, count: 1 }),
        );
      });
      await evictsOnce(t, scene, 0, () => keepUnready(cluster, present(worker)));
    },
  );

  await t.test('fault 13: what stays Unhealthy evicts once, what is Unknown evicts nobody', async t => {
    const [, worker] = await membersOf(cluster, namespace, 'llama-1');
    const victim = present(worker);
    await evictsNobody(t, scene, () => reportDevice(cluster, victim, 'Unknown', 'claim:gpus'));
    const calls = await watchDestruction(cluster);
    await renewedWhole(t, scene, 1, 1, ({ driver, pool, device }) =>
      reportDevice(cluster, victim, 'Unhealthy', 'claim:gpus', `${driver}/${pool}/${device}`),
    );
    await delay(patienceMs);
    t.strictSame((await calls.byBerth()).map(describeCall), ['create pods/eviction llama-1 201']);
  });

  await t.test('fault 31: a device fails between pin and bind: planned anew, off the node', async t => {
    await createLws(cluster, namespace, {
      name: 'late',
      size: 1,
      worker: { ...claiming({ templates: { all: 'all' } }), schedulingGates: [{ name: holdGate }] },
    });
    const lateNow = async () => groupsOf(await listPods(cluster, namespace)).get('late-0')?.[0];
    let pinned: string | undefined;
    await until('a pin', 30_000, async () => {
      pinned = pinOf(await lateNow());
      return pinned !== undefined;
    });
    const before = present(await lateNow());
    const pool = present(pinned);
    await taintDevice(t, cluster, { driver, pool, device: 'gpu-7' }, lost);
    await release(cluster, [before]);
    await until('another pod, elsewhere', 60_000, async () => {
      const now = await lateNow();
      if (now === undefined || now.metadata.uid === before.metadata.uid) return false;
      if (now.spec.schedulingGates?.some(({ name }) => name === holdGate) && pinOf(now) !== undefined)
        await release(cluster, [now]);
      return now.spec.nodeName !== undefined;
    });
    t.not((await lateNow())?.spec.nodeName, pool, 'the node without enough devices is not used');
    t.notOk(
      resultsOf(await listClaims(cluster))
        .map(deviceKey)
        .includes(deviceKey({ driver, pool, device: 'gpu-7' })),
      'nor is the device',
    );
    await deleteLws(cluster, namespace, 'late');
  });
}

async function wholeDriver(t: Test, scene: Scene): Promise<void> {
  const { cluster, namespace } = scene;

  await t.test(
    'fault 17: half of all devices go bad at once: the breaker trips, nobody is evicted',
    async t => {
      const groups = groupsOf(await listPods(cluster, namespace));
      const hurt = new Set([...groups.values()].flat().map(({ spec }) => spec.nodeName ?? ''));
      const slices = (await slicesOf(cluster)).filter(
        ({ spec }) => spec.driver === driver && hurt.has(spec.pool.name),
      );
      await evictsNobody(t, scene, async () => {
        await Promise.all(slices.map(slice => taintAll(cluster, slice, [lost])));
        await until('the breaker to be kept', reviewMs, () => isTripped(cluster, 'device-mass'));
      });
      await evictsNobody(t, scene, async () => {
        await Promise.all(slices.map(slice => taintAll(cluster, slice, [])));
        await until('the breakers to close', 2 * reviewMs, async () => (await tripped(cluster)).length === 0);
      });
      await evictsOnce(t, scene, 0, device => taintDevice(t, cluster, device, lost));
    },
  );

  await t.test(
    'fault 8: a driver is rolled out over all nodes: the breaker trips, nobody is evicted',
    async t => {
      const slices = (await slicesOf(cluster)).filter(({ spec }) => spec.driver === driver);
      await evictsNobody(t, scene, async () => {
        const back: Promise<void>[] = [];
        for (const slice of slices) {
          await withdrawSlice(cluster, slice);
          back.push(delay(6_000).then(() => publishSlice(cluster, slice)));
          await delay(1_500);
        }
        await until('the breaker to be kept', reviewMs, () => isTripped(cluster, 'device-failure'));
        await Promise.all(back);
      });
      const probe = await makeProbe(t, scene, present(slices[0]).spec.pool.name);
      await isPlaced(scene, probe);
      t.pass('no node is kept from new groups once its driver is back');
      await until('the breakers to close', 2 * reviewMs, async () => (await tripped(cluster)).length === 0);
      await evictsOnce(t, scene, 1, device => taintDevice(t, cluster, device, lost));
    },
  );
}

/** A group of one that can go to one node only, and asks for a GPU there. */
async function makeProbe(t: Test, { cluster, namespace }: Scene, node: string): Promise<string> {
  probes += 1;
  const name = `probe-${probes}`;
  await createClaimTemplate(cluster, namespace, name, [exactly('gpu', driver, { count: 1 })]);
  const nodeSelector = { 'kubernetes.io/hostname': node };
  await createLws(cluster, namespace, {
    name,
    size: 1,
    worker: { ...claiming({ templates: { gpu: name } }), nodeSelector },
  });
  t.comment(`${name} is to go to ${node}`);
  return name;
}

let probes = 0;

async function deleteProbes({ cluster, namespace }: Scene): Promise<void> {
  await deleteLws(cluster, namespace, `probe-${probes}`);
}

async function isPlaced({ cluster, namespace }: Scene, name: string): Promise<void> {
  await until(`${name} to have its node`, 40_000, async () =>
    (groupsOf(await listPods(cluster, namespace)).get(`${name}-0`) ?? []).some(
      ({ spec }) => spec.nodeName !== undefined,
    ),
  );
}

/** The same slice of a later (or earlier) generation of its pool. */
function inGeneration(
  { metadata, spec }: ResourceSlice,
  later: number,
  content?: {
    readonly name: string;
    readonly devices: ResourceSlice['spec']['devices'];
    readonly count: number;
  },
): ResourceSlice {
  const pool = {
    ...spec.pool,
    generation: spec.pool.generation + later,
    resourceSliceCount: content?.count ?? spec.pool.resourceSliceCount,
  };
  const devices = content?.devices ?? spec.devices ?? [];
  return { metadata: { name: content?.name ?? metadata.name ?? '' }, spec: { ...spec, pool, devices } };
}

/** The pool has this slice and no other. */
async function restorePool(cluster: DeviceCluster, slice: ResourceSlice): Promise<void> {
  for (const each of await poolSlices(cluster, { driver: slice.spec.driver, pool: slice.spec.pool.name }))
    await withdrawSlice(cluster, each);
  await publishSlice(cluster, slice);
}

type DeviceCluster = Scene['cluster'];

async function taintAll(
  cluster: DeviceCluster,
  { metadata, spec }: ResourceSlice,
  taints: readonly DeviceTaint[],
): Promise<void> {
  const devices = (spec.devices ?? []).map(device => ({ ...device, taints }));
  const path = `/apis/resource.k8s.io/v1/resourceslices/${metadata.name}`;
  await cluster.request('PATCH', path, { spec: { devices } });
}

/** The pod of that name does not end before what this returns is called. */
async function keepBack(t: Test, { cluster, namespace }: Scene, name: string): Promise<() => Promise<void>> {
  const setFinalizers = async (finalizers: readonly string[]) => {
    await cluster.request('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, {
      metadata: { finalizers },
    });
  };
  await setFinalizers(['example.com/slow']);
  t.teardown(() => setFinalizers([]).catch(() => {}));
  return () => setFinalizers([]);
}

async function tripped(cluster: DeviceCluster): Promise<readonly string[]> {
  const path = `${configMaps}?labelSelector=berth.dev/breaker`;
  const { items } = await cluster.request<{ items: ConfigMap[] }>('GET', path);
  return items.map(({ metadata }) => metadata.name ?? '');
}

async function isTripped(cluster: DeviceCluster, name: string): Promise<boolean> {
  return (await tripped(cluster)).includes(`berth-breaker-${name}`);
}

/** The node that Berth has pinned a pod to. */
function pinOf(pod: Awaited<ReturnType<typeof membersOf>>[number] | undefined): string | undefined {
  return pod?.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms
    ?.flatMap(({ matchFields = [] }) => matchFields)
    .find(({ key }) => key === 'metadata.name')?.values?.[0];
}
