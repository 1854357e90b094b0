import fc from 'fast-check';
import t from 'tap';
import { hopCost, leastRing } from '../../../src/cli/hop-cost.ts';
import { buildTopologyTree, type TopologyLevel } from '../../../src/cluster/topology.ts';

const levels: readonly TopologyLevel[] = [
  { name: 'block', nodeLabel: 'block' },
  { name: 'rack', nodeLabel: 'rack' },
];
const nvlink: readonly TopologyLevel[] = [
  { name: 'block', nodeLabel: 'block' },
  { name: 'rack', nodeLabel: 'nvidia.com/gpu.clique' },
];

/** Names are like `b0r1h2`. */
function treeOf(ofLevels: readonly TopologyLevel[], names: readonly string[]) {
  return buildTopologyTree(
    ofLevels,
    [...new Set(names)].map(name => ({
      name,
      labels: {
        [ofLevels[0]?.nodeLabel ?? '']: name.slice(0, 2),
        [ofLevels[1]?.nodeLabel ?? '']: name.slice(2, 4),
      },
    })),
  );
}

t.test('ranks are as many steps apart as there are levels that they do not share', async t => {
  const cases: readonly [string, readonly string[], number, number][] = [
    ['one pod', ['b0r0h0'], 0, 0],
    ['two on one host', ['b0r0h0', 'b0r0h0'], 0, 0],
    ['two hosts of a rack, there and back', ['b0r0h0', 'b0r0h1'], 2, 1],
    ['two racks of a block', ['b0r0h0', 'b0r1h0'], 4, 2],
    ['two blocks', ['b0r0h0', 'b1r0h0'], 6, 3],
    ['in order', ['b0r0h0', 'b0r0h1', 'b0r1h0', 'b0r1h1'], 6, 10],
    ['out of order', ['b0r0h0', 'b0r1h0', 'b0r0h1', 'b0r1h1'], 8, 10],
  ];
  for (const [about, nodes, ring, all] of cases) {
    const cost = hopCost(treeOf(levels, nodes), nodes);
    t.equal(cost.ring, ring, `${about}: ring`);
    t.equal(cost.all, all, `${about}: all pairs`);
  }
});

t.test('inside an NVLink domain a host is half a step away', async t => {
  const inside = ['b0r0h0', 'b0r0h1'];
  t.equal(hopCost(treeOf(nvlink, inside), inside).all, 0.5);
  const outside = ['b0r0h0', 'b0r1h0'];
  t.equal(hopCost(treeOf(nvlink, outside), outside).all, 1.5);
  t.equal(leastRing(nvlink, 4), 2);
  t.equal(leastRing(levels, 4), 4);
  t.equal(leastRing(levels, 1), 0);
});

t.test('the cost of all pairs is the sum over the pairs', async t => {
  const host = fc.tuple(fc.nat(1), fc.nat(1), fc.nat(2)).map(([b, r, h]) => `b${b}r${r}h${h}`);
  fc.assert(
    fc.property(fc.array(host, { minLength: 1, maxLength: 8 }), nodes => {
      const tree = treeOf(levels, nodes);
      let sum = 0;
      for (const [i, a] of nodes.entries())
        for (const b of nodes.slice(i + 1)) sum += hopCost(tree, [a, b]).all;
      const { all, allPairs } = hopCost(tree, nodes);
      t.equal(all, sum);
      t.equal(allPairs, (nodes.length * (nodes.length - 1)) / 2);
    }),
    { numRuns: 200, seed: 3 },
  );
});
