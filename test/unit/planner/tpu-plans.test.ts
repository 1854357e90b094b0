import t from 'tap';
import { berth, lws } from '../../../src/api/names.ts';
import { topologyPresets } from '../../../src/cluster/topology-presets.ts';
import { tpuResource } from '../../../src/cluster/tpu-shape.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { cacheOf, drawFleet, type Fleet } from '../../builders/fleet.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { groupInfoOf, inputOf, outcomeOf } from '../../builders/planning.ts';
import { gpuName } from '../../builders/pods.ts';

const nodePool = 'cloud.google.com/gke-nodepool';
const topology = 'cloud.google.com/gke-tpu-topology';
const quad = 'cloud.google.com/gke-tpu-slice-4x4-id';
const pair = 'cloud.google.com/gke-tpu-slice-2x4-id';

/** The builders speak of GPUs. */
function onTpus<T>(value: T): T {
  return JSON.parse(JSON.stringify(value).replaceAll(gpuName, tpuResource));
}

/** One node pool: its topology, and for each host its name and what else is said of it. */
function poolOf(name: string, shape: string, ...hosts: readonly string[]): string {
  const labels = `label=${nodePool}=${name} label=${topology}=${shape}`;
  return hosts.map(host => `- ${host.replace(/^\S+/, '$& gpu=4')} ${labels}`).join('\n');
}

function fleetOf(preset: string, ...pools: readonly string[]): Fleet {
  const { nodes, pods } = onTpus(drawFleet(pools.join('\n')));
  return { levels: topologyPresets[preset] ?? [], nodes, pods };
}

function planned(fleet: Fleet, parts: Omit<LwsParts, 'worker'>): string {
  const { annotations } = parts;
  const group = new LwsGroup({ ...parts, worker: { gpu: 4, ...(annotations && { annotations }) } });
  const cache = cacheOf(fleet, [onTpus(group.leader(annotations && { annotations }))]);
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(onTpus(group.owner())));
  return outcomeOf(inputOf(cache, groupInfoOf(cache, group.key), {}));
}

const pools = fleetOf(
  'gke-tpu',
  poolOf('a', '4x4', 'a0', 'a1', 'a2', 'a3'),
  poolOf('b', '2x4', 'b0', 'b1'),
  poolOf('c', '2x4', 'c0', 'c1'),
  poolOf('d', '2x4', 'd0', 'd1 used=4'),
  '- cpu',
);

t.test('groups fill whole TPU slices of their size', async t => {
  t.equal(planned(pools, { size: 4 }), 'a0 a1 a2 a3');
  t.equal(planned(pools, { size: 2 }), 'b0 b1');
  t.match(planned(pools, { size: 3 }), /^3 pods do not fit in one slice: /);
  t.match(planned(pools, { size: 1 }), /^the pod does not fit/, 'a part of a slice is none');
  t.equal(
    planned(pools, { size: 4, annotations: { [lws.subgroupSize]: '2' } }),
    'b0 b1 c0 c1',
    'by subgroups',
  );
  t.match(
    planned(pools, { size: 6, annotations: { [lws.subgroupSize]: '2' } }),
    /^6 pods do not fit/,
    'of which no third is free',
  );
});

t.test('a leader without TPUs stands beside', async t => {
  const leader = { cpu: 4, nodeSelector: { 'kubernetes.io/hostname': 'cpu' } };
  t.equal(planned(pools, { size: 5, leader }), 'cpu a0 a1 a2 a3');
  t.equal(planned(pools, { size: 3, leader }), 'cpu b0 b1');
  t.equal(planned(pools, { size: 5, leader, annotations: { [lws.subgroupSize]: '2' } }), 'cpu b0 b1 c0 c1');
});

t.test('sub-slices are taken on their own level', async t => {
  const host = (name: string, four: string, two: string) =>
    `${name} label=${quad}=${four} label=${pair}=${two}`;
  const hosts = ['w', 'x', 'y', 'z'].flatMap(four =>
    [0, 1, 2, 3].map(at =>
      host(`${four}${at}${four === 'w' && at === 0 ? ' used=4' : ''}`, four, `${four}${at >> 1}`),
    ),
  );
  const fleet = fleetOf('gke-tpu-sub-slices', poolOf('big', '8x8', ...hosts));
  t.match(planned(fleet, { size: 4 }), /^4 pods do not fit/, 'the pool is larger');
  const quads = { [berth.requiredTopology]: 'slice-4x4' };
  t.equal(planned(fleet, { size: 4, annotations: quads }), 'x0 x1 x2 x3');
  t.equal(planned(fleet, { size: 2, annotations: { [berth.requiredTopology]: 'slice-2x4' } }), 'w2 w3');
  t.match(planned(fleet, { size: 2, annotations: quads }), /^2 pods do not fit/);
  t.equal(
    planned(fleet, { size: 8, annotations: { [berth.sliceTopology]: 'slice-4x4', [berth.sliceSize]: '4' } }),
    'x0 x1 x2 x3 y0 y1 y2 y3',
  );
});

t.test('a single pod takes a slice of one host', async t => {
  const single = fleetOf('gke-tpu', poolOf('a', '2x4', 'a0', 'a1'), poolOf('z', '2x2', 'z0', 'z1'));
  t.equal(planned(single, { size: 1 }), 'z0');
});
