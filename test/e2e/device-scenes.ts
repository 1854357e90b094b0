import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { DeviceTaint, DeviceTaintRule, ResourceSlice } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { type DeviceId, deviceKey } from '../../src/cluster/devices/device.ts';
import { groupsOf, listPods, until, watchPods } from './bed.ts';
import { listClaims, resultsOf } from './devices.ts';
import { describeCall, listIntents, watchDestruction } from './failures.ts';

const api = '/apis/resource.k8s.io/v1';

/** A Berth, and the namespace of the groups of which faults are about. All devices come by claims. */
export interface Scene {
  readonly cluster: Cluster;
  readonly namespace: string;
  /** Members of each group. */
  readonly size: number;
  /** Long enough that what is suspect would have been acted on, ms. */
  readonly patienceMs: number;
}

/** A fault of a worker's device ends with one eviction of its group by Berth; what holds after every fault is checked. */
export async function evictsOnce(
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
export async function renewedWhole(
  t: Test,
  { cluster, namespace, size }: Scene,
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
export async function evictsNobody(
  t: Test,
  { cluster, namespace, patienceMs }: Scene,
  inject: () => Promise<void>,
): Promise<void> {
  const calls = await watchDestruction(cluster);
  const before = uidsBut(groupsOf(await listPods(cluster, namespace)), '');
  const records = (await listIntents(cluster)).length;
  await inject();
  await delay(patienceMs);
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing destructive was called');
  t.strictSame((await calls.byAnybody(namespace)).map(describeCall), []);
  const after = new Set(uidsBut(groupsOf(await listPods(cluster, namespace)), ''));
  t.strictSame(
    before.filter(uid => !after.has(uid)),
    [],
    'all pods are still there',
  );
  t.equal((await listIntents(cluster)).length, records, 'no further record');
}

function uidsBut(groups: ReadonlyMap<string, readonly Pod[]>, name: string): readonly (string | undefined)[] {
  return [...groups]
    .flatMap(([key, pods]) => (key === name ? [] : pods.map(({ metadata }) => metadata.uid)))
    .sort();
}

/** UIDs of each pod name, from now on. */
export function seenUids(t: Test, { cluster, namespace }: Scene): ReadonlyMap<string, ReadonlySet<string>> {
  const seen = new Map<string, Set<string>>();
  watchPods(t, cluster, namespace, (_, { metadata: { name = '', uid = '' } }) => {
    seen.set(name, (seen.get(name) ?? new Set()).add(uid));
  });
  return seen;
}

export async function membersOf(cluster: Cluster, namespace: string, group: string): Promise<readonly Pod[]> {
  return groupsOf(await listPods(cluster, namespace)).get(group) ?? [];
}

/** The first two devices of a member. */
export async function devicesOf(
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
export async function spareDevice(cluster: Cluster, { driver }: DeviceId): Promise<DeviceId> {
  const taken = new Set(resultsOf(await listClaims(cluster)).map(deviceKey));
  const ids = (await slicesOf(cluster)).flatMap(({ spec }) =>
    (spec.devices ?? []).map(({ name }) => ({ driver: spec.driver, pool: spec.pool.name, device: name })),
  );
  return present(ids.find(id => id.driver === driver && !taken.has(deviceKey(id))));
}

export async function slicesOf(cluster: Cluster): Promise<readonly ResourceSlice[]> {
  return (await cluster.request<{ items: ResourceSlice[] }>('GET', `${api}/resourceslices`)).items;
}

/** Slices of a pool. */
export async function poolSlices(
  cluster: Cluster,
  { driver, pool }: Pick<DeviceId, 'driver' | 'pool'>,
): Promise<readonly ResourceSlice[]> {
  return (await slicesOf(cluster)).filter(({ spec }) => spec.driver === driver && spec.pool.name === pool);
}

/** Publishes a slice as a driver does that starts anew. */
export async function publishSlice(cluster: Cluster, { metadata, spec }: ResourceSlice): Promise<void> {
  const slice = {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceSlice',
    metadata: { name: metadata.name },
    spec,
  };
  await cluster.request('POST', `${api}/resourceslices`, slice);
}

export async function withdrawSlice(cluster: Cluster, { metadata }: ResourceSlice): Promise<void> {
  await cluster.request('DELETE', `${api}/resourceslices/${metadata.name}`);
}

/** What a driver does; taken back when the test ends. */
export async function taintDevice(
  t: Test,
  cluster: Cluster,
  id: DeviceId,
  taint: DeviceTaint,
): Promise<void> {
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
  // Others may have tainted it, too.
  t.teardown(() => patch([{ op: 'add', path: taints, value: [] }]));
}

export async function createRule(t: Test, cluster: Cluster, rule: DeviceTaintRule): Promise<void> {
  const path = `${api}/devicetaintrules`;
  await cluster.request('POST', path, { apiVersion: 'resource.k8s.io/v1', kind: 'DeviceTaintRule', ...rule });
  t.teardown(() => cluster.request('DELETE', `${path}/${rule.metadata.name}`).catch(() => {}));
}

export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('there is none');
  return value;
}
