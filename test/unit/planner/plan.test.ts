import fc from 'fast-check';
import t from 'tap';
import { k8s } from '../../../src/api/names.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { planGroup } from '../../../src/planner/plan.ts';
import { describeRejection } from '../../../src/planner/rejection.ts';
import { drawFleet, type Fleet, labelOf, nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { labelledQuestion, outcomeOf, planLine, questionOf } from '../../builders/planning.ts';
import { type Ask, podOf, requiredDuringScheduling } from '../../builders/pods.ts';

const gpu8: Ask = { gpu: 8, cpu: 8 };
const gpu4: Ask = { gpu: 4, cpu: 8 };

const twoRacks = drawFleet(`
  zone za
    rack ra
      - a0 gpu=8
      - a1 gpu=8
      - a2 gpu=8
      - a3 gpu=8
    rack rb
      - b0 gpu=8
      - b1 gpu=8
      - b2 gpu=8
      - b3 gpu=8
`);

const halfFree = drawFleet(`
  zone za
    rack ra
      - a0 gpu=8 used=8
      - a1 gpu=8 used=8
      - a2 gpu=8
      - a3 gpu=8
    rack rb
      - b0 gpu=8
      - b1 gpu=8 used=1
      - b2 gpu=8 used=8
      - b3 gpu=8
`);

t.test('a group of equal members', async t => {
  t.equal(planLine(twoRacks, { size: 4, worker: gpu8, required: 'rack' }), 'a0 a1 a2 a3');
  t.equal(planLine(halfFree, { size: 2, worker: gpu8 }), 'a2 a3', 'goes to one rack without being told');
  t.equal(planLine(halfFree, { size: 4, worker: gpu8 }), 'a2 a3 b0 b3', 'spans racks when it may');
  t.equal(
    planLine(halfFree, { size: 4, worker: gpu8, required: 'rack' }),
    '4 pods do not fit in one rack: the best of 2 racks has room for 2 of 4; 4 of 8 nodes cannot take any of them: ' +
      '4 insufficient nvidia.com/gpu',
  );
  t.equal(
    planLine(halfFree, { size: 5, worker: gpu8, required: 'zone' }),
    '5 pods do not fit in one zone: the best of 1 zone has room for 4 of 5; 4 of 8 nodes cannot take any of them: ' +
      '4 insufficient nvidia.com/gpu',
  );
  t.equal(
    planLine(halfFree, { size: 5, worker: gpu8 }),
    '5 pods do not fit in the cluster: there is room for 4 of 5; 4 of 8 nodes cannot take any of them: ' +
      '4 insufficient nvidia.com/gpu',
  );
  t.equal(
    planLine(twoRacks, { size: 1, worker: { gpu: 9 } }),
    'the pod does not fit in the cluster: there is room for 0 of 1; 8 of 8 nodes cannot take it: ' +
      '8 insufficient nvidia.com/gpu',
  );
});

t.test('the level and domain of a plan are those of the smallest domain that holds it', async t => {
  const cases: readonly [number, Ask, string, number, readonly string[]][] = [
    [2, gpu4, 'host', 2, ['za', 'ra', 'a0']],
    [4, gpu8, 'rack', 1, ['za', 'ra']],
    [6, gpu8, 'zone', 0, ['za']],
  ];
  for (const [size, worker, name, level, domain] of cases) {
    const plan = planGroup(questionOf(twoRacks, { size, worker }));
    t.match(plan, { kind: 'plan', level, domain }, name);
  }
  const apart = drawFleet(`
    zone za
      - a0 gpu=8
    zone zb
      - b0 gpu=8
  `);
  t.match(planGroup(questionOf(apart, { size: 2, worker: gpu8 })), { level: -1, domain: [] });
});

t.test('a leader without accelerator', async t => {
  const fleet = drawFleet(`
    rack ra
      - a0 gpu=8
      - a1 gpu=8
      - a2 cpu=8 label=pool=cpu taint=cpu-only:NoSchedule
      - a3 gpu=8 cordoned
    rack rb
      - b0 gpu=8
      - b1 gpu=8
      - b2 gpu=8
      - b3 cpu=8
    rack rc
      - c0 cpu=8 label=pool=cpu taint=cpu-only:NoSchedule
      - c1 gpu=8
  `);
  const leader: Ask = {
    cpu: 4,
    nodeSelector: { pool: 'cpu' },
    tolerations: [{ key: 'cpu-only', operator: 'Exists' }],
  };
  t.equal(planLine(fleet, { size: 3, leader, worker: gpu8, required: 'rack' }), 'a2 a0 a1');
  t.equal(
    planLine(fleet, { size: 4, leader, worker: gpu8, required: 'rack' }),
    '4 pods do not fit in one rack: the best of 3 racks has room for 3 of 4; 4 of 10 nodes cannot take a worker: ' +
      '2 taint cpu-only:NoSchedule, 1 cordoned, 1 insufficient nvidia.com/gpu',
  );
  t.equal(planLine(fleet, { size: 6, leader, worker: gpu8 }), 'a2 a0 a1 b0 b1 b2', 'and without a level');
  t.equal(
    planLine(fleet, { size: 3, leader: { ...leader, cpu: 16 }, worker: gpu8 }),
    '3 pods do not fit in the cluster: there is room for 2 of 3; 10 of 10 nodes cannot take a leader: ' +
      '7 node selector or affinity, 2 insufficient cpu, 1 cordoned',
  );
});

t.test('a leader and a worker stand beside each other on one host', async t => {
  const fleet = drawFleet(`
    rack ra
      - a0 gpu=8 cpu=20
      - a1 gpu=8 cpu=16
  `);
  const leader: Ask = { cpu: 4 };
  const worker: Ask = { gpu: 8, cpu: 16 };
  t.equal(planLine(fleet, { size: 3, leader, worker }), 'a0 a0 a1', 'the leader where it costs no worker');
  t.equal(planLine(fleet, { size: 2, leader, worker }), 'a0 a0', 'the whole group on one host');
  t.equal(
    planLine(fleet, { size: 3, leader: { cpu: 5 }, worker }),
    '3 pods do not fit in the cluster: there is room for 2 of 3',
    'where every node takes a worker there is no cause to tell',
  );
});

t.test('the objective', async t => {
  const fleet = drawFleet(`
    block b0
      rack r0
        - n00 gpu=8
        - n01 gpu=8
      rack r1
        - n10 gpu=8
        - n11 gpu=8
    block b1
      rack r2
        - n20 gpu=8
        - n21 gpu=8
        - n22 gpu=8 used=1
      rack r3
        - n30 gpu=8
        - n31 gpu=8
  `);
  t.equal(planLine(fleet, { size: 2, worker: gpu8, required: 'rack' }), 'n20 n21', 'opened racks come first');
  const spread = drawFleet(`
    block b0
      rack r0
        - n00 gpu=8
        - n01 gpu=8
    block b1
      rack r1
        - n10 gpu=8
        - n11 gpu=8
      rack r2
        - n20 gpu=8 used=8
        - n21 gpu=8 used=8
  `);
  t.equal(planLine(spread, { size: 2, worker: gpu8 }), 'n10 n11', 'whole blocks come last');
  const tight = drawFleet(`
    rack r0
      - n00 gpu=8 used=2
      - n01 gpu=8
      - n02 gpu=8
      - n03 gpu=8
    rack r1
      - n10 gpu=8 used=2
      - n11 gpu=8
      - n12 gpu=8
  `);
  t.equal(planLine(tight, { size: 2, worker: gpu8 }), 'n11 n12', 'the tightest domain that does');
  const singles = drawFleet(`
    rack r0
      - n00 gpu=8 used=1
      - n01 gpu=8 used=6
      - n02 gpu=8 used=4
      - n03 gpu=8
  `);
  t.equal(planLine(singles, { size: 1, worker: { gpu: 2 } }), 'n01', 'best fit holds for a single pod too');
  t.equal(planLine(singles, { size: 1, worker: { gpu: 3 } }), 'n02');
  t.equal(planLine(singles, { size: 1, worker: { gpu: 8 } }), 'n03');
  const hosts = drawFleet(`
    rack r0
      - n00 gpu=8 used=6
      - n01 gpu=8 used=4
      - n02 gpu=8 used=3
      - n03 gpu=8 used=5
  `);
  t.equal(
    planLine(hosts, { size: 8, worker: { gpu: 1 } }),
    'n02 n02 n02 n02 n02 n03 n03 n03',
    'fewest hosts',
  );
  t.equal(
    planLine(hosts, { size: 7, worker: { gpu: 1 } }),
    'n00 n00 n02 n02 n02 n02 n02',
    'the rest where it is tightest',
  );
  const racks = drawFleet(`
    block b0
      rack r0
        - n00 gpu=8
      rack r1
        - n10 gpu=8
        - n11 gpu=8
      rack r2
        - n20 gpu=8
        - n21 gpu=8
        - n22 gpu=8
  `);
  t.equal(planLine(racks, { size: 5, worker: gpu8 }), 'n10 n11 n20 n21 n22', 'fewest racks, exactly filled');
  t.equal(planLine(racks, { size: 4, worker: gpu8 }), 'n00 n20 n21 n22', 'the smallest rack for the rest');
});

t.test('ranks follow topology order', async t => {
  const fleet = drawFleet(`
    block b0
      rack r0
        - n00 gpu=8
        - n01 gpu=8
      rack r1
        - n10 gpu=8
        - n11 gpu=8
    block b1
      rack r2
        - n20 gpu=8
        - n21 gpu=8
        - l0 cpu=4 label=pool=cpu
  `);
  const leader: Ask = { cpu: 1, nodeSelector: { pool: 'cpu' } };
  t.equal(
    planLine(fleet, { size: 7, leader, worker: gpu8 }),
    'l0 n20 n21 n00 n01 n10 n11',
    "the leader's rack, then the other racks one after the other",
  );
  t.equal(planLine(fleet, { size: 6, worker: { gpu: 8 } }), 'n00 n01 n10 n11 n20 n21');
  t.equal(
    planLine(fleet, { size: 8, leader: { gpu: 8, cpu: 1 }, worker: { gpu: 4 } }),
    'n20 n21 n21 n00 n00 n01 n01 n10',
    "ranks on one host are neighbours, and the leader's rack comes first",
  );
});

t.test('members that stay', async t => {
  const fixed = { 0: 'a0', 1: 'a1', 3: 'a3' };
  const question = { size: 4, worker: gpu8, required: 'rack', fixed };
  const bound = (names: Readonly<Record<number, string>>) =>
    Object.entries(names).map(([rank, node]) => podOf({ name: `m${rank}`, ...gpu8, node }));
  t.equal(planLine(twoRacks, { ...question, pods: bound(fixed) }), 'a0 a1 a2 a3', 'the fourth joins them');
  t.equal(
    planLine(twoRacks, { ...question, pods: bound({ ...fixed, 2: 'a2' }) }),
    '4 pods do not fit in one rack: the best of 1 rack has room for 3 of 4; 4 of 8 nodes cannot take a worker: ' +
      '4 insufficient nvidia.com/gpu',
    'only their rack is looked at',
  );
  t.equal(
    planLine(twoRacks, { ...question, pods: bound(fixed), excluded: { a2: 'failed' } }),
    '4 pods do not fit in one rack: the best of 1 rack has room for 3 of 4; 4 of 8 nodes cannot take a worker: ' +
      '3 insufficient nvidia.com/gpu, 1 failed',
  );
  const apart = { 0: 'a0', 1: 'b0' };
  t.equal(
    planLine(twoRacks, { size: 3, worker: gpu8, required: 'rack', fixed: apart, pods: bound(apart) }),
    '3 pods do not fit in one rack: none has the members that stay where they are; 2 of 8 nodes cannot take a ' +
      'worker: 2 insufficient nvidia.com/gpu',
  );
  t.equal(
    planLine(twoRacks, {
      size: 3,
      worker: gpu8,
      fixed: { 1: 'a1', 2: 'a2' },
      pods: bound({ 1: 'a1', 2: 'a2' }),
    }),
    'a0 a1 a2',
    'the leader is the one to move',
  );
  t.equal(
    planLine(twoRacks, { size: 2, worker: gpu8, fixed: { 0: 'a0', 1: 'a1' } }),
    'a0 a1',
    'nobody left to place',
  );
  t.match(planGroup(questionOf(twoRacks, { size: 2, worker: gpu8, fixed: { 0: 'gone' } })), {
    kind: 'rejection',
    code: 'NoNodeMatches',
  });
  const blocks = drawFleet(`
    block b0
      rack r0
        - n00 gpu=8
      rack r1
        - n10 gpu=8
        - n11 gpu=8
      rack r2
        - n20 gpu=8
        - n21 gpu=8
      rack r3
        - n30 gpu=8 used=8
        - n31 gpu=8
  `);
  const wide = { 0: 'n10', 2: 'n20' };
  t.equal(
    planLine(blocks, { size: 4, worker: gpu8, required: 'block', fixed: wide, pods: bound(wide) }),
    'n10 n11 n20 n21',
    'no further rack is opened while those of the group have room, though another one alone would do',
  );
  t.equal(
    planLine(blocks, { size: 3, worker: gpu8, fixed: wide, pods: bound(wide) }),
    'n10 n11 n20',
    'not even the broken one',
  );
});

t.test('a rank moves onto a host of its group before it opens another', async t => {
  const fleet = drawFleet(`
    rack r0
      - n0 gpu=8 used=6
      - n1 gpu=8
      - n2 gpu=8
  `);
  const pods = [podOf({ name: 'm0', gpu: 4, node: 'n1' })];
  t.equal(planLine(fleet, { size: 2, worker: { gpu: 2 }, fixed: { 0: 'n1' }, pods }), 'n1 n1');
});

t.test('what keeps a node out', async t => {
  const fleet = drawFleet(`
    rack ra
      - a0 gpu=8 cordoned
      - a1 gpu=8 unready
      - a2 gpu=8 taint=dedicated=x:NoSchedule
      - a3 gpu=8 taint=evil:NoExecute
      - a4 gpu=8 taint=soft:PreferNoSchedule
      - a5 gpu=8 label=pool=other
      - a6 gpu=8 used=1
      - a7 gpu=8 cpu=4
      - a8 gpu=8 pods=0
      - a9 gpu=4
  `);
  const worker: Ask = { gpu: 8, cpu: 8 };
  t.equal(
    planLine(fleet, { size: 3, worker, excluded: { a5: 'xid 79 on a5' } }),
    '3 pods do not fit in the cluster: there is room for 1 of 3; 9 of 10 nodes cannot take any of them: ' +
      '2 insufficient nvidia.com/gpu, 1 cordoned, 1 insufficient cpu, 1 insufficient pods, 1 not ready, ' +
      '1 taint dedicated:NoSchedule, 1 taint evil:NoExecute, 1 xid 79 on a5',
  );
  const tolerations = [
    { key: 'dedicated', operator: 'Equal', value: 'x' },
    { key: 'evil', operator: 'Exists', effect: 'NoExecute' },
    { key: 'node.kubernetes.io/unschedulable', operator: 'Exists' },
  ];
  t.equal(planLine(fleet, { size: 5, worker: { ...worker, tolerations } }), 'a0 a2 a3 a4 a5', 'tolerated');
  t.equal(planLine(fleet, { size: 1, worker: { ...worker, nodeSelector: { pool: 'other' } } }), 'a5');
});

t.test('host ports allow one member for each host', async t => {
  const worker: Ask = { gpu: 2, hostPort: 29500 };
  t.equal(planLine(twoRacks, { size: 3, worker }), 'a0 a1 a2');
  t.equal(planLine(twoRacks, { size: 3, worker, leader: { cpu: 1, hostPort: 80 } }), 'a0 a0 a1');
  t.equal(planLine(twoRacks, { size: 3, worker, leader: { cpu: 1, hostPort: 29500 } }), 'a0 a1 a2');
  const pods = [podOf({ name: 'p', hostPort: 29500, node: 'a0' })];
  t.equal(planLine(twoRacks, { size: 4, worker, pods }), 'b0 b1 b2 b3', 'another rack for a taken port');
  t.match(
    planLine(twoRacks, { size: 4, worker, pods, required: 'rack', excluded: { b0: 'x' } }),
    /1 host port taken/,
  );
});

t.test('nodes whose label is missing', async t => {
  const fleet: Fleet = {
    levels: [
      { name: 'block', nodeLabel: labelOf('block') },
      { name: 'rack', nodeLabel: labelOf('rack') },
    ],
    nodes: [
      nodeOf({ name: 'bare', gpu: 16 }),
      nodeOf({ name: 'racked', gpu: 16, labels: { [labelOf('rack')]: 'r9' } }),
      nodeOf({ name: 'n0', gpu: 8, labels: { [labelOf('block')]: 'b0', [labelOf('rack')]: 'r0' } }),
      nodeOf({ name: 'n1', gpu: 8, labels: { [labelOf('block')]: 'b0', [labelOf('rack')]: 'r0' } }),
    ],
    pods: [],
  };
  t.equal(planLine(fleet, { size: 2, worker: gpu8 }), 'bare bare', 'they are good for who asks for no level');
  t.equal(
    planLine(fleet, { size: 2, worker: gpu8, required: 'rack' }),
    'racked racked',
    'in a rack, of no block',
  );
  t.equal(
    planLine(fleet, { size: 2, worker: gpu8, required: 'block' }),
    'n0 n1',
    'one host is not in one block unless it is in a block',
  );
  const unlabelled = { ...fleet, nodes: fleet.nodes.slice(0, 1) };
  t.equal(
    planLine(unlabelled, { size: 1, worker: gpu8, required: 'block' }),
    'the pod does not fit in one block: no node carries the label example.com/block',
  );
  t.equal(
    planLine({ ...fleet, nodes: [] }, { size: 2, worker: gpu8 }),
    '2 pods do not fit in the cluster: there is room for 0 of 2',
  );
  t.match(planGroup(questionOf({ ...fleet, nodes: [] }, { size: 2, worker: gpu8 })), {
    code: 'NoNodeMatches',
  });
});

t.test("LWS's exclusive topology over a label that is no level", async t => {
  const fleet = drawFleet(`
    rack ra
      - a0 gpu=8 label=pool=p1
      - a1 gpu=8 label=pool=p2
      - a2 gpu=8
    rack rb
      - b0 gpu=8 label=pool=p1
      - b1 gpu=8 label=pool=p2 used=1
      - b2 gpu=8
  `);
  const question = { size: 2, worker: gpu8, exclusive: 'pool' };
  t.equal(
    planLine(fleet, question),
    'b0 a0',
    'all members on nodes of one value, the leader in the rack that is broken already',
  );
  t.equal(
    planLine(fleet, { ...question, size: 3 }),
    '3 pods do not fit in one value of pool: the best of 2 values has room for 2 of 3; 3 of 6 nodes cannot take a ' +
      'worker: 2 without node label pool, 1 insufficient nvidia.com/gpu',
  );
  t.equal(
    planLine(fleet, { ...question, required: 'rack' }),
    '2 pods do not fit in one rack with one value of pool: the best of 4 racks has room for 1 of 2; 3 of 6 nodes ' +
      'cannot take a worker: 2 without node label pool, 1 insufficient nvidia.com/gpu',
  );
  t.match(planGroup(questionOf(fleet, { ...question, exclusive: 'no-such-label' })), {
    kind: 'rejection',
    code: 'NoNodeMatches',
    domains: 0,
    causes: [{ cause: 'without node label no-such-label', nodes: 6 }],
  });
  t.match(planLine(fleet, { ...question, exclusive: 'toString' }), /no node carries the label toString/);
  const pods = [podOf({ name: 'm0', ...gpu8, node: 'a1' })];
  t.match(
    planLine(fleet, { ...question, fixed: { 0: 'a1' }, pods }),
    /the best of 1 value has room for 1 of 2/,
    'only the value of the member that stays',
  );
});

t.test('required inter-pod terms as LWS writes them', async t => {
  const other = new LwsGroup({ name: 'other', size: 2, worker: gpu8, exclusive: labelOf('rack') });
  const question = { size: 2, worker: gpu8, exclusive: labelOf('rack') };
  t.equal(planLine(twoRacks, question), 'a0 a1', 'its own affinity is no obstacle to the first of the group');
  const bound = [other.leader({ node: 'a0', gated: false })];
  t.equal(
    planLine(twoRacks, { ...question, pods: bound }),
    'b0 b1',
    'another exclusive group keeps its rack',
  );
  const planned = [other.leader({ pinnedTo: 'a3', gated: false })];
  t.equal(planLine(twoRacks, { ...question, pods: planned }), 'b0 b1', 'even while it is only on its way');
  t.equal(
    planLine(twoRacks, { size: 2, worker: gpu8, pods: bound }),
    'b0 b1',
    'a group that is not exclusive is kept out too',
  );
  const plain = new LwsGroup({ name: 'plain', size: 2, worker: gpu8 });
  t.equal(
    planLine(twoRacks, { ...question, pods: [plain.worker(1, { node: 'a0', gated: false })] }),
    'b0 b1',
    "and keeps itself out of racks with others' pods",
  );
  const elsewhere = new LwsGroup({ ...other.parts, namespace: 'elsewhere' });
  t.equal(
    planLine(twoRacks, { ...question, pods: [elsewhere.leader({ node: 'b0', gated: false })] }),
    'b1 b2',
    'terms without namespaces mean the pod’s own',
  );
  t.equal(
    planLine(twoRacks, {
      ...question,
      pods: [...bound, plain.worker(1, { node: 'b3', gated: false })],
    }),
    '2 pods do not fit in one rack: the best of 2 racks has room for 1 of 2; 8 of 8 nodes cannot take a leader: ' +
      '6 pod anti-affinity, 2 insufficient nvidia.com/gpu',
  );
});

t.test('terms between the members of one group', async t => {
  const term = (labels: Record<string, string>, topologyKey: string) => ({
    labelSelector: { matchLabels: labels },
    topologyKey,
  });
  const near = (labels: Record<string, string>, key: string) => ({
    podAffinity: { [requiredDuringScheduling]: [term(labels, key)] },
  });
  const away = (labels: Record<string, string>, key: string) => ({
    podAntiAffinity: { [requiredDuringScheduling]: [term(labels, key)] },
  });
  const labels = { app: 'llm' };
  const worker: Ask = { gpu: 2, labels };
  t.equal(
    planLine(twoRacks, { size: 3, worker: { ...worker, affinity: away(labels, k8s.hostname) } }),
    'a0 a1 a2',
    'anti-affinity over the host name means one for each host',
  );
  t.match(
    planLine(twoRacks, {
      size: 5,
      worker: { ...worker, affinity: away(labels, k8s.hostname) },
      required: 'rack',
    }),
    /the best of 2 racks has room for 4 of 5/,
  );
  const leader: Ask = { cpu: 1, labels: { app: 'head' } };
  t.equal(
    planLine(twoRacks, {
      size: 3,
      leader,
      worker: { gpu: 4, labels, affinity: away({ app: 'head' }, k8s.hostname) },
    }),
    'a0 a1 a1',
    'workers that keep off their leader',
  );
  t.equal(
    planLine(twoRacks, {
      size: 6,
      leader,
      worker: { ...gpu8, affinity: near({ app: 'head' }, labelOf('zone')) },
    }),
    'a0 a0 a1 a2 a3 b0',
    'workers near a leader that has no node yet',
  );
  t.match(
    planGroup(
      questionOf(twoRacks, {
        size: 6,
        leader,
        worker: { ...gpu8, affinity: near({ app: 'head' }, labelOf('rack')) },
      }),
    ),
    { kind: 'rejection', code: 'NoRoom' },
    'five hosts of one rack are not there',
  );
  t.match(
    planGroup(
      questionOf(twoRacks, {
        size: 12,
        leader,
        worker: { ...gpu8, affinity: near({ app: 'head' }, labelOf('rack')) },
      }),
    ),
    { kind: 'rejection', code: 'NoRoom' },
    'too many for the whole cluster, wherever the leader stands',
  );
  t.match(
    planGroup(
      questionOf(twoRacks, {
        size: 2,
        worker: { ...gpu8, affinity: near({ app: 'nobody' }, labelOf('rack')) },
      }),
    ),
    { kind: 'rejection', causes: [{ cause: 'pod affinity', nodes: 8 }] },
    'near a pod that is not there',
  );
  const pods = [podOf({ name: 'db', labels: { app: 'db' }, node: 'b2' })];
  t.equal(
    planLine(twoRacks, {
      size: 2,
      worker: { ...gpu8, affinity: near({ app: 'db' }, labelOf('rack')) },
      pods,
    }),
    'b0 b1',
  );
  t.match(
    planGroup(
      questionOf(twoRacks, { size: 3, worker: { ...gpu8, labels, affinity: away(labels, labelOf('rack')) } }),
    ),
    { kind: 'rejection', code: 'NoRoom' },
    'one for each rack, of two racks',
  );
});

t.test("members that differ, though another's anti-affinity sees only one of them", async t => {
  const guard = podOf({
    name: 'guard',
    node: 'a0',
    affinity: {
      podAntiAffinity: {
        [requiredDuringScheduling]: [
          { labelSelector: { matchLabels: { role: 'decode' } }, topologyKey: labelOf('rack') },
        ],
      },
    },
  });
  const fleet = drawFleet(`
    rack ra
      - a0 gpu=8
    rack rb
      - b0 gpu=8 used=8
  `);
  const alike = (role: string): Ask => ({ gpu: 2, labels: { role } });
  const result = planGroup(labelledQuestion(fleet, [alike('prefill'), alike('decode')], { pods: [guard] }));
  t.equal(result.kind === 'plan', false, 'is never planned onto a node that refuses one of them');
});

t.test('members of three kinds', async t => {
  const small: Ask = { gpu: 1 };
  const middle: Ask = { gpu: 3 };
  const large: Ask = { gpu: 5 };
  const fleet = drawFleet(`
    rack r0
      - n00 gpu=8 used=1
      - n01 gpu=4
    rack r1
      - n10 gpu=8
      - n11 gpu=8 used=7
  `);
  t.equal(outcomeOf(labelledQuestion(fleet, [small, large, middle])), 'n00 n00 n01', 'are packed');
  t.equal(outcomeOf(labelledQuestion(fleet, [middle, large, small], { required: 'rack' })), 'n01 n00 n00');
  const refused = planGroup(labelledQuestion(fleet, [large, large, large, small]));
  t.match(refused, { kind: 'rejection', code: 'NoRoom', bestRoom: undefined, about: 'members' });
  t.equal(
    outcomeOf(labelledQuestion(fleet, [{ gpu: 9 }, large, small], { required: 'rack' })),
    '3 pods do not fit in one rack: none of 2 holds them all',
  );
  t.match(
    outcomeOf(labelledQuestion(fleet, [{ gpu: 9 }, { gpu: 10 }, { gpu: 11 }])),
    /4 of 4 nodes cannot take any of them: 4 insufficient nvidia.com\/gpu/,
  );
});

t.test('members of many kinds that do not quite fit', async t => {
  const fleetOf = (count: number) => {
    const hosts = Array.from({ length: count }, (_, i) => `- n${10 + i} gpu=10 cpu=4000`).join('\n        ');
    return drawFleet(`
      rack r0
        ${hosts}
    `);
  };
  // As many GPUs as there are, yet three beside six leave one idle.
  const members = (sixes: number, threes: number, twos: number): Ask[] => [
    ...Array.from({ length: sixes }, () => ({ gpu: 6 })),
    ...Array.from({ length: threes }, () => ({ gpu: 3 })),
    ...Array.from({ length: twos }, () => ({ gpu: 2 })),
  ];
  const few = members(12, 6, 15);
  t.match(planGroup(labelledQuestion(fleetOf(12), few)), { kind: 'rejection' }, 'three kinds are decided');
  const distinct = members(16, 8, 20).map((ask, i) => ({ ...ask, cpu: i + 1 }));
  const startedMs = performance.now();
  const result = planGroup(labelledQuestion(fleetOf(16), distinct));
  t.comment(`gave up after ${(performance.now() - startedMs).toFixed(0)} ms`);
  t.match(
    result,
    { kind: 'undecided', reason: /within the bounds of the search/ },
    'a search that runs into its bound says so and never that it is impossible',
  );
  const oneMore = planGroup(labelledQuestion(fleetOf(16), [...distinct, { gpu: 1 }]));
  t.match(oneMore, { kind: 'rejection' }, 'more than there is in all needs no search');
});

t.test('the order in which nodes and pods are seen changes nothing', async t => {
  const fleet = drawFleet(`
    block b0
      rack r0
        - n00 gpu=8 used=2
        - n01 gpu=8
        - n02 cpu=4
      rack r1
        - n10 gpu=8
        - n11 gpu=8 used=8 usedCpu=3
    block b1
      rack r2
        - n20 gpu=8
        - n21 gpu=8 used=4
  `);
  const shuffled = fc.tuple(
    fc.shuffledSubarray([...fleet.nodes], { minLength: fleet.nodes.length }),
    fc.shuffledSubarray([...fleet.pods], { minLength: fleet.pods.length }),
    fc.integer({ min: 1, max: 8 }),
    fc.integer({ min: 1, max: 8 }),
    fc.constantFrom(undefined, 'block', 'rack', 'host'),
  );
  fc.assert(
    fc.property(shuffled, ([nodes, pods, size, gpu, required]) => {
      const question = { size, worker: { gpu }, leader: { cpu: 2 }, ...(required && { required }) };
      const straight = planGroup(questionOf(fleet, question));
      const other = planGroup(questionOf({ ...fleet, nodes, pods }, question));
      t.same(other, straight);
    }),
    { numRuns: 300 },
  );
});

t.test('a memo that has seen other questions changes nothing', async t => {
  const memo = new FitMemo();
  const cases = [1, 2, 4, 8].flatMap(gpu => [2, 3, 8].map(size => ({ size, worker: { gpu } })));
  for (let round = 0; round < 2; round++) {
    for (const question of cases) {
      const input = questionOf(halfFree, question);
      t.same(planGroup({ ...input, memo }), planGroup(input));
    }
  }
});

t.test('a refusal is the same value and the same sentence each time', async t => {
  const input = questionOf(halfFree, { size: 6, worker: gpu8, required: 'rack' });
  const [first, second] = [planGroup(input), planGroup(input)];
  t.same(first, second);
  t.match(first, {
    code: 'NoRoom',
    level: 1,
    domains: 2,
    bestRoom: 2,
    size: 6,
    kept: 0,
    nodes: 8,
    about: 'members',
  });
  if (first.kind === 'rejection') t.equal(first.causes.length, 1);
  if (first.kind === 'rejection')
    t.match(describeRejection(first, input.snapshot.tree.levels), /^6 pods do not fit/);
});
