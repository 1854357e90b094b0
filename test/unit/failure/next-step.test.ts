import t from 'tap';
import type { Intent } from '../../../src/failure/intent.ts';
import {
  type IntentFacts,
  type NextStep,
  nextStep,
  type OldMember,
  stepped,
} from '../../../src/failure/next-step.ts';
import { intentOf } from './intents.ts';

const nowMs = 100_000;

function member(more: Partial<OldMember> = {}): OldMember {
  return {
    name: 'llm-0',
    uid: 'u',
    terminating: true,
    goneByMs: nowMs,
    terminal: false,
    node: 'a',
    nodeState: 'fine',
    ...more,
  };
}

function step(intent: Intent, more: Partial<IntentFacts> = {}): NextStep {
  return nextStep(intent, {
    nowMs,
    ownerWants: true,
    overtaken: false,
    old: [member({ terminating: false })],
    leader: { terminating: false },
    workerSet: { uid: 'w' },
    goesSingly: false,
    next: undefined,
    size: 2,
    foreignGraceMs: 2_000,
    fencingAfterMs: 30_000,
    ...more,
  });
}

const evicting = intentOf({ times: { intent: nowMs } });
const leaving = intentOf({ phase: 'leaving', times: { intent: nowMs, evicted: nowMs - 1_000 } });
const returning = intentOf({ phase: 'returning', times: { intent: nowMs, evicted: nowMs, gone: nowMs } });
const next = (boundRanks: number, readyRanks: number) => ({ leaderUid: 'new', boundRanks, readyRanks });

t.test('what comes next follows from the phase and from what is there', async t => {
  const going = { terminating: true };
  const cases: readonly (readonly [string, NextStep, NextStep])[] = [
    ['a leader that lives is evicted', step(evicting), { kind: 'evict-leader' }],
    [
      'one that goes already is not evicted again',
      step(evicting, { leader: going }),
      { kind: 'phase', phase: 'leaving', times: { evicted: nowMs } },
    ],
    [
      'nor is one that is gone',
      step(evicting, { leader: undefined }),
      { kind: 'phase', phase: 'leaving', times: { evicted: nowMs } },
    ],
    [
      'an owner that is gone ends it',
      step(evicting, { ownerWants: false }),
      { kind: 'close', outcome: 'owner-gone', times: {} },
    ],
    [
      'a group that was preempted is over with as soon as it is made anew, bound or not',
      step({ ...returning, signal: 'Preempted' }, { leader: undefined, old: [], next: next(0, 0) }),
      { kind: 'close', outcome: 'preempted', times: {} },
    ],
    [
      'but not before',
      step({ ...returning, signal: 'Preempted' }, { leader: undefined, old: [] }),
      { kind: 'wait', forMs: 5_000 },
    ],
    [
      'LWS has its chance after others',
      step({ ...evicting, signal: 'Foreign' }),
      { kind: 'wait', forMs: 2_000 },
    ],
    [
      'and Berth acts when LWS does not',
      step({ ...evicting, signal: 'Foreign' }, { nowMs: nowMs + 2_000 }),
      { kind: 'evict-leader' },
    ],
    [
      'workers that nobody has told are told',
      step(leaving, { leader: undefined }),
      { kind: 'delete-workers', setUid: 'w' },
    ],
    [
      'but not before the garbage collector could',
      step({ ...leaving, times: { ...leaving.times, evicted: nowMs } }, { leader: going }),
      { kind: 'wait', forMs: 500 },
    ],
    [
      'without their StatefulSet the garbage collector is at it',
      step(leaving, { leader: undefined, workerSet: undefined }),
      { kind: 'wait', forMs: 5_000 },
    ],
    [
      'members that go are waited for',
      step(leaving, { leader: going, old: [member()] }),
      { kind: 'wait', forMs: 5_000 },
    ],
    [
      'all gone, the new incarnation is waited for',
      step(leaving, { leader: undefined, old: [] }),
      { kind: 'phase', phase: 'returning', times: { gone: nowMs } },
    ],
    [
      'all gone and nobody wants it any more',
      step(leaving, { leader: undefined, old: [], ownerWants: false }),
      { kind: 'close', outcome: 'owner-gone', times: { gone: nowMs } },
    ],
    ['no new incarnation yet', step(returning, { old: [], next: undefined }), { kind: 'wait', forMs: 5_000 }],
    ['a part of it is bound', step(returning, { old: [], next: next(1, 1) }), { kind: 'wait', forMs: 5_000 }],
    [
      'all of it is bound',
      step(returning, { old: [], next: next(2, 1) }),
      { kind: 'phase', phase: 'returning', times: { bound: nowMs } },
    ],
    [
      'all of it is Ready',
      step(returning, { old: [], next: next(2, 2) }),
      { kind: 'close', outcome: 'recovered', nextUid: 'new', times: { bound: nowMs, ready: nowMs } },
    ],
    [
      'an old member that is there after all is not forgotten',
      step(returning, { next: next(2, 2) }),
      { kind: 'phase', phase: 'leaving', times: { gone: undefined } },
    ],
    [
      'a later intent of the group takes over',
      step(returning, { old: [], next: next(1, 0), overtaken: true }),
      { kind: 'close', outcome: 'overtaken', times: {} },
    ],
    [
      'the owner goes while it returns',
      step(returning, { old: [], ownerWants: false }),
      { kind: 'close', outcome: 'owner-gone', times: {} },
    ],
  ];
  for (const [name, got, wanted] of cases) t.same(got, wanted, name);
});

t.test(
  'a member on a silent node needs fencing after a while, with both commands; a fenced or missing node does not',
  async t => {
    const stuck = (nodeState: OldMember['nodeState'], sinceMs: number) =>
      step(
        { ...leaving, times: { ...leaving.times, evicted: nowMs - sinceMs } },
        { leader: { terminating: true }, old: [member({ node: 'b', nodeState }), member()] },
      );
    t.same(stuck('silent', 27_000), { kind: 'wait', forMs: 3_000 });
    const held = stuck('silent', 30_000);
    t.match(held, { kind: 'hold', reason: 'FencingNeeded', nodes: ['b'] });
    if (held.kind === 'hold') {
      t.match(held.instruction, /^members on b do not end, for the node is not Ready/);
      t.match(held.instruction, 'kubectl delete node b');
      t.match(
        held.instruction,
        'kubectl taint node b node.kubernetes.io/out-of-service=nodeshutdown:NoExecute',
      );
    }
    for (const state of ['fenced', 'gone', 'fine'] as const)
      t.same(stuck(state, 60_000), { kind: 'wait', forMs: 5_000 }, state);
  },
);

t.test(
  'a member that does not end though its kubelet reports is told long after its grace period',
  async t => {
    const agoMs = (ms: number) => nowMs - ms;
    const held = (old: readonly OldMember[], more: Partial<IntentFacts> = {}) =>
      step(
        { ...leaving, times: { ...leaving.times, evicted: agoMs(90_000) } },
        { leader: { terminating: true }, old, ...more },
      );
    const wait = { kind: 'wait', forMs: 5_000 };
    const stuck = member({ name: 'llm-0-1', uid: 'w1', goneByMs: agoMs(30_000) });
    t.same(held([{ ...stuck, goneByMs: agoMs(29_999) }]), wait, 'a long grace period is not over at once');
    t.match(held([stuck]), {
      kind: 'hold',
      reason: 'EvictionHeld',
      nodes: ['a'],
      instruction: /^llm-0-1 on a should have ended by now.*finalizers/,
    });
    for (const nodeState of ['fenced', 'gone'] as const)
      t.same(held([{ ...stuck, nodeState }]), wait, nodeState);
    const leader = { ...stuck, name: 'llm-0', uid: leaving.leaderUid };
    t.same(held([leader, member()]), wait, 'an LWS leader goes after its workers');
    t.match(held([leader]), { kind: 'hold', instruction: /^llm-0 on a should/ }, 'and before nobody else');
    t.match(held([leader, member()], { goesSingly: true }), {
      kind: 'hold',
      instruction: /^llm-0 on a should/,
    });
    t.match(
      held([{ ...stuck, node: '' }]),
      { nodes: [], instruction: /^llm-0-1 should/ },
      'one without a node',
    );
    const many = Array.from({ length: 7 }, (_, i) => ({ ...stuck, name: `llm-0-${i + 1}` }));
    t.match(held(many), { instruction: /^llm-0-1 on a, .*llm-0-5 on a and 2 more should/ });
  },
);

t.test('a step is written with its times, and a hold ends with it', async t => {
  const held = { ...leaving, hold: 'fence it' };
  t.match(stepped(held, { kind: 'phase', phase: 'returning', times: { gone: 5 } }), {
    phase: 'returning',
    hold: undefined,
    times: { gone: 5, evicted: leaving.times.evicted },
  });
  t.match(stepped(held, { kind: 'close', outcome: 'owner-gone', times: {} }), {
    phase: 'closed',
    outcome: 'owner-gone',
  });
  t.match(stepped(held, { kind: 'close', outcome: 'recovered', nextUid: 'new', times: {} }), {
    nextUid: 'new',
  });
});
