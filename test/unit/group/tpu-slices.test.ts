import t from 'tap';
import { berth, lws } from '../../../src/api/names.ts';
import { tpuResource } from '../../../src/cluster/tpu-shape.ts';
import { noClaims } from '../../../src/group/claims.ts';
import { buildGroupInfo } from '../../../src/group/group-info.ts';
import { isMembershipError } from '../../../src/group/membership.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { type Ask, gpuName } from '../../builders/pods.ts';

const levels = [
  { name: 'zone', nodeLabel: 'zone' },
  { name: 'slice', nodeLabel: 'pool', shapeLabel: 'shape' },
  { name: 'sub-slice', nodeLabel: 'sub-slice', shape: '2x4' },
];
const [zone, slice, subSlice, host] = [0, 1, 2, 3];

/** The builders speak of GPUs. */
function onTpus<T>(value: T): T {
  return JSON.parse(JSON.stringify(value).replaceAll(gpuName, tpuResource));
}

interface Parts {
  readonly size: number;
  readonly leader?: Ask;
  readonly annotations?: Readonly<Record<string, string>>;
}

function read({ size, leader, annotations = {} }: Parts, known = levels) {
  const group = new LwsGroup({ size, worker: { gpu: 4 }, ...(leader && { leader }), annotations });
  const pod = decode(onTpus(group.leader({ annotations })));
  if (pod.membership === undefined || isMembershipError(pod.membership)) throw new Error('no member');
  const info = buildGroupInfo({
    membership: pod.membership,
    leader: pod,
    members: new Map([[0, pod]]),
    owner: decodeLeaderWorkerSet(onTpus(group.owner())),
    seenWorker: undefined,
    claims: noClaims,
    levels: known,
    assumeMissingAlike: false,
  });
  return 'code' in info ? info : info.topology;
}

const cpu = { cpu: 8 };
const pairs = { [lws.subgroupSize]: '2' };
const ranks = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => from + at);

t.test('members with TPUs are to fill slices', async t => {
  const cases: readonly [string, Parts, object][] = [
    [
      'a group of TPUs is whole in one',
      { size: 4 },
      { requiredLevel: slice, tpuSlices: { level: slice, hosts: [4] } },
    ],
    [
      'a leader without TPUs is not held to it',
      { size: 5, leader: cpu },
      {
        slices: { level: slice, ranks: [ranks(1, 5)], apart: false },
        tpuSlices: { level: slice, hosts: [4] },
      },
    ],
    [
      'unless the whole group is to be in one',
      { size: 5, leader: cpu, annotations: { [berth.requiredTopology]: 'slice' } },
      { requiredLevel: slice, tpuSlices: { level: slice, hosts: [4] } },
    ],
    [
      'a coarser requirement stays beside it',
      { size: 5, leader: cpu, annotations: { [berth.requiredTopology]: 'zone' } },
      {
        requiredLevel: zone,
        slices: { level: slice, ranks: [ranks(1, 5)], apart: false },
        tpuSlices: { level: slice, hosts: [4] },
      },
    ],
    [
      'each subgroup fills one, without having asked for a place',
      { size: 4, annotations: pairs },
      {
        slices: { level: slice, ranks: [ranks(0, 2), ranks(2, 4)], apart: false },
        tpuSlices: { level: slice, hosts: [2, 2] },
      },
    ],
    [
      'the leader of a subgroup has no TPU',
      { size: 5, leader: cpu, annotations: pairs },
      {
        slices: { level: slice, ranks: [ranks(1, 3), ranks(3, 5)], apart: false },
        tpuSlices: { level: slice, hosts: [2, 2] },
      },
    ],
    [
      'a leader with TPUs that is in no subgroup',
      { size: 5, annotations: { ...pairs, [lws.subgroupPolicyType]: 'LeaderExcluded' } },
      {
        slices: { level: slice, ranks: [ranks(1, 3), ranks(3, 5), [0]], apart: false },
        tpuSlices: { level: slice, hosts: [2, 2, 1] },
      },
    ],
    [
      'slices in sub-slices',
      { size: 4, annotations: { [berth.sliceTopology]: 'sub-slice', [berth.sliceSize]: '2' } },
      {
        slices: { level: subSlice, ranks: [ranks(0, 2), ranks(2, 4)], apart: false },
        tpuSlices: { level: subSlice, hosts: [2, 2] },
      },
    ],
    [
      'a group in a sub-slice',
      { size: 2, annotations: { [berth.requiredTopology]: 'sub-slice' } },
      { requiredLevel: subSlice, tpuSlices: { level: subSlice, hosts: [2] } },
    ],
    [
      'slices that were asked for on a coarser level',
      { size: 4, annotations: { [berth.sliceTopology]: 'zone', [berth.sliceSize]: '2' } },
      {
        slices: { level: slice, ranks: [ranks(0, 2), ranks(2, 4)], apart: false },
        tpuSlices: { level: slice, hosts: [2, 2] },
      },
    ],
    [
      'subgroups apart',
      { size: 4, annotations: { ...pairs, [lws.subgroupExclusiveTopology]: 'pool' } },
      {
        slices: { level: slice, ranks: [ranks(0, 2), ranks(2, 4)], apart: true },
        exclusiveLevel: slice,
        exclusiveAmong: 'subgroups',
        tpuSlices: { level: slice, hosts: [2, 2] },
      },
    ],
    [
      'slices of one host need no level',
      { size: 3, annotations: { [lws.subgroupSize]: '1' } },
      { tpuSlices: { level: slice, hosts: [1, 1, 1] } },
    ],
    [
      'slices on hosts',
      { size: 2, annotations: { [lws.subgroupSize]: '1', [berth.sliceTopology]: 'host' } },
      {
        slices: { level: host, ranks: [[0], [1]], apart: false },
        tpuSlices: { level: slice, hosts: [1, 1] },
      },
    ],
  ];
  const nothing = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };
  for (const [name, parts, expected] of cases) t.same(read(parts), { ...nothing, ...expected }, name);
  const plain = levels.map(({ name, nodeLabel }) => ({ name, nodeLabel }));
  t.same(read({ size: 4 }, plain), nothing, 'levels without shapes say nothing of TPU slices');
});

t.test('subgroups cannot be apart on a level above their TPU slices', async t => {
  t.match(read({ size: 4, annotations: { ...pairs, [lws.subgroupExclusiveTopology]: 'zone' } }), {
    code: 'InvalidTopology',
    field: `metadata.annotations[${lws.subgroupSize}]`,
    message: /in domains of the level zone, but their TPU slices are domains of slice/,
  });
});
