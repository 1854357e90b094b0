import t from 'tap';
import type { NodeInfo } from '../../../src/cluster/node-info.ts';
import type { MemberDemand } from '../../../src/group/demand.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { type PlanInput, planGroup } from '../../../src/planner/plan.ts';
import type { Verdict } from '../../builders/planning.ts';
import { allAssignments, domainOf, domainsUsed, faultOf, type Instance } from './brute-force.ts';
import { inputOfInstance, instanceOf } from './instances.ts';

const firstSeed = Number(process.env['BERTH_SEED'] ?? 20260101);
const twoKinds = 40_000;
const threeKinds = 12_000;

type Planner = (input: PlanInput) => Verdict;

interface Tally {
  plans: number;
  refusals: number;
  undecided: number;
  /** Plans whose number of hosts or sub-domains was held against the least possible. */
  counted: number;
}

const noTally = (): Tally => ({ plans: 0, refusals: 0, undecided: 0, counted: 0 });

/** What is wrong with a planner's answer; undefined when nothing is. */
function disagreement(instance: Instance, planner: Planner, tally: Tally): string | undefined {
  const assignments = allAssignments(instance);
  const verdict = planner(inputOfInstance(instance));
  if (verdict.kind === 'undecided') {
    tally.undecided++;
    return 'undecided on a fleet this small';
  }
  if (verdict.kind === 'rejection') {
    tally.refusals++;
    return assignments.length > 0 ? `refused, though ${JSON.stringify(assignments[0])} is right` : undefined;
  }
  tally.plans++;
  const placed = verdict.nodes.map(name => instance.hosts.findIndex(host => host.name === name));
  const fault = faultOf(instance, placed);
  if (fault !== undefined) return `${verdict.nodes.join(' ')}: ${fault}`;
  if (assignments.length === 0) return `${verdict.nodes.join(' ')}, though nothing was found`;
  const finest = Math.max(...assignments.map(({ level }) => level));
  if (verdict.level !== finest) return `level ${verdict.level}, though level ${finest} can be had`;
  return wastefulness(instance, verdict.level, placed, tally);
}

/** Fewest newly used domains on the next level down, the hosts themselves where those come next. */
function wastefulness(
  instance: Instance,
  level: number,
  placed: readonly number[],
  tally: Tally,
): string | undefined {
  const isMixed =
    new Set(instance.members.filter((_, rank) => rank > 0 && !instance.fixed.has(rank))).size > 1;
  if (level === instance.levels || isMixed) return undefined;
  tally.counted++;
  const [first = 0] = placed;
  const pool = instance.hosts[first]?.pool;
  const opened = (hosts: readonly number[]) => {
    const kept = domainsUsed(instance, instance.fixed.values(), level + 1);
    return [...domainsUsed(instance, hosts, level + 1)].filter(domain => !kept.has(domain)).length;
  };
  const rivals = allAssignments(instance).filter(
    ({ hosts: [rival = 0], level: ofRival }) =>
      ofRival === level &&
      domainOf(instance, rival, level) === domainOf(instance, first, level) &&
      (!instance.samePool || instance.hosts[rival]?.pool === pool),
  );
  const least = Math.min(...rivals.map(({ hosts }) => opened(hosts)));
  return opened(placed) === least ? undefined : `opens ${opened(placed)} sub-domains where ${least} would do`;
}

function compare(planner: Planner, kinds: 2 | 3, count: number): { tally: Tally; faults: readonly string[] } {
  const tally = noTally();
  const faults: string[] = [];
  for (let i = 0; i < count; i++) {
    const instance = instanceOf(firstSeed + i, kinds);
    const fault = disagreement(instance, planner, tally);
    if (fault !== undefined) faults.push(`seed ${instance.seed}: ${fault}`);
  }
  return { tally, faults };
}

t.test('a leader and equal workers: as trying every assignment says', async t => {
  const { tally, faults } = compare(planGroup, 2, twoKinds);
  t.comment(`seeds from ${firstSeed}: ${JSON.stringify(tally)}`);
  t.same(faults.slice(0, 5), []);
  t.ok(tally.plans > twoKinds / 10 && tally.refusals > twoKinds / 10, 'both verdicts are well represented');
  t.ok(tally.counted > twoKinds / 20);
});

t.test('members of three kinds: as trying every assignment says', async t => {
  const { tally, faults } = compare(planGroup, 3, threeKinds);
  t.comment(`seeds from ${firstSeed}: ${JSON.stringify(tally)}`);
  t.same(faults.slice(0, 5), []);
  t.ok(tally.plans > threeKinds / 10 && tally.refusals > threeKinds / 10);
});

t.test('the comparison finds planners that are wrong', async t => {
  class LeaderTakesNothing extends FitMemo {
    override slotsBeside(node: NodeInfo, leader: MemberDemand, worker: MemberDemand): number {
      return this.fit(node, leader).slots === 0 ? -1 : this.fit(node, worker).slots;
    }
  }
  class LeaderStandsAlone extends FitMemo {
    override slotsBeside(node: NodeInfo, leader: MemberDemand): number {
      return this.fit(node, leader).slots === 0 ? -1 : 0;
    }
  }
  const mutants: Readonly<Record<string, Planner>> = {
    "forgets the leader's use": input => planGroup({ ...input, memo: new LeaderTakesNothing() }),
    'puts no worker beside the leader': input => planGroup({ ...input, memo: new LeaderStandsAlone() }),
    'ignores the required level': input =>
      planGroup({ ...input, topology: { ...input.topology, requiredLevel: undefined } }),
    'ignores labels to agree on': input =>
      planGroup({ ...input, topology: { ...input.topology, sameLabels: [] } }),
    'ignores excluded nodes': ({ excludedNodes: _, ...input }) => planGroup(input),
    'moves members that stay': ({ fixed: _, ...input }) => planGroup(input),
    'demands one host where a rack would do': input => {
      const found = planGroup(input);
      const narrow = { ...input.topology, requiredLevel: input.snapshot.tree.levels.length };
      return found.kind === 'plan' ? planGroup({ ...input, topology: narrow }) : found;
    },
    'opens as many hosts as it can': input => {
      const found = planGroup(input);
      return found.kind === 'plan' ? widened(input, found) : found;
    },
  };
  for (const [name, mutant] of Object.entries(mutants)) {
    const { faults } = compare(mutant, 2, 1_500);
    t.ok(faults.length > 0, `one that ${name}: ${faults.length} of 1500`);
  }
});

/** Plans again with the fullest host of the plan left out, if that gives a plan on the same level. */
function widened(input: PlanInput, plan: Verdict): Verdict {
  if (plan.kind !== 'plan') return plan;
  const counts = new Map<string, number>();
  for (const node of plan.nodes) counts.set(node, (counts.get(node) ?? 0) + 1);
  const [fullest] = [...counts].sort((a, b) => b[1] - a[1]);
  const excludedNodes = new Map([...(input.excludedNodes ?? []), [fullest?.[0] ?? '', 'left out']]);
  const other = planGroup({ ...input, excludedNodes });
  return other.kind === 'plan' && other.level === plan.level ? other : plan;
}
