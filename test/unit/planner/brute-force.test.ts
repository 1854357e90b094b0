import t from 'tap';
import { planGroup } from '../../../src/planner/plan.ts';
import type { Verdict } from '../../builders/planning.ts';
import { disagreement, type Question, questionOf, verdictOf } from './comparison.ts';
import type { GroupMix } from './instances.ts';
import type { Instance, SmallSlices } from './small-instance.ts';

const firstSeed = Number(process.env['BERTH_SEED'] ?? 20260101);
const counts: Readonly<Record<GroupMix, number>> = {
  'leader and workers': 14_000,
  'three kinds': 4_000,
  'many kinds': 3_000,
};

t.setTimeout(180_000);

/** Verdicts on the instances that have a feature. */
interface Tally {
  plans: number;
  refusals: number;
  undecided: number;
}

const features: Readonly<Record<string, (instance: Instance) => boolean>> = {
  'no level required': ({ required }) => required < 0,
  'an inner level required': ({ required, levels }) => required >= 0 && required < levels,
  'one host required': ({ required, levels }) => required === levels,
  'a required and a preferred level': ({ required, preferred }) => required >= 0 && preferred >= 0,
  'members that stay': ({ fixed }) => fixed.size > 0,
  'labels to agree on': ({ samePool }) => samePool,
  'equal slices': ({ slices, members }) =>
    slices?.ranks.flat().length === members.length &&
    new Set(slices.ranks.map(ranks => ranks.length)).size === 1,
  'slices of different sizes': ({ slices }) => new Set(slices?.ranks.map(ranks => ranks.length)).size > 1,
  'the leader in the first slice, which is larger': ({ slices }) => isLeaderOnTop(slices),
  'the leader outside of all slices': ({ slices }) => slices?.ranks.flat().includes(0) === false,
  'slices on hosts': ({ slices, levels }) => slices?.level === levels,
  'slices on a coarse level': ({ slices, levels }) => slices !== undefined && slices.level < levels - 1,
  'slices and a required level': ({ slices, required }) => slices !== undefined && required >= 0,
  'slices apart': ({ slices }) => slices?.apart === true,
  'slices with members that stay': ({ slices, fixed }) => slices !== undefined && fixed.size > 0,
  'excluded nodes': ({ hosts }) => hosts.some(({ excluded }) => excluded),
  'host ports': ({ demands }) => demands.some(({ port }) => port > 0),
  'pod affinity': ({ demands }) => demands.some(({ near }) => near.length > 0),
  'pod anti-affinity': ({ demands }) => demands.some(({ away }) => away.length > 0),
  'anti-affinity of others': ({ hosts }) =>
    hosts.some(({ strangers }) => strangers.some(({ away }) => away.length > 0)),
  'an exclusive domain': ({ exclusive }) => exclusive !== undefined,
  'exclusive domains of others': ({ neighbours }) => neighbours.some(other => other.exclusive !== undefined),
  'required spread': ({ spread }) => spread?.required === true,
  'soft spread': ({ spread }) => spread?.required === false,
  'the domain of a partner': ({ partner }) => partner !== undefined,
  'a ComputeDomain': ({ computeDomain }) => computeDomain !== '',
  'TPU slices': ({ tpuLevel }) => tpuLevel !== undefined,
  'warm hosts': ({ warm }) => warm.length > 0,
  'emptiest domains first': ({ prefer }) => prefer === 'spread',
};

function isLeaderOnTop(slices: SmallSlices | undefined): boolean {
  const [first, second] = slices?.ranks ?? [];
  return first?.[0] === 0 && first.length === (second?.length ?? -1) + 1;
}

const byFeature = new Map(
  Object.keys(features).map(name => [name, { plans: 0, refusals: 0, undecided: 0 } satisfies Tally]),
);
const beyond: Tally = { plans: 0, refusals: 0, undecided: 0 };

function count(tally: Tally, verdict: Verdict): void {
  if (verdict.kind === 'plan') tally.plans++;
  else if (verdict.kind === 'rejection') tally.refusals++;
  else tally.undecided++;
}

function countIn({ instance, counted }: Question, verdict: Verdict): void {
  for (const [name, has] of Object.entries(features)) {
    const tally = byFeature.get(name);
    if (tally !== undefined && has(instance)) count(tally, verdict);
  }
  if (!counted) count(beyond, verdict);
}

for (const mix of Object.keys(counts) as GroupMix[]) {
  t.test(`${mix}: as trying every assignment says`, async t => {
    const tally: Tally = { plans: 0, refusals: 0, undecided: 0 };
    const faults: string[] = [];
    for (let i = 0; i < counts[mix]; i++) {
      const question = questionOf(firstSeed + i, mix);
      const verdict = verdictOf(planGroup, question);
      count(tally, verdict);
      countIn(question, verdict);
      const fault = disagreement(question, verdict);
      if (fault !== undefined) faults.push(`seed ${question.instance.seed}: ${fault}`);
    }
    t.comment(`${counts[mix]} from seed ${firstSeed}: ${JSON.stringify(tally)}`);
    t.same(faults.slice(0, 5), []);
    t.ok(
      tally.plans > counts[mix] / 10 && tally.refusals > counts[mix] / 10,
      'both verdicts are well represented',
    );
  });
}

t.test('every feature is asked for, and both can be had and refused', async t => {
  for (const [name, tally] of byFeature) {
    const { plans, refusals, undecided } = tally;
    t.ok(
      plans >= 30 && refusals >= 30,
      `${name}: ${plans} plans, ${refusals} refusals, ${undecided} undecided`,
    );
  }
});

t.test('where counting does not decide, hardly anything is left undecided', async t => {
  const all = beyond.plans + beyond.refusals + beyond.undecided;
  t.comment(`${beyond.undecided} of ${all}`);
  t.ok(beyond.undecided < all / 1_000);
});
