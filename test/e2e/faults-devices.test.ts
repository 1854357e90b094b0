import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { DeviceTaint, DeviceTaintRule } from '../../src/api/dra.ts';
import { createLws, listEvents, openBed, runBerth, until, waitForReady, withFleet } from './bed.ts';
import {
  createRule,
  devicesOf,
  evictsNobody,
  evictsOnce,
  membersOf,
  present,
  renewedWhole,
  seenUids,
  spareDevice,
  taintDevice,
} from './device-scenes.ts';
import { claiming, createClaimTemplate, deviceNamespaces, exactly, named } from './devices.ts';
import { fastFailure, reportDevice } from './failures.ts';

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

t.test('devices of claims fail', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('p4d', p4dRacks({ racks: 2, hostsPerRack: 4 })));
  const freshNamespace = deviceNamespaces(t, cluster);
  const berth = await runBerth(t, cluster, { failure });
  const namespace = await freshNamespace(t);
  const scene = { cluster, namespace, size, patienceMs };
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
