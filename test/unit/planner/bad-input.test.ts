import t, { type Test } from 'tap';
import type { Node } from '../../../src/api/kubernetes.ts';
import { k8s } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { NodeList } from '../../../src/cluster/node-list.ts';
import type { ClusterSnapshot } from '../../../src/cluster/snapshot.ts';
import type { TopologyLevel } from '../../../src/cluster/topology.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import type { PlanInput } from '../../../src/planner/plan.ts';
import { planGroup } from '../../../src/planner/plan.ts';
import { drawFleet, type Fleet, labelOf, nodeOf, snapshotOf } from '../../builders/fleet.ts';
import { outcomeOf } from '../../builders/planning.ts';
import { type Ask, podOf } from '../../builders/pods.ts';
import { demandsOf, requestOf, slicesOf } from './plain-questions.ts';

const gpu8: Ask = { gpu: 8 };

type More = Partial<Omit<PlanInput, 'demands' | 'snapshot' | 'topology'>> & {
  readonly topology?: Partial<PlanInput['topology']>;
};

function ask(
  fleet: Fleet | ClusterSnapshot,
  asks: readonly Ask[],
  { topology, ...more }: More = {},
): PlanInput {
  const snapshot = 'tree' in fleet ? fleet : snapshotOf(fleet);
  return { demands: demandsOf(asks), topology: requestOf(topology), snapshot, memo: new FitMemo(), ...more };
}

function eight(count: number): readonly Ask[] {
  return Array.from({ length: count }, () => gpu8);
}

interface Case {
  readonly name: string;
  readonly input: PlanInput;
  readonly expected: string | RegExp;
}

function check(t: Test, cases: readonly Case[]): void {
  for (const { name, input, expected } of cases) {
    const outcome = outcomeOf(input);
    if (typeof expected === 'string') t.equal(outcome, expected, name);
    else t.match(outcome, expected, name);
  }
}

const two = drawFleet(`
  block b0
    rack r0
      - a0 gpu=8
      - a1 gpu=8
    rack r1
      - b0 gpu=8
      - b1 gpu=8
`);
const [block, rack] = two.levels as [TopologyLevel, TopologyLevel];

t.test('levels that make no sense', async t => {
  const withLevels = (levels: readonly TopologyLevel[]): Fleet => ({ ...two, levels });
  const twice = withLevels([rack, { name: 'again', nodeLabel: rack.nodeLabel }]);
  const upsideDown = withLevels([rack, block]);
  const unknown = withLevels([block, { name: 'row', nodeLabel: 'example.com/row' }, rack]);
  const hosts = withLevels([rack, { name: 'machine', nodeLabel: k8s.hostname }]);
  check(t, [
    {
      name: 'two of one label are one',
      input: ask(twice, eight(2), { topology: { requiredLevel: 0 } }),
      expected: 'a0 a1',
    },
    {
      name: 'and its finer twin',
      input: ask(twice, eight(2), { topology: { requiredLevel: 1 } }),
      expected: 'a0 a1',
    },
    {
      name: 'turned upside down',
      input: ask(upsideDown, eight(2), { topology: { requiredLevel: 0 } }),
      expected: 'a0 a1',
    },
    {
      name: 'where racks come first a block is a part of one',
      input: ask(upsideDown, eight(3), { topology: { requiredLevel: 1 } }),
      expected: /the best of 2 blocks has room for 2 of 3/,
    },
    {
      name: 'a label that no node has',
      input: ask(unknown, eight(1), { topology: { requiredLevel: 1 } }),
      expected: 'the pod does not fit in one row: no node carries the label example.com/row',
    },
    {
      name: 'which does not hurt who does not ask for it',
      input: ask(unknown, eight(2), { topology: { requiredLevel: 2 } }),
      expected: 'a0 a1',
    },
    {
      name: 'slices on it',
      input: ask(unknown, eight(2), { topology: slicesOf(1, [1, 1]) }),
      expected: /^2 pods do not fit in the cluster/,
    },
    {
      name: 'a level of host names',
      input: ask(hosts, eight(2), { topology: { requiredLevel: 1 } }),
      expected: /the best of 4 machines has room for 1 of 2/,
    },
    { name: 'no levels at all', input: ask(withLevels([]), eight(4)), expected: 'a0 a1 b0 b1' },
    {
      name: 'one host of no levels',
      input: ask(withLevels([]), eight(2), { topology: { requiredLevel: 0 } }),
      expected: /the best of 4 hosts has room for 1 of 2/,
    },
  ]);
});

t.test('levels of uneven depth, and nodes without labels', async t => {
  const uneven: Fleet = {
    levels: two.levels,
    nodes: [
      nodeOf({ name: 'bare', gpu: 8 }),
      nodeOf({ name: 'blocked', gpu: 8, labels: { [block.nodeLabel]: 'b1' } }),
      nodeOf({ name: 'racked', gpu: 8, labels: { [rack.nodeLabel]: 'r9' } }),
      nodeOf({ name: 'empty', gpu: 8, labels: { [block.nodeLabel]: '', [rack.nodeLabel]: '' } }),
      ...two.nodes,
    ],
    pods: [],
  };
  check(t, [
    { name: 'all of them', input: ask(uneven, eight(8)), expected: 'bare empty racked a0 a1 b0 b1 blocked' },
    {
      name: 'in a block',
      input: ask(uneven, eight(1), { topology: { requiredLevel: 0 } }),
      expected: 'blocked',
    },
    {
      name: 'in racks',
      input: ask(uneven, eight(1), { topology: { requiredLevel: 1 } }),
      expected: 'racked',
    },
    {
      name: 'in slices in racks',
      input: ask(uneven, eight(6), { topology: slicesOf(1, [2, 2, 2]) }),
      expected: /^6 pods do not fit in the cluster/,
    },
    {
      name: 'in slices of one',
      input: ask(uneven, eight(5), { topology: slicesOf(1, [1, 1, 1, 1, 1]) }),
      expected: /^racked a0 a1 b0 b1$/,
    },
    {
      name: 'an empty label is none',
      input: ask(uneven, eight(2), {
        excludedNodes: new Map(two.nodes.map(node => [node.metadata.name ?? '', 'x'])),
        topology: { requiredLevel: 0 },
      }),
      expected: /the best of 2 blocks has room for 1 of 2/,
    },
  ]);
});

t.test('labels that change under running groups', async t => {
  const relabelled = (changes: Readonly<Record<string, string>>): Fleet => ({
    ...two,
    nodes: two.nodes.map(node => {
      const { name = '', labels } = node.metadata;
      const value = changes[name];
      return value === undefined
        ? node
        : { ...node, metadata: { ...node.metadata, labels: { ...labels, [rack.nodeLabel]: value } } };
    }),
    pods: ['a0', 'a1'].map(node => podOf({ name: `m-${node}`, ...gpu8, node })),
  });
  const fixed = new Map([
    [0, 'a0'],
    [1, 'a1'],
  ]);
  const torn = /^3 pods do not fit in one rack: none has the members that stay where they are/;
  const inRack = { fixed, topology: { requiredLevel: 1 } };
  check(t, [
    {
      name: 'the members that stay are in two racks now',
      input: ask(relabelled({ a1: 'r1' }), eight(3), inRack),
      expected: torn,
    },
    { name: 'one of them is in none', input: ask(relabelled({ a1: '' }), eight(3), inRack), expected: torn },
    {
      name: 'without a required level they may',
      input: ask(relabelled({ a1: 'r1' }), eight(3), { fixed }),
      expected: /^a0 a1 /,
    },
    {
      name: 'a third node has joined them',
      input: ask(relabelled({ b1: 'r0' }), eight(3), inRack),
      expected: 'a0 a1 b1',
    },
    {
      name: 'their slice is torn',
      input: ask(relabelled({ a1: 'r1' }), eight(3), { fixed, topology: slicesOf(1, [2, 1]) }),
      expected: /none has the members that stay|there is no room/,
    },
    {
      name: 'nobody is left to place, and they are torn',
      input: ask(relabelled({ a1: 'r1' }), eight(2), inRack),
      expected: /none has the members that stay/,
    },
    {
      name: 'a node that is gone',
      input: ask(two, eight(3), { fixed: new Map([[1, 'gone']]) }),
      expected: /^3 pods do not fit in the cluster: none has the members that stay/,
    },
    {
      name: 'members of two kinds, one on a node that is gone',
      input: ask(two, [gpu8, { gpu: 1 }, { gpu: 2 }], { fixed: new Map([[1, 'gone']]) }),
      expected: /^3 pods do not fit in the cluster/,
    },
  ]);
});

t.test('capacity of nothing and less than nothing', async t => {
  const zero = nodeOf({ name: 'zero', gpu: 0, cpu: 0, pods: 0 });
  const none: Node = {
    ...nodeOf({ name: 'none' }),
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  };
  const fleet: Fleet = { levels: [], nodes: [zero, none, nodeOf({ name: 'good', gpu: 8 })], pods: [] };
  const overdrawn: Fleet = {
    ...fleet,
    nodes: [nodeOf({ name: 'shrunk', gpu: 2, cpu: 64 })],
    pods: [podOf({ name: 'old', gpu: 8, node: 'shrunk' })],
  };
  const negative = (snapshot: ClusterSnapshot): ClusterSnapshot => ({
    ...snapshot,
    nodes: NodeList.of(
      [...snapshot.nodes].map(node => ({
        ...node,
        free: new Map([
          ['pods', -1],
          ['cpu', -5],
        ]),
      })),
    ),
  });
  check(t, [
    { name: 'no allocatable', input: ask(fleet, [gpu8]), expected: 'good' },
    { name: 'no pod slot', input: ask(fleet, Array(3).fill({})), expected: 'good good good' },
    {
      name: 'more used than there is',
      input: ask(overdrawn, [{ gpu: 1 }]),
      expected: /1 insufficient nvidia.com\/gpu/,
    },
    {
      name: 'which does not matter to who does not ask for it',
      input: ask(overdrawn, [{ cpu: 1 }]),
      expected: 'shrunk',
    },
    { name: 'negative', input: ask(negative(snapshotOf(two)), [{}]), expected: /there is room for 0 of 1/ },
    {
      name: 'negative for members of three kinds',
      input: ask(negative(snapshotOf(two)), [{}, { cpu: 1 }, { cpu: 2 }]),
      expected: /^3 pods do not fit/,
    },
    {
      name: 'negative in slices',
      input: ask(negative(snapshotOf(two)), Array(4).fill({ cpu: 1 }), { topology: slicesOf(1, [2, 2]) }),
      expected: /^4 pods do not fit/,
    },
  ]);
});

t.test('duplicate host names', async t => {
  const labels = { [k8s.hostname]: 'same' };
  const nodes = ['n0', 'n1'].map(name => nodeOf({ name, gpu: 8, labels }));
  const fleet: Fleet = { levels: [], nodes, pods: [] };
  const apart = {
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [
        { topologyKey: k8s.hostname, labelSelector: { matchLabels: { app: 'a' } } },
      ],
    },
  };
  const lone: Ask = { gpu: 1, labels: { app: 'a' }, affinity: apart };
  check(t, [
    { name: 'they are two nodes', input: ask(fleet, eight(2)), expected: 'n0 n1' },
    {
      name: 'but one to inter-pod terms',
      input: ask(fleet, [lone, lone]),
      expected: /^undecided|do not fit/,
    },
  ]);
  const cache = new ClusterCache({ levels: [] });
  cache.nodes.upsert(decodeNode(nodeOf({ name: 'n0', gpu: 2 })));
  cache.nodes.upsert(decodeNode(nodeOf({ name: 'n0', gpu: 4 })));
  check(t, [
    {
      name: 'of two nodes with one name the last counts',
      input: ask(cache.snapshot(), [{ gpu: 4 }, { gpu: 4 }]),
      expected: /there is room for 1 of 2/,
    },
  ]);
});

t.test('groups at the edge', async t => {
  const empty: Fleet = { ...two, nodes: [] };
  const one = snapshotOf(two);
  const cases: readonly Case[] = [
    {
      name: 'an empty cluster',
      input: ask(empty, eight(2)),
      expected: '2 pods do not fit in the cluster: there is room for 0 of 2',
    },
    {
      name: 'an empty cluster and a required level',
      input: ask(empty, eight(2), { topology: { requiredLevel: 1 } }),
      expected: /no node carries the label/,
    },
    {
      name: 'an empty cluster and one host',
      input: ask(empty, eight(2), { topology: { requiredLevel: 2 } }),
      expected: /^2 pods do not fit in one host/,
    },
    {
      name: 'an empty cluster, slices and labels',
      input: ask(empty, eight(2), { topology: { ...slicesOf(1, [1, 1]), sameLabels: ['pool'] } }),
      expected: /^2 pods do not fit/,
    },
    {
      name: 'an empty cluster and three kinds',
      input: ask(empty, [gpu8, { gpu: 1 }, { gpu: 2 }]),
      expected: /^3 pods do not fit/,
    },
    { name: 'a group of one', input: ask(one, eight(1), { topology: { requiredLevel: 1 } }), expected: 'a0' },
    {
      name: 'a group of one in slices',
      input: ask(one, eight(1), { topology: slicesOf(1, [1], true) }),
      expected: 'a0',
    },
    { name: 'a group of nobody', input: ask(one, []), expected: '' },
    { name: 'members who ask for nothing', input: ask(one, [{}, {}, {}]), expected: 'a0 a0 a0' },
    {
      name: 'a level finer than the slices',
      input: ask(one, eight(2), { topology: { requiredLevel: 1, ...slicesOf(0, [1, 1]) } }),
      expected: 'a0 a1',
    },
    {
      name: 'a level finer than slices apart',
      input: ask(one, eight(2), { topology: { requiredLevel: 1, ...slicesOf(0, [1, 1], true) } }),
      expected: /^2 pods do not fit in one rack/,
    },
    {
      name: 'a level that is not there',
      input: ask(one, eight(2), { topology: { requiredLevel: 7 } }),
      expected: /^2 pods do not fit/,
    },
    {
      name: 'slices on a level that is not there',
      input: ask(one, eight(2), { topology: slicesOf(7, [1, 1]) }),
      expected: /^2 pods do not fit/,
    },
    {
      name: 'slices of ranks that are not there',
      input: ask(one, eight(2), {
        topology: {
          slices: {
            level: 1,
            ranks: [
              [0, 1],
              [7, 8],
            ],
            apart: false,
          },
        },
      }),
      expected: 'a0 a1',
    },
    {
      name: 'slices of nobody',
      input: ask(one, eight(2), { topology: { slices: { level: 1, ranks: [[], []], apart: true } } }),
      expected: 'a0 a1',
    },
    {
      name: 'slices with a rank in two of them',
      input: ask(one, eight(2), { topology: { slices: { level: 1, ranks: [[0, 1], [1]], apart: false } } }),
      expected: 'a0 a1',
    },
    {
      name: 'labels that no node has',
      input: ask(one, eight(1), { topology: { sameLabels: ['nowhere'] } }),
      expected: /no node carries the label nowhere/,
    },
    {
      name: 'excluded and warm nodes that are not there',
      input: ask(one, eight(1), { excludedNodes: new Map([['gone', 'x']]), warmNodes: ['gone'] }),
      expected: 'a0',
    },
    {
      name: 'ranks to stay that are not there',
      input: ask(one, eight(1), { fixed: new Map([[9, 'a1']]) }),
      expected: 'a1',
    },
    {
      name: 'neighbours on nodes that are gone',
      input: ask(one, eight(1), {
        neighbours: [{ key: 'k', owner: 'o', nodes: ['gone'], exclusiveLevel: 0 }],
        topology: { exclusiveLevel: 1 },
      }),
      expected: 'a0',
    },
  ];
  check(t, cases);
});

t.test('groups of 10,000', async t => {
  const names = Array.from({ length: 2_000 }, (_, at) => `n${String(at).padStart(4, '0')}`);
  const nodes = names.map((name, at) =>
    nodeOf({
      name,
      gpu: 8,
      cpu: 64,
      labels: { [labelOf('rack')]: `r${at >> 4}`, [labelOf('block')]: `b${at >> 8}` },
    }),
  );
  const fleet: Fleet = { levels: two.levels, nodes, pods: [] };
  const snapshot = snapshotOf(fleet);
  const times = (count: number, one: Ask): readonly Ask[] => Array.from({ length: count }, () => one);
  const mixed = Array.from({ length: 10_000 }, (_, rank): Ask => ({ gpu: 1 + (rank % 2), cpu: rank % 3 }));
  const questions: readonly (readonly [string, readonly Ask[], More])[] = [
    ['1,000 equal members', times(1_000, { gpu: 1 }), {}],
    ['10,000 equal members', times(10_000, { gpu: 1 }), {}],
    ['10,000 that do not fit', times(10_000, { gpu: 2 }), {}],
    ['10,000 in slices of 100', times(10_000, { gpu: 1 }), { topology: slicesOf(1, Array(100).fill(100)) }],
    ['10,000 of six kinds', mixed, {}],
  ];
  for (const [name, asks, more] of questions) {
    const input = ask(snapshot, asks, more);
    const start = performance.now();
    const { kind } = planGroup(input);
    t.comment(`${name}: ${kind} in ${Math.round(performance.now() - start)} ms`);
    t.equal(kind, name.includes('do not fit') ? 'rejection' : 'plan', name);
  }
});
