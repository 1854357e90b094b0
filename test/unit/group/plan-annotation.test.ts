import fc from 'fast-check';
import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { keyOf } from '../../../src/cluster/resources.ts';
import {
  formatPlanAnnotation,
  maxPlanAnnotationBytes,
  type PlanAnnotation,
  parsePlanAnnotation,
} from '../../../src/group/plan-annotation.ts';
import { believedPlan } from '../../../src/group/pod-info.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { gpuName } from '../../builders/pods.ts';

const plan: PlanAnnotation = {
  leaderUid: 'uid-llm-0-1',
  generation: 3,
  nodes: ['n0', 'n1.example.com', ''],
  requests: [
    new Map([
      ['cpu', 1500],
      ['pods', 1],
    ]),
    new Map([
      [gpuName, 8],
      ['memory', 3 * 2 ** 30],
      ['pods', 1],
    ]),
    new Map([
      ['pods', 1],
      ['memory', 3 * 2 ** 30],
      [gpuName, 8],
    ]),
  ],
};

t.test('a plan is written compactly and read back', async t => {
  const text = formatPlanAnnotation(plan);
  t.equal(
    text,
    '{"version":1,"leaderUID":"uid-llm-0-1","generation":3,"nodes":["n0","n1.example.com",""],' +
      '"requests":[{"cpu":"1500m","pods":"1"},{"memory":"3Gi","nvidia.com/gpu":"8","pods":"1"}],"requestOf":[0,1,1]}',
  );
  t.same(parsePlanAnnotation(text), plan);
});

t.test('devices stand in it by rank, pools by number', async t => {
  const device = (name: string) => ({ driver: 'gpu.nvidia.com', pool: 'n0', device: name });
  const withDevices: PlanAnnotation = {
    ...plan,
    devices: [
      {
        claims: [
          {
            claim: 'devices',
            requests: [
              { request: 'gpu', devices: [device('gpu-0'), device('gpu-1')] },
              {
                request: 'nic/any',
                devices: [
                  { driver: 'dra.net', pool: 'n0', device: 'efa0', consumedCapacity: { bandwidth: '10G' } },
                ],
              },
            ],
          },
        ],
        rung: 'pcie',
      },
      { claims: [{ claim: 'none', requests: [] }], rung: undefined },
      { claims: [], rung: undefined },
    ],
  };
  const text = formatPlanAnnotation(withDevices);
  t.ok(
    text.endsWith(
      ',"pools":[["gpu.nvidia.com","n0"],["dra.net","n0"]],' +
        '"devices":[[["devices",["gpu",[0,"gpu-0"],[0,"gpu-1"]],["nic/any",[1,"efa0",{"bandwidth":"10G"}]]]],[["none"]],[]],' +
        '"alignment":["pcie","",""]}',
    ),
    text,
  );
  t.same(parsePlanAnnotation(text), withDevices);
  const broken = (change: (value: Record<string, unknown>) => void) => {
    const value = JSON.parse(text);
    change(value);
    return parsePlanAnnotation(JSON.stringify(value));
  };
  const cases: [string, unknown, string][] = [
    ['devices', [], 'devices must have one list for each node'],
    ['devices', [[], [], 1], 'devices of rank 2 cannot be read'],
    ['devices', [[['d', ['r', [2, 'x']]]], [], []], 'devices of rank 0 cannot be read'],
    ['devices', [[['d', ['r', [0, 1]]]], [], []], 'devices of rank 0 cannot be read'],
    ['devices', [[['d', ['r', [0, 'x', { a: 1 }]]]], [], []], 'devices of rank 0 cannot be read'],
    ['devices', [[['d', ['r', [0, 'x', {}, 1]]]], [], []], 'devices of rank 0 cannot be read'],
    ['devices', [[['d', 'r']], [], []], 'devices of rank 0 cannot be read'],
    ['alignment', ['pcie'], 'alignment must have one word for each node'],
    ['alignment', ['near', '', ''], 'alignment of rank 0 is no rung'],
    ['pools', [['a']], 'pools must hold a driver and a name each'],
  ];
  for (const [key, bad, problem] of cases)
    t.match(
      broken(value => {
        value[key] = bad;
      }),
      { code: 'InvalidPlan', message: `the plan annotation: ${problem}` },
      problem,
    );
});

const name = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?$/);
const resources = fc
  .uniqueArray(
    fc.tuple(fc.constantFrom('cpu', 'memory', 'pods', gpuName, 'ephemeral-storage', 'x'), fc.nat()),
    {
      selector: ([key]) => key,
    },
  )
  .map(entries => new Map(entries));
const anyPlan: fc.Arbitrary<PlanAnnotation> = fc
  .record({
    leaderUid: fc.string({ minLength: 1 }),
    generation: fc.nat(),
    members: fc.array(fc.tuple(fc.oneof(name, fc.constant('')), resources), { maxLength: 20 }),
  })
  .map(({ leaderUid, generation, members }) => ({
    leaderUid,
    generation,
    nodes: members.map(([node]) => node),
    requests: members.map(([, requests]) => requests),
  }));

t.test('any plan survives being written and read', async t => {
  fc.assert(
    fc.property(anyPlan, original => {
      const read = parsePlanAnnotation(formatPlanAnnotation(original));
      if ('code' in read) throw new Error(read.message);
      t.same({ ...read, requests: [] }, { ...original, requests: [] });
      t.same(read.requests.map(keyOf), original.requests.map(keyOf));
    }),
    { numRuns: 300 },
  );
});

t.test('what is not exactly a plan is refused', async t => {
  const good = {
    version: 1,
    leaderUID: 'u',
    generation: 1,
    nodes: ['n0'],
    requests: [{ pods: '1' }],
    requestOf: [0],
  };
  const parse = (value: unknown) => parsePlanAnnotation(JSON.stringify(value));
  t.notMatch(parse(good), { code: 'InvalidPlan' });
  const bad: readonly unknown[] = [
    null,
    [],
    7,
    'plan',
    { ...good, version: 2 },
    { ...good, version: '1' },
    { ...good, version: 'x'.repeat(100_000) },
    { ...good, leaderUID: '' },
    { ...good, leaderUID: 7 },
    { ...good, generation: -1 },
    { ...good, generation: 1.5 },
    { ...good, generation: '1' },
    { ...good, generation: 1e300 },
    { ...good, nodes: 'n0' },
    { ...good, nodes: { 0: 'n0', length: 1 } },
    { ...good, nodes: [7] },
    { ...good, nodes: ['N0'] },
    { ...good, nodes: ['n0/../n1'] },
    { ...good, nodes: ['-n0'] },
    { ...good, nodes: ['n0\n'] },
    { ...good, nodes: ['a'.repeat(254)] },
    { ...good, requestOf: [0, 0] },
    { ...good, requestOf: [] },
    { ...good, requestOf: [1] },
    { ...good, requestOf: [-1] },
    { ...good, requestOf: ['0'] },
    { ...good, requestOf: ['constructor'] },
    { ...good, requests: [] },
    { ...good, requests: {} },
    { ...good, requests: [null] },
    { ...good, requests: [[]] },
    { ...good, requests: [{ cpu: 1 }] },
    { ...good, requests: [{ cpu: '-1' }] },
    { ...good, requests: [{ cpu: 'lots' }] },
    { ...good, requests: [{ cpu: '9e99' }] },
    { ...good, requests: [{ memory: '9007199254740993' }] },
  ];
  for (const value of bad) {
    const found = parse(value);
    t.match(
      found,
      { code: 'InvalidPlan', message: /^the plan annotation / },
      JSON.stringify(value)?.slice(0, 60),
    );
    if ('code' in found) t.ok(found.message.length < 300, 'in a message of bearable length');
  }
  for (const text of ['', '{', 'undefined', '{"version":1', '\u0000'])
    t.match(parsePlanAnnotation(text), { code: 'InvalidPlan' });
  t.match(parsePlanAnnotation(`${' '.repeat(maxPlanAnnotationBytes)}{}`), { message: /is longer than/ });
  const polluting =
    '{"version":1,"leaderUID":"u","generation":1,"nodes":["n0"],"requests":[{"__proto__":"1"}],"requestOf":[0]}';
  const read = parsePlanAnnotation(polluting);
  t.same('code' in read ? [] : [...(read.requests[0] ?? [])], [['__proto__', 1]], 'is a name like any other');
});

t.test('whatever the text, reading it never throws', async t => {
  const near = anyPlan.chain(original =>
    fc.tuple(fc.constant(formatPlanAnnotation(original)), fc.nat(), fc.string({ maxLength: 4 })),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), near), input => {
      const text = typeof input === 'string' ? input : spoiled(...input);
      const read = parsePlanAnnotation(text);
      if ('code' in read) return;
      // What is believed can be written again and says the same.
      t.same(parsePlanAnnotation(formatPlanAnnotation(read)), read);
    }),
    { numRuns: 3_000 },
  );
});

t.test('a plan is believed only on the leader it was made for', async t => {
  const group = new LwsGroup({ size: 3, worker: { gpu: 8 } });
  const carrying = (text: string, more: object = {}) =>
    decode(group.leader({ annotations: { [berth.plan]: text }, ...more }));
  const text = formatPlanAnnotation(plan);
  t.same(believedPlan(carrying(text)), plan);
  t.equal(believedPlan(decode(group.leader())), undefined, 'none');
  t.equal(believedPlan(carrying('{}')), undefined, 'unreadable');
  t.equal(
    believedPlan(carrying(text, { uid: 'another' })),
    undefined,
    'copied, or left from an earlier incarnation',
  );
  const shorter = formatPlanAnnotation({ ...plan, nodes: ['n0'], requests: plan.requests.slice(0, 1) });
  t.equal(believedPlan(carrying(shorter)), undefined, 'of another size');
  t.equal(
    decode(group.worker(1, { annotations: { [berth.plan]: text }, uid: plan.leaderUid })).plan,
    undefined,
    'a worker carries none',
  );
});

function spoiled(text: string, at: number, instead: string): string {
  const start = at % (text.length + 1);
  return text.slice(0, start) + instead + text.slice(start + 1);
}
