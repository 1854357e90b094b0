import fc from 'fast-check';
import t from 'tap';
import { explainRefusal } from '../../../src/planner/explain.ts';
import { describeExplanation } from '../../../src/planner/explanation.ts';
import { planGroup } from '../../../src/planner/plan.ts';
import type { Unit } from '../../../src/planner/release.ts';
import { drawFleet, type Fleet } from '../../builders/fleet.ts';
import { labelledQuestion, type PlanQuestion, questionOf } from '../../builders/planning.ts';
import { podOf, requiredDuringScheduling } from '../../builders/pods.ts';
import { gpuUse, plainInstance, questionOfPlain } from './release-instances.ts';

const fleet = drawFleet(`
  block b0
    rack r0
      - a0 gpu=8 used=8
      - a1 gpu=8 used=1
      - a2 gpu=8
      - a3 gpu=8 cordoned
    rack r1
      - b0 gpu=8 used=8
      - b1 gpu=8 used=8
      - b2 gpu=8
      - b3 gpu=8
  block b1
    rack r2
      - c0 gpu=8 taint=dedicated=x:NoSchedule
      - c1 gpu=8 taint=dedicated=x:NoSchedule
      - c2 gpu=4
    rack r3
      - d0 gpu=8 used=8
      - d1 gpu=8 used=8
      - d2 gpu=8 used=8
      - d3 gpu=8 used=8
`);

function sentenceOf(asked: Fleet, question: PlanQuestion, units: readonly Unit[] = []): string {
  return describeExplanation(explainRefusal(questionOf(asked, question), units));
}

function holder(key: string, nodes: readonly string[]): Unit {
  return {
    key,
    kind: 'group',
    owner: key,
    state: 'stays',
    whole: true,
    priority: 0,
    pods: nodes.length,
    uses: nodes.map(node => ({ node, bound: false, use: gpuUse(8) })),
    existing: [],
    whyKept: undefined,
    budgetsForbid: undefined,
  };
}

t.test('a refused group is told what is short on each level', async t => {
  const held = drawFleet(`
    rack r0
      - a0 gpu=8
      - a1 gpu=8
    rack r1
      - b0 gpu=8
      - b1 gpu=8 used=8
  `);
  const pods = ['a0', 'a1', 'b0'].map(node => podOf({ name: `p-${node}`, gpu: 8, pinnedTo: node }));
  const holders = [holder('serving/one', ['a0', 'a1']), holder('serving/two', ['b0'])];
  const cases: readonly [string, Fleet, PlanQuestion, readonly Unit[], string][] = [
    [
      'whole hosts of a rack',
      fleet,
      { size: 4, worker: { gpu: 8 }, required: 'rack' },
      [],
      'rack: 1 of 4 racks lacks 2 free hosts, 1 lacks 3 free hosts, 1 lacks 4 free hosts, ' +
        '1 takes no pod of it: 1 taint dedicated:NoSchedule. ' +
        'host: 12 of 15 hosts take no pod of it: 9 insufficient nvidia.com/gpu, 2 taint dedicated:NoSchedule, 1 cordoned',
    ],
    [
      'parts of hosts',
      fleet,
      { size: 32, worker: { gpu: 1 }, required: 'block' },
      [],
      'block: 1 of 2 blocks lacks room for 1 pod, 1 lacks room for 28 pods. ' +
        'rack: 1 of 4 racks has no room for a pod of it. ' +
        'host: 10 of 15 hosts take no pod of it: 7 insufficient nvidia.com/gpu, 2 taint dedicated:NoSchedule, 1 cordoned',
    ],
    [
      'the whole cluster',
      fleet,
      { size: 4, worker: { gpu: 8 } },
      [],
      'cluster: 1 of 1 cluster lacks 1 free host. ' +
        'block: 1 of 2 blocks has no room for a pod of it. ' +
        'rack: 1 of 4 racks has no room for a pod of it, 1 takes no pod of it: 1 taint dedicated:NoSchedule. ' +
        'host: 12 of 15 hosts take no pod of it: 9 insufficient nvidia.com/gpu, 2 taint dedicated:NoSchedule, 1 cordoned',
    ],
    [
      'one host',
      fleet,
      { size: 3, worker: { gpu: 4 }, required: 'host' },
      [],
      'host: 3 of 15 hosts lack room for 1 pod, 2 lack room for 2 pods, 7 lack room for 3 pods, ' +
        '3 take no pod of it: 2 taint dedicated:NoSchedule, 1 cordoned',
    ],
    [
      'what is held for others',
      held,
      { size: 2, worker: { gpu: 8 }, required: 'rack', pods },
      holders,
      'rack: 2 of 2 racks lack 2 free hosts; 2 hosts held for serving/one, 1 host held for serving/two. ' +
        'host: 4 of 4 hosts take no pod of it: 3 held for another group, 1 insufficient nvidia.com/gpu',
    ],
    [
      'excluded nodes, and nodes that do not agree on a label',
      held,
      { size: 2, worker: { gpu: 8 }, exclusive: 'pool', excluded: { a0: 'xid 79 on a0' } },
      [],
      'cluster: 1 of 1 cluster takes no pod of it: 1 without node label pool. ' +
        'rack: 2 of 2 racks take no pod of it: 2 without node label pool. ' +
        'host: 4 of 4 hosts take no pod of it: 3 without node label pool, 1 xid 79 on a0',
    ],
  ];
  for (const [name, asked, question, units, sentence] of cases) {
    t.equal(planGroup(questionOf(asked, question)).kind, 'rejection', name);
    t.equal(sentenceOf(asked, question, units), sentence, name);
  }
});

t.test('a leader that finds no host is what is missing', async t => {
  const question: PlanQuestion = {
    size: 3,
    leader: { cpu: 4, nodeSelector: { pool: 'cpu' } },
    worker: { gpu: 8 },
    required: 'block',
  };
  t.match(
    sentenceOf(fleet, question),
    /^block: 1 of 2 blocks lacks room for 1 pod, 1 lacks room for 3 pods\./,
  );
});

t.test('rules between pods count as a cause', async t => {
  const antiAffinity = {
    podAntiAffinity: {
      [requiredDuringScheduling]: [
        { labelSelector: { matchLabels: { app: 'db' } }, topologyKey: 'example.com/rack' },
      ],
    },
  };
  const db = ['a2', 'b2', 'c2', 'd0'].map(node => podOf({ name: `db-${node}`, labels: { app: 'db' }, node }));
  const away: PlanQuestion = {
    size: 1,
    worker: { gpu: 8, affinity: antiAffinity },
    required: 'rack',
    pods: db,
  };
  t.match(sentenceOf(fleet, away), /^rack: 4 of 4 racks take no pod of it: 4 pod anti-affinity\. /);
  const guards = ['a2', 'b2', 'c2', 'd0'].map(node =>
    podOf({
      name: `guard-${node}`,
      node,
      affinity: {
        podAntiAffinity: {
          [requiredDuringScheduling]: [{ labelSelector: {}, topologyKey: 'example.com/rack' }],
        },
      },
    }),
  );
  t.match(
    sentenceOf(fleet, { size: 1, worker: { gpu: 8 }, required: 'rack', pods: guards }),
    /^rack: 4 of 4 racks take no pod of it: 4 anti-affinity of other pods\. /,
  );
});

t.test('members that stay need no room, and only their domain is asked', async t => {
  const pods = [podOf({ name: 'm0', gpu: 8, node: 'b2' })];
  t.match(
    sentenceOf(fleet, { size: 4, worker: { gpu: 8 }, required: 'rack', fixed: { 0: 'b2' }, pods }),
    /^rack: 1 of 1 rack lacks 2 free hosts\. host: 3 of 4 hosts take no pod of it/,
  );
  t.match(
    sentenceOf(fleet, { size: 2, worker: { gpu: 8 }, required: 'rack', fixed: { 0: 'gone' } }),
    /^rack: there is no rack to ask/,
  );
});

t.test('the value is plain data and says at most a few names', async t => {
  const names = ['e', 'd', 'c', 'b', 'a'];
  const crowded = drawFleet(`
    rack r0
${names.map(name => `      - ${name} gpu=8`).join('\n')}
  `);
  const pods = names.map(node => podOf({ name: `p-${node}`, gpu: 8, pinnedTo: node }));
  const input = questionOf(crowded, { size: 5, worker: { gpu: 8 }, required: 'rack', pods });
  const explanation = explainRefusal(
    input,
    names.map(node => holder(`serving/${node}`, [node])),
  );
  t.same(JSON.parse(JSON.stringify(explanation)), explanation);
  t.equal(
    describeExplanation(explanation).split('. ')[0],
    'rack: 1 of 1 rack lacks 5 free hosts; 1 host held for serving/a, 1 host held for serving/b, ' +
      '1 host held for serving/c and 2 more',
  );
});

t.test('a slice is asked for on its own level', async t => {
  const input = questionOf(fleet, { size: 6, worker: { gpu: 8 }, required: 'block' });
  const slices = {
    level: 1,
    ranks: [
      [0, 1, 2],
      [3, 4, 5],
    ],
    apart: false,
  };
  const { levels } = explainRefusal({ ...input, topology: { ...input.topology, slices } }, []);
  t.same(
    levels.map(({ name, wanted }) => [name, wanted]),
    [
      ['block', 6],
      ['rack', 3],
      ['host', 1],
    ],
  );
});

t.test('members of three kinds are never said to lack more than they do', async t => {
  const mixed = drawFleet(`
    rack r0
      - n0 gpu=8
      - n1 gpu=8
  `);
  const input = labelledQuestion(mixed, [{ gpu: 6 }, { gpu: 6 }, { gpu: 3 }, { gpu: 1 }], {
    required: 'rack',
  });
  t.equal(planGroup(input).kind, 'rejection');
  t.equal(
    describeExplanation(explainRefusal(input, [])),
    'rack: 1 of 1 rack has room in numbers, yet not as the group asks for it. host: 2 hosts, each with room',
  );
});

t.test('numbers agree with those of the refusal, whatever the order of nodes', async t => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000_000 }), seed => {
      const instance = plainInstance(seed, 12);
      const { input, units } = questionOfPlain(instance);
      const refusal = planGroup(input);
      if (refusal.kind !== 'rejection') return;
      const explanation = explainRefusal(input, units);
      const [first] = explanation.levels;
      const nearest = first?.lacking[0]?.missing;
      if (nearest !== undefined) t.equal(refusal.size - nearest, refusal.bestRoom, `seed ${seed}`);
      t.equal(first?.ruledOut, 0);
      t.equal(first?.domains, refusal.domains);
      const turned = questionOfPlain({ ...instance, hosts: instance.hosts.toReversed() });
      t.same(explainRefusal(turned.input, units.toReversed()), explanation);
    }),
    { numRuns: 400 },
  );
});
