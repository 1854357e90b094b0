import type { Cluster } from '../../hack/bed/cluster.ts';
import type { DeviceTaint, ResourceSlice } from '../../src/api/dra.ts';
import type { DeviceId } from '../../src/cluster/devices/device.ts';
import { poolSlices, present, publishSlice, withdrawSlice } from './device-scenes.ts';

const slicesPath = '/apis/resource.k8s.io/v1/resourceslices';

/** What a driver says of a device from now on; undefined: nothing. */
export async function setTaint(
  cluster: Cluster,
  id: DeviceId,
  taint: DeviceTaint | undefined,
): Promise<void> {
  const slices = await poolSlices(cluster, id);
  const indexIn = ({ spec }: ResourceSlice) =>
    (spec.devices ?? []).findIndex(({ name }) => name === id.device);
  const slice = present(slices.find(each => indexIn(each) >= 0));
  const path = `/spec/devices/${indexIn(slice)}/taints`;
  const step = taint === undefined ? { op: 'remove', path } : { op: 'add', path, value: [taint] };
  await cluster.request(
    'PATCH',
    `${slicesPath}/${slice.metadata.name}`,
    [step],
    'application/json-patch+json',
  );
}

/** A driver that goes: what it comes back with. */
export async function withdrawPool(
  cluster: Cluster,
  pool: Pick<DeviceId, 'driver' | 'pool'>,
): Promise<() => Promise<void>> {
  const slices = await poolSlices(cluster, pool);
  for (const slice of slices) await withdrawSlice(cluster, slice);
  return async () => {
    for (const slice of slices) await publishSlice(cluster, slice);
  };
}

/** A driver that publishes its devices in two slices where it was one: half of them for now, the rest later. */
export async function splitPool(
  cluster: Cluster,
  pool: Pick<DeviceId, 'driver' | 'pool'>,
): Promise<() => Promise<void>> {
  const slice = present((await poolSlices(cluster, pool))[0]);
  const devices = slice.spec.devices ?? [];
  const name = slice.metadata.name ?? '';
  const inGeneration = (later: number, suffix: string, from: number, to: number, count: number) => ({
    metadata: { name: `${name}${suffix}` },
    spec: {
      ...slice.spec,
      pool: {
        ...slice.spec.pool,
        generation: slice.spec.pool.generation + later,
        resourceSliceCount: count,
      },
      devices: devices.slice(from, to),
    },
  });
  const first = inGeneration(1, '-a', 0, 2, 2);
  const second = inGeneration(1, '-b', 2, devices.length, 2);
  await publishSlice(cluster, first);
  await withdrawSlice(cluster, slice);
  return async () => {
    await publishSlice(cluster, second);
    // In one slice again, by its first name, for that is what ends with the fleet.
    await publishSlice(cluster, inGeneration(2, '', 0, devices.length, 1));
    for (const each of [first, second]) await withdrawSlice(cluster, each);
  };
}
