import type { Logger } from 'pino';
import { berth, lws } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { Rung } from '../cluster/devices/alignment.ts';
import type { GroupInfo } from '../group/group-info.ts';
import { isMembershipError } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { RecentMap } from '../kube/recent-map.ts';
import type { ExplainedRefusal } from './refusal-explainer.ts';
import type { LineOutcome } from './waiting-list.ts';

type Waits = Extract<LineOutcome, { kind: 'waits' }>;

/** Where the report goes; each call returns at once. */
export interface PlacementReportSinks {
  readonly event: (pod: PodInfo, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  /** Event on the owner of a group, where there is one: its users look there first. */
  readonly ownerEvent: (owner: OwnerRef, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  /** Writes Berth's condition onto a pod. */
  readonly condition: (pod: PodInfo, status: 'True' | 'False', reason: string, message: string) => void;
  readonly setWaiting: (countsByReason: ReadonlyMap<string, number>) => void;
  readonly countPlaced: (waitedSeconds: number) => void;
  readonly countSingle: () => void;
  readonly countStranded: (reason: string) => void;
  readonly countReplan: (scope: 'member' | 'group', outcome: string) => void;
  readonly countInvalid: (field: string) => void;
  /** How near the planned devices of a member stand. */
  readonly countAlignment: (rung: Rung) => void;
  readonly countClaimRemade: () => void;
  /** A group was told that there is no room for it, or told otherwise than before. */
  readonly refused: (key: string) => void;
}

export interface OwnerRef {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface PlacementReportOptions {
  readonly cache: ClusterCache;
  readonly sinks: PlacementReportSinks;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
}

/** A sentence that changes with every pod that comes and goes is written at most so often. */
const rewriteAfterMs = 5_000;
/** Mistakes of users: each names what to mend. */
const invalidReasons: ReadonlySet<string> = new Set([
  'InvalidTopology',
  'InvalidQuantity',
  'SizeChanged',
  'Unpinnable',
  'PlanTooLong',
  'InvalidAlignment',
]);

/** Refusals of the planner. */
const refusals: ReadonlySet<string> = new Set(['NoRoom', 'NoNodeMatches', 'NeverFits']);

/** Tells users what became of their groups: one event per decision, a condition while a group waits, metrics, a log line. */
export class PlacementReport {
  readonly #options: PlacementReportOptions;
  /** What was last said of a leader's plan, by its UID. */
  readonly #unreadable = new RecentMap<string, string>(1_000);
  readonly #waiting = new Map<string, { outcome: Waits; writtenMs: number }>();

  constructor(options: PlacementReportOptions) {
    this.#options = options;
  }

  waits(outcome: Waits): void {
    const { sinks, log, nowMs } = this.#options;
    const known = this.#waiting.get(outcome.key);
    const changed =
      known?.outcome.message !== outcome.message || known.outcome.leader.uid !== outcome.leader.uid;
    const rewrite = known === undefined || (changed && nowMs() - known.writtenMs >= rewriteAfterMs);
    // What was not said is not remembered either: the next time it counts as changed again.
    if (!rewrite) return;
    this.#waiting.set(outcome.key, { outcome, writtenMs: nowMs() });
    if (known?.outcome.reason !== outcome.reason) this.#publish();
    const { leader, reason, message } = outcome;
    log.info({ group: outcome.key, reason, message }, 'group waits');
    if (invalidReasons.has(reason)) sinks.countInvalid(reason);
    if (refusals.has(reason)) sinks.refused(outcome.key);
    const before = leader.placedCondition;
    if (before?.message === message && before.reason === reason) return;
    sinks.condition(leader, 'False', reason, message);
    sinks.event(leader, 'Warning', 'GroupWaiting', message);
    const owner = this.#ownerOf(leader);
    if (owner !== undefined) sinks.ownerEvent(owner, 'Warning', 'GroupWaiting', `${outcome.key}: ${message}`);
  }

  /** Follows the refusal as an event of its own, so that the condition does not change with every other group. */
  explained({ key, leader, text, explanation, unblock }: ExplainedRefusal): void {
    const { sinks, log } = this.#options;
    if (!this.#waiting.has(key)) return;
    log.info({ group: key, message: text, explanation, unblock }, 'refusal explained');
    sinks.event(leader, 'Normal', 'RefusalExplained', text);
  }

  placed(group: GroupInfo, nodes: readonly string[], domain: string, writeMs: number): void {
    const { sinks, log, wallMs } = this.#options;
    const waited = this.#waiting.delete(group.key) || group.leader.placedCondition?.status === 'False';
    this.#publish();
    const message = `placed ${group.size} ${group.size === 1 ? 'pod' : 'pods'} in ${domain}: ${listNodes(nodes)}`;
    const ageMs = wallMs() - group.leader.createdAtMs;
    log.info(
      { group: group.key, leaderUid: group.leader.uid, nodes, domain, ageMs, writeMs },
      'group placed',
    );
    sinks.countPlaced(Math.max(0, ageMs) / 1000);
    sinks.event(group.leader, 'Normal', 'GroupPlaced', message);
    if (waited) sinks.condition(group.leader, 'True', 'Placed', message);
  }

  aligned(rungs: readonly (Rung | undefined)[]): void {
    for (const rung of rungs) if (rung !== undefined) this.#options.sinks.countAlignment(rung);
  }

  claimRemade(pod: PodInfo, claim: string): void {
    const { sinks, log } = this.#options;
    sinks.countClaimRemade();
    log.info(
      { pod: `${pod.namespace}/${pod.name}`, claim },
      'unsteered claim of a waiting pod deleted, to be made again',
    );
    const message = `ResourceClaim ${claim} was made without Berth; it is made anew with the planned devices`;
    sinks.event(pod, 'Normal', 'ClaimRemade', message);
  }

  /** Only Berth may write plans, so somebody with all rights has, or a later version has. It is as if there were none. */
  planUnreadable(leader: PodInfo, message: string): void {
    const { sinks, log } = this.#options;
    if (this.#unreadable.get(leader.uid) === message) return;
    this.#unreadable.set(leader.uid, message);
    log.warn({ pod: `${leader.namespace}/${leader.name}`, message }, 'plan cannot be read');
    sinks.countInvalid('InvalidPlan');
    sinks.event(leader, 'Warning', 'PlanUnreadable', `annotation ${berth.plan}: ${message}; it is made anew`);
  }

  adopted(view: GroupView, nodes: readonly string[]): void {
    const { sinks, log } = this.#options;
    const missing = nodes.filter(node => node === '').length;
    log.info({ group: view.key, nodes, missing }, 'running group adopted');
    if (view.leader === undefined) return;
    const rest = missing === 0 ? '' : `; ${missing} missing members have no seat in its domain`;
    sinks.event(
      view.leader,
      'Normal',
      'GroupAdopted',
      `wrote down where the group runs: ${listNodes(nodes)}${rest}`,
    );
  }

  released(view: GroupView, reason: string): void {
    const { sinks, log } = this.#options;
    this.#waiting.delete(view.key);
    this.#publish();
    log.info({ group: view.key, reason }, 'members left to kube-scheduler');
    const pod = view.leader ?? [...view.members.values(), ...view.others][0];
    if (pod !== undefined)
      sinks.event(pod, 'Warning', 'GroupReleased', `left to kube-scheduler without a plan: ${reason}`);
  }

  stranded(pod: PodInfo, cause: string): void {
    const { sinks, log } = this.#options;
    log.warn(
      { pod: `${pod.namespace}/${pod.name}`, node: pod.pinnedTo, cause, message: pod.unschedulableMessage },
      'pin is stranded',
    );
    sinks.countStranded(cause);
  }

  reseated(view: GroupView, pod: PodInfo, node: string, cause: string): void {
    const { sinks, log } = this.#options;
    this.#waiting.delete(view.key);
    this.#publish();
    log.info({ group: view.key, pod: pod.name, node, cause }, 'member got another seat');
    sinks.event(view.leader ?? pod, 'Normal', 'MemberReplanned', `${pod.name} moves to ${node} (${cause})`);
  }

  /** Mode `extender`: says on a waiting member where it goes, which also has kube-scheduler try it again. */
  steered(pod: PodInfo, node: string): void {
    this.#options.sinks.condition(pod, 'True', 'Planned', `planned on ${node}`);
  }

  remade(pod: PodInfo, scope: 'member' | 'group', done: boolean): void {
    const { sinks, log } = this.#options;
    log.info(
      { pod: `${pod.namespace}/${pod.name}`, uid: pod.uid, scope, done },
      'pod deleted to be made anew',
    );
    sinks.countReplan(scope, done ? 'done' : 'overtaken');
    if (done)
      sinks.event(
        pod,
        'Normal',
        'Replanned',
        `deleted because its pin to ${pod.pinnedTo ?? 'its node'} cannot come true`,
      );
  }

  cannotRemake(pod: PodInfo): void {
    const { sinks } = this.#options;
    sinks.countReplan('member', 'no-controller');
    const message = `pinned to ${pod.pinnedTo ?? 'a node'} which cannot take it, and nothing would make it again: delete and create it yourself`;
    sinks.event(pod, 'Warning', 'PinStranded', message);
  }

  singlePinned(): void {
    this.#options.sinks.countSingle();
  }

  gone(key: string): void {
    if (this.#waiting.delete(key)) this.#publish();
  }

  /** After a pass nobody is left in line: what still counted as waiting has gone some other way. */
  lineServed(left: number): void {
    if (left > 0 || this.#waiting.size === 0) return;
    for (const [key, { outcome }] of this.#waiting) {
      if (outcome.reason !== 'NoSeat' && outcome.reason !== 'ReplanBudget') this.#waiting.delete(key);
    }
    this.#publish();
  }

  clear(): void {
    this.#waiting.clear();
    this.#publish();
  }

  #publish(): void {
    const counts = new Map<string, number>();
    for (const { outcome } of this.#waiting.values())
      counts.set(outcome.reason, (counts.get(outcome.reason) ?? 0) + 1);
    this.#options.sinks.setWaiting(counts);
  }

  #ownerOf(pod: PodInfo): OwnerRef | undefined {
    const membership = pod.membership;
    if (membership === undefined || isMembershipError(membership) || membership.kind !== 'lws')
      return undefined;
    const owner = this.#options.cache.leaderWorkerSet(membership.namespace, membership.owner);
    const uid = owner?.metadata.uid;
    if (uid === undefined) return undefined;
    return {
      apiVersion: lws.apiVersion,
      kind: lws.kind,
      namespace: membership.namespace,
      name: membership.owner,
      uid,
    };
  }
}

/** Node names with their ranks, cut after a few: events have room for 1,024 bytes. */
function listNodes(nodes: readonly string[]): string {
  const shown = nodes.slice(0, 16).map((node, rank) => `${rank} on ${node === '' ? '(none)' : node}`);
  const more = nodes.length - shown.length;
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ');
}
