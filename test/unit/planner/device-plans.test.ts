import t from 'tap';
import type { ResourceSlice } from '../../../src/api/dra.ts';
import { berth, nvidia } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import type { WantedClaim } from '../../../src/cluster/devices/claims.ts';
import { decodeDeviceClass } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { decodeLeaderWorkerSet, decodeNamespace } from '../../../src/group/owner.ts';
import { planGroup } from '../../../src/planner/plan.ts';
import { describeRejection } from '../../../src/planner/rejection.ts';
import {
  dgxLike,
  gb300Like,
  gpu,
  gpusAndNics,
  p4dLike,
  pcieRoot,
  wants,
} from '../../builders/device-nodes.ts';
import { addClaim, addTemplate, onNode, publish } from '../../builders/dra.ts';
import { labelOf, type NodeParts, nodeOf } from '../../builders/fleet.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { decode, groupInfoOf, inputOf } from '../../builders/planning.ts';

const pair = wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] });
const oneGpu = wants('one-gpu', { gpu: ['gpu', 1] });

interface World {
  readonly nodes: readonly NodeParts[];
  readonly slices: Readonly<Record<string, readonly ResourceSlice[]>>;
  readonly templates?: readonly WantedClaim[];
}

function worldOf({ nodes, slices, templates = [pair, oneGpu] }: World): ClusterCache {
  const cache = new ClusterCache({
    levels: [{ name: 'rack', nodeLabel: labelOf('rack') }],
    steersClaims: true,
  });
  cache.namespaces.replace([decodeNamespace({ metadata: { name: 'serving' } })]);
  cache.nodes.replace(nodes.map(parts => decodeNode(nodeOf(parts))));
  publish(cache, slices);
  for (const template of templates) addTemplate(cache, template);
  return cache;
}

const inRack = (rack: string, ...names: readonly string[]): readonly NodeParts[] =>
  names.map(name => ({ name, labels: { [labelOf('rack')]: rack } }));

/** Node by rank with its devices and rung, or the sentence of the refusal. */
function plan(cache: ClusterCache, parts: LwsParts): readonly string[] | string {
  const group = new LwsGroup(parts);
  cache.pods.upsert(decode(group.leader()));
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  const result = planGroup(inputOf(cache, groupInfoOf(cache, group.key), {}));
  if (result.kind === 'undecided') return `undecided: ${result.reason}`;
  if (result.kind === 'rejection') return describeRejection(result, cache.levels);
  return result.nodes.map((node, rank) => {
    const { claims = [], rung } = result.devices?.[rank] ?? {};
    const devices = claims.flatMap(({ requests }) => requests.flatMap(request => request.devices));
    return [node, ...devices.map(({ device }) => device), rung ?? ''].join(' ').trim();
  });
}

const required = { [berth.requiredTopology]: 'rack' };

t.test('a group is planned with the devices of its claims, each pair on one PCIe root', async t => {
  const cache = worldOf({
    nodes: [...inRack('r0', 'a0'), ...inRack('r1', 'b0', 'b1')],
    slices: { a0: p4dLike(), b0: p4dLike(), b1: p4dLike() },
  });
  t.same(plan(cache, { size: 4, worker: { cpu: 1, claims: { devices: 'pair' } }, annotations: required }), [
    'a0 gpu-0 efa0 pcie',
    'a0 gpu-2 efa1 pcie',
    'a0 gpu-4 efa2 pcie',
    'a0 gpu-6 efa3 pcie',
  ]);
  const five = plan(cache, {
    name: 'five',
    size: 5,
    worker: { cpu: 1, claims: { devices: 'pair' } },
    annotations: required,
  });
  t.same(
    Array.isArray(five) && five.map(line => line.split(' ')[0]),
    ['b0', 'b0', 'b0', 'b0', 'b1'],
    'a node has four NICs',
  );
});

t.test('a leader with claims of its own has its devices beside those of the workers', async t => {
  const cache = worldOf({ nodes: inRack('r0', 'a', 'b'), slices: { a: p4dLike(), b: p4dLike() } });
  const two = wants('two', { gpu: ['gpu', 2], nic: ['nic', 1] });
  addTemplate(cache, two);
  const lines = plan(cache, {
    size: 3,
    leader: { cpu: 1, claims: { devices: 'two' } },
    worker: { cpu: 1, claims: { devices: 'pair' } },
  });
  t.same(lines, ['a gpu-0 gpu-1 efa0 pcie', 'a gpu-2 efa1 pcie', 'a gpu-4 efa2 pcie']);
});

t.test('what others have and hold is not planned again', async t => {
  const cache = worldOf({ nodes: inRack('r0', 'a', 'b'), slices: { a: p4dLike(), b: p4dLike() } });
  for (const device of ['efa0', 'efa1', 'efa2'])
    addClaim(cache, { name: device, allocated: [`dra.net/a/${device}`] });
  const worker = { cpu: 1, claims: { devices: 'pair' } };
  t.same(plan(cache, { name: 'four', size: 4, worker }), [
    'b gpu-0 efa0 pcie',
    'b gpu-2 efa1 pcie',
    'b gpu-4 efa2 pcie',
    'b gpu-6 efa3 pcie',
  ]);
  t.same(plan(cache, { name: 'one', size: 1, worker }), ['a gpu-6 efa3 pcie'], 'the last pair of a');
  for (const device of ['efa0', 'efa1', 'efa2', 'efa3'])
    addClaim(cache, { name: `b-${device}`, allocated: [`dra.net/b/${device}`] });
  t.equal(
    plan(cache, { name: 'two', size: 2, worker }),
    '2 pods do not fit in the cluster: there is room for 1 of 2; 1 of 2 nodes cannot take any of them: 1 devices in use',
  );
});

t.test('an alignment that is demanded leaves out nodes that cannot give it', async t => {
  const cache = worldOf({
    nodes: [...inRack('r0', 'g'), ...inRack('r1', 'p')],
    slices: { g: gb300Like(), p: p4dLike() },
  });
  const worker = { cpu: 1, claims: { devices: 'pair' } };
  const demanded = (rung: string, size: number) => ({
    name: `${rung}-${size}`,
    size,
    worker,
    annotations: { [berth.minAlignment]: rung },
  });
  t.same(plan(cache, demanded('pcie', 1)), ['p gpu-0 efa0 pcie']);
  t.same(plan(cache, demanded('numa', 2)), ['g gpu-0 nic-0 numa', 'g gpu-1 nic-1 numa']);
  t.equal(
    plan(cache, { ...demanded('pcie', 5) }),
    '5 pods do not fit in the cluster: there is room for 4 of 5; 1 of 2 nodes cannot take any of them: 1 no free devices that share a PCIe root',
  );
});

t.test(
  'a resource is counted by the device plugin on one node and by DRA on the other, never twice',
  async t => {
    const cache = worldOf({
      nodes: [{ name: 'plugin', gpu: 4 }, { name: 'dra' }],
      slices: { dra: dgxLike() },
      templates: [],
    });
    const worker = { gpu: 4 };
    t.equal(
      plan(cache, { name: 'before', size: 2, worker }),
      '2 pods do not fit in the cluster: there is room for 1 of 2; 1 of 2 nodes cannot take any of them: 1 insufficient nvidia.com/gpu',
      'no class stands behind the resource yet',
    );
    cache.deviceClasses.upsert(
      decodeDeviceClass({
        metadata: { name: 'nvidia' },
        spec: {
          extendedResourceName: 'nvidia.com/gpu',
          selectors: [{ cel: { expression: 'device.driver == "gpu.nvidia.com"' } }],
        },
      }),
    );
    t.same(plan(cache, { name: 'three', size: 3, worker }), [
      'dra gpu-0 gpu-1 gpu-2 gpu-3 numa',
      'dra gpu-4 gpu-5 gpu-6 gpu-7 numa',
      'plugin',
    ]);
    t.equal(
      plan(cache, { name: 'four', size: 4, worker }),
      '4 pods do not fit in the cluster: there is room for 3 of 4',
    );
    t.equal(
      plan(cache, {
        name: 'aligned',
        size: 3,
        worker,
        annotations: { [berth.minAlignment]: 'numa' },
      }),
      '3 pods do not fit in the cluster: there is room for 2 of 3; 1 of 2 nodes cannot take any of them: 1 alignment of nvidia.com/gpu cannot be told',
    );
  },
);

t.test('a selector that cannot be evaluated lets the group be planned, without devices', async t => {
  const cache = worldOf({ nodes: inRack('r0', 'a', 'b'), slices: { a: p4dLike() }, templates: [] });
  const expression = 'device.attributes["gpu.nvidia.com"].uuid.format([1]) == "x"';
  addTemplate(cache, wants('odd', { gpu: { deviceClassName: 'gpu', selectors: [{ cel: { expression } }] } }));
  t.same(plan(cache, { size: 2, worker: { cpu: 1, claims: { devices: 'odd' } } }), ['a', 'a']);
});

t.test('members that claim channels stay in one clique, off nodes of another ComputeDomain', async t => {
  const tray = (name: string, clique: string, domain?: string): NodeParts => ({
    name,
    labels: { [nvidia.clique]: clique, ...(domain && { [nvidia.computeDomain]: domain }) },
  });
  const channel = {
    name: 'channel',
    spec: {
      devices: {
        ...oneGpu.spec.devices,
        config: [
          {
            opaque: {
              driver: nvidia.computeDomainDriver,
              parameters: { kind: 'ComputeDomainChannelConfig', domainID: 'cd-1' },
            },
          },
        ],
      },
    },
  };
  const single = gpusAndNics([gpu(0, { [pcieRoot]: 'pci0' })], []);
  const nodes = [tray('a0', 'A'), tray('a1', 'A', 'cd-2'), tray('b0', 'B'), tray('b1', 'B', 'cd-1')];
  const cache = worldOf({
    nodes,
    slices: Object.fromEntries(nodes.map(({ name }) => [name, single])),
    templates: [channel],
  });
  const worker = { cpu: 1, claims: { channel: 'channel' } };
  t.same(plan(cache, { size: 2, worker }), ['b0 gpu-0 pcie', 'b1 gpu-0 pcie']);
  t.match(plan(cache, { name: 'three', size: 3, worker }), /one value of nvidia\.com\/gpu\.clique/);
});

t.test(
  'bad input is told in the words of the refusal, and the worst of it costs the prediction alone',
  async t => {
    const cache = worldOf({ nodes: inRack('r0', 'a', 'b'), slices: { a: p4dLike() }, templates: [] });
    const asking = (name: string, template: WantedClaim): LwsParts => {
      addTemplate(cache, template);
      return { name, size: 2, worker: { cpu: 1, claims: { devices: template.name } } };
    };
    t.match(
      plan(cache, asking('classless', wants('classless', { gpu: ['no-such-class', 1] }))),
      /2 of 2 nodes cannot take any of them: 2 claims cannot be allocated \(.*no-such-class/,
    );
    const bomb = `[${'1,'.repeat(200)}1].all(a, ${'[1,2,3,4].all(b, '.repeat(3)}true)))) || true`;
    const selectors = [{ cel: { expression: bomb } }];
    t.same(plan(cache, asking('bomb', wants('bomb', { gpu: { deviceClassName: 'gpu', selectors } }))), [
      'a',
      'a',
    ]);
    for (const [index, slice] of onNode(p4dLike(), 'b').entries())
      cache.resourceSlices.upsert({ ...decodeResourceSlice(slice), sliceCount: index + 2 });
    t.same(
      plan(cache, asking('half-published', wants('half', { gpu: ['gpu', 4] }))),
      ['a gpu-0 gpu-1 gpu-2 gpu-3 numa', 'a gpu-4 gpu-5 gpu-6 gpu-7 numa'],
      'nothing of a pool that is not complete is used',
    );
  },
);

t.test('a node with 128 devices of 32 attributes is planned like any other', async t => {
  const attributes = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`a${index}`, `v${index}`]));
  const many = Array.from({ length: 128 }, (_, index) =>
    gpu(index, { ...attributes, [pcieRoot]: `pci${index >> 3}` }),
  );
  const cache = worldOf({
    nodes: inRack('r0', 'a'),
    slices: { a: gpusAndNics(many, []) },
    templates: [wants('eight', { gpu: ['gpu', 8] })],
  });
  const lines = plan(cache, { size: 16, worker: { cpu: 1, claims: { devices: 'eight' } } });
  t.ok(
    Array.isArray(lines) && lines.every(line => line.endsWith(' pcie')),
    'all sixteen have a root of their own',
  );
});
