import { type GroupPlan, type PlanInput, planGroup } from './plan.ts';
import { type ReleaseCandidate, release, type Unit } from './release.ts';
import { smallestRelease } from './release-search.ts';

export interface VictimQuestion {
  /** A group that was refused. */
  readonly input: PlanInput;
  readonly priority: number;
  /** `Never` as soon as one member says so; Kubernetes' default is PreemptLowerPriority. */
  readonly preemptionPolicy?: string | undefined;
  /** All units of the moment of the snapshot. */
  readonly units: readonly Unit[];
  /** How often the planner may be asked. */
  readonly maxPlans?: number;
}

/** Units whose end makes the group fit, and the plan for then. */
export interface VictimPlan {
  readonly kind: 'victims';
  /** By name. None of them could be left alone. */
  readonly victims: readonly Unit[];
  readonly plan: GroupPlan;
  /** No set with less damage would do. */
  readonly exact: boolean;
}

export interface NoVictims {
  readonly kind: 'no-victims';
  readonly code:
    | 'Never'
    /** It fits without any, as things are now. */
    | 'Fits'
    /** It fits once those that are going anyhow are gone. */
    | 'RoomIsComing'
    | 'NoLowerPriority'
    /** Nothing of lower priority makes it fit, even all of it. */
    | 'NothingHelps'
    /** The search ended before it could tell. */
    | 'Undecided';
  readonly message: string;
}

const defaultMaxPlans = 2_000;
/** Makes every priority (an int32) count as positive, so that a unit more is always more damage. */
const aboveAllPriorities = 2 ** 31;

const messages: Readonly<Record<NoVictims['code'], string>> = {
  Never: 'its preemptionPolicy is Never',
  Fits: 'it fits without preemption',
  RoomIsComing: 'it fits once the pods that are terminating are gone',
  NoLowerPriority: 'nothing of lower priority may be preempted',
  NothingHelps: 'it would not fit either if everything of lower priority ended',
  Undecided: 'no victims were found within the bounds of the search',
};

/**
 * The least damage that makes room for a group: whole groups and single pods of lower priority, never in vain. Units that
 * are going anyhow count as gone, so that nobody is evicted for room that comes by itself.
 */
export function chooseVictims(question: VictimQuestion): VictimPlan | NoVictims {
  const { input, units, preemptionPolicy, maxPlans = defaultMaxPlans } = question;
  if (preemptionPolicy === 'Never') return noVictims('Never');
  const going = units.filter(unit => unit.state === 'going');
  const base = release(input, { units: going, nodes: [] });
  const asIs = planGroup(base);
  if (asIs.kind === 'plan') return noVictims(whyNoNeed(input, going));
  const candidates = units.filter(unit => mayBeTaken(question, unit)).map(candidateOf);
  if (candidates.length === 0) return noVictims('NoLowerPriority');
  const { set, plan, exact } = smallestRelease({
    input: base,
    candidates,
    costOf: damageOf,
    leastCost: leastDamage,
    rankOf: candidate => damageOf([candidate]).slice(0, 2),
    maxPlans,
  });
  if (set === undefined || plan === undefined) return noVictims(exact ? 'NothingHelps' : 'Undecided');
  return { kind: 'victims', victims: set.flatMap(({ release: { units } }) => units), plan, exact };
}

/** `Never` when any member asks for it: a group preempts as a whole. */
export function preemptionPolicyOf(demands: PlanInput['demands']): string | undefined {
  return demands.find(({ spec }) => spec.preemptionPolicy === 'Never')?.spec.preemptionPolicy;
}

/**
 * The damage of a set, in the order in which kube-scheduler compares the victims of two nodes (k8s.io/kubernetes
 * pkg/scheduler/framework/preemption pickOneNodeForPreemption), with units for pods: fewest that break a
 * PodDisruptionBudget, lowest highest priority, smallest sum of priorities (each above zero, so fewest units as long as
 * priorities are alike), fewest pods, fewest units.
 */
export function damageOf(set: readonly ReleaseCandidate[]): readonly number[] {
  const units = set.flatMap(({ release: { units } }) => units);
  return [
    units.filter(unit => unit.budgetsForbid !== undefined).length,
    Math.max(...units.map(unit => unit.priority)),
    units.reduce((sum, unit) => sum + unit.priority + aboveAllPriorities, 0),
    units.reduce((sum, unit) => sum + unit.pods, 0),
    units.length,
  ];
}

/** Each element by itself, as if the least of each came together. */
function leastDamage(candidates: readonly ReleaseCandidate[], size: number): readonly number[] {
  const units = candidates.flatMap(({ release: { units } }) => units);
  const least = (of: (unit: Unit) => number) =>
    units
      .map(of)
      .sort((a, b) => a - b)
      .slice(0, size);
  const sum = (numbers: readonly number[]) => numbers.reduce((total, n) => total + n, 0);
  return [
    sum(least(unit => (unit.budgetsForbid === undefined ? 0 : 1))),
    Math.max(...least(unit => unit.priority)),
    sum(least(unit => unit.priority + aboveAllPriorities)),
    sum(least(unit => unit.pods)),
    size,
  ];
}

/** The group that another wants to be near to is no victim of that other. */
function mayBeTaken({ input, priority }: VictimQuestion, unit: Unit): boolean {
  return (
    unit.state === 'stays' &&
    unit.whyKept === undefined &&
    unit.priority < priority &&
    unit.uses.length > 0 &&
    unit.owner !== input.topology.sameDomainAs?.owner
  );
}

function whyNoNeed(input: PlanInput, going: readonly Unit[]): NoVictims['code'] {
  if (going.length === 0) return 'Fits';
  return planGroup(input).kind === 'plan' ? 'Fits' : 'RoomIsComing';
}

/** A group and a pod may have one name. */
function candidateOf(unit: Unit): ReleaseCandidate {
  return { key: `${unit.key} ${unit.kind}`, release: { units: [unit], nodes: [] } };
}

function noVictims(code: NoVictims['code']): NoVictims {
  return { kind: 'no-victims', code, message: messages[code] };
}
