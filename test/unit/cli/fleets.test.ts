import t from 'tap';
import { fleetNames, presetFleet } from '../../../src/cli/fleets.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { buildTopologyTree } from '../../../src/cluster/topology.ts';

function treeOf(name: string, nodes: number, seed = 1) {
  const fleet = presetFleet(name, { nodes, seed });
  if (fleet === undefined) throw new Error(`no fleet ${name}`);
  return buildTopologyTree(fleet.levels, fleet.nodes.map(decodeNode));
}

/** Hosts of each domain of a level, in the order of the tree. */
function sizes(tree: ReturnType<typeof treeOf>, level: number): readonly number[] {
  return (tree.domainsByLevel[level] ?? []).map(domain => domain.nodes.length);
}

t.test(
  'every preset makes as many Ready hosts with devices as are asked for, each in a domain of every level',
  async t => {
    for (const name of fleetNames) {
      for (const nodes of [1, 50, 333]) {
        const fleet = presetFleet(name, { nodes, seed: 5 });
        const records = (fleet?.nodes ?? []).map(decodeNode);
        t.equal(new Set(records.map(record => record.name)).size, nodes, `${name} ${nodes}`);
        t.ok(
          records.every(
            ({ ready, allocatable }) => ready && [...allocatable.keys()].some(key => key.includes('/')),
          ),
        );
        for (const level of fleet?.levels ?? [])
          t.ok(
            records.every(({ labels }) => labels[level.nodeLabel]),
            `${name} ${level.name}`,
          );
      }
      t.ok((presetFleet(name, { seed: 1 })?.nodes.length ?? 0) >= 64, 'and has a size of its own');
    }
    t.equal(presetFleet('moon', { seed: 1 }), undefined);
    t.equal(presetFleet('constructor', { seed: 1 }), undefined);
  },
);

t.test('domains have the sizes that the makers give', async t => {
  t.same(sizes(treeOf('superpod', 256), 1), Array(8).fill(32));
  t.same(sizes(treeOf('superpod', 256), 0), [128, 128]);
  t.same(sizes(treeOf('nvl72', 288), 1), Array(16).fill(18));
  t.same(sizes(treeOf('nvl72', 288), 0), [144, 144]);
  t.same(sizes(treeOf('tpu-v6e', 24), 1), [4, 4, 4, 4, 8]);
  t.ok(
    sizes(treeOf('gke-a3', 192), 2)
      .slice(0, -1)
      .every(size => size >= 8 && size <= 16),
  );
  t.same(sizes(treeOf('superpod', 40), 1), [32, 8], 'the last domain ends early');
});

t.test('a seed makes the same fleet again, another seed another one where sizes are drawn', async t => {
  const text = (seed: number) => JSON.stringify(presetFleet('gke-a3', { nodes: 100, seed }));
  t.equal(text(7), text(7));
  t.not(text(7), text(8));
});
