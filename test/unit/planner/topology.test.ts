import fc from 'fast-check';
import t from 'tap';
import { k8s } from '../../../src/api/names.ts';
import { buildNodeInfo, decodeNode } from '../../../src/cluster/node-info.ts';
import { buildTopologyTree, findLevel, levelName } from '../../../src/cluster/topology.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { gpuName } from '../../builders/pods.ts';

const levels = [
  { name: 'block', nodeLabel: 'example.com/block' },
  { name: 'rack', nodeLabel: 'example.com/rack' },
];

function node(name: string, block: string | undefined, rack: string | undefined) {
  const labels = {
    ...(block !== undefined && { 'example.com/block': block }),
    ...(rack !== undefined && { 'example.com/rack': rack }),
  };
  return { name, labels };
}

t.test('nodes are grouped by level and stand in topology order', async t => {
  const tree = buildTopologyTree(levels, [
    node('n3', 'b1', 'r0'),
    node('n2', 'b0', 'r1'),
    node('n1', 'b0', 'r0'),
    node('n0', 'b0', 'r0'),
  ]);
  t.same(tree.nodeNames, ['n0', 'n1', 'n2', 'n3']);
  t.equal(tree.indexByNodeName.get('n2'), 2);
  t.same(
    tree.domains.map(({ id }) => id),
    ['', 'b0', 'b0/r0', 'b0/r0/n0', 'b0/r0/n1', 'b0/r1', 'b0/r1/n2', 'b1', 'b1/r0', 'b1/r0/n3'],
    'a rack of one block is another than that of the same name in the next',
  );
  t.same(
    tree.domainsByLevel.map(domains => domains.map(({ nodes }) => nodes)),
    [
      [[0, 1, 2], [3]],
      [[0, 1], [2], [3]],
      [[0], [1], [2], [3]],
    ],
  );
  t.same(tree.root.nodes, [0, 1, 2, 3]);
});

t.test('a domain without a value at its own level is none, what is below it is', async t => {
  const tree = buildTopologyTree(levels, [
    node('bare', undefined, undefined),
    node('racked', undefined, 'r9'),
    node('blocked', 'b0', undefined),
    node('empty', '', 'r8'),
  ]);
  t.same(
    tree.domainsByLevel.map(domains => domains.map(({ path }) => path.join('/'))),
    [['b0'], ['/r8', '/r9'], ['//bare', '/r8/empty', '/r9/racked', 'b0//blocked']],
  );
});

t.test('a fleet without levels or without nodes', async t => {
  t.same(
    buildTopologyTree([], [node('b', undefined, undefined), node('a', undefined, undefined)]).nodeNames,
    ['a', 'b'],
  );
  const empty = buildTopologyTree(levels, []);
  t.same(empty.domains, [empty.root]);
  t.same(empty.domainsByLevel, [[], [], []]);
});

t.test('any fleet, in any order', async t => {
  const value = fc.constantFrom(undefined, '', 'x', 'x-1', 'x.1', 'x1', 'constructor');
  const fleet = fc.uniqueArray(
    fc.record({ name: fc.stringMatching(/^[a-z]{1,3}$/), block: value, rack: value }),
    {
      selector: ({ name }) => name,
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(fleet, fc.infiniteStream(fc.double({ min: 0, max: 1 })), (rows, random) => {
      const nodes = rows.map(({ name, block, rack }) => node(name, block, rack));
      const tree = buildTopologyTree(levels, nodes);
      const shuffled = nodes.toSorted(() => (random.next().value ?? 0) - 0.5);
      t.same(buildTopologyTree(levels, shuffled).nodeNames, tree.nodeNames);
      for (const domain of tree.domains) {
        const [first = 0] = domain.nodes;
        const run = domain.nodes.every((index, at) => index === first + at);
        const ofChildren = domain.children.flatMap(({ nodes }) => nodes);
        if (!run) t.fail('the nodes of a domain are a run of indices');
        if (domain.children.length > 0) t.same(ofChildren, domain.nodes);
        if (domain.parent !== undefined && domain.parent.index >= domain.index) t.fail('parents come first');
        if (tree.domains[domain.index] !== domain) t.fail('the index is the position');
      }
      const hosts = tree.domainsByLevel.at(-1) ?? [];
      t.same(
        hosts.map(({ nodes }) => nodes),
        nodes.map((_, index) => [index]),
        'hosts stand in the order of the nodes',
      );
    }),
    { numRuns: 300 },
  );
});

t.test('levels by name and by label', async t => {
  t.equal(findLevel(levels, 'rack'), 1);
  t.equal(findLevel(levels, 'example.com/block'), 0);
  t.equal(findLevel(levels, 'host'), 2);
  t.equal(findLevel(levels, k8s.hostname), 2);
  t.equal(findLevel(levels, 'row'), undefined);
  t.same(
    [-1, 0, 1, 2].map(level => levelName(levels, level)),
    ['cluster', 'block', 'rack', 'host'],
  );
});

t.test('nodes as they are read', async t => {
  const record = decodeNode(
    nodeOf({ name: 'n', gpu: 8, cordoned: true, ready: false, taints: ['a=b:NoExecute'] }),
  );
  t.match(record, {
    name: 'n',
    uid: 'uid-n',
    cordoned: true,
    ready: false,
    taints: [{ key: 'a', value: 'b' }],
  });
  t.equal(record.allocatable.get(gpuName), 8);
  t.match(decodeNode({ metadata: { name: 'new' } }), {
    ready: false,
    cordoned: false,
    labels: {},
    taints: [],
  });
  t.throws(() => decodeNode({ metadata: { name: 'n' }, status: { allocatable: { cpu: 'x' } } }), {
    code: 'InvalidQuantity',
    field: 'status.allocatable[cpu]',
  });
  const use = { requests: new Map([[gpuName, 5]]), hostPorts: [], takesAccelerator: true };
  const info = buildNodeInfo(record, [use], [{ use }]);
  t.equal(info.freeOfPods.get(gpuName), 3);
  t.equal(info.free.get(gpuName), -2, 'what is promised twice shows as such');
  t.equal(info.untouched, false);
  t.equal(buildNodeInfo(record, [], []).untouched, true);
});
