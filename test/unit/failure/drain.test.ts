import t from 'tap';
import type { Endpoint, EndpointSlice } from '../../../src/api/discovery.ts';
import { k8s } from '../../../src/api/names.ts';
import { type DrainFacts, drainStep, type GatedMember } from '../../../src/failure/drain.ts';
import { type Front, frontsOf } from '../../../src/failure/fronts.ts';
import { decode } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';

function gated(more: Partial<GatedMember> = {}): GatedMember {
  return { uid: 'own', withdrawn: false, ready: true, nodeAnswers: true, ...more };
}

function front(serving: readonly string[], more: Partial<Front> = {}): Front {
  return { kind: 'service', listed: new Set(['own', 'other']), serving: new Set(serving), ...more };
}

function step(more: Partial<DrainFacts> = {}) {
  return drainStep({
    signal: 'DeviceUnhealthy',
    gated: [gated()],
    members: new Set(['own', 'worker']),
    fronts: [front(['own', 'other'])],
    drainingForMs: undefined,
    drainMs: 2_000,
    drainMaxMs: 30_000,
    ...more,
  });
}

const go = { kind: 'go' };
const begin = { kind: 'begin' };

t.test('who must be taken out of traffic first', async t => {
  const cases: readonly (readonly [string, Partial<DrainFacts>, object])[] = [
    ['a member with the gate that gets requests', {}, begin],
    ['none without the gate', { gated: [] }, go],
    ['none that gets no requests', { gated: [gated({ ready: false })] }, go],
    ['none that nobody could make unready', { gated: [gated({ nodeAnswers: false })] }, go],
    ['one of several is enough', { gated: [gated({ ready: false }), gated({ uid: 'worker' })] }, begin],
    ['none where waiting is switched off', { drainMaxMs: 0 }, go],
    ['a preempted group as well', { signal: 'Preempted' }, begin],
    ['not when others delete its pods at once', { signal: 'Foreign' }, go],
    ['nor on a NoExecute taint of a node', { signal: 'NodeNoExecute' }, go],
    ['nor on one of a device', { signal: 'DeviceNoExecute' }, go],
    ['not when nobody else would answer', { fronts: [front(['own', 'worker'])] }, go],
    [
      'but when somebody else does, behind one of two',
      { fronts: [front(['own']), front(['own', 'x'])] },
      begin,
    ],
    ['others that are not Ready do not answer', { fronts: [front(['own'])] }, go],
    ['others behind another Service do not help', { fronts: [front(['own']), front(['other'])] }, go],
    ['a Service without address tells of nobody', { fronts: [front(['own'], { kind: 'headless' })] }, begin],
    ['the last of a pool is left alone', { fronts: [front(['own'], { kind: 'pool' })] }, go],
    ['without any Service somebody may look at pods by itself', { fronts: [] }, begin],
    ['what could not be read is no reason to cut requests off', { fronts: undefined }, begin],
  ];
  for (const [name, facts, wanted] of cases) t.same(step(facts), wanted, name);
});

t.test('when requests stay away', async t => {
  const out = gated({ withdrawn: true, ready: false });
  const still = (drainingForMs: number, more: Partial<DrainFacts> = {}) =>
    step({ gated: [out], fronts: [front(['other'])], drainingForMs, ...more });
  const wait = (forMs: number) => ({ kind: 'wait', forMs });
  const cases: readonly (readonly [string, ReturnType<typeof step>, object])[] = [
    ['the Service says so', still(100), go],
    ['it lists the pod as Ready still', still(100, { fronts: [front(['own', 'other'])] }), wait(200)],
    ['and goes on doing so', still(5_000, { fronts: [front(['own', 'other'])] }), wait(1_000)],
    ['30 s are the end of it', still(29_900, { fronts: [front(['own', 'other'])] }), wait(100)],
    ['whatever it says', still(30_000, { fronts: [front(['own', 'other'])] }), go],
    ['the condition is not written yet', still(100, { gated: [gated()] }), wait(200)],
    ['nor after two seconds', still(2_500, { gated: [gated()] }), wait(1_000)],
    [
      'a member on a silent node is not waited for',
      still(100, { gated: [out, gated({ nodeAnswers: false })] }),
      go,
    ],
    [
      'with nobody else there is nothing to wait for',
      still(100, { gated: [gated({ nodeAnswers: false })] }),
      go,
    ],
    ['all have ended', still(100, { gated: [] }), go],
    ['no Service: two seconds', still(1_900, { fronts: [] }), wait(100)],
    ['which pass', still(2_000, { fronts: [] }), go],
    [
      'a Service without address tells nobody anything',
      still(100, { fronts: [front([], { kind: 'headless' })] }),
      wait(200),
    ],
    [
      'but must have heard of it',
      still(2_500, { fronts: [front(['own'], { kind: 'headless' })] }),
      wait(1_000),
    ],
    [
      'who watches pods by itself gets its two seconds',
      still(100, { fronts: [front([]), front([], { kind: 'pool' })] }),
      wait(200),
    ],
    ['and no more', still(2_000, { fronts: [front([]), front([], { kind: 'pool' })] }), go],
    [
      'a Service that does not list the group is none',
      still(100, { fronts: [front(['x'], { listed: new Set(['x']) })] }),
      wait(200),
    ],
    ['what could not be read is waited for', still(2_500, { fronts: undefined }), wait(1_000)],
    ['but not for ever', still(30_000, { fronts: undefined }), go],
    [
      'a NoExecute taint that came since is not waited for twice',
      still(30_000, { signal: 'NodeNoExecute' }),
      go,
    ],
  ];
  for (const [name, got, wanted] of cases) t.same(got, wanted, name);
});

function slice(
  name: string,
  labels: Readonly<Record<string, string>>,
  ...endpoints: Endpoint[]
): EndpointSlice {
  return { metadata: { name, labels }, endpoints };
}

function endpoint(uid: string, conditions: Endpoint['conditions'] = {}): Endpoint {
  return { addresses: ['10.0.0.1'], conditions, targetRef: { kind: 'Pod', uid } };
}

const names = (uids: ReadonlySet<string> | undefined) => [...(uids ?? [])].sort();

t.test('who gets requests from a Service', async t => {
  const of = (name: string) => ({ [k8s.serviceName]: name });
  const [front, other] = frontsOf(
    [
      slice('a-1', of('a'), endpoint('unknown'), endpoint('ready', { ready: true, serving: true })),
      slice(
        'a-2',
        of('a'),
        endpoint('published', { ready: true, serving: false }),
        endpoint('unready', { ready: false, serving: false }),
        endpoint('terminating', { ready: false, serving: true, terminating: true }),
      ),
      slice('b-1', { ...of('b'), [k8s.headlessService]: '' }, endpoint('ready')),
    ],
    [],
    [],
  );
  t.equal(front?.kind, 'service');
  t.same(names(front?.serving), ['ready', 'unknown'], 'slices of one Service are one');
  t.same(names(front?.listed), ['published', 'ready', 'terminating', 'unknown', 'unready']);
  t.equal(other?.kind, 'headless');
});

t.test('slices that belong to no Service, and endpoints that are no pods', async t => {
  const fronts = frontsOf(
    [slice('x', {}, { addresses: ['192.0.2.1'] }), slice('y', {}, endpoint('own')), slice('z', {})],
    [],
    [],
  );
  t.same(
    fronts.map(({ kind, serving }) => [kind, names(serving)]),
    [
      ['service', ['192.0.2.1']],
      ['service', ['own']],
      ['service', []],
    ],
  );
});

t.test('who gets requests from an inference gateway', async t => {
  const pod = (name: string, labels: Readonly<Record<string, string>>, ready: boolean, terminating = false) =>
    decode({
      ...podOf({ name, uid: name, labels, terminating }),
      status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
    });
  const app = { app: 'llm' };
  const pods = [
    pod('ready', app, true),
    pod('unready', app, false),
    pod('going', app, true, true),
    pod('stranger', { app: 'x' }, true),
  ];
  const [pool, none] = frontsOf(
    [],
    [
      { metadata: { name: 'llm' }, spec: { selector: { matchLabels: app } } },
      { metadata: { name: 'odd' }, spec: {} },
    ],
    pods,
  );
  t.equal(pool?.kind, 'pool');
  t.same(names(pool?.listed), ['going', 'ready', 'unready']);
  t.same(names(pool?.serving), ['ready']);
  t.same(names(none?.listed), [], 'one that selects by nothing selects nobody');
});
