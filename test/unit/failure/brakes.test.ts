import t from 'tap';
import {
  type BlastFacts,
  type BrakeFacts,
  type BrakeName,
  brakes,
  brakesOnBegun,
  brakesOnNew,
  type DomainFacts,
} from '../../../src/failure/brakes.ts';
import { whyBudgetsForbid } from '../../../src/failure/disruption.ts';
import { historyOf, restartBudget, tokenWaitMs } from '../../../src/failure/history.ts';
import { defaultFailureSettings } from '../../../src/failure/settings.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { intentOf } from './intents.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

/** A serving group with a certain, ripe fault and a place to go: nothing holds it. */
const go: BrakeFacts = {
  settings: { ...defaultFailureSettings, mode: 'evict' },
  mode: 'evict',
  signal: 'DeviceUnhealthy',
  claimed: false,
  placed: true,
  whyNotRemade: undefined,
  halted: false,
  synced: true,
  stalestMs: 1_000,
  holderForMs: hourMs,
  apiBackForMs: Number.POSITIVE_INFINITY,
  nodesBackForMs: Number.POSITIVE_INFINITY,
  calls: { total: 100, failed: 0 },
  class: 'certain',
  ripeInMs: 0,
  maintenanceForMs: 0,
  domainFailure: 'closed',
  massFailure: 'closed',
  deviceFailure: 'closed',
  deviceMass: 'closed',
  blast: undefined,
  serving: true,
  doomed: false,
  history: {
    rateWaitMs: 0,
    domainWaitMs: 0,
    inFlight: 0,
    inFlightOfOwner: 0,
    inFlightByDomain: new Map(),
    restarts: { kind: 'free' },
  },
  groups: 10,
  ownerCanSpare: 1,
  domains: [],
  plan: { found: true },
  budgetsForbid: undefined,
};

const blast = (more: Partial<BlastFacts>): BlastFacts => ({
  origin: { kind: 'rule', name: 'all', isNarrow: false },
  groupsHit: 0,
  isConfirmed: false,
  ...more,
});
const domain = (more: Partial<DomainFacts>): DomainFacts => ({
  domain: 'rack r0',
  inFlight: 0,
  groups: 4,
  ...more,
});
const heldBy = (facts: Partial<BrakeFacts>) => brakesOnNew({ ...go, ...facts }).map(({ brake }) => brake);
const history = (more: Partial<BrakeFacts['history']>) => ({ history: { ...go.history, ...more } });

t.test('nothing holds a serving group with a certain fault and a place to go', async t => {
  t.same(heldBy({}), []);
});

t.test('every brake holds on its own side and not on the other', async t => {
  const cases: Readonly<
    Record<
      BrakeName,
      { readonly holds: readonly Partial<BrakeFacts>[]; readonly free: readonly Partial<BrakeFacts>[] }
    >
  > = {
    remake: {
      holds: [{ whyNotRemade: 'p has no controller' }],
      free: [{ signal: 'Preempted', claimed: true }],
    },
    mode: { holds: [{ mode: 'off' }, { mode: 'observe' }, { mode: 'cordon' }, { placed: false }], free: [] },
    claim: {
      holds: [{ signal: 'Preempted', claimed: false }],
      free: [{ signal: 'Preempted', claimed: true }],
    },
    halt: { holds: [{ halted: true }], free: [] },
    stale: { holds: [{ synced: false }, { stalestMs: 90_001 }], free: [{ stalestMs: 90_000 }] },
    'new-holder': { holds: [{ holderForMs: 29_999 }], free: [{ holderForMs: 30_000 }] },
    'after-outage': {
      holds: [
        { apiBackForMs: 0 },
        { apiBackForMs: 179_999 },
        { nodesBackForMs: 0 },
        { nodesBackForMs: 179_999 },
      ],
      free: [
        { apiBackForMs: 180_000, nodesBackForMs: 180_000 },
        { apiBackForMs: 0, nodesBackForMs: 0, settings: { ...go.settings, afterOutageSeconds: 0 } },
      ],
    },
    'api-health': {
      holds: [{ calls: { total: 10, failed: 3 } }],
      free: [{ calls: { total: 10, failed: 2 } }, { calls: { total: 9, failed: 9 } }],
    },
    debounce: { holds: [{ ripeInMs: 1 }], free: [] },
    'mass-failure': { holds: [{ massFailure: 'tripped' }], free: [{ massFailure: 'half-open' }] },
    'device-mass': { holds: [{ deviceMass: 'tripped' }], free: [{ deviceMass: 'half-open' }] },
    'domain-failure': {
      holds: [
        { domainFailure: 'tripped', class: 'suspect' },
        { domainFailure: 'tripped', ...history({ domainWaitMs: 1 }) },
      ],
      free: [{ domainFailure: 'tripped' }, { domainFailure: 'half-open', class: 'suspect' }],
    },
    'device-failure': {
      holds: [
        { deviceFailure: 'tripped', class: 'suspect' },
        { deviceFailure: 'tripped', ...history({ domainWaitMs: 1 }) },
      ],
      free: [{ deviceFailure: 'tripped' }, { deviceFailure: 'half-open', class: 'suspect' }],
    },
    'blast-radius': {
      holds: [
        { blast: blast({ groupsHit: 3 }) },
        { blast: blast({ groupsHit: 3, origin: { kind: 'pool', driver: 'd', pool: 'p' } }) },
        { blast: blast({ groupsHit: 6 }), groups: 100 },
        { blast: blast({ groupsHit: 3 }), class: 'suspect' },
      ],
      free: [
        { blast: blast({ groupsHit: 2 }) },
        { blast: blast({ groupsHit: 5 }), groups: 100 },
        { blast: blast({ groupsHit: 100, isConfirmed: true }) },
      ],
    },
    exclusion: { holds: [{ inUse: 'its device is in use' }], free: [] },
    rate: { holds: [history({ rateWaitMs: 1 })], free: [history({ domainWaitMs: 1 })] },
    'in-flight': {
      holds: [
        history({ inFlight: 2 }),
        history({ inFlightOfOwner: 1 }),
        { ...history({ inFlight: 1, inFlightOfOwner: 2 }), ownerCanSpare: 2 },
        { ...history({ inFlight: 5 }), groups: 100 },
        { domains: [domain({ inFlight: 1 })] },
        { domains: [domain({ inFlight: 1, groups: 39 })] },
        { domains: [domain({}), domain({ inFlight: 2, groups: 40 })] },
      ],
      free: [
        history({ inFlight: 1 }),
        { ...history({ inFlight: 1, inFlightOfOwner: 1 }), ownerCanSpare: 2 },
        { ...history({ inFlight: 4 }), groups: 100 },
        { ...history({ inFlight: 9, inFlightOfOwner: 9 }), serving: false },
        { domains: [domain({})] },
        { domains: [domain({ inFlight: 1, groups: 40 })] },
        { domains: [domain({ inFlight: 9 })], serving: false },
        { domains: [domain({ inFlight: 2 })], settings: { ...go.settings, inFlightPerDomain: 3 } },
      ],
    },
    'restart-budget': {
      holds: [
        history({ restarts: { kind: 'waits', retryAfterMs: 1 } }),
        history({ restarts: { kind: 'spent', retryAfterMs: 1 } }),
      ],
      free: [],
    },
    'plan-first': {
      holds: [
        { plan: { found: false, why: 'no room' } },
        { plan: undefined },
        { plan: { found: false, why: 'no room' }, class: 'suspect', serving: false },
      ],
      free: [
        { plan: { found: false, why: 'no room' }, awaited: true },
        { plan: { found: false, why: 'no room' }, serving: false },
      ],
    },
    'disruption-budget': { holds: [{ budgetsForbid: 'a budget' }], free: [] },
    'maintenance-window': {
      holds: [
        { maintenanceForMs: 1, class: 'suspect' },
        { maintenanceForMs: 1, class: 'info' },
      ],
      free: [
        { maintenanceForMs: 1 },
        { maintenanceForMs: 1, class: 'suspect', signal: 'Preempted', claimed: true },
      ],
    },
    'dry-run': { holds: [{ settings: { ...go.settings, dryRun: true } }], free: [] },
  };
  t.same(
    brakes.map(({ name }) => name),
    Object.keys(cases),
    'the table has them all, in their order',
  );
  for (const [name, { holds, free }] of Object.entries(cases)) {
    for (const facts of holds) t.same(heldBy(facts), [name], `${name} ${JSON.stringify(facts)}`);
    for (const facts of free) t.same(heldBy(facts), [], `not ${name} ${JSON.stringify(facts)}`);
  }
});

t.test('of suspicions it is told that the mode is theirs', async t => {
  const settings = { ...go.settings, suspectMode: 'cordon' } as const;
  const why = (facts: Partial<BrakeFacts>) => brakesOnNew({ ...go, settings, ...facts })[0]?.message;
  t.match(
    why({ mode: 'cordon', class: 'suspect' }),
    /^failure mode cordon of suspect failures does not evict$/,
  );
  t.match(why({ mode: 'observe', class: 'suspect' }), /^failure mode observe does not evict$/);
  t.match(why({ mode: 'cordon' }), /^failure mode cordon does not evict$/);
});

t.test('all brakes that hold are told, the first one first', async t => {
  t.same(heldBy({ halted: true, ripeInMs: 5, budgetsForbid: 'x' }), [
    'halt',
    'debounce',
    'disruption-budget',
  ]);
});

t.test('a group whose leader goes already is held by what forbids any act alone', async t => {
  const all: Partial<BrakeFacts> = {
    doomed: true,
    ripeInMs: 5,
    domainFailure: 'tripped',
    budgetsForbid: 'x',
    plan: undefined,
    ...history({ rateWaitMs: 5, inFlight: 9, restarts: { kind: 'spent', retryAfterMs: 5 } }),
  };
  t.same(heldBy(all), []);
  t.same(heldBy({ ...all, halted: true, massFailure: 'tripped' }), ['halt', 'mass-failure']);
});

t.test('an intent that is there is not held by budgets that it has been counted in', async t => {
  const begun = (facts: Partial<BrakeFacts>) => brakesOnBegun({ ...go, ...facts }).map(({ brake }) => brake);
  t.same(
    begun({
      holderForMs: 0,
      apiBackForMs: 0,
      nodesBackForMs: 0,
      plan: undefined,
      ...history({ rateWaitMs: 5, inFlightOfOwner: 1 }),
    }),
    [],
  );
  t.same(begun({ halted: true, stalestMs: hourMs, mode: 'observe' }), ['mode', 'halt', 'stale']);
});

t.test('a brake says the same sentence whatever its numbers', async t => {
  const messages = (facts: Partial<BrakeFacts>) =>
    brakesOnNew({ ...go, ...facts }).map(({ message }) => message);
  t.same(messages({ ripeInMs: 5 }), messages({ ripeInMs: 50_000 }));
  t.same(messages(history({ rateWaitMs: 5 })), messages(history({ rateWaitMs: 5_000 })));
  t.same(messages({ stalestMs: 91_000 }), messages({ stalestMs: 999_000 }));
});

t.test('a token bucket lets a burst through and then its rate', async t => {
  t.equal(tokenWaitMs([], 0, 0.1, 3), 0);
  t.equal(tokenWaitMs([0, 0], 0, 0.1, 3), 0);
  t.equal(tokenWaitMs([0, 0, 0], 0, 0.1, 3), 10_000);
  t.equal(tokenWaitMs([0, 0, 0], 9_999, 0.1, 3), 1);
  t.equal(tokenWaitMs([0, 0, 0], 10_000, 0.1, 3), 0);
  t.equal(tokenWaitMs([0, 0, 0, 10_000], 10_000, 0.1, 3), 10_000);
  t.equal(tokenWaitMs([0, 0, 0], hourMs, 0.1, 3), 0);
  t.equal(
    tokenWaitMs([0, 0, 0, hourMs, hourMs], hourMs, 0.1, 3),
    0,
    'a long rest saves up no more than a burst',
  );
  t.equal(tokenWaitMs([hourMs], 0, 1, 1), 1_000, 'a time ahead of a clock set back counts as now');
});

t.test('one lineage is evicted three times an hour, then ever more seldom, and five times a day', async t => {
  const budget = (minutes: readonly number[], nowMinutes: number) =>
    restartBudget(
      minutes.map(minute => minute * minuteMs),
      nowMinutes * minuteMs,
      defaultFailureSettings,
    );
  t.same(budget([0, 1], 2), { kind: 'free' });
  t.same(budget([0, 1, 2], 2), { kind: 'waits', retryAfterMs: 2 * minuteMs });
  t.same(budget([0, 1, 2], 4), { kind: 'free' });
  t.same(budget([0, 1, 2, 4], 5), { kind: 'waits', retryAfterMs: 3 * minuteMs });
  t.same(budget([0, 1, 2, 4], 8), { kind: 'free' });
  t.same(budget([0, 1, 2, 4, 8], 120), { kind: 'spent', retryAfterMs: (24 * 60 - 120) * minuteMs });
  t.same(budget([0, 1, 2, 4, 8], 24 * 60), { kind: 'free' });
  t.same(budget([0, 1, 2], 90), { kind: 'free' });
});

t.test('budgets are counted from intents that cost something', async t => {
  const ask = (
    intents: Parameters<typeof historyOf>[0],
    serving = true,
    waiters: ReadonlySet<string> = new Set(),
  ) =>
    historyOf(
      intents,
      { group: 'serving/llm-0', namespace: 'serving', owner: 'llm', serving, waiters, nowMs: 10_000 },
      defaultFailureSettings,
    );
  const open = intentOf({ times: { intent: 10_000 } });
  t.match(ask([open]), { inFlight: 1, inFlightOfOwner: 1, rateWaitMs: 0 });
  const wide = { ...open, group: 'serving/llm-2', domains: ['rack r0', 'rack r1'] };
  t.same(
    [...ask([open, wide]).inFlightByDomain],
    [
      ['rack r0', 2],
      ['rack r1', 1],
    ],
    'a group counts in each domain that it stood in',
  );
  t.equal(ask([{ ...wide, serving: false }]).inFlightByDomain.size, 0);
  t.equal(ask([{ ...wide, phase: 'closed', outcome: 'recovered' }]).inFlightByDomain.size, 0);
  t.match(ask([{ ...open, group: 'other/llm-0' }]), { inFlight: 1, inFlightOfOwner: 0 });
  const waiters = new Set(['serving/llm-1']);
  const other = { ...open, group: 'serving/llm-1' };
  t.match(
    ask([open, other], true, waiters),
    { inFlight: 1, inFlightOfOwner: 1 },
    'who waits for it is no hindrance',
  );
  t.match(ask([other], true, waiters), { rateWaitMs: 0 });
  t.match(ask([other, other, other], true, waiters), { rateWaitMs: 10_000 }, 'but counts for the rate');
  t.match(ask([{ ...open, serving: false }]), { inFlight: 0, rateWaitMs: 0 });
  t.match(ask([{ ...open, serving: false }], false), { rateWaitMs: 1_000 });
  const back = { ...open, phase: 'closed', outcome: 'overtaken' } as const;
  t.match(ask([back, back, back]), { inFlight: 0, rateWaitMs: 0, restarts: { kind: 'free' } });
  const done = { ...back, outcome: 'recovered', times: { ...open.times, evicted: 10_000 } } as const;
  t.match(ask([done, done, done]), { inFlight: 0, rateWaitMs: 10_000, restarts: { kind: 'waits' } });
  t.match(ask([done, done, done].map(intent => ({ ...intent, group: 'serving/llm-1' }))), {
    restarts: { kind: 'free' },
  });
});

t.test('a group that is hurt again before it is whole is in flight once, until it serves', async t => {
  const ask = (intents: Parameters<typeof historyOf>[0]) => {
    const question = {
      group: 'serving/llm-1',
      namespace: 'serving',
      owner: 'llm',
      serving: true,
      nowMs: 60_000,
    };
    const { inFlight, inFlightOfOwner, inFlightByDomain } = historyOf(
      intents,
      question,
      defaultFailureSettings,
    );
    return [inFlight, inFlightOfOwner, inFlightByDomain.get('rack r0') ?? 0];
  };
  const first = intentOf({ phase: 'returning', times: { intent: 1_000, evicted: 1_000, gone: 2_000 } });
  const again = intentOf({ leaderUid: 'uid-llm-0-2', serving: false, times: { intent: 9_000 } });
  const overtaken = { ...first, phase: 'closed', outcome: 'overtaken' } as const;
  const evicted = { ...again, phase: 'leaving', times: { ...again.times, evicted: 9_000 } } as const;
  const recovered = { ...evicted, phase: 'closed', outcome: 'recovered' } as const;
  const third = intentOf({ leaderUid: 'uid-llm-0-3', serving: false, times: { intent: 20_000 } });
  t.same(ask([first]), [1, 1, 1]);
  t.same(ask([first, again]), [1, 1, 1]);
  t.same(ask([first, { ...again, serving: true }]), [1, 1, 1], 'both records tell of one group');
  t.same(ask([overtaken, evicted]), [1, 1, 1], 'the first eviction is not made good yet');
  t.same(ask([overtaken, { ...evicted, phase: 'closed', outcome: 'overtaken' }, third]), [1, 1, 1]);
  t.same(ask([overtaken, recovered]), [0, 0, 0]);
  t.same(ask([overtaken, recovered, third]), [0, 0, 0], 'it served in between, and broke by itself');
  t.same(ask([overtaken, { ...evicted, group: 'serving/llm-2' }]), [0, 0, 0], 'another group');
  const single = { ...first, shape: 'single', group: 'serving/ReplicaSet/web' } as const;
  t.same(ask([single, { ...single, leaderUid: 'uid-web-2' }]), [2, 2, 2], 'pods go each for itself');
});

t.test('PodDisruptionBudgets must allow that all Ready members go', async t => {
  const group = new LwsGroup({ size: 3, worker: { gpu: 8, labels: { app: 'x' } } });
  const ready = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
  const podsWith = (readyCount: number) =>
    [
      group.leader({ node: 'a', gated: false }),
      group.worker(1, { node: 'b' }),
      group.worker(2, { node: 'c' }),
    ].map((pod, i) => decode(i < readyCount ? { ...pod, status: ready } : pod));
  const budget = { uid: 'u', namespace: 'serving', name: 'pdb', disruptionsAllowed: 3, upToDate: true };
  const all = { ...budget, selector: { matchLabels: { app: 'x' } } };
  t.equal(whyBudgetsForbid(podsWith(3), [all]), undefined);
  t.match(whyBudgetsForbid(podsWith(3), [{ ...all, disruptionsAllowed: 2 }]), /pdb does not allow/);
  t.equal(whyBudgetsForbid(podsWith(2), [{ ...all, disruptionsAllowed: 2 }]), undefined);
  t.match(whyBudgetsForbid(podsWith(3), [{ ...all, upToDate: false }]), /has changed/);
  t.equal(whyBudgetsForbid(podsWith(3), [{ ...all, selector: undefined, disruptionsAllowed: 0 }]), undefined);
  t.match(whyBudgetsForbid(podsWith(3), [{ ...all, selector: {}, disruptionsAllowed: 0 }]), /does not allow/);
  t.match(whyBudgetsForbid(podsWith(3), [all, { ...all, name: 'other' }]), /pdb|other.*all match the leader/);
  const workers = { ...all, disruptionsAllowed: 1, selector: { matchExpressions: [] } };
  t.match(
    whyBudgetsForbid(podsWith(3), [workers]),
    /does not allow/,
    'budgets that the leader is not in count, too',
  );
});

t.test('what makes sense for failures alone does not hold a preemption', async t => {
  const preempted = { signal: 'Preempted', claimed: true, plan: undefined } as const;
  t.same(heldBy(preempted), [], 'it has no other place, or the other group would have got it');
  const worst = { rateWaitMs: 1, domainWaitMs: 1, inFlight: 99, inFlightOfOwner: 99 };
  t.same(heldBy({ ...preempted, ...history(worst) }), [], 'it has rates and budgets of its own');
  t.same(
    heldBy({ ...preempted, domainFailure: 'tripped' }),
    ['domain-failure'],
    'nothing more is taken down while a domain fails',
  );
  t.same(heldBy({ ...preempted, ...history({ restarts: { kind: 'waits', retryAfterMs: 1 } }) }), [
    'restart-budget',
  ]);
});

t.test('preemptions count for the budget of their group, and for nothing else', async t => {
  const preempted = Array.from({ length: 3 }, (_, i) =>
    intentOf({ signal: 'Preempted', leaderUid: `uid-${i}`, times: { intent: 1_000 + i, evicted: 1_000 } }),
  );
  const question = {
    group: 'serving/llm-0',
    namespace: 'serving',
    owner: 'llm',
    serving: true,
    nowMs: 2_000,
  };
  const of = historyOf(preempted, question, defaultFailureSettings);
  t.match(of, { rateWaitMs: 0, domainWaitMs: 0, inFlight: 0, inFlightOfOwner: 0 });
  t.equal(of.restarts.kind, 'waits');
});
