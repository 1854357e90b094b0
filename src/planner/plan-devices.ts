import type { DeviceChoice, MemberDevices } from '../cluster/devices/device-choice.ts';
import { type DevicesTaken, withTakers } from '../cluster/devices/node-device-info.ts';
import type { NodePools } from '../cluster/devices/pools.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import type { MemberDemand } from '../group/demand.ts';
import { noSeatDevices, type SeatDevices } from '../group/planned-devices.ts';
import { demandOn, memoOf, questionOn } from './device-fit.ts';
import type { GroupPlan } from './plan.ts';
import type { PlanInput } from './plan-input.ts';
import type { Undecided } from './rejection.ts';

/** Ranks that are to stand on one node and have claims to be met there. */
interface Share {
  readonly node: NodeInfo;
  readonly ranks: readonly number[];
}

/**
 * Gives a plan its devices: node by node those of all members there together. What kinds of members ask for was counted
 * kind by kind, or leader beside workers; where there are more kinds on one node, their devices may not be found together,
 * and the plan is undecided. Where nothing can be told of a claim, its member is planned without devices.
 */
export function withDevices(input: PlanInput, plan: GroupPlan): GroupPlan | Undecided {
  const shares = sharesOf(input, plan);
  if (shares.length === 0) return plan;
  const byRank: SeatDevices[] = plan.nodes.map(() => noSeatDevices);
  // Devices that several nodes reach must not be given twice.
  const chosen: DevicesTaken[] = [];
  for (const { node, ranks } of shares) {
    const members = membersOn(node, ranks, input.demands, chosen);
    if (typeof members === 'string') return { kind: 'undecided', reason: members };
    members.forEach(({ claims, results, rung }, at) => {
      const rank = ranks[at] ?? 0;
      byRank[rank] = { claims, rung };
      chosen.push({ key: `rank ${rank}`, results, held: true });
    });
  }
  return { ...plan, devices: byRank };
}

function sharesOf({ demands, fixed, snapshot }: PlanInput, { nodes }: GroupPlan): readonly Share[] {
  const byNode = new Map<number, number[]>();
  demands.forEach((demand, rank) => {
    const index = snapshot.tree.indexByNodeName.get(nodes[rank] ?? '');
    const node = index === undefined ? undefined : snapshot.nodes.at(index);
    if (index === undefined || node === undefined || fixed?.has(rank)) return;
    if (demandOn(node, demand).claims.length === 0) return;
    const ranks = byNode.get(index);
    if (ranks === undefined) byNode.set(index, [rank]);
    else ranks.push(rank);
  });
  return [...byNode].flatMap(([index, ranks]) => {
    const node = snapshot.nodes.at(index);
    return node === undefined ? [] : [{ node, ranks }];
  });
}

/** Empty where nothing can be told, else by position in `ranks`; a sentence where they cannot have devices together. */
function membersOn(
  node: NodeInfo,
  ranks: readonly number[],
  demands: readonly MemberDemand[],
  chosen: readonly DevicesTaken[],
): readonly MemberDevices[] | string {
  const here = ranks.flatMap(rank => demands[rank] ?? []);
  const choice = chooseTogether(node, here, chosen);
  if (choice?.kind === 'none')
    return `devices for ${here.length} members on ${node.record.name} could not be found together (${choice.cause})`;
  return choice?.kind === 'chosen' ? choice.members : [];
}

/**
 * Devices for members that stand on one node together; undefined where the node has none at all.
 * @param chosen what others of the group get elsewhere: devices that several nodes reach must not be given twice
 */
function chooseTogether(
  node: NodeInfo,
  demands: readonly MemberDemand[],
  chosen: readonly DevicesTaken[] = [],
): DeviceChoice | undefined {
  const { devices } = node;
  if (devices === undefined) return undefined;
  const asked = demands.map(demand => demandOn(node, demand));
  const left = isShared(devices.pools) ? withTakers(devices, chosen) : devices;
  const question = questionOn(node, left);
  return memoOf(question).choose({
    ...question,
    members: asked.map(({ claims }) => claims),
    minRung: demands.find(({ devices }) => devices?.minRung !== undefined)?.devices?.minRung,
    steerable: asked.every(({ steerable }) => steerable),
  });
}

/** Choices that one plan may ask for: a second or so at the very worst. */
const mostChoices = 500;

/**
 * Whether members of several kinds find devices on one node beside each other, which counts kind by kind cannot tell.
 * Beyond a number of questions they are taken to: the plan is held against its devices in the end all the same.
 */
export class TogetherMemo {
  readonly #answers = new Map<string, boolean>();
  #isCertain = true;

  /** Whether every no was proven; else a refusal that rests on them is not. */
  get isCertain(): boolean {
    return this.#isCertain;
  }

  fits(node: NodeInfo, demands: readonly MemberDemand[]): boolean {
    const asked = demands.filter(demand => demandOn(node, demand).claims.length > 0);
    if (asked.length < 2) return true;
    const key = `${node.record.name}\n${asked.map(demand => demand.key).join('\n')}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    if (this.#answers.size >= mostChoices) return true;
    const choice = chooseTogether(node, asked);
    const fits = choice?.kind !== 'none';
    if (choice?.kind === 'none' && !choice.isCertain) this.#isCertain = false;
    this.#answers.set(key, fits);
    return fits;
  }
}

function isShared({ pools }: NodePools): boolean {
  return pools.some(({ slices }) => slices.some(({ reach }) => reach.kind !== 'node'));
}
