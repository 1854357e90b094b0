import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { channelClass, daemonClass, gpuClass, migClass } from '../../../hack/bed/device-classes.ts';
import { gb300Machine, p4d } from '../../../hack/bed/device-machines.ts';
import type { MachineDevices } from '../../../hack/bed/device-slices.ts';
import { type FleetName, nvlinkDomains, presetFleet } from '../../../hack/bed/fleet-presets.ts';
import type { DeviceClass, ResourceSlice, SliceDevice } from '../../../src/api/dra.ts';
import type { KubernetesObject } from '../../../src/api/kubernetes.ts';
import { corpusFolder } from '../webhooks/lws-pods.ts';

const root = 'resource.kubernetes.io/pcieRoot';
/** What a machine of the type has in common with every other one. */
const machineFacts = [
  root,
  'resource.kubernetes.io/pciBusID',
  'type',
  'productName',
  'cudaComputeCapability',
  'dra.net/pciAddress',
  'dra.net/pciDevice',
  'dra.net/numaNode',
  'dra.net/rdma',
  'dra.net/rdmaDevice',
];

function devicesOf(slices: readonly ResourceSlice[], driver: string): readonly SliceDevice[] {
  return slices.filter(({ spec }) => spec.driver === driver).flatMap(({ spec }) => spec.devices ?? []);
}

function attributeOf(device: SliceDevice, attribute: string) {
  return Object.values(device.attributes?.[attribute] ?? {})[0];
}

function factsOf(devices: readonly SliceDevice[]) {
  return devices.map(device => [device.name, machineFacts.map(fact => device.attributes?.[fact])]);
}

t.test('machines publish what real ones of their type do', async t => {
  comparedWithReal(t, p4d, ['C78', 'C79']);
  comparedWithReal(t, gb300Machine, ['C80']);
});

t.test('classes select devices as those of the real chart do', async t => {
  const chart = join(corpusFolder, 'C104-gpu-operator-deviceclasses');
  if (!existsSync(chart)) {
    t.comment(`NOT CHECKED against a real chart: there is no ${chart} (set BERTH_CORPUS)`);
    return;
  }
  const real = objectsIn<DeviceClass>(chart).filter(({ kind }) => kind === 'DeviceClass');
  for (const ours of [gpuClass, migClass, channelClass, daemonClass]) {
    const theirs = real.find(({ metadata }) => metadata.name === ours.metadata.name);
    t.strictSame(ours.spec.selectors, theirs?.spec.selectors, ours.metadata.name ?? '');
  }
});

t.test('a p4d pairs one GPU of four with the RDMA NIC of its root when both are taken in order', async t => {
  const slices = p4d('node');
  const gpus = devicesOf(slices, 'gpu.nvidia.com');
  const nics = devicesOf(slices, 'dra.net').filter(nic => attributeOf(nic, 'dra.net/rdma') === true);
  t.equal(gpus.length, 8);
  t.equal(nics.length, 4);
  t.equal(devicesOf(slices, 'dra.net').length, 7, 'three more are no RDMA NICs');
  const pairs = nics.filter((nic, index) => {
    const gpu = gpus[index];
    return gpu !== undefined && attributeOf(gpu, root) === attributeOf(nic, root);
  });
  t.equal(pairs.length, 1);
  const roots = gpus.map(gpu => attributeOf(gpu, root));
  for (const nic of nics) t.equal(roots.filter(of => of === attributeOf(nic, root)).length, 2);
});

t.test('no two GPUs of a fleet have one UUID, and none changes from run to run', async t => {
  for (const name of ['p4d', 'gb300', 'half', 'channels'] satisfies FleetName[]) {
    const uuids = () =>
      devicesOf(presetFleet(name).slices ?? [], 'gpu.nvidia.com').map(gpu => attributeOf(gpu, 'uuid'));
    t.ok(uuids().length > 0, name);
    t.equal(new Set(uuids()).size, uuids().length, name);
    t.strictSame(uuids(), uuids(), name);
  }
});

t.test('MIG devices of a GPU take from counters that the whole GPU would empty', async t => {
  const slices = presetFleet('mig').slices ?? [];
  const [counters, devices] = slices;
  t.equal(counters?.spec.pool.resourceSliceCount, 2, 'counters have a slice of their own');
  const set = counters?.spec.sharedCounters?.[0];
  const [whole, ...cuts] = (devices?.spec.devices ?? []).filter(({ name }) => name.startsWith('gpu-0'));
  t.strictSame(whole?.consumesCounters?.[0]?.counters, set?.counters);
  t.equal(cuts.length, 7 + 3 + 2 + 1 + 1, 'every placement of every profile');
  const halves = cuts.filter(cut => attributeOf(cut, 'profile') === '3g.20gb');
  t.strictSame(
    halves.map(({ name }) => name),
    ['gpu-0-mig-3g20gb-9-0', 'gpu-0-mig-3g20gb-9-4'],
  );
  const taken = halves.map(cut => Object.keys(cut.consumesCounters?.[0]?.counters ?? {}));
  const slicesTaken = taken.flat().filter(counter => counter.startsWith('memory-slice-'));
  t.equal(new Set(slicesTaken).size, 8, 'two halves share no memory slice');
  t.notOk(
    cuts.some(cut => 'uuid' in (cut.attributes ?? {})),
    'what is not cut yet has no UUID',
  );
});

t.test('a half-migrated fleet tells of each GPU in one place', async t => {
  const { nodes, slices = [], deviceClasses } = presetFleet('half');
  const published = new Set(slices.map(({ spec }) => spec.nodeName));
  const counted = nodes.filter(node => node.status?.allocatable?.['nvidia.com/gpu'] === '8');
  t.equal(counted.length, 8);
  t.equal(published.size, 8);
  t.notOk(counted.some(node => published.has(node.metadata.name)));
  t.strictSame(
    deviceClasses?.map(({ spec }) => spec.extendedResourceName),
    ['nvidia.com/gpu'],
  );
});

t.test('an NVLink domain has one IMEX channel per tray and no GPU in allocatable', async t => {
  const { nodes, slices = [] } = nvlinkDomains({ racks: 1 });
  const channels = devicesOf(slices, 'compute-domain.nvidia.com').filter(
    device => attributeOf(device, 'type') === 'channel',
  );
  t.equal(channels.length, 18);
  t.equal(devicesOf(slices, 'gpu.nvidia.com').length, 72);
  t.notOk(nodes.some(node => 'nvidia.com/gpu' in (node.status?.allocatable ?? {})));
});

/** Compares with slices as they were read from a real machine. */
function comparedWithReal(t: Test, machine: MachineDevices, entries: readonly string[]): void {
  if (!existsSync(corpusFolder)) {
    t.comment(`NOT CHECKED against real slices: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`);
    return;
  }
  const real = readdirSync(corpusFolder)
    .filter(folder => entries.includes(folder.split('-')[0] ?? ''))
    .flatMap(folder => objectsIn<ResourceSlice>(join(corpusFolder, folder)));
  t.ok(real.length > 0, `${entries.join(', ')} are there`);
  for (const driver of ['gpu.nvidia.com', 'dra.net']) {
    const want = factsOf(devicesOf(real, driver));
    t.strictSame(factsOf(devicesOf(machine('node'), driver)), want, `${driver} of ${entries.join(', ')}`);
  }
}

function objectsIn<T extends KubernetesObject>(folder: string): T[] {
  return readdirSync(folder)
    .flatMap(file => parseAllDocuments(readFileSync(join(folder, file), 'utf8')))
    .flatMap(document => {
      const content: T | { readonly items: readonly T[] } | null = document.toJS();
      if (content === null) return [];
      return 'items' in content ? content.items : [content];
    });
}
