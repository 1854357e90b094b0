import t from 'tap';
import {
  decidePreemption,
  type PastPreemption,
  type PreemptionFacts,
  type PreemptionSettings,
  preemptionDefaults,
} from '../../../src/controller/preemption.ts';
import type { Unit } from '../../../src/planner/release.ts';
import type { VictimPlan } from '../../../src/planner/victims.ts';

const nowMs = Date.parse('2026-01-01T12:00:00Z');
const minuteMs = 60_000;
const key = 'serving/big-0';

function unit(name: string, more: Partial<Unit> = {}): Unit {
  return {
    key: `serving/${name}`,
    kind: 'group',
    owner: `serving/${name}`,
    state: 'stays',
    whole: true,
    priority: 0,
    pods: 4,
    uses: [],
    existing: [],
    whyKept: undefined,
    budgetsForbid: undefined,
    ...more,
  };
}

function victims(...units: readonly Unit[]): VictimPlan {
  const plan = { kind: 'plan', nodes: ['a', 'b'], level: 1, domain: ['z', 'r'] } as const;
  return { kind: 'victims', victims: units, plan, exact: true };
}

function factsOf({
  settings = {},
  ...more
}: Partial<Omit<PreemptionFacts, 'settings'>> & {
  readonly settings?: Partial<PreemptionSettings>;
}): PreemptionFacts {
  return {
    settings: { ...preemptionDefaults, enabled: true, ...settings },
    key,
    priority: 100,
    preemptionPolicy: undefined,
    refusedSinceMs: nowMs - minuteMs,
    nowMs,
    halted: false,
    past: [],
    chooseVictims: () => victims(unit('llama-1')),
    ...more,
  };
}

/** A preemption that began and ended so many minutes ago. */
function past(
  begun: number,
  ended: number | undefined,
  more: Partial<PastPreemption> & { readonly placed?: boolean } = {},
): PastPreemption {
  const { placed = false, ...rest } = more;
  return {
    group: key,
    begunMs: nowMs - begun * minuteMs,
    ended: ended === undefined ? undefined : { atMs: nowMs - ended * minuteMs, placed },
    victims: 1,
    ...rest,
  };
}

t.test('a group that may preempts, and says why', async t => {
  t.same(decidePreemption(factsOf({})), {
    kind: 'preempt',
    victims: [unit('llama-1')],
    plan: victims().plan,
    cause: 'preempted by group serving/big-0 of priority 100',
  });
});

t.test('it is off by default', async t => {
  const facts = { ...factsOf({}), settings: preemptionDefaults };
  t.match(decidePreemption(facts), { kind: 'held', code: 'Off', message: 'preemption is off' });
});

t.test('what holds it, each by itself', async t => {
  const other = { group: 'serving/other-0' };
  const cases: readonly [string, Parameters<typeof factsOf>[0], string, number][] = [
    ['Never', { preemptionPolicy: 'Never' }, 'its preemptionPolicy is Never', 30_000],
    ['Halted', { halted: true }, 'an administrator has halted all evictions', 5_000],
    ['UnderWay', { past: [past(1, undefined)] }, 'room is being made for it already', 30_000],
    ['TooEarly', { refusedSinceMs: nowMs - 10_000 }, 'room may come free by itself', 20_000],
    [
      'BackOff',
      { past: [past(5, 0.5)] },
      'others were evicted for it before and it did not get its place',
      30_000,
    ],
    [
      'BackOff',
      { past: [past(30, 10, { placed: true }), past(9, 5), past(4, 3), past(2, 1)] },
      'others were evicted for it before and it did not get its place',
      3 * minuteMs,
    ],
    ['TooManyAtOnce', { past: [past(1, undefined, other)] }, 'room is being made for other groups', 30_000],
    [
      'TooManyPerHour',
      { past: [past(50, 49, { ...other, victims: 10 }), past(20, 19, { ...other, victims: 6 })] },
      'no more than 16 groups and pods may be preempted within an hour',
      10 * minuteMs,
    ],
    [
      'TooManyPerHour',
      {
        past: [past(50, 49, { ...other, victims: 15 })],
        chooseVictims: () => victims(unit('a'), unit('b')),
      },
      'no more than 16 groups and pods may be preempted within an hour',
      10 * minuteMs,
    ],
    [
      'NoVictims',
      { chooseVictims: () => ({ kind: 'no-victims', code: 'NothingHelps', message: 'nothing helps' }) },
      'nothing helps',
      30_000,
    ],
    [
      'Never',
      { chooseVictims: () => ({ kind: 'no-victims', code: 'Never', message: 'never' }) },
      'never',
      30_000,
    ],
    [
      'DisruptionBudget',
      {
        chooseVictims: () =>
          victims(unit('a'), unit('b', { budgetsForbid: 'PodDisruptionBudget b does not allow it' })),
      },
      'it would have to evict serving/b, but PodDisruptionBudget b does not allow it',
      10_000,
    ],
    [
      'TooManyVictims',
      { settings: { maxVictims: 1 }, chooseVictims: () => victims(unit('a'), unit('b')) },
      'it would end 2 groups or single pods, 8 pods in all; at most 1 and 256 are allowed',
      30_000,
    ],
    [
      'TooManyVictims',
      { settings: { maxVictimPods: 7 }, chooseVictims: () => victims(unit('a'), unit('b')) },
      'it would end 2 groups or single pods, 8 pods in all; at most 8 and 7 are allowed',
      30_000,
    ],
    [
      'DryRun',
      { settings: { dryRun: true }, chooseVictims: () => victims(unit('a'), unit('b')) },
      'preemption is in dry run; it would evict serving/a, serving/b',
      30_000,
    ],
  ];
  for (const [code, facts, message, retryAfterMs] of cases)
    t.same(decidePreemption(factsOf(facts)), { kind: 'held', code, message, retryAfterMs }, code);
});

t.test('what is over does not hold it', async t => {
  const cases: readonly [string, readonly PastPreemption[]][] = [
    ['a back-off that is over', [past(5, 2)]],
    ['failures before it last got its place', [past(30, 20), past(10, 9), past(3, 0.1, { placed: true })]],
    ['failures of others', [past(2, 0.1, { group: 'serving/other-0' })]],
    ['victims of an hour ago', [past(61, 60, { group: 'serving/other-0', victims: 16 })]],
  ];
  for (const [name, earlier] of cases)
    t.equal(decidePreemption(factsOf({ past: earlier })).kind, 'preempt', name);
});

t.test('the back-off is bounded', async t => {
  const failures = Array.from({ length: 40 }, (_, i) => past(200 - i, 199 - i));
  const facts = factsOf({ past: [...failures, past(2, 0)], settings: { maxVictimsPerHour: 1_000 } });
  t.match(decidePreemption(facts), { code: 'BackOff', retryAfterMs: 60 * minuteMs });
});

t.test('victims are not looked for while something else holds it', async t => {
  let asked = 0;
  const chooseVictims = () => {
    asked++;
    return victims(unit('a'));
  };
  decidePreemption(factsOf({ halted: true, chooseVictims }));
  decidePreemption(factsOf({ past: [past(1, undefined)], chooseVictims }));
  t.equal(asked, 0);
  decidePreemption(factsOf({ chooseVictims }));
  t.equal(asked, 1);
});
