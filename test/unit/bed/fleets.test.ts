import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { parseAudit, readAudit } from '../../../hack/bed/audit.ts';
import { type FleetName, fleetNames, presetFleet, racks } from '../../../hack/bed/fleet-presets.ts';
import type { Node } from '../../../src/api/kubernetes.ts';

/** How many nodes carry each value of a label. */
function countBy(nodes: readonly Node[], label: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const node of nodes) {
    const value = node.metadata.labels?.[label] ?? '-';
    counts[value] = (counts[value] ?? 0) + 1;
  }
  return counts;
}

t.test(
  'every fleet has nodes of distinct names, each its own host, of full size and played by KWOK',
  async t => {
    for (const name of fleetNames) {
      const { nodes } = presetFleet(name);
      t.equal(new Set(nodes.map(node => node.metadata.name)).size, nodes.length, `${name}: names`);
      for (const node of nodes) {
        t.equal(node.metadata.labels?.['kubernetes.io/hostname'], node.metadata.name);
        t.match(node.status?.allocatable, { cpu: '192', memory: '2048Gi', pods: '110' });
        t.match(node.metadata.annotations, { 'kwok.x-k8s.io/node': 'fake' });
        t.match(node.metadata.name, /^[a-z0-9-]+$/);
      }
    }
  },
);

t.test('fleets have the shape of the platform that they stand for', async t => {
  const shapes: [FleetName, number, string, Record<string, number>][] = [
    ['generic', 16, 'example.com/rack', { r00: 4, r01: 4, r02: 4, r03: 4 }],
    ['generic', 16, 'example.com/block', { b00: 8, b01: 8 }],
    ['gke-a3', 32, 'cloud.google.com/gce-topology-block', { 'block-00': 16, 'block-01': 16 }],
    ['tpu-v6e', 32, 'cloud.google.com/gke-tpu-topology', { '4x4': 16, '4x8': 16 }],
    ['eks-p4d', 32, 'topology.k8s.aws/network-node-layer-1', { 'nn-1-00': 16, 'nn-1-01': 16 }],
  ];
  for (const [name, nodes, label, want] of shapes) {
    const fleet = presetFleet(name);
    t.equal(fleet.nodes.length, nodes, name);
    t.strictSame(countBy(fleet.nodes, label), want, `${name} by ${label}`);
  }
});

t.test('a thousand nodes stand in 56 racks of 18, the last one shorter, 8 racks to a block', async t => {
  const { nodes } = presetFleet('thousand');
  t.equal(nodes.length, 1000);
  const byRack = Object.values(countBy(nodes, 'example.com/rack'));
  t.strictSame(byRack, [...Array.from({ length: 55 }, () => 18), 10]);
  t.strictSame(Object.values(countBy(nodes, 'example.com/block')), [
    ...Array.from({ length: 6 }, () => 144),
    136,
  ]);
});

t.test('an NVL72 rack is one clique of 18 trays with 4 GPUs', async t => {
  const { nodes } = presetFleet('gb200-nvl72');
  t.ok(Object.values(countBy(nodes, 'nvidia.com/gpu.clique')).every(count => count === 18));
  t.ok(nodes.every(node => node.status?.allocatable?.['nvidia.com/gpu'] === '4'));
});

t.test('a leaf of AWS lies below one layer-2 node and holds 4 hosts', async t => {
  const { nodes } = presetFleet('eks-p4d');
  t.ok(Object.values(countBy(nodes, 'topology.k8s.aws/network-node-layer-3')).every(count => count === 4));
  t.equal(Object.keys(countBy(nodes, 'topology.k8s.aws/network-node-layer-2')).length, 4);
});

t.test('TPU hosts have 4 chips and keep others off', async t => {
  const { nodes } = presetFleet('tpu-v6e');
  t.ok(nodes.every(node => node.status?.allocatable?.['google.com/tpu'] === '4'));
  t.strictSame(nodes[0]?.spec?.taints, [{ key: 'google.com/tpu', value: 'present', effect: 'NoSchedule' }]);
});

t.test('CPU nodes come beside a fleet, and racks without GPUs offer none', async t => {
  const { nodes } = presetFleet('generic', { cpuNodes: 3 });
  t.strictSame(
    nodes.slice(-3).map(node => [node.metadata.name, node.status?.allocatable?.['nvidia.com/gpu']]),
    [
      ['cpu-00', undefined],
      ['cpu-01', undefined],
      ['cpu-02', undefined],
    ],
  );
  t.notOk('nvidia.com/gpu' in (racks({ racks: 1, hostsPerRack: 1, gpus: 0 })[0]?.status?.allocatable ?? {}));
});

const line = `${JSON.stringify({
  kind: 'Event',
  stage: 'ResponseComplete',
  requestURI: '/api/v1/namespaces/ns/pods/p/binding?dryRun=All',
  verb: 'create',
  user: { username: 'system:kube-scheduler', groups: [] },
  objectRef: { resource: 'pods', namespace: 'ns', name: 'p', subresource: 'binding' },
  responseStatus: { code: 201 },
  stageTimestamp: '2026-11-23T21:45:45.279123Z',
})}\n`;

t.test('an audit line becomes one write', async t => {
  t.strictSame(parseAudit(line), [
    {
      verb: 'create',
      resource: 'pods',
      subresource: 'binding',
      namespace: 'ns',
      name: 'p',
      user: 'system:kube-scheduler',
      code: 201,
      uid: '',
      dryRun: true,
      at: new Date('2026-11-23T21:45:45.279Z'),
    },
  ]);
});

t.test('an eviction and a deletion tell which UID they insist on', async t => {
  const entry = JSON.parse(line);
  const deleteOptions = { kind: 'DeleteOptions', preconditions: { uid: 'u' } };
  for (const requestObject of [deleteOptions, { kind: 'Eviction', deleteOptions }])
    t.equal(parseAudit(JSON.stringify({ ...entry, requestObject }))[0]?.uid, 'u');
  t.equal(parseAudit(JSON.stringify({ ...entry, requestObject: { kind: 'Eviction' } }))[0]?.uid, '');
});

t.test('reading the audit log goes on where it ended and leaves a half-written line for later', async t => {
  const path = join(t.testdir(), 'audit.jsonl');
  await writeFile(path, line + line + line.slice(0, 30));
  const first = await readAudit(path);
  t.equal(first.events.length, 2);
  t.equal(first.nextOffset, 2 * line.length);
  await appendFile(path, line.slice(30));
  const second = await readAudit(path, first.nextOffset);
  t.equal(second.events.length, 1);
  t.strictSame(await readAudit(path, second.nextOffset), { events: [], nextOffset: second.nextOffset });
});
