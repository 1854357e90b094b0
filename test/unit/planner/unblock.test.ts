import fc from 'fast-check';
import t from 'tap';
import { planGroup } from '../../../src/planner/plan.ts';
import { release, type Unit } from '../../../src/planner/release.ts';
import { describeUnblock, findUnblock, type Unblock } from '../../../src/planner/unblock.ts';
import { drawFleet } from '../../builders/fleet.ts';
import { decode, type PlanQuestion, questionOf } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';
import {
  type PlainInstance,
  type PlainUnit,
  plainInstance,
  plainlyFits,
  questionOfPlain,
} from './release-instances.ts';

const instances = 3_000;

function answerOf(instance: PlainInstance): Unblock {
  const { input, units } = questionOfPlain(instance);
  return findUnblock({ input, units, key: 'serving/llm-0' });
}

function fitsWithout(
  instance: PlainInstance,
  units: readonly PlainUnit[],
  nodes: readonly string[],
): boolean {
  const hosts = instance.hosts.map(host => (nodes.includes(host.name) ? { ...host, cordoned: false } : host));
  return plainlyFits(
    { ...instance, hosts },
    instance.units.filter(unit => !unit.going && !units.includes(unit)),
  );
}

/** The least of all sets that do: few, then few that are kept, few pods, low priority; undefined when none does. */
function leastOf(sets: readonly (readonly PlainUnit[])[]): string | undefined {
  const rank = (set: readonly PlainUnit[]) => [
    set.length,
    set.filter(({ kept }) => kept).length,
    set.flatMap(({ uses }) => uses).length,
    Math.max(...set.map(({ priority }) => priority)),
  ];
  const named = (set: readonly PlainUnit[]) =>
    set
      .map(({ name }) => `victims/${name}`)
      .sort()
      .join(' ');
  const ranked = sets.map(set => ({ ranks: rank(set), names: named(set) }));
  ranked.sort((a, b) => {
    const at = a.ranks.findIndex((value, i) => value !== b.ranks[i]);
    return at === -1 ? (a.names < b.names ? -1 : 1) : (a.ranks[at] ?? 0) - (b.ranks[at] ?? 0);
  });
  return ranked[0]?.names;
}

function subsetsOf<T>(items: readonly T[]): readonly (readonly T[])[] {
  return Array.from({ length: 2 ** items.length - 1 }, (_, at) =>
    items.filter((_item, i) => ((at + 1) >> i) % 2 === 1),
  );
}

t.test(`${instances} instances: the ways are the smallest that trying every set finds`, async t => {
  const seen = { units: 0, nodes: 0, both: 0, going: 0, none: 0 };
  for (let seed = 1; seed <= instances; seed++) {
    const instance = plainInstance(seed, 10);
    const { input } = questionOfPlain(instance);
    if (planGroup(input).kind === 'plan') continue;
    const answer = answerOf(instance);
    if (fitsWithout(instance, [], [])) {
      if (answer.kind !== 'going') t.fail(`seed ${seed}`, { answer });
      seen.going++;
      continue;
    }
    const standing = instance.units.filter(unit => !unit.going);
    const cordoned = instance.hosts.filter(host => host.cordoned).map(({ name }) => name);
    if (!fitsWithout(instance, standing, cordoned)) {
      if (answer.kind !== 'none') t.fail(`seed ${seed}`, { answer });
      seen.none++;
      continue;
    }
    const ways = answer.kind === 'ways' ? answer.ways : [];
    const unitSets = subsetsOf(standing).filter(set => fitsWithout(instance, set, []));
    const nodeSets = subsetsOf(cordoned).filter(set => fitsWithout(instance, [], set));
    const [ofUnits, ofNodes] = [
      ways.find(way => way.nodes.length === 0),
      ways.find(way => way.units.length === 0),
    ];
    const units = ofUnits?.units
      .map(({ key }) => key)
      .sort()
      .join(' ');
    if (units !== leastOf(unitSets)) t.fail(`seed ${seed}`, { units, wanted: leastOf(unitSets) });
    const fewest = nodeSets.length === 0 ? undefined : Math.min(...nodeSets.map(set => set.length));
    if (ofNodes?.nodes.length !== fewest) t.fail(`seed ${seed}`, { ofNodes, fewest });
    for (const way of ways) {
      const gone = standing.filter(({ name }) => way.units.some(({ key }) => key === `victims/${name}`));
      const back = way.nodes.map(({ name }) => name);
      if (!fitsWithout(instance, gone, back)) t.fail(`seed ${seed}: does not help`, { way });
      if (!way.exact) t.fail(`seed ${seed}: not exact`);
    }
    if (units !== undefined) seen.units++;
    if (fewest !== undefined) seen.nodes++;
    if (units === undefined && fewest === undefined) {
      const least = Math.min(
        ...subsetsOf([...standing, ...cordoned])
          .filter(set =>
            fitsWithout(
              instance,
              set.filter(item => typeof item !== 'string'),
              set.filter(item => typeof item === 'string'),
            ),
          )
          .map(set => set.length),
      );
      const [both] = ways;
      if (ways.length !== 1 || both === undefined) t.fail(`seed ${seed}: no way with both`);
      else if (both.units.length + both.nodes.length !== least) t.fail(`seed ${seed}`, { both, least });
      seen.both++;
    }
  }
  t.comment(JSON.stringify(seen));
  t.ok(Math.min(...Object.values(seen)) >= 5, 'every kind of answer came up');
});

t.test('the order in which units are told changes nothing, and what is told would help', async t => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000_000 }), fc.integer({ min: 2, max: 20 }), (seed, most) => {
      const { input, units } = questionOfPlain(plainInstance(seed, most));
      if (planGroup(input).kind === 'plan') return;
      const answer = findUnblock({ input, units, key: 'serving/llm-0' });
      t.same(findUnblock({ input, units: units.toReversed(), key: 'serving/llm-0' }), answer);
      t.same(JSON.parse(JSON.stringify(answer)), plain(answer));
      if (answer.kind !== 'ways') return;
      for (const way of answer.ways) {
        const gone = units.filter(
          ({ key, state }) => state === 'going' || way.units.some(unit => unit.key === key),
        );
        const after = release(input, { units: gone, nodes: way.nodes.map(({ name }) => name) });
        t.equal(planGroup(after).kind, 'plan');
      }
    }),
    { numRuns: 200 },
  );
});

/** JSON has no undefined. */
function plain(value: Unblock): unknown {
  if (value.kind !== 'ways') return JSON.parse(JSON.stringify(value));
  const ways = value.ways.map(({ domain, ...way }) => (domain === undefined ? way : { ...way, domain }));
  return { kind: 'ways', ways };
}

const fleet = drawFleet(`
  block b0
    rack r7
      - n1 gpu=8
      - n2 gpu=8
      - n3 gpu=8 cordoned
      - n4 gpu=8 cordoned
    rack r8
      - m1 gpu=8
      - m2 gpu=8
      - m3 gpu=8 unready
      - m4 gpu=8 taint=repair=x:NoExecute
`);

interface Drawn {
  readonly name: string;
  readonly nodes: readonly string[];
  readonly kind?: 'pod';
  readonly going?: boolean;
  /** Of each of its pods; 8 unless it says otherwise. */
  readonly gpu?: number;
}

function sentenceOf(drawn: readonly Drawn[], question: Partial<PlanQuestion>, key = 'serving/llm-0'): string {
  const made = drawn.map(({ name, nodes, kind, going, gpu = 8 }) => {
    const pods = nodes.map(node => podOf({ name: `${name}-on-${node}`, gpu, node }));
    const unit: Unit = {
      key: `serving/${name}`,
      kind: kind ?? 'group',
      owner: `serving/${name}`,
      state: going === true ? 'going' : 'stays',
      whole: true,
      priority: 50,
      pods: pods.length,
      uses: pods.map((pod, i) => ({ node: nodes[i] ?? '', bound: true, use: decode(pod) })),
      existing: [],
      whyKept: undefined,
      budgetsForbid: undefined,
    };
    return { unit, pods };
  });
  const pods = made.flatMap(one => one.pods);
  const input = questionOf(fleet, { size: 2, worker: { gpu: 8 }, required: 'rack', pods, ...question });
  const units = made.map(({ unit }) => unit);
  return describeUnblock(findUnblock({ input, units, key }), input.snapshot.tree.levels);
}

const llama: Drawn = { name: 'llama-1', nodes: ['n1', 'n2'] };
const qwen: Drawn = { name: 'qwen-0', nodes: ['m1', 'm2'] };

t.test('sentences', async t => {
  const four: readonly Drawn[] = ['n1', 'n2', 'm1', 'm2'].map(node => ({ name: `p-${node}`, nodes: [node] }));
  const halves: readonly Drawn[] = ['n1', 'n1', 'n2', 'n2'].map((node, i) => ({
    name: `h${i}`,
    nodes: [node],
    kind: 'pod',
    gpu: 4,
  }));
  const cases: readonly [string, readonly Drawn[], Partial<PlanQuestion>, string][] = [
    [
      'one group, or the nodes of one rack',
      [llama, qwen],
      {},
      'fits if serving/llama-1 ends, or if 2 cordoned nodes of rack r7 return: n3, n4',
    ],
    [
      'two pods',
      four.map(one => ({ ...one, kind: 'pod' })),
      {},
      'fits if pod serving/p-m1 and pod serving/p-m2 end, or if 2 cordoned nodes of rack r7 return: n3, n4',
    ],
    [
      'a rack where one node is enough',
      [{ name: 'x', nodes: ['m1'] }, llama],
      {},
      'fits if serving/x ends, or if 1 not ready node of rack r8 returns: m3',
    ],
    [
      'a node alone',
      [
        { name: 'x', nodes: ['m1'] },
        { name: 'y', nodes: ['m2'] },
      ],
      { size: 3, worker: { gpu: 8, nodeSelector: { 'example.com/rack': 'r7' } } },
      'fits if 1 cordoned node of rack r7 returns: n3',
    ],
    [
      'fewer nodes than pods',
      halves,
      { size: 1, excluded: { m1: 'xid 79', m2: 'xid 79' } },
      'fits if 1 cordoned node of rack r7 returns: n3, or if pod serving/h0 and pod serving/h1 end',
    ],
    [
      'nodes that are out for different reasons',
      [{ ...llama, nodes: ['n1', 'n2', 'm1', 'm2'] }],
      { worker: { gpu: 8, nodeSelector: { 'example.com/rack': 'r8' } } },
      'fits if serving/llama-1 ends, or if 2 nodes of rack r8 return: m3 (not ready), m4 (tainted)',
    ],
    [
      'an excluded node',
      [{ name: 'x', nodes: ['n1', 'm1', 'm2'] }],
      { excluded: { n2: 'xid 79', n3: 'xid 79', n4: 'xid 79' }, size: 1 },
      'fits if serving/x ends, or if 1 not ready node of rack r8 returns: m3',
    ],
    [
      'both',
      four,
      { size: 8, required: 'block' },
      'fits if serving/p-m1, serving/p-m2, serving/p-n1 and serving/p-n2 end and 4 nodes of block b0 return: ' +
        'm3 (not ready), m4 (tainted), n3 (cordoned), n4 (cordoned)',
    ],
    [
      'room that comes by itself',
      [{ ...llama, going: true }, qwen],
      {},
      'fits once what is terminating is gone: serving/llama-1',
    ],
    [
      'more than there is',
      [llama, qwen],
      { size: 5 },
      'no release would help: even with everything ended and every node back, 5 pods do not fit in one rack: ' +
        'the best of 2 racks has room for 4 of 5',
    ],
  ];
  for (const [name, drawn, question, sentence] of cases) t.equal(sentenceOf(drawn, question), sentence, name);
});

t.test('a level that no node has is named by its label', async t => {
  const input = questionOf(
    { ...fleet, levels: [...fleet.levels, { name: 'clique', nodeLabel: 'nvidia.com/clique' }] },
    {
      size: 2,
      worker: { gpu: 8 },
      required: 'clique',
    },
  );
  const unblock = findUnblock({ input, units: [], key: 'serving/llm-0' });
  t.equal(
    describeUnblock(unblock, input.snapshot.tree.levels),
    'no release would help: no node has label nvidia.com/clique',
  );
});

t.test('that a group ends itself is no answer', async t => {
  const own: Drawn = { name: 'llm-0', nodes: ['n1', 'n2'] };
  t.match(sentenceOf([own, qwen], {}), /^fits if serving\/qwen-0 ends/);
});

t.test('a search that may not ask says so', async t => {
  const pods = ['n1', 'n2', 'm1', 'm2'].map(node => podOf({ name: `p-${node}`, gpu: 8, node }));
  const input = questionOf(fleet, { size: 2, worker: { gpu: 8 }, required: 'rack', pods });
  const unblock = findUnblock({ input, units: [], key: 'serving/llm-0', maxPlans: 0 });
  t.equal(
    describeUnblock(unblock, input.snapshot.tree.levels),
    'what would make it fit was not found within the bounds of the search',
  );
});

t.test('many names are cut', async t => {
  const units = ['e', 'd', 'c', 'b', 'a'].map(key => ({ key, kind: 'group', priority: 0, pods: 1 }) as const);
  const way = { units, nodes: [], domain: undefined, exact: true };
  t.equal(describeUnblock({ kind: 'ways', ways: [way] }, []), 'fits if e, d, c, b and 1 more end');
});
