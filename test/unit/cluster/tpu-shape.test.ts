import t from 'tap';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { topologyPresets } from '../../../src/cluster/topology-presets.ts';
import { hostsOfShape, tpuLevelOf, tpuResource, tpuShapeOf } from '../../../src/cluster/tpu-shape.ts';
import { nodeOf } from '../../builders/fleet.ts';

t.test('hosts of a shape', async t => {
  const cases: readonly [number, Record<string, number>][] = [
    [
      4,
      {
        '2x2': 1,
        '2x4': 2,
        '4x4': 4,
        '4x8': 8,
        '8x8': 16,
        '8x16': 32,
        '16x16': 64,
        '2x2x1': 1,
        '2x2x2': 2,
        '2x2x4': 4,
        '2x4x4': 8,
        '4x4x4': 16,
        '4x4x8': 32,
        '4x8x8': 64,
        '8x8x8': 128,
        '8x8x16': 256,
      },
    ],
    [8, { '2x4': 1, '4x4': 2 }],
    [1, { '1x1': 1, '2x2': 4 }],
  ];
  for (const [chips, shapes] of cases)
    for (const [shape, hosts] of Object.entries(shapes))
      t.equal(hostsOfShape(shape, chips), hosts, `${shape} of ${chips} chips per host`);
  for (const shape of [
    '',
    '4',
    'x',
    '4x',
    '0x4',
    '4x4x4x4',
    '4 x 4',
    '-2x4',
    '04x4',
    '4X4',
    '1e1x2',
    '123456x1',
  ])
    t.equal(hostsOfShape(shape, 4), undefined, JSON.stringify(shape));
  t.equal(hostsOfShape('2x2', 8), undefined, 'smaller than a host');
  t.equal(hostsOfShape('2x3', 4), undefined, 'not in whole hosts');
  t.equal(hostsOfShape('4x4', 0), undefined, 'hosts without chips');
});

/** What the node shows: chips and shape. */
function nodes(...shown: readonly (readonly [number, string?])[]) {
  return shown.map(([chips, shape], at) => {
    const node = nodeOf({ name: `n${at}`, ...(shape !== undefined && { labels: { shape } }) });
    const allocatable = { ...node.status?.allocatable, [tpuResource]: String(chips) };
    const record = decodeNode({ ...node, status: { ...node.status, allocatable } });
    const { allocatable: free } = record;
    return { record, freeOfPods: free, free, hostPorts: [], untouched: true };
  });
}

t.test('the slice that nodes make', async t => {
  const byLabel = { name: 'slice', nodeLabel: 'pool', shapeLabel: 'shape' };
  const fixed = { name: 'cube', nodeLabel: 'cube', shape: '4x4x4' };
  const four = { hosts: 4, chipsPerHost: 4 };
  t.same(tpuShapeOf(byLabel, nodes([4, '4x4'], [4, '4x4'])), four);
  t.same(tpuShapeOf(byLabel, nodes([3, '4x4'], [4, '4x4'])), four, 'a broken chip changes no shape');
  t.same(tpuShapeOf(byLabel, nodes([4], [4, '4x4'])), four, 'one label is enough');
  t.same(tpuShapeOf(fixed, nodes([4])), { hosts: 16, chipsPerHost: 4 });
  t.same(tpuShapeOf(byLabel, nodes([4, '4x4'], [4, '2x4'])), { hosts: undefined, chipsPerHost: 4 });
  t.equal(tpuShapeOf(byLabel, nodes([4], [4])), undefined, 'nodes that say no shape');
  t.equal(tpuShapeOf(byLabel, nodes([0, '4x4'])), undefined, 'nodes without chips');
  t.equal(tpuShapeOf(byLabel, []), undefined, 'no nodes');
});

t.test('presets with TPUs name the level of their slices', async t => {
  const named = Object.entries(topologyPresets).flatMap(([preset, levels]) => {
    const level = tpuLevelOf(levels);
    return level === undefined ? [] : [[preset, levels[level]?.name]];
  });
  t.same(Object.fromEntries(named), {
    'gke-tpu': 'slice',
    'gke-tpu-sub-slices': 'slice',
    'gke-tpu-cubes': 'cube',
  });
  for (const [preset, levels] of Object.entries(topologyPresets)) {
    t.equal(
      new Set(levels.map(({ name }) => name)).size,
      levels.length,
      `${preset}: level names are distinct`,
    );
    t.equal(new Set(levels.map(({ nodeLabel }) => nodeLabel)).size, levels.length, `${preset}: labels too`);
    for (const { shape } of levels)
      if (shape !== undefined) t.type(hostsOfShape(shape, 4), 'number', `${preset}: ${shape} is a shape`);
  }
});
