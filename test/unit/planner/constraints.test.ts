import t from 'tap';
import { nvidia } from '../../../src/api/names.ts';
import { NodeList } from '../../../src/cluster/node-list.ts';
import type { ClusterSnapshot } from '../../../src/cluster/snapshot.ts';
import type { TopologyRequest } from '../../../src/group/topology-request.ts';
import { barredNodes, siblingsByDomain } from '../../../src/planner/constraints.ts';
import type { PlacedGroup } from '../../../src/planner/plan-input.ts';
import { drawFleet, snapshotOf } from '../../builders/fleet.ts';

const snapshot = snapshotOf(
  drawFleet(`
    block b0
      rack r0
        - a gpu=8
        - b gpu=8
      rack r1
        - c gpu=8
        - d gpu=8 label=${nvidia.computeDomain}=uid-2
    block b1
      rack r0
        - e gpu=8 label=${nvidia.computeDomain}=uid-1
      - f gpu=8
  `),
);
const [block, rack, host] = [0, 1, 2];

const request: TopologyRequest = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };

function placed(key: string, nodes: string, exclusiveLevel?: number): PlacedGroup {
  return { key, owner: key.replace(/-\d+$/, ''), nodes: nodes.split(' '), exclusiveLevel };
}

const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1);

/** Node names by cause. */
function barred(wish: Partial<TopologyRequest>, neighbours: readonly PlacedGroup[], of = snapshot) {
  const bars = barredNodes({ demands: [], topology: { ...request, ...wish }, snapshot: of, neighbours });
  const named = [...bars].map(([node, cause]) => ({ name: of.tree.nodeNames[node] ?? '', cause }));
  const byCause = Map.groupBy(named.sort(byName), ({ cause }) => cause);
  return Object.fromEntries([...byCause].map(([cause, of]) => [cause, of.map(({ name }) => name).join(' ')]));
}

t.test('which nodes are barred, and why', async t => {
  const other = placed('ns/other-0', 'a');
  const spread = { level: rack, owner: 'ns/llm', required: true };
  const withoutRack = { 'without node label example.com/rack': 'f' };
  const cases: readonly [string, Partial<TopologyRequest>, readonly PlacedGroup[], Record<string, string>][] =
    [
      ['no wish and nobody about', {}, [], {}],
      ['others who keep nothing for themselves', {}, [other], {}],
      [
        'a rack that another group keeps for itself',
        {},
        [placed('ns/other-0', 'a', rack)],
        { "in another group's exclusive rack": 'a b' },
      ],
      [
        'each of its racks, and not those of the same name in another block',
        {},
        [placed('ns/other-0', 'b c', rack)],
        { "in another group's exclusive rack": 'a b c d' },
      ],
      [
        'hosts kept by two groups',
        {},
        [placed('ns/x-0', 'a', host), placed('ns/y-0', 'e', host)],
        { "in another group's exclusive host": 'a e' },
      ],
      ['one that keeps racks, on a host without', {}, [placed('ns/other-0', 'f', rack)], {}],
      [
        'racks in which others stand, for one that wants its own',
        { exclusiveLevel: rack },
        [other],
        { 'in one rack with other groups': 'a b', ...withoutRack },
      ],
      ['with nobody about', { exclusiveLevel: rack }, [], withoutRack],
      [
        'both ways at once',
        { exclusiveLevel: host },
        [placed('ns/other-0', 'a', rack)],
        { "in another group's exclusive rack": 'a b' },
      ],
      [
        'hosts in which others stand',
        { exclusiveLevel: host },
        [other],
        { 'in one host with other groups': 'a' },
      ],
      [
        'racks of siblings',
        { spread },
        [placed('ns/llm-0', 'a b'), placed('ns/llm-2', 'e'), placed('ns/llmx-0', 'c')],
        { 'in one rack with other groups of ns/llm': 'a b e', ...withoutRack },
      ],
      [
        'racks of siblings, where that is only a wish',
        { spread: { ...spread, required: false } },
        [placed('ns/llm-0', 'a')],
        {},
      ],
      [
        'all but the block of a partner',
        { sameDomainAs: { owner: 'ns/prefill', level: block } },
        [placed('ns/prefill-0', 'e'), other],
        { 'not in the block of ns/prefill': 'a b c d' },
      ],
      [
        'all but the racks of a partner that has several',
        { sameDomainAs: { owner: 'ns/prefill', level: rack } },
        [placed('ns/prefill-0', 'a'), placed('ns/prefill-1', 'e')],
        { 'not in the rack of ns/prefill': 'c d f' },
      ],
      [
        'everything before the partner is placed',
        { sameDomainAs: { owner: 'ns/prefill', level: block } },
        [other],
        { 'waiting for ns/prefill to be placed': 'a b c d e f' },
      ],
      [
        'everything while the partner is outside of racks',
        { sameDomainAs: { owner: 'ns/prefill', level: rack } },
        [placed('ns/prefill-0', 'f')],
        { 'while ns/prefill is in no rack': 'a b c d e f' },
      ],
      ['nodes of another ComputeDomain', { computeDomain: 'uid-1' }, [], { 'in another ComputeDomain': 'd' }],
      [
        'the first of several causes',
        { sameDomainAs: { owner: 'ns/prefill', level: block }, computeDomain: 'uid-3', exclusiveLevel: rack },
        [placed('ns/prefill-0', 'c', rack)],
        {
          "in another group's exclusive rack": 'c d',
          'without node label example.com/rack': 'f',
          'not in the block of ns/prefill': 'e',
        },
      ],
      ['nodes that are gone', { exclusiveLevel: host }, [placed('ns/other-0', 'gone', rack)], {}],
    ];
  for (const [name, wish, neighbours, expected] of cases) t.same(barred(wish, neighbours), expected, name);
});

t.test('the order of neighbours changes nothing', async t => {
  const neighbours = [placed('ns/a-0', 'a', rack), placed('ns/b-0', 'c', host), placed('ns/p-0', 'e')];
  const wish = { exclusiveLevel: rack, sameDomainAs: { owner: 'ns/p', level: block } };
  t.same(barred(wish, [...neighbours].reverse()), barred(wish, neighbours));
});

t.test('without wishes and neighbours nothing is looked at', async t => {
  const { levels } = snapshot.tree;
  const tree = new Proxy({ levels } as ClusterSnapshot['tree'], {
    get: (target, property) => (property === 'levels' ? target.levels : t.fail(`read ${String(property)}`)),
  });
  const untouchable = new Proxy({ tree } as ClusterSnapshot, {
    get: (target, property) => (property === 'tree' ? target.tree : t.fail(`read ${String(property)}`)),
  });
  t.equal(barredNodes({ demands: [], topology: request, snapshot: untouchable }).size, 0);
  t.equal(siblingsByDomain({ topology: request, snapshot: untouchable }, rack).size, 0);
});

t.test('an empty cluster bars nothing', async t => {
  const empty = {
    ...snapshotOf({ levels: snapshot.tree.levels, nodes: [], pods: [] }),
    nodes: NodeList.of([]),
  };
  t.same(barred({ exclusiveLevel: rack, computeDomain: 'x' }, [placed('ns/o-0', 'a', rack)], empty), {});
});

t.test('siblings by domain', async t => {
  const neighbours = [
    placed('ns/llm-0', 'a b c'),
    placed('ns/llm-1', 'b'),
    placed('ns/llm-2', 'f'),
    placed('ns/other-0', 'e'),
  ];
  const counts = (spreadLevel: number, level: number) => {
    const spread = { level: spreadLevel, owner: 'ns/llm', required: false };
    const found = siblingsByDomain({ topology: { ...request, spread }, snapshot, neighbours }, level);
    return Object.fromEntries(
      [...found].map(([index, count]) => [snapshot.tree.domains[index]?.id ?? '', count]).sort(),
    );
  };
  t.same(counts(rack, rack), { 'b0/r0': 2, 'b0/r1': 1 }, 'by rack; a host outside of racks counts in none');
  t.same(counts(rack, block), { b0: 2, b1: 1 }, 'a coarser domain is asked by itself');
  t.same(
    counts(rack, host),
    { 'b0/r0/a': 2, 'b0/r0/b': 2, 'b0/r1/c': 1, 'b0/r1/d': 1 },
    'a finer one has those of its rack',
  );
  t.same(counts(block, host)['b0/r1/d'], 2);
  t.same(counts(rack, -1), { '': 3 }, 'the cluster has them all');
});
