import t from 'tap';
import { nvidia } from '../../../src/api/names.ts';
import {
  type ComputeDomainRecord,
  computeDomainOf,
  decodeComputeDomain,
} from '../../../src/cluster/devices/compute-domain.ts';
import { decodeResourceClaim } from '../../../src/cluster/devices/decode-claim.ts';
import type { AttributeValue, DeviceId } from '../../../src/cluster/devices/device.ts';
import { decodeNode, type NodeRecord } from '../../../src/cluster/node-info.ts';
import { deviceFactsOf } from '../../../src/failure/device-signals.ts';
import { keyOf } from '../../../src/failure/evidence.ts';
import { defaultFailureSettings, type FailureSettings } from '../../../src/failure/settings.ts';
import type { AllocatedDevice, MemberFacts, Sighting } from '../../../src/failure/signal.ts';
import { readDownReports } from '../../../src/failure/signal-tables.ts';
import { seeMember, seeNode } from '../../../src/failure/signals.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';

const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
const cliqueA = '00000000-0000-4000-8000-000000000001.1';
const cliqueB = '00000000-0000-4000-8000-000000000002.1';
const stateLabel = 'cloud.google.com/gke-tpu-partition-4x4x4-state';
const nic: DeviceId = { driver: 'dra.net', pool: 'a', device: 'pci-0000-10-1b-0' };

function nodeWith(labels: Readonly<Record<string, string>>, conditions: readonly string[] = []): NodeRecord {
  const node = nodeOf({ name: 'a', gpu: 8, labels });
  const said = conditions.map(text => {
    const [type = '', message = ''] = text.split(': ');
    return { type, status: 'True', message };
  });
  return decodeNode({
    ...node,
    status: { ...node.status, conditions: [{ type: 'Ready', status: 'True' }, ...said] },
  });
}

const running = decode({
  ...group.worker(1, { node: 'a', gated: false }),
  status: { phase: 'Running' },
});
const waiting = decode({ ...group.worker(1, { node: 'a', gated: false }), status: { phase: 'Pending' } });

function see(facts: Partial<MemberFacts>, settings: FailureSettings = defaultFailureSettings) {
  return seeMember(
    {
      pod: running,
      nodeName: 'a',
      node: nodeWith({}),
      leads: false,
      stays: true,
      othersLive: true,
      returnsAlone: false,
      ...facts,
    },
    settings,
  );
}

const told = (sightings: readonly Sighting[]) =>
  sightings.map(({ signal, class: signalClass, debounceMs }) => [signal, signalClass, debounceMs]);

function allocated(id: DeviceId, more: Partial<AllocatedDevice> = {}): AllocatedDevice {
  const facts = deviceFactsOf(id, 'published');
  return { ...facts, claim: 'nic', request: 'nic', tolerations: [], ...more };
}

const texts = (values: Readonly<Record<string, string | boolean>>) =>
  new Map(
    Object.entries(values).map(([key, value]): [string, AttributeValue] => [
      key,
      typeof value === 'string' ? { kind: 'string', value } : { kind: 'bool', value },
    ]),
  );
const inState = (state: string, more: Partial<AllocatedDevice> = {}) => ({
  devices: [allocated(nic, { attributes: texts({ 'dra.net/state': state }), ...more })],
});

t.test('conditions of a device in its claim count as the configuration says, others say nothing', async t => {
  const settings: FailureSettings = {
    ...defaultFailureSettings,
    claimConditions: [
      { driver: 'dra.net', type: 'RDMALinkReady', status: 'False', class: 'suspect' },
      { type: 'Ready', status: 'False', class: 'certain', afterSeconds: 9 },
    ],
  };
  const with_ = (type: string, status: string, id = nic) => ({
    devices: [allocated(id, { conditions: [{ type, status }] })],
  });
  const cases: readonly (readonly [string, Partial<MemberFacts>, readonly unknown[], readonly unknown[]])[] =
    [
      ['one that nobody knows', with_('Acme', 'False'), [], []],
      ['a known one that is well', with_('Ready', 'True'), [], []],
      [
        'Ready=False',
        with_('Ready', 'False'),
        [['DeviceCondition', 'info', 180_000]],
        [['DeviceCondition', 'certain', 9_000]],
      ],
      ['a row of the driver', with_('RDMALinkReady', 'False'), [], [['DeviceCondition', 'suspect', 180_000]]],
      ['the same of another driver', with_('RDMALinkReady', 'False', { ...nic, driver: 'other' }), [], []],
    ];
  for (const [name, facts, builtIn, configured] of cases) {
    t.same(told(see(facts)), builtIn, name);
    t.same(told(see(facts, settings)), configured, `${name}, configured`);
  }
  const [sighting] = see(with_('RDMALinkReady', 'False'), settings);
  t.match(sighting, {
    device: nic,
    blamesNode: false,
    cause: /has the condition RDMALinkReady=False in its claim/,
  });
});

t.test('the conditions of a claim are read by device, and what cannot be read is left out', async t => {
  const claim = (devices: unknown) =>
    decodeResourceClaim({
      metadata: { name: 'c', namespace: 'n', uid: 'u' },
      spec: {},
      status: { devices } as never,
    }).conditions;
  const conditions = [{ type: 'Ready', status: 'False', message: 'x', lastTransitionTime: 'y' }];
  t.same(claim([{ ...nic, conditions }]), [
    { device: 'dra.net//a//pci-0000-10-1b-0', type: 'Ready', status: 'False' },
  ]);
  for (const odd of [
    undefined,
    'x',
    [null],
    [{ driver: 'd' }],
    [{ ...nic, conditions: 'x' }],
    [{ ...nic, conditions: [null, {}] }],
  ])
    t.equal(claim(odd), undefined, JSON.stringify(odd));
});

t.test('a device that is down once is counted, one that goes down again is suspect', async t => {
  t.same(told(see(inState('up'))), []);
  t.same(told(see(inState('unknown'))), [], 'which interfaces without a carrier report for ever');
  t.same(told(see(inState('down'))), [['DeviceDown', 'info', 180_000]]);
  const again = see(inState('down', { wentDownOften: true }));
  t.same(told(again), [['DeviceDown', 'suspect', 180_000]]);
  t.match(again[0], { device: nic, blamesNode: false, cause: /is down \(dra.net\/state=down\)$/ });
  t.same(told(see(inState('up', { wentDownOften: true }))), [], 'and is none while it is up');
  const both = see(inState('down', { wentDownOften: true, taints: [{ key: 'x', effect: 'NoSchedule' }] }));
  t.same([...new Set(both.map(keyOf))], ['device/dra.net//a//pci-0000-10-1b-0'], 'one fault with its taint');
});

t.test('attributes of the configuration are read by name, in the domain of their driver', async t => {
  const settings: FailureSettings = {
    ...defaultFailureSettings,
    deviceAttributes: [
      { driver: 'acme.com', attribute: 'healthy', value: 'false', class: 'certain' },
      { attribute: 'other.org/link', value: 'down', class: 'info' },
    ],
  };
  const reports = (driver: string, values: Readonly<Record<string, string | boolean>>) => {
    const { reports, up } = readDownReports({ id: { ...nic, driver }, attributes: texts(values) }, settings);
    return [...reports.map(({ row, class: of }) => `${row} ${of}`), ...(up ? ['up'] : [])];
  };
  t.same(reports('acme.com', { 'acme.com/healthy': false }), ['acme.com/healthy=false certain']);
  t.same(reports('acme.com', { 'acme.com/healthy': true }), ['up']);
  t.same(reports('else.com', { 'else.com/healthy': false }), []);
  t.same(reports('else.com', { 'other.org/link': 'down' }), ['other.org/link=down info']);
  t.same(reports('dra.net', { 'dra.net/state': 'lower-layer-down' }), [
    'dra.net/state=lower-layer-down suspect',
  ]);
  t.same(reports('dra.net', {}), [], 'without a word it is neither up nor down');
});

t.test(
  'a condition about NICs hurts who uses the fast network of the node, and nobody else there',
  async t => {
    const node = nodeWith({}, ['RdmaLink: links are down']);
    const hostNetwork = decode({
      ...group.worker(1, { node: 'a', gated: false }),
      spec: { ...group.worker(1, { node: 'a', gated: false }).spec, hostNetwork: true },
    });
    const asking = (name: string) => ({ ...running, requests: new Map([[name, 1]]) });
    const hurt = (facts: Partial<MemberFacts>) => see({ node, ...facts }).map(({ signal }) => signal);
    t.same(hurt({}), [], 'a member with GPUs alone');
    t.same(hurt({ devices: [allocated({ ...nic, driver: 'gpu.nvidia.com' })] }), []);
    t.same(
      hurt({ devices: [allocated(nic, { attributes: texts({ 'dra.net/rdma': false }) })] }),
      [],
      'no RDMA',
    );
    t.same(hurt({ devices: [allocated(nic)] }), ['NodeCondition']);
    t.same(hurt({ pod: hostNetwork }), ['NodeCondition']);
    for (const name of ['rdma/roce_gdr', 'vpc.amazonaws.com/efa', 'networking.gke.io.networks/rdma-0'])
      t.same(hurt({ pod: asking(name) }), ['NodeCondition'], name);
    for (const name of ['nvidia.com/gpu', 'cpu', 'example.com/library'])
      t.same(hurt({ pod: asking(name) }), [], name);
    const facts = { record: node, shortOf: [], refusesPods: false };
    t.match(
      seeNode(facts, defaultFailureSettings),
      [{ signal: 'NodeCondition', blamesNode: true }],
      'plans keep off',
    );
    t.same(told(see({ node: nodeWith({}, ['EthernetDegradationCheck']), devices: [allocated(nic)] })), [
      ['NodeCondition', 'info', 180_000],
    ]);
  },
);

t.test('a condition that names a NIC hurts only who has that one, where names are known', async t => {
  const node = nodeWith({}, [
    'InfiniBandStateCheck: NIC:mlx5_3 NICPort:1 port is DOWN Recommended Action=REPLACE_VM',
  ]);
  const has = (name: string) => ({
    node,
    devices: [allocated(nic, { attributes: texts({ 'dra.net/rdma': true, 'dra.net/rdmaDevice': name }) })],
  });
  t.match(see(has('mlx5_3')), [{ signal: 'NodeCondition', class: 'suspect', device: nic }]);
  t.same(see(has('mlx5_30')), []);
  t.match(see({ node, devices: [allocated(nic)] }), [{ signal: 'NodeCondition', device: undefined }]);
});

t.test('errors of NVLink are suspicions that are marked as such', async t => {
  const id = { driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-0' };
  const xid = (value: string) =>
    see({
      devices: [allocated(id, { taints: [{ key: 'gpu.nvidia.com/xid', value, effect: 'NoSchedule' }] })],
    });
  for (const value of ['74', '144', '147', '150'])
    t.match(xid(value), [{ signal: 'DeviceNoSchedule', class: 'suspect', ofNvlink: true }], value);
  t.equal(xid('143')[0]?.ofNvlink, undefined);
  t.equal(xid('79')[0]?.ofNvlink, undefined);
});

t.test('a clique that is lost or changed hurts members with channels there', async t => {
  const nvlink = { clique: cliqueA, domain: undefined };
  const at = (labels: Readonly<Record<string, string>>) => ({ node: nodeWith(labels) });
  t.same(see({ nvlink, ...at({ [nvidia.clique]: cliqueA }) }), []);
  t.same(told(see({ nvlink, ...at({}) })), [['CliqueChanged', 'suspect', 300_000]]);
  t.match(see({ nvlink, ...at({ [nvidia.clique]: cliqueB }) }), [
    {
      signal: 'CliqueChanged',
      blamesNode: true,
      clique: cliqueA,
      cause: `node a was in the NVLink clique ${cliqueA} and is in ${cliqueB} now`,
    },
  ]);
  t.same(see({ ...at({}) }), [], 'nobody else in the rack');
  t.same(see({ nvlink: { ...nvlink, clique: undefined }, ...at({}) }), [], 'nor where there are no cliques');
});

t.test('a ComputeDomain that is not ready hurts running members with its channel', async t => {
  const domain = (ready: boolean, nodes: Readonly<Record<string, boolean>>): ComputeDomainRecord => ({
    uid: 'd',
    namespace: 'serving',
    name: 'dom',
    ready,
    nodes: new Map(Object.entries(nodes)),
  });
  const nvlink = (record: ComputeDomainRecord) => ({ nvlink: { clique: cliqueA, domain: record } });
  const node = nodeWith({ [nvidia.clique]: cliqueA });
  const cases: readonly (readonly [string, Partial<MemberFacts>, readonly unknown[]])[] = [
    ['a ready one', nvlink(domain(true, { a: true, b: true })), []],
    [
      'one that is not, under a group that is not Ready',
      nvlink(domain(false, { a: false })),
      [['ComputeDomainNotReady', 'certain', 60_000]],
    ],
    [
      'the same under a group that is',
      { ...nvlink(domain(false, { a: false })), groupReady: true },
      [['ComputeDomainNotReady', 'suspect', 180_000]],
    ],
    ['before the member was started', { ...nvlink(domain(false, { a: false })), pod: waiting }, []],
    ['on another node', nvlink(domain(false, { a: true, b: false })), []],
    [
      'the node has left it',
      nvlink(domain(false, { b: false })),
      [['ComputeDomainNotReady', 'certain', 60_000]],
    ],
    [
      'the node has left one that is ready',
      nvlink(domain(true, { b: true })),
      [['ComputeDomainNotReady', 'suspect', 180_000]],
    ],
    ['no nodes are told', nvlink(domain(true, {})), []],
    [
      'no nodes are told of one that is not ready',
      nvlink(domain(false, {})),
      [['ComputeDomainNotReady', 'certain', 60_000]],
    ],
    ['no channel', {}, []],
    ['a domain that nobody knows', { nvlink: { clique: cliqueA, domain: undefined } }, []],
  ];
  for (const [name, facts, wanted] of cases) t.same(told(see({ node, ...facts })), wanted, name);
  t.match(see({ node, ...nvlink(domain(false, { a: false })) })[0], {
    blamesNode: true,
    clique: cliqueA,
    cause: 'ComputeDomain serving/dom is not ready on node a',
  });
});

t.test('a ComputeDomain is read with the nodes that have joined it, and a claim with its domain', async t => {
  const metadata = { name: 'dom', namespace: 'serving', uid: 'd' };
  t.same(decodeComputeDomain({ metadata }), {
    uid: 'd',
    namespace: 'serving',
    name: 'dom',
    ready: false,
    nodes: new Map(),
  });
  const nodes = [{ name: 'a', status: 'Ready' }, { name: 'b' }, { name: 'c', status: 'NotReady' }, {}];
  t.same(decodeComputeDomain({ metadata, status: { status: 'Ready', nodes } }), {
    uid: 'd',
    namespace: 'serving',
    name: 'dom',
    ready: true,
    nodes: new Map([
      ['a', true],
      ['b', true],
      ['c', false],
    ]),
  });
  const notReady = decodeComputeDomain({ metadata, status: { status: 'NotReady', nodes } });
  t.equal(notReady.nodes.get('b'), false, 'as its domain is');
  const opaque = (driver: string, kind: string) => ({
    opaque: { driver, parameters: { kind, domainID: 'd' } },
  });
  t.equal(computeDomainOf([opaque('compute-domain.nvidia.com', 'ComputeDomainChannelConfig')]), 'd');
  t.equal(computeDomainOf([opaque('compute-domain.nvidia.com', 'ComputeDomainDaemonConfig')]), undefined);
  t.equal(computeDomainOf([opaque('gpu.nvidia.com', 'ComputeDomainChannelConfig')]), undefined);
});

t.test('a TPU slice that is not whole, or whose state is bad, hurts its members', async t => {
  const slice = (present: number, hosts: number | undefined = 4) => ({
    tpuSlice: { name: 'pool-1', hosts, present },
  });
  const inState = (state: string) => ({ node: nodeWith({ [stateLabel]: state }) });
  const cases: readonly (readonly [string, Partial<MemberFacts>, readonly unknown[]])[] = [
    ['a whole one', slice(4), []],
    ['one that has lost a host', slice(3), [['TpuSliceBroken', 'certain', 10_000]]],
    ['one that the group does not fill', { tpuSlice: { name: 'a', hosts: undefined, present: 3 } }, []],
    ['healthy', { ...slice(4), ...inState('HEALTHY') }, []],
    [
      'degraded, which serves',
      { ...slice(4), ...inState('DEGRADED') },
      [['TpuSliceBroken', 'info', 180_000]],
    ],
    ['unhealthy', { ...slice(4), ...inState('UNHEALTHY') }, [['TpuSliceBroken', 'certain', 5_000]]],
    ['incomplete', { ...slice(4), ...inState('INCOMPLETE') }, [['TpuSliceBroken', 'certain', 5_000]]],
    ['unset', { ...slice(4), ...inState('UNSET') }, [['TpuSliceBroken', 'suspect', 180_000]]],
    ['unhealthy, for a member without TPUs', inState('UNHEALTHY'), []],
  ];
  for (const [name, facts, wanted] of cases) t.same(told(see(facts)), wanted, name);
  const both = see({ ...slice(3), ...inState('INCOMPLETE') });
  t.equal(new Set(both.map(keyOf)).size, 1, 'one fault whatever tells of it');
  t.notOk(
    both.some(({ blamesNode }) => blamesNode),
    'and no host is to blame',
  );
});
