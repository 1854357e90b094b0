import t from 'tap';
import {
  type GrantedRequest,
  isWithin,
  type Rung,
  rungOf,
} from '../../../../src/cluster/devices/alignment.ts';
import { localitiesOf } from '../../../../src/cluster/devices/locality.ts';
import { type Attributes, decodedDevice, numaNode, pcieRoot } from '../../../builders/device-nodes.ts';

type Place = Attributes;

/** Devices of a GPU and a NIC request by the places they are at. */
function pod(gpus: readonly Place[], nics: readonly Place[] = []): readonly GrantedRequest[] {
  const granted = (request: string, driver: string, places: readonly Place[]): GrantedRequest => ({
    claim: 'devices',
    request,
    className: request,
    adminAccess: false,
    devices: places.map((attributes, index) => decodedDevice(driver, `${request}-${index}`, attributes)),
  });
  return [granted('gpu', 'gpu.nvidia.com', gpus), granted('nic', 'dra.net', nics)];
}

function rung(granted: readonly GrantedRequest[], labels = {}): Rung | undefined {
  return rungOf(
    granted,
    localitiesOf(
      granted.flatMap(({ devices }) => devices),
      { labels },
    ),
  );
}

const at = (root: string | readonly string[], node?: number): Place =>
  node === undefined ? { [pcieRoot]: root } : { [pcieRoot]: root, [numaNode]: node };
const on = (node: number): Place => ({ [numaNode]: node });
const eight = (place: (index: number) => Place) => Array.from({ length: 8 }, (_, index) => place(index));

const cases: readonly {
  readonly when: string;
  readonly granted: readonly GrantedRequest[];
  readonly want: Rung | undefined;
}[] = [
  { when: 'a GPU and a NIC share a root', granted: pod([at('a')], [at('a')]), want: 'pcie' },
  { when: 'they share a NUMA node only', granted: pod([at('a', 0)], [at('b', 0)]), want: 'numa' },
  { when: 'they share the host only', granted: pod([at('a', 0)], [at('b', 1)]), want: 'host' },
  { when: 'nothing is known of the NIC', granted: pod([at('a', 0)], [{}]), want: 'host' },
  { when: '2 GPUs and a NIC share a root', granted: pod([at('a'), at('a')], [at('a')]), want: 'pcie' },
  {
    when: '2 GPUs and 2 NICs are in pairs on two roots',
    granted: pod([at('a'), at('b')], [at('b'), at('a')]),
    want: 'pcie',
  },
  {
    when: '2 GPUs are on the root of one of 2 NICs',
    granted: pod([at('a'), at('a')], [at('b'), at('a')]),
    want: 'host',
  },
  {
    when: '8 GPUs and 4 NICs stand two and one on four roots',
    granted: pod(
      eight(index => at(`r${index >> 1}`)),
      [at('r3'), at('r2'), at('r1'), at('r0')],
    ),
    want: 'pcie',
  },
  {
    when: '8 GPUs and 4 NICs are even by NUMA node only',
    granted: pod(
      eight(index => at(`r${index}`, index >> 2)),
      [at('x', 0), at('y', 0), at('x', 1), at('y', 1)],
    ),
    want: 'numa',
  },
  { when: 'GPUs alone share a root', granted: pod([at('a'), at('a')]), want: 'pcie' },
  { when: 'GPUs alone share a NUMA node', granted: pod([at('a', 1), at('b', 1)]), want: 'numa' },
  {
    when: 'GPUs alone take the whole host',
    granted: pod(eight(index => at(`r${index}`, index >> 2))),
    want: 'host',
  },
  { when: 'a GPU is alone', granted: pod([at('a')]), want: 'pcie' },
  { when: 'there are no devices', granted: pod([]), want: undefined },
  {
    when: 'a device is at several roots, and one of them is right',
    granted: pod([at('a'), at('b')], [at(['c', 'b']), at(['c', 'a'])]),
    want: 'pcie',
  },
  {
    when: 'devices at several roots cannot all be in pairs',
    granted: pod([at('a'), at('b')], [at(['c', 'b']), at(['c', 'b'])]),
    want: 'host',
  },
  {
    when: 'NUMA nodes come under names of drivers',
    granted: pod([{ [numaNode]: [1, 0] }], [{ 'dra.net/numaNode': 0 }]),
    want: 'numa',
  },
  {
    when: 'a NIC has no NUMA node, which some say as -1',
    granted: pod([on(0)], [{ 'dra.net/numaNode': -1 }]),
    want: 'host',
  },
  {
    when: 'the NUMA node of a GPU is that of a NIC on its root',
    granted: pod(
      [at('a'), at('b')],
      [
        { ...at('a'), ...on(0) },
        { ...at('c'), ...on(0) },
      ],
    ),
    want: 'host',
  },
];

for (const { when, granted, want } of cases) {
  t.test(`a pod is at ${want ?? 'no rung'} when ${when}`, async t => t.equal(rung(granted), want));
}

t.test('a GPU of a known machine type is at the NUMA node of its PCI domain', async t => {
  const granted = pod(
    [{ 'resource.kubernetes.io/pciBusID': '0018:06:00.0' }],
    [{ 'dra.net/numaNode': 1, 'azure.dra.net/vmSize': 'Standard_ND128isr_GB300_v6' }],
  );
  t.equal(rung(granted), 'numa', 'the machine type comes from a NIC');
  const h100 = pod([{ 'resource.kubernetes.io/pciBusID': '000A:00:00.0' }], [{ 'dra.net/numaNode': 1 }]);
  t.equal(
    rung(h100, { 'node.kubernetes.io/instance-type': 'Standard_ND96isr_H100_v5' }),
    'numa',
    'from the label',
  );
  t.equal(rung(h100), 'host', 'from nowhere');
});

t.test('what is no device to be near does not count', async t => {
  const [gpus, nics] = pod([at('a')], [at('a')]);
  if (gpus === undefined || nics === undefined) throw new Error('no pod');
  const channel = decodedDevice('compute-domain.nvidia.com', 'channel-0');
  const cpus = decodedDevice('dra.cpu', 'numa1', on(1), { allowMultipleAllocations: true });
  const looked = decodedDevice('dra.net', 'elsewhere', at('z'));
  const request = (name: string, adminAccess = false) => ({
    claim: 'c',
    request: name,
    className: name,
    adminAccess,
  });
  t.equal(
    rung([
      gpus,
      nics,
      { ...request('channel'), devices: [channel] },
      { ...request('cpus'), devices: [cpus] },
      { ...request('monitor', true), devices: [looked] },
    ]),
    'pcie',
  );
});

t.test('a nearer rung meets a demand, and so does a pod without devices', async t => {
  t.ok(isWithin('pcie', 'numa'));
  t.ok(isWithin('numa', 'numa'));
  t.notOk(isWithin('host', 'numa'));
  t.ok(isWithin('host', undefined));
  t.ok(isWithin(undefined, 'pcie'));
});
