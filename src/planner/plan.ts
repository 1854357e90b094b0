import type { SeatDevices } from '../group/planned-devices.ts';
import { bestDomain, type Candidate } from './candidates.ts';
import { groupRoom } from './group-room.ts';
import { admitsEachInTurn, ownAffinityKeys, toldApart } from './inter-pod.ts';
import { compareScores } from './objective.ts';
import { TogetherMemo, withDevices } from './plan-devices.ts';
import { planInTurn } from './plan-in-turn.ts';
import { openRanks, type PlanInput } from './plan-input.ts';
import { planMixed } from './plan-mixed.ts';
import { nodesByRank } from './ranks.ts';
import { type Rejection, reject, type Undecided } from './rejection.ts';
import { slicedRanks } from './slices.ts';
import { treeArrays } from './tree-arrays.ts';

export type { PlacedGroup, PlanInput } from './plan-input.ts';

export interface GroupPlan {
  readonly kind: 'plan';
  /** Node name by rank. */
  readonly nodes: readonly string[];
  /** The level of the smallest domain that holds the whole group; the number of levels for a single host. */
  readonly level: number;
  readonly domain: readonly string[];
  /** By rank; absent where nobody has claims. Ranks that stay have none here. */
  readonly devices?: readonly SeatDevices[];
}

/**
 * Plans a whole group: a node for every rank, all or none.
 *
 * Input: the demands by rank, the topology request, ranks that stay where they are, nodes that may not be used.
 * Idea: hosts are classed by what they offer to the group's two demands, domains count their hosts by class, and these
 * counts tell exactly which domains hold the group (room.ts) and how few hosts it takes there. The finest level with such
 * a domain wins, so a group never spans more than it must; among its domains the objective decides (objective.ts), and
 * inside the chosen one as few sub-domains and hosts are opened as can be (choose-parts.ts). The counts are kept from
 * plan to plan and follow the cluster by what changes (slot-index.ts).
 *
 * Cost: changed hosts x levels, the domains of the levels looked at, and the hosts of the domains used. Rules between
 * pods and labels to agree on cost a pass over all hosts.
 *
 * Exact for groups with at most two distinct demands (a leader's and the workers') and equal slices. Groups of more kinds,
 * or with terms between their own members, are searched for with a bound and may come back undecided.
 */
export function planGroup(asked: PlanInput): GroupPlan | Rejection | Undecided {
  const input = toldApart(asked);
  const answer = planNodes(input);
  if (answer.kind !== 'plan') return answer;
  const plan = withDevices(input, answer);
  return plan.kind === 'plan' ? plan : planTogether(input, plan);
}

/**
 * Where members of several kinds do not find devices on the hosts that have enough for each kind alone: again, with hosts
 * asked about them together. It takes too long to be asked of every group.
 */
function planTogether(input: PlanInput, before: Undecided): GroupPlan | Rejection | Undecided {
  const together = new TogetherMemo();
  const answer = planNodes({ ...input, together });
  if (answer.kind === 'plan') return withDevices(input, answer);
  return answer.kind === 'rejection' && !together.isCertain ? before : answer;
}

function planNodes(input: PlanInput): GroupPlan | Rejection | Undecided {
  const answer = planByCounts(input);
  const isAboutTerms =
    answer.kind === 'undecided' &&
    input.demands.some(({ affinity, spread }) => affinity !== undefined || spread.length > 0);
  return isAboutTerms ? planInTurn(input) : answer;
}

function planByCounts(input: PlanInput): GroupPlan | Rejection | Undecided {
  const first = planOnce(input);
  if (first.kind !== 'rejection') return first;
  const keys = ownAffinityKeys(input);
  if (keys.length === 0) return first;
  // Hosts were asked about each member alone, which refused those that want to be near other members. Members that
  // agree on the label are near each other by all means; without that wish a refusal is sure, and only then.
  const assumed = { ...input, affinityAssumed: true };
  const sameLabels = [...new Set([...input.topology.sameLabels, ...keys])];
  const together = planOnce({ ...assumed, topology: { ...input.topology, sameLabels } });
  if (together.kind === 'plan') return together;
  const relaxed = planOnce(assumed);
  return relaxed.kind === 'rejection' ? first : relaxed;
}

function planOnce(input: PlanInput): GroupPlan | Rejection | Undecided {
  const open = openRanks(input);
  const sliced = open.ranks.length === 0 ? undefined : slicedRanks(input, open);
  if (open.mixed || sliced === 'uneven') return checked(input, planMixed(input, open));
  const seen = groupRoom(input, open, sliced);
  let chosen: Candidate | undefined;
  for (const question of seen.questions) {
    const found = bestDomain(question);
    if (found !== undefined && (chosen === undefined || compareCandidates(found, chosen) < 0)) chosen = found;
  }
  if (chosen === undefined) return reject(input, open, seen);
  const nodes = nodesByRank(input, chosen.shares, sliced?.order ?? open.workerRanks);
  const { level, domain } = chosen;
  const path = treeArrays(input.snapshot.tree).domains[domain]?.path ?? [];
  const onHost = level === input.snapshot.tree.levels.length;
  const plan = { kind: 'plan', nodes, level, domain: onHost ? [...path, nodes[0] ?? ''] : path } as const;
  return seen.hasRules ? checked(input, plan) : plan;
}

/** Counts per host cannot see terms between the group's own members, so a plan is held against them at the end. */
function checked(
  input: PlanInput,
  plan: GroupPlan | Rejection | Undecided,
): GroupPlan | Rejection | Undecided {
  if (plan.kind !== 'plan' || admitsEachInTurn(input, plan.nodes)) return plan;
  return {
    kind: 'undecided',
    reason: 'the inter-pod affinity between its own members could not be satisfied',
  };
}

function compareCandidates(a: Candidate, b: Candidate): number {
  return b.level - a.level || compareScores(a.score, b.score);
}
