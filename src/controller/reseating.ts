import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeGroup } from '../cache/group-source.ts';
import { type GroupView, seatOf } from '../cache/group-view.ts';
import { type GroupInfo, isObstacle } from '../group/group-info.ts';
import type { PlacementMode } from '../group/owner.ts';
import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { isGated, type PodInfo } from '../group/pod-info.ts';
import type { NodeTrouble, ReseatCause } from './decide.ts';
import type { PlacementReport } from './placement-report.ts';
import { releaseOps } from './pod-patches.ts';
import type { PodWriter } from './pod-writer.ts';
import { planFromSeats } from './seats.ts';
import type { WindowBudget } from './waiting-line.ts';
import type { Seat, WaitingList } from './waiting-list.ts';

export interface ReseatingOptions {
  readonly cache: ClusterCache;
  readonly waiting: WaitingList;
  readonly writer: PodWriter;
  readonly report: PlacementReport;
  readonly nowMs: () => number;
  readonly strandedAfterMs: number;
  /** How often members of one group may be made anew for a better seat. */
  readonly budget: WindowBudget;
  readonly modeOf: (key: string) => PlacementMode;
  readonly troubleOf: (node: string) => NodeTrouble | undefined;
  /** A live look: this very pod is there, not going, and bound or not as it was last seen. */
  readonly isAsSeen: (pod: PodInfo) => Promise<boolean>;
  /** False when the leader is not what it was. */
  readonly writePlan: (view: GroupView, leader: PodInfo, plan: PlanAnnotation) => Promise<boolean>;
  /** Looks at the group again after so long. */
  readonly again: (key: string, afterMs: number) => void;
}

/** A member that has lost its seat. */
export interface Unseated {
  readonly pod: PodInfo;
  readonly rank: number;
  readonly cause: ReseatCause;
}

/** A group that waits for a seat hears of room only by looking. */
const recheckMs = 5_000;
const keepOffMs = 10 * 60_000;

/**
 * Finds another seat for one member, inside the domain of the others. A pinned pod is then made anew, for it cannot be
 * moved; a gated one is pinned by the next decision. Only when the domain has no seat is the whole group made anew, and
 * only when it would fit somewhere. Everything under the budget.
 */
export class Reseating {
  readonly #options: ReseatingOptions;
  /** Gated pods whose seat has been lost, and since when. */
  readonly #unseatedSince = new Map<string, number>();

  constructor(options: ReseatingOptions) {
    this.#options = options;
  }

  forgetGone(): void {
    for (const uid of this.#unseatedSince.keys())
      if (this.#options.cache.pod(uid) === undefined) this.#unseatedSince.delete(uid);
  }

  async reseat(view: GroupView, leader: PodInfo, { pod, rank, cause }: Unseated): Promise<void> {
    const { cache, waiting, writer, report, nowMs, budget, writePlan } = this.#options;
    const bad = pod.pinnedTo ?? seatOf(view, rank);
    if (bad !== undefined && cause === 'Unschedulable') {
      waiting.exclude(view.key, bad, `refused by kube-scheduler for ${pod.name}`, keepOffMs);
    }
    if (pod.pinnedTo !== undefined) report.stranded(pod, cause);
    const info = describeGroup(cache, view, leader, true);
    if (isObstacle(info)) {
      report.waits({ kind: 'waits', key: view.key, leader, reason: info.code, message: info.message });
      return;
    }
    const excludedNodes = new Map(waiting.excludedNodes(view.key));
    if (bad !== undefined && cause !== 'SeatTaken') excludedNodes.set(bad, `not usable (${cause})`);
    const found = this.#seatsWithin(view, info, rank, excludedNodes);
    if (found === undefined) return this.#reseatGroup(view, leader, info, excludedNodes, { pod, cause });
    if (pod.pinnedTo !== undefined && !budget.take(view.key, nowMs())) return this.#outOfBudget(view, leader);
    const requests = info.demands.map(demand => demand.requests);
    const plan = planFromSeats({ leader, before: view.plan, seats: found, requests });
    if (!(await writePlan(view, leader, plan))) return;
    report.reseated(view, pod, plan.nodes[rank] ?? '', cause);
    if (this.#steers(view)) this.#wakeMoved(view, found);
    if (pod.pinnedTo !== undefined) await writer.remake(pod, 'Background', 'member');
  }

  /** Seats in the domain of those that stay. */
  #seatsWithin(
    view: GroupView,
    info: GroupInfo,
    rank: number,
    excludedNodes: ReadonlyMap<string, string>,
  ): ReadonlyMap<number, Seat> | undefined {
    const alone = [rank, ...this.#otherUnseated(view, rank)];
    if (!this.#steers(view)) return rank === 0 ? undefined : this.#seatsFor(view, info, alone, excludedNodes);
    // The others stay where they are first of all: they may be on their way there at this very moment.
    return (
      this.#seatsFor(view, info, alone, excludedNodes) ??
      this.#seatsFor(view, info, unboundRanks(view), excludedNodes)
    );
  }

  /** kube-scheduler hears nothing of the leader's new plan; a change of the pod itself has it tried again. */
  #wakeMoved(view: GroupView, seats: ReadonlyMap<number, Seat>): void {
    for (const [rank, { node }] of seats) {
      const pod = view.members.get(rank);
      if (node !== seatOf(view, rank) && pod !== undefined && pod.nodeName === undefined)
        this.#options.report.steered(pod, node);
    }
  }

  /** Seats for some ranks while all others keep theirs. What is held for the ranks that move does not stand in their way. */
  #seatsFor(
    view: GroupView,
    info: GroupInfo,
    moving: readonly number[],
    excludedNodes: ReadonlyMap<string, string>,
  ): ReadonlyMap<number, Seat> | undefined {
    const { cache, waiting } = this.#options;
    const kept = new Map<number, string>();
    info.demands.forEach((_, rank) => {
      const seat = seatOf(view, rank);
      if (!moving.includes(rank) && seat !== undefined)
        kept.set(rank, view.members.get(rank)?.nodeName ?? seat);
    });
    // Who is bound counts as a user of its node; only where nobody else waits may all that the group holds be let go.
    const others = [...kept.keys()].some(rank => view.members.get(rank)?.nodeName === undefined);
    const movers = new Set(moving.flatMap(rank => view.members.get(rank) ?? []));
    const snapshot = others ? cache.snapshot() : cache.snapshotWithout(movers, [view.key]);
    return waiting.planRanks(info, [...kept.keys(), ...moving], kept, excludedNodes, snapshot);
  }

  /** Ranks without a pod whose seat is gone too: they move in the same plan. */
  #otherUnseated(view: GroupView, rank: number): readonly number[] {
    return (view.plan?.nodes ?? []).flatMap((node, other) => {
      const member = view.members.get(other);
      if (other === rank || other === 0 || member?.nodeName !== undefined || member?.pinnedTo !== undefined)
        return [];
      return node === '' || this.#options.troubleOf(node) !== undefined ? [other] : [];
    });
  }

  async #reseatGroup(
    view: GroupView,
    leader: PodInfo,
    info: GroupInfo,
    excludedNodes: ReadonlyMap<string, string>,
    { pod, cause }: { readonly pod: PodInfo; readonly cause: ReseatCause },
  ): Promise<void> {
    const { cache, waiting, writer, report, nowMs, strandedAfterMs, budget, again, isAsSeen } = this.#options;
    const since = this.#unseatedSince.get(pod.uid) ?? nowMs();
    this.#unseatedSince.set(pod.uid, since);
    const owner = cache.leaderWorkerSet(view.membership.namespace, view.membership.owner);
    const keepsMembers =
      owner?.spec.leaderWorkerTemplate.restartPolicy === 'None' && leader.nodeName !== undefined;
    // What fills the seat may be on its way out, so a gated member gets the time that a pinned one has had.
    const patient = isGated(pod) && nowMs() - since < strandedAfterMs;
    if (cause === 'NoSeat' && leader.nodeName !== undefined && !patient) {
      report.released(view, `there is no room for ${pod.name} in the domain of the members that run`);
      await writer.patchEach([pod], releaseOps);
      return;
    }
    // In mode `extender` all that is not bound has been tried already, and nothing is made anew there.
    const stays = keepsMembers || patient || this.#steers(view);
    const whole = stays ? undefined : waiting.plan({ ...info, excludedNodes });
    if (whole?.kind !== 'plan') {
      const message = `no other seat for ${pod.name} in the domain of its group`;
      report.waits({ kind: 'waits', key: view.key, leader, reason: 'NoSeat', message });
      again(view.key, patient ? strandedAfterMs : recheckMs);
      return;
    }
    if (!budget.take(view.key, nowMs())) return this.#outOfBudget(view, leader);
    // The member may have been bound after all, and then the group is whole.
    if (pod !== leader && !(await isAsSeen(pod))) return;
    await writer.remake(leader, 'Foreground', 'group');
  }

  #outOfBudget(view: GroupView, leader: PodInfo): void {
    const { report, budget, nowMs, again } = this.#options;
    const minutes = Math.round(budget.windowMs / 60_000);
    const message = `it was made anew ${budget.limit} times in ${minutes} minutes; Berth waits before it tries again`;
    report.waits({ kind: 'waits', key: view.key, leader, reason: 'ReplanBudget', message });
    again(view.key, Math.max(1_000, budget.waitMs(view.key, nowMs())));
  }

  #steers(view: GroupView): boolean {
    return this.#options.modeOf(view.key) === 'extender';
  }
}

function unboundRanks(view: GroupView): readonly number[] {
  return (view.plan?.nodes ?? []).flatMap((_, rank) =>
    view.members.get(rank)?.nodeName === undefined ? [rank] : [],
  );
}
