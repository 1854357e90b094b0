import type { CacheChange } from '../cache/cache-changes.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { modeOf, whyGroupNotPlaceable } from '../cache/group-source.ts';
import { type GroupView, rankOf, seatOf } from '../cache/group-view.ts';
import type { Rung } from '../cluster/devices/alignment.ts';
import { UnpinnableError } from '../cluster/node-affinity.ts';
import type { GroupInfo } from '../group/group-info.ts';
import { type PlacementMode, pinsPods } from '../group/owner.ts';
import {
  formatPlanAnnotation,
  maxPlanAnnotationBytes,
  type PlanAnnotation,
} from '../group/plan-annotation.ts';
import { isGated, type PodInfo } from '../group/pod-info.ts';
import type { WorkQueue } from '../kube/work-queue.ts';
import { adoptionOf } from './adoption.ts';
import { claimsToRemake } from './claims-to-remake.ts';
import { decideGroup, type GroupDecision, type NodeTrouble } from './decide.ts';
import type { PlacementReport } from './placement-report.ts';
import { placeOps, planOps, releaseOps } from './pod-patches.ts';
import { type PlacementWrites, PodWriter } from './pod-writer.ts';
import { Reseating } from './reseating.ts';
import { UnschedulableMemory } from './unschedulable-memory.ts';
import { WindowBudget } from './waiting-line.ts';
import type { LineOutcome, WaitingList } from './waiting-list.ts';

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
/** A steered member that was woken is looked at again. */
const recheckMs = 5_000;
/** Longest a pass plans before timers and requests get their turn. */
const sliceMs = 15;

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
  readonly #unschedulable = new UnschedulableMemory();
  readonly #replans: WindowBudget;
  readonly #writer: PodWriter;
  readonly #reseating: Reseating;

  constructor(options: PlacementControllerOptions) {
    this.#options = options;
    this.#replans = new WindowBudget(options.replanBudget.perGroup, options.replanBudget.windowMs);
    this.#queue = options.makeQueue(key => this.#process(key));
    this.#writer = new PodWriter(options);
    this.#reseating = new Reseating({
      ...options,
      writer: this.#writer,
      budget: this.#replans,
      modeOf: key => this.#modeOf(key),
      troubleOf: node => this.#troubleOf(node),
      isAsSeen: pod => options.writes.isAsSeen(pod),
      writePlan: (view, leader, plan) => this.#writePlanOnly(view, leader, plan),
      again: (key, afterMs) => this.#queue.addAfter(`group:${key}`, afterMs),
    });
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
    this.#writer.forgetWhatWasSent();
    waiting.clear();
    report.clear();
  }

  #dropMemories(): void {
    this.#writer.forgetGone();
    this.#reseating.forgetGone();
    this.#unschedulable.forgetGone(uid => this.#options.cache.pod(uid) !== undefined);
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
      ungateSent: pod => this.#writer.isUngateSent(pod.uid),
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
        await this.#writer.patchEach(decision.pods, releaseOps);
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
        await this.#writer.remakeUnsteered(view, decision.pods);
        await this.#writer.patchEach(decision.pods, pod => {
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
          await this.#reseating.reseat(view, view.leader, decision);
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
        await this.#writer.remakeClaims(
          current,
          claimsToRemake(cache, current, seat, annotation.devices?.[0]),
        );
      await this.#writer.patch(
        current,
        steers ? planOps(current, text) : placeOps(current, seat, { planText: text, alignment }),
      );
    } catch (error) {
      if (steers && !this.#writer.isStale(error)) {
        // Strangers must not get the other seats while the API server is asked again.
        this.#pendingPlans.set(key, pending);
        throw error;
      }
      cache.forgetPlan(group.leader);
      if (error instanceof UnpinnableError) {
        report.waits({ kind: 'waits', key, leader: current, reason: error.code, message: error.message });
        return false;
      }
      if (!this.#writer.isStale(error)) throw error;
      this.#queue.addRateLimited(`group:${key}`);
      return false;
    }
    cache.confirmPlan(group.leader, annotation);
    report.placed(group, annotation.nodes, domain, nowMs() - startedMs);
    report.aligned((annotation.devices ?? []).map(({ rung }) => rung));
    return true;
  }

  /** Writes down where a running group is, so that a member that returns finds its seat. No UID changes. */
  async #adopt(view: GroupView, leader: PodInfo): Promise<void> {
    const { report } = this.#options;
    const adoption = adoptionOf(this.#options, view, leader, this.#modeOf(view.key));
    if (adoption === undefined) return;
    const { plan, unseated } = adoption;
    if (!(await this.#writePlanOnly(view, leader, plan))) return;
    report.adopted(view, plan.nodes);
    if (unseated.length === 0) return;
    report.released(view, 'there is no room for the missing members in the domain of those that run');
    await this.#writer.patchEach(unseated, releaseOps);
  }

  /** False when the leader is not what it was: decided again then. */
  async #writePlanOnly(view: GroupView, leader: PodInfo, annotation: PlanAnnotation): Promise<boolean> {
    const { cache } = this.#options;
    cache.assumePlan(leader, annotation);
    try {
      await this.#writer.patch(leader, planOps(leader, formatPlanAnnotation(annotation)));
      cache.confirmPlan(leader, annotation);
      return true;
    } catch (error) {
      cache.forgetPlan(leader);
      if (!this.#writer.isStale(error)) throw error;
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
        await this.#writer.patch(pod, placeOps(pod, node));
        report.singlePinned();
      } catch (error) {
        cache.forgetPin(pod);
        if (!this.#writer.isStale(error)) throw error;
      }
      return;
    }
    if (!isGated(pod)) return this.#processPinnedSingle(pod);
    // Planned again, it would be held on another node than the one that it is pinned to already.
    if (this.#writer.isUngateSent(uid)) return;
    const namespace = cache.namespace(pod.namespace);
    if (namespace?.pinsSingles !== true || !pinsPods(namespace.mode)) {
      waiting.remove(uid);
      await this.#writer.patchEach([pod], releaseOps);
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
    if (this.#replans.take(pod.controllerUid, nowMs()))
      await this.#writer.remake(pod, 'Background', 'member');
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

  /** Comes back when the time is over. */
  #unschedulableForMs(pod: PodInfo, key: string, generation: number): number | undefined {
    const { nowMs, strandedAfterMs } = this.#options;
    const comeBack = () => this.#queue.addAfter(key, strandedAfterMs + 1);
    return this.#unschedulable.forMs(pod, generation, nowMs(), comeBack);
  }
}

function alignmentOf(plan: PlanAnnotation | undefined, rank: number): Rung | undefined {
  return plan?.devices?.[rank]?.rung;
}
