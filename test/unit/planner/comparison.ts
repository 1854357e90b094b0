import type { PlanInput } from '../../../src/planner/plan.ts';
import type { Verdict } from '../../builders/planning.ts';
import { faultOf } from './brute-force.ts';
import { inputOfInstance } from './instance-input.ts';
import { type GroupMix, instanceOf } from './instances.ts';
import { type Expectation, expectationOf, wasteOf } from './optimum.ts';
import { type Instance, isCounted, isLocal } from './small-instance.ts';

export type Planner = (input: PlanInput) => Verdict;

/** An instance with the right answer to it. */
export interface Question {
  readonly instance: Instance;
  readonly counted: boolean;
  readonly expected: Expectation;
}

export function questionOf(seed: number, mix: GroupMix): Question {
  const instance = instanceOf(seed, mix);
  return { instance, counted: isCounted(instance), expected: expectationOf(instance) };
}

/** What is wrong with a planner's answer; undefined when nothing is. */
export function disagreement(
  { instance, counted, expected }: Question,
  verdict: Verdict,
): string | undefined {
  const { assignments, level } = expected;
  if (verdict.kind === 'undecided') return counted ? 'undecided where counting decides' : undefined;
  if (verdict.kind === 'rejection')
    return assignments.length > 0 ? `refused, though ${JSON.stringify(assignments[0])} is right` : undefined;
  const names = verdict.nodes.join(' ');
  const placed = verdict.nodes.map(name => instance.hosts.findIndex(host => host.name === name));
  const fault = faultOf(instance, placed);
  if (fault !== undefined) return `${names}: ${fault}`;
  if (assignments.length === 0) return `${names}, though nothing was found`;
  if (isLocal(instance) && verdict.level !== level)
    return `level ${verdict.level}, though level ${level} can be had`;
  if (!counted) return undefined;
  const waste = wasteOf(instance, expected, placed);
  return waste && `${names}: ${waste}`;
}

export function verdictOf(planner: Planner, { instance }: Question): Verdict {
  return planner(inputOfInstance(instance));
}
