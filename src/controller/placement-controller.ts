import type { CacheChange } from '../cache/cache-changes.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeGroup, inLeadersDomain, modeOf, whyGroupNotPlaceable } from '../cache/group-source.ts';
import { type GroupView, rankOf, seatOf } from '../cache/group-view.ts';
import type { Rung } from '../cluster/devices/alignment.ts';
import type { ClaimRecord } from '../cluster/devices/claims.ts';
import type { JsonPatchOperation } from '../cluster/node-affinity.ts';
import { UnpinnableError } from '../cluster/node-affinity.ts';
import { noResources, type Resources } from '../cluster/resources.ts';
import { type GroupInfo, isObstacle } from '../group/group-info.ts';
import { isMembershipError } from '../group/membership.ts';
import { type PlacementMode, pinsPods } from '../group/owner.ts';
import {
  formatPlanAnnotation,
  maxPlanAnnotationBytes,
  type PlanAnnotation,
} from '../group/plan-annotation.ts';
import { isGated, type PodInfo } from '../group/pod-info.ts';
import type { WorkQueue } from '../kube/work-queue.ts';
import { claimsToRemake } from './claims-to-remake.ts';
import { decideGroup, type GroupDecision, type NodeTrouble, type ReseatCause } from './decide.ts';
import type { PlacementReport } from './placement-report.ts';
import { placeOps, planOps, releaseOps } from './pod-patches.ts';
import { planFromSeats, seatsOf } from './seats.ts';
import { WindowBudget } from './waiting-line.ts';
import type { LineOutcome, Seat, WaitingList } from './waiting-list.ts';

/** The writes that placement makes; each either happens as a whole or throws. */
export interface PlacementWrites {
  patchPod(pod: PodInfo, ops: readonly JsonPatchOperation[]): Promise<void>;
  /** Deletes a pod as it was last seen; false when it has been bound, replaced or deleted meanwhile. */
  deletePod(pod: PodInfo, propagation: 'Foreground' | 'Background'): Promise<boolean>;
  /** Deletes a claim as it was last seen; false when it is gone or has changed meanwhile. */
  deleteClaim(claim: ClaimRecord): Promise<boolean>;
  /** A live look: this very pod is there, not going, and bound or not as it was last seen. */
  isAsSeen(pod: PodInfo): Promise<boolean>;
  /** True when a failed write means that the pod is not what it was: read again, decide again. */
  isStale(error: unknown): boolean;
}

export interface PlacementControllerOptions {
  readonly cache: ClusterCache;
  readonly waiting: WaitingList;
  readonly writes: PlacementWrites;
  readonly report: PlacementReport;
  readonly nowMs: () => number;
  /** Whether this process holds the Lease and knows the whole cluster; asked right before every write. */
  readonly mayAct: () => boolean;
  readonly strandedAfterMs: number;
  /** How often members of one group may be made anew for a better seat. */
  readonly replanBudget: { readonly perGroup: number; readonly windowMs: number };
  readonly membersLateAfterMs: number;
  /** Whether claims that are deleted are made again soon; see kube/server-version.ts. */
  readonly remakesClaims: () => boolean;
  /** Hears of every group that waits, with the reason; what it answers is added to why. */
  readonly onWaits: (key: string, reason: string) => string | undefined;
  readonly makeQueue: (process: (key: string) => Promise<void>) => WorkQueue;
}

const lineKey = 'line';
/** Changes come in bursts; one pass serves them all. */
const gatherMs = 10;
/** A group that waits for a seat hears of room only by looking. */
const recheckMs = 5_000;
const keepOffMs = 10 * 60_000;
/** Longest a pass plans before timers and requests get their turn. */
const sliceMs = 15;

/** The Lease went between a decision and its write. */
class NotActing extends Error {
  readonly code = 'NotActing';
}

/** A plan that is in the cache already and on its way to the API server. */
interface PendingPlan {
  readonly group: GroupInfo;
  readonly annotation: PlanAnnotation;
  readonly text: string;
  readonly domain: string;
}

/**
 * Places groups: plans those whose leader waits, pins members, writes down where adopted groups run, and makes members
 * anew whose pin cannot come true. Runs in every replica; only the holder of the Lease acts.
 *
 * Every decision is made from the cache on a change of the group (see decide.ts), so a crash at any point loses nothing:
 * what was written is in the pods, what was not is decided again.
 */
export class PlacementController {
  readonly #options: PlacementControllerOptions;
  readonly #queue: WorkQueue;
  readonly #pendingPlans = new Map<string, PendingPlan>();
  readonly #pendingPins = new Map<string, string>();
  /** Since when, and under which plan: under another one a pod has another seat. */
  readonly #unschedulableSince = new Map<string, { readonly sinceMs: number; readonly generation: number }>();
  /** Gated pods whose seat has been lost, and since when. */
  readonly #unseatedSince = new Map<string, number>();
  /** Pods whose gate was taken away by a write that the watch has not shown yet. */
  readonly #ungateSent = new Set<string>();
  readonly #replans: WindowBudget;

  constructor(options: PlacementControllerOptions) {
    this.#options = options;
    this.#replans = new WindowBudget(options.replanBudget.perGroup, options.replanBudget.windowMs);
    this.#queue = options.makeQueue(key => this.#process(key));
    options.cache.subscribe(change => this.#changed(change));
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.shutdown();
  }

  get queueDepth(): number {
    return this.#queue.depth;
  }

  /** Looks at everything: after acquiring the Lease, and now and then, should a change ever have been missed. */
  reviewAll(): void {
    const { cache } = this.#options;
    this.#dropMemories();
    for (const key of cache.groupKeys()) this.#queue.add(`group:${key}`);
    for (const pod of cache.allPods()) {
      if (pod.membership === undefined && (isGated(pod) || this.#isPinnedSingle(pod)))
        this.#queue.add(`single:${pod.uid}`);
    }
    this.#queue.add(lineKey);
  }

  /** Looks at the line again, for what is known of those in it has changed. */
  serveLine(): void {
    this.#queue.addAfter(lineKey, gatherMs);
  }

  /** Forgets what was only intended: another holder decides now. */
  standDown(): void {
    const { cache, waiting, report } = this.#options;
    for (const { group } of this.#pendingPlans.values()) cache.forgetPlan(group.leader);
    for (const uid of this.#pendingPins.keys()) {
      const pod = cache.pod(uid);
      if (pod !== undefined) cache.forgetPin(pod);
    }
    this.#pendingPlans.clear();
    this.#pendingPins.clear();
    this.#ungateSent.clear();
    waiting.clear();
    report.clear();
  }

  #dropMemories(): void {
    const { cache } = this.#options;
    for (const memory of [this.#unschedulableSince, this.#unseatedSince, this.#ungateSent]) {
      for (const uid of memory.keys()) if (cache.pod(uid) === undefined) memory.delete(uid);
    }
  }

  #changed(change: CacheChange): void {
    if (change.kind === 'group') this.#queue.add(`group:${change.key}`);
    else if (change.kind === 'single') this.#queue.add(`single:${change.uid}`);
    else if (change.kind === 'room' && this.#options.waiting.size > 0)
      this.#queue.addAfter(lineKey, gatherMs);
  }

  async #process(key: string): Promise<void> {
    if (!this.#options.mayAct()) return;
    if (key === lineKey) return this.#passLine();
    const at = key.indexOf(':');
    const name = key.slice(at + 1);
    return key.startsWith('group:') ? this.#processGroup(name) : this.#processSingle(name);
  }

  async #passLine(): Promise<void> {
    const { waiting, nowMs, mayAct, report } = this.#options;
    let sliceEndsMs = nowMs() + sliceMs;
    await waiting.pass(
      outcome => this.#place(outcome),
      async () => {
        if (nowMs() >= sliceEndsMs) {
          await new Promise<void>(resolve => setImmediate(resolve));
          sliceEndsMs = nowMs() + sliceMs;
        }
        return mayAct();
      },
    );
    report.lineServed(waiting.size);
  }

  /** Takes the outcome into the cache at once; the write follows from the queue, many at a time. */
  #place(outcome: LineOutcome): void {
    const { cache, report } = this.#options;
    switch (outcome.kind) {
      case 'waits':
        report.waits(this.#withMore(outcome));
        return;
      case 'planned-single':
        cache.assumePin(outcome.pod, outcome.node, outcome.devices);
        this.#pendingPins.set(outcome.pod.uid, outcome.node);
        this.#queue.add(`single:${outcome.pod.uid}`);
        return;
      case 'planned': {
        const { group, plan } = outcome;
        const annotation = {
          leaderUid: group.leader.uid,
          generation: 1,
          nodes: plan.nodes,
          requests: group.demands.map(demand => demand.requests),
          ...(plan.devices && { devices: plan.devices }),
        };
        const text = formatPlanAnnotation(annotation);
        if (text.length > maxPlanAnnotationBytes) {
          const message = `the plan of ${group.size} pods takes ${text.length} bytes, more than the ${maxPlanAnnotationBytes} an annotation may have`;
          report.waits({
            kind: 'waits',
            key: group.key,
            leader: group.leader,
            reason: 'PlanTooLong',
            message,
          });
          return;
        }
        cache.assumePlan(group.leader, annotation);
        this.#pendingPlans.set(group.key, { group, annotation, text, domain: plan.domain.join('/') });
        this.#queue.add(`group:${group.key}`);
      }
    }
  }

  #withMore(outcome: Extract<LineOutcome, { kind: 'waits' }>): typeof outcome {
    if (outcome.leader.membership === undefined) return outcome;
    const more = this.#options.onWaits(outcome.key, outcome.reason);
    return more === undefined ? outcome : { ...outcome, message: `${outcome.message}; ${more}` };
  }

  async #processGroup(key: string): Promise<void> {
    const pending = this.#pendingPlans.get(key);
    if (pending !== undefined) {
      this.#pendingPlans.delete(key);
      if (!(await this.#writePlan(key, pending))) return;
    }
    const { cache, waiting } = this.#options;
    const view = cache.group(key);
    if (view === undefined) {
      waiting.remove(key);
      this.#options.report.gone(key);
      return;
    }
    const written = view.leader?.plan;
    if (view.leader !== undefined && written !== undefined && 'code' in written)
      this.#options.report.planUnreadable(view.leader, written.message);
    const decision = this.#decide(view);
    if (decision.kind !== 'plan') waiting.remove(key);
    await this.#execute(view, decision);
  }

  #decide(view: GroupView): GroupDecision {
    const { cache, strandedAfterMs } = this.#options;
    const mode = modeOf(cache, view);
    const why = mode === 'observe' ? undefined : whyGroupNotPlaceable(cache, view);
    if (why !== undefined) {
      const pods = [...view.members.values()].filter(isGated);
      return pods.length === 0
        ? { kind: 'none' }
        : { kind: 'release', pods, reason: `Berth does not place it: ${why}` };
    }
    return decideGroup({
      view,
      mode,
      trouble: name => this.#troubleOf(name),
      fitsSeat: (pod, node) =>
        cache.fitsSeat(view.key, rankOf(pod) ?? 0, node, pod.requests, pod.scheduling?.tolerations) &&
        cache.hasPlannedDevices(view.key, rankOf(pod) ?? 0),
      unschedulableForMs: pod =>
        this.#unschedulableForMs(pod, `group:${view.key}`, view.plan?.generation ?? 0),
      strandedAfterMs,
      ungateSent: pod => this.#ungateSent.has(pod.uid),
    });
  }

  #troubleOf(node: string): NodeTrouble | undefined {
    const { cache } = this.#options;
    if (cache.node(node) === undefined) return 'NodeGone';
    return cache.excludedNodes.has(node) ? 'NodeFailing' : undefined;
  }

  #modeOf(key: string): PlacementMode {
    const view = this.#options.cache.group(key);
    return view === undefined ? 'observe' : modeOf(this.#options.cache, view);
  }

  async #execute(view: GroupView, decision: GroupDecision): Promise<void> {
    const { cache, waiting, report, membersLateAfterMs } = this.#options;
    switch (decision.kind) {
      case 'none':
        return;
      case 'release':
        report.released(view, decision.reason);
        await this.#eachPod(decision.pods, releaseOps);
        return;
      case 'plan':
        waiting.addGroup(view.key);
        this.#queue.addAfter(lineKey, gatherMs);
        if (view.membership.kind === 'labelled' && view.members.size < view.membership.size) {
          this.#queue.addAfter(lineKey, membersLateAfterMs + gatherMs);
        }
        return;
      case 'adopt':
        return this.#adopt(view, decision.leader);
      case 'pin':
        await this.#remakeUnsteered(view, decision.pods);
        await this.#eachPod(decision.pods, pod => {
          const rank = rankOf(pod) ?? 0;
          return placeOps(pod, seatOf(view, rank) ?? '', { alignment: alignmentOf(view.plan, rank) });
        });
        return;
      case 'wake':
        report.steered(decision.pod, decision.seat);
        this.#queue.addAfter(`group:${view.key}`, recheckMs);
        return;
      case 'reseat':
        if (view.leader !== undefined && cache.pod(decision.pod.uid) !== undefined)
          await this.#reseat(view, view.leader, decision);
    }
  }

  /**
   * Writes the plan, the pin and the end of the gate onto the leader in one PATCH. In mode `extender` the plan alone: it
   * is an update of the pod and so has kube-scheduler try it again.
   */
  async #writePlan(key: string, pending: PendingPlan): Promise<boolean> {
    const { cache, report, nowMs } = this.#options;
    const { group, annotation, text, domain } = pending;
    const current = cache.pod(group.leader.uid);
    const steers = this.#modeOf(key) === 'extender';
    const seat = annotation.nodes[0] ?? '';
    // The extender answers from a plan as soon as it is made, so the leader may be at its seat before it is written.
    const wanted = steers ? [undefined, seat].includes(current?.nodeName) : current && isGated(current);
    if (current === undefined || current.terminating || !wanted) {
      cache.forgetPlan(group.leader);
      return true;
    }
    const startedMs = nowMs();
    const alignment = alignmentOf(annotation, 0);
    try {
      if (!steers)
        await this.#remakeClaims(current, claimsToRemake(cache, current, seat, annotation.devices?.[0]));
      await this.#patch(
        current,
        steers ? planOps(current, text) : placeOps(current, seat, { planText: text, alignment }),
      );
    } catch (error) {
      if (steers && !this.#isStale(error)) {
        // Strangers must not get the other seats while the API server is asked again.
        this.#pendingPlans.set(key, pending);
        throw error;
      }
      cache.forgetPlan(group.leader);
      if (error instanceof UnpinnableError) {
        report.waits({ kind: 'waits', key, leader: current, reason: error.code, message: error.message });
        return false;
      }
      if (!this.#isStale(error)) throw error;
      this.#queue.addRateLimited(`group:${key}`);
      return false;
    }
    cache.confirmPlan(group.leader, annotation);
    report.placed(group, annotation.nodes, domain, nowMs() - startedMs);
    report.aligned((annotation.devices ?? []).map(({ rung }) => rung));
    return true;
  }

  /** Claims of members that are about to be ungated, made while nobody was there to steer them. */
  async #remakeUnsteered(view: GroupView, pods: readonly PodInfo[]): Promise<void> {
    const { cache } = this.#options;
    await Promise.all(
      pods.map(pod => {
        const rank = rankOf(pod) ?? 0;
        const seat = seatOf(view, rank) ?? '';
        return this.#remakeClaims(pod, claimsToRemake(cache, pod, seat, view.plan?.devices?.[rank]));
      }),
    );
  }

  /** kube-controller-manager makes a deleted claim again when the pod is ungated, and then it is steered. */
  async #remakeClaims(pod: PodInfo, claims: readonly ClaimRecord[]): Promise<void> {
    const { writes, report, mayAct, remakesClaims } = this.#options;
    if (!remakesClaims()) return;
    for (const claim of claims) {
      if (!mayAct()) throw new NotActing('the Lease was lost before the write');
      if (await writes.deleteClaim(claim)) report.claimRemade(pod, claim.name);
    }
  }

  /** Writes down where a running group is, so that a member that returns finds its seat. No UID changes. */
  async #adopt(view: GroupView, leader: PodInfo): Promise<void> {
    const { cache, report, waiting } = this.#options;
    const info = describeGroup(cache, view, leader, true);
    const leaderNode = leader.nodeName ?? '';
    const bound = new Map<number, string>();
    const stays = new Map<number, string>();
    for (const [rank, pod] of [...view.members, ...view.leaving]) {
      if (pod.nodeName === undefined || bound.has(rank)) continue;
      bound.set(rank, pod.nodeName);
      if (isObstacle(info) || inLeadersDomain(cache, info, leaderNode, pod.nodeName))
        stays.set(rank, pod.nodeName);
    }
    // Members on their way through kube-scheduler will be written down when they are bound.
    // In mode extender they are refused until a plan says where, so they are on no way.
    const onTheirWay =
      this.#modeOf(view.key) !== 'extender' &&
      [...view.members.values()].some(pod => pod.nodeName === undefined && !isGated(pod));
    const ranks = Array.from({ length: view.membership.size }, (_, rank) => rank);
    // An adopted plan is written again when strays are found bound: whoever is away meanwhile keeps the seat it has.
    for (const rank of ranks) {
      const seat = seatOf(view, rank);
      if (!bound.has(rank) && seat !== undefined && cache.node(seat) !== undefined) stays.set(rank, seat);
    }
    const missing = ranks.filter(rank => !bound.has(rank) && !stays.has(rank));
    let seats: ReadonlyMap<number, Seat> = seatsOf(stays);
    let requests: readonly Resources[] = ranks.map(rank => view.members.get(rank)?.requests ?? noResources);
    if (!isObstacle(info)) {
      requests = info.demands.map(demand => demand.requests);
      const excluded = waiting.excludedNodes(view.key);
      if (missing.length > 0 && !onTheirWay) {
        seats = waiting.planRanks(info, [...stays.keys(), ...missing], stays, excluded) ?? seats;
      }
    }
    const annotation = planFromSeats({ leader, before: view.plan, seats, requests });
    const { nodes } = annotation;
    if (view.plan?.nodes.every((node, rank) => node === nodes[rank])) return;
    if (!(await this.#writePlanOnly(view, leader, annotation))) return;
    report.adopted(view, nodes);
    const gated = [...view.members]
      .filter(([rank, pod]) => isGated(pod) && nodes[rank] === '')
      .map(([, pod]) => pod);
    if (gated.length === 0 || isObstacle(info)) return;
    report.released(view, 'there is no room for the missing members in the domain of those that run');
    await this.#eachPod(gated, releaseOps);
  }

  /**
   * Finds another seat for one member, inside the domain of the others. A pinned pod is then made anew, for it cannot be
   * moved; a gated one is pinned by the next decision. Only when the domain has no seat is the whole group made anew,
   * and only when it would fit somewhere. Everything under the budget.
   */
  async #reseat(
    view: GroupView,
    leader: PodInfo,
    { pod, rank, cause }: { readonly pod: PodInfo; readonly rank: number; readonly cause: ReseatCause },
  ): Promise<void> {
    const { cache, waiting, report, nowMs } = this.#options;
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
    const alone = [rank, ...this.#otherUnseated(view, rank)];
    const steers = this.#modeOf(view.key) === 'extender';
    // The others stay where they are first of all: they may be on their way there at this very moment.
    const free = steers ? unboundRanks(view) : [];
    const found =
      (rank === 0 && !steers ? undefined : this.#seatsFor(view, info, alone, excludedNodes)) ??
      (steers ? this.#seatsFor(view, info, free, excludedNodes) : undefined);
    const changed = [...(found ?? [])].flatMap(([r, { node }]) => (node === seatOf(view, r) ? [] : [r]));
    if (found !== undefined) {
      if (pod.pinnedTo !== undefined && !this.#replans.take(view.key, nowMs()))
        return this.#outOfBudget(view, leader);
      const requests = info.demands.map(demand => demand.requests);
      const plan = planFromSeats({ leader, before: view.plan, seats: found, requests });
      const { nodes } = plan;
      if (!(await this.#writePlanOnly(view, leader, plan))) return;
      report.reseated(view, pod, nodes[rank] ?? '', cause);
      // kube-scheduler hears nothing of the leader's new plan; a change of the pod itself has it tried again.
      if (steers) for (const r of changed) this.#wake(view.members.get(r), nodes[r] ?? '');
      if (pod.pinnedTo !== undefined) await this.#remake(pod, 'Background', 'member');
      return;
    }
    await this.#reseatGroup(view, leader, info, excludedNodes, { pod, cause });
  }

  #wake(pod: PodInfo | undefined, node: string): void {
    if (pod !== undefined && pod.nodeName === undefined) this.#options.report.steered(pod, node);
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
      return node === '' || this.#troubleOf(node) !== undefined ? [other] : [];
    });
  }

  async #reseatGroup(
    view: GroupView,
    leader: PodInfo,
    info: GroupInfo,
    excludedNodes: ReadonlyMap<string, string>,
    { pod, cause }: { readonly pod: PodInfo; readonly cause: ReseatCause },
  ): Promise<void> {
    const { cache, waiting, report, nowMs, strandedAfterMs } = this.#options;
    const since = this.#unseatedSince.get(pod.uid) ?? nowMs();
    this.#unseatedSince.set(pod.uid, since);
    const owner = cache.leaderWorkerSet(view.membership.namespace, view.membership.owner);
    const keepsMembers =
      owner?.spec.leaderWorkerTemplate.restartPolicy === 'None' && leader.nodeName !== undefined;
    // What fills the seat may be on its way out, so a gated member gets the time that a pinned one has had.
    const patient = isGated(pod) && nowMs() - since < strandedAfterMs;
    if (cause === 'NoSeat' && leader.nodeName !== undefined && !patient) {
      report.released(view, `there is no room for ${pod.name} in the domain of the members that run`);
      await this.#eachPod([pod], releaseOps);
      return;
    }
    // In mode `extender` all that is not bound has been tried already, and nothing is made anew there.
    const stays = keepsMembers || patient || this.#modeOf(view.key) === 'extender';
    const whole = stays ? undefined : waiting.plan({ ...info, excludedNodes });
    if (whole?.kind !== 'plan') {
      const message = `no other seat for ${pod.name} in the domain of its group`;
      report.waits({ kind: 'waits', key: view.key, leader, reason: 'NoSeat', message });
      this.#queue.addAfter(`group:${view.key}`, patient ? strandedAfterMs : recheckMs);
      return;
    }
    if (!this.#replans.take(view.key, nowMs())) return this.#outOfBudget(view, leader);
    // The member may have been bound after all, and then the group is whole.
    if (pod !== leader && !(await this.#options.writes.isAsSeen(pod))) return;
    await this.#remake(leader, 'Foreground', 'group');
  }

  #outOfBudget(view: GroupView, leader: PodInfo): void {
    const { report, replanBudget, nowMs } = this.#options;
    const minutes = Math.round(replanBudget.windowMs / 60_000);
    const message = `it was made anew ${replanBudget.perGroup} times in ${minutes} minutes; Berth waits before it tries again`;
    report.waits({ kind: 'waits', key: view.key, leader, reason: 'ReplanBudget', message });
    this.#queue.addAfter(`group:${view.key}`, Math.max(1_000, this.#replans.waitMs(view.key, nowMs())));
  }

  async #remake(
    pod: PodInfo,
    propagation: 'Foreground' | 'Background',
    scope: 'member' | 'group',
  ): Promise<void> {
    const { writes, report, mayAct } = this.#options;
    if (!mayAct()) return;
    if (pod.controllerUid === '') {
      report.cannotRemake(pod);
      return;
    }
    report.remade(pod, scope, await writes.deletePod(pod, propagation));
  }

  /** False when the leader is not what it was: decided again then. */
  async #writePlanOnly(view: GroupView, leader: PodInfo, annotation: PlanAnnotation): Promise<boolean> {
    const { cache } = this.#options;
    cache.assumePlan(leader, annotation);
    try {
      await this.#patch(leader, planOps(leader, formatPlanAnnotation(annotation)));
      cache.confirmPlan(leader, annotation);
      return true;
    } catch (error) {
      cache.forgetPlan(leader);
      if (!this.#isStale(error)) throw error;
      this.#queue.addRateLimited(`group:${view.key}`);
      return false;
    }
  }

  async #processSingle(uid: string): Promise<void> {
    const { cache, waiting, report } = this.#options;
    const pod = cache.pod(uid);
    const node = this.#pendingPins.get(uid);
    this.#pendingPins.delete(uid);
    if (pod === undefined || pod.membership !== undefined || pod.terminating) {
      waiting.remove(uid);
      return;
    }
    if (node !== undefined) {
      try {
        await this.#patch(pod, placeOps(pod, node));
        report.singlePinned();
      } catch (error) {
        cache.forgetPin(pod);
        if (!this.#isStale(error)) throw error;
      }
      return;
    }
    if (!isGated(pod)) return this.#processPinnedSingle(pod);
    // Planned again, it would be held on another node than the one that it is pinned to already.
    if (this.#ungateSent.has(uid)) return;
    const namespace = cache.namespace(pod.namespace);
    if (namespace?.pinsSingles !== true || !pinsPods(namespace.mode)) {
      waiting.remove(uid);
      await this.#eachPod([pod], releaseOps);
      return;
    }
    waiting.addSingle(uid);
    this.#queue.addAfter(lineKey, gatherMs);
  }

  async #processPinnedSingle(pod: PodInfo): Promise<void> {
    const { waiting, report, nowMs, strandedAfterMs } = this.#options;
    waiting.remove(pod.uid);
    if (!this.#isPinnedSingle(pod) || pod.pinnedTo === undefined) return;
    const trouble = this.#troubleOf(pod.pinnedTo);
    const forMs = this.#unschedulableForMs(pod, `single:${pod.uid}`, 0);
    if (trouble === undefined && (forMs === undefined || forMs < strandedAfterMs)) return;
    report.stranded(pod, trouble ?? 'Unschedulable');
    if (this.#replans.take(pod.controllerUid, nowMs())) await this.#remake(pod, 'Background', 'member');
  }

  /** A single pod that Berth has pinned: only there singles are pinned at all. */
  #isPinnedSingle(pod: PodInfo): boolean {
    const namespace = this.#options.cache.namespace(pod.namespace);
    return (
      namespace?.pinsSingles === true &&
      namespace.mode !== 'observe' &&
      pod.takesAccelerator &&
      pod.foreignOwner === undefined &&
      pod.nodeName === undefined &&
      pod.pinnedTo !== undefined &&
      !pod.terminating
    );
  }

  async #eachPod(
    pods: readonly PodInfo[],
    opsOf: (pod: PodInfo) => readonly JsonPatchOperation[],
  ): Promise<void> {
    await Promise.all(
      pods.map(async pod => {
        try {
          await this.#patch(pod, opsOf(pod));
        } catch (error) {
          if (error instanceof UnpinnableError) {
            const key =
              pod.membership !== undefined && !isMembershipError(pod.membership)
                ? pod.membership.name
                : pod.name;
            this.#options.report.waits({
              kind: 'waits',
              key,
              leader: pod,
              reason: error.code,
              message: error.message,
            });
            return;
          }
          if (!this.#isStale(error)) throw error;
        }
      }),
    );
  }

  async #patch(pod: PodInfo, ops: readonly JsonPatchOperation[]): Promise<void> {
    if (!this.#options.mayAct()) throw new NotActing('the Lease was lost before the write');
    if (ops.length === 0) return;
    const ungates = isGated(pod) && ops.some(op => op.op === 'remove');
    if (ungates) this.#ungateSent.add(pod.uid);
    try {
      await this.#options.writes.patchPod(pod, ops);
    } catch (error) {
      if (ungates) this.#ungateSent.delete(pod.uid);
      throw error;
    }
  }

  #isStale(error: unknown): boolean {
    return error instanceof NotActing || this.#options.writes.isStale(error);
  }

  /** By our own clock since we first saw it: API timestamps come from other clocks. Comes back when the time is over. */
  #unschedulableForMs(pod: PodInfo, key: string, generation: number): number | undefined {
    const { nowMs, strandedAfterMs } = this.#options;
    if (pod.unschedulableMessage === undefined) {
      this.#unschedulableSince.delete(pod.uid);
      return undefined;
    }
    const known = this.#unschedulableSince.get(pod.uid);
    if (known?.generation !== generation) {
      this.#unschedulableSince.set(pod.uid, { sinceMs: nowMs(), generation });
      this.#queue.addAfter(key, strandedAfterMs + 1);
      return 0;
    }
    return nowMs() - known.sinceMs;
  }
}

function alignmentOf(plan: PlanAnnotation | undefined, rank: number): Rung | undefined {
  return plan?.devices?.[rank]?.rung;
}

function unboundRanks(view: GroupView): readonly number[] {
  return (view.plan?.nodes ?? []).flatMap((_, rank) =>
    view.members.get(rank)?.nodeName === undefined ? [rank] : [],
  );
}
