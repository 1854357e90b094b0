import type { ClusterCache } from '../cache/cluster-cache.ts';
import { describeGroup } from '../cache/group-source.ts';
import { PlacedGroups } from '../cache/placed-groups.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { demandOfPod, interPodKeyOf, type MemberDemand } from '../group/demand.ts';
import { type GroupInfo, isObstacle } from '../group/group-info.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { requestForRanks, type TopologyRequest } from '../group/topology-request.ts';
import { RecentMap } from '../kube/recent-map.ts';
import { FitMemo } from '../planner/fit.ts';
import { type Objective, standardObjective } from '../planner/objective.ts';
import { type GroupPlan, type PlanInput, planGroup } from '../planner/plan.ts';
import { withDevices } from '../planner/plan-devices.ts';
import { describeRejection, type Rejection, type Undecided } from '../planner/rejection.ts';
import { nearestDomain, type Reservation, reservedNodes } from '../planner/reservation.ts';
import { withLastChoiceLast } from './last-choice.ts';
import { byPriorityThenAge, firstAged, type Waiting } from './waiting-line.ts';

/** What became of one that waits. */
export type LineOutcome =
  | { readonly kind: 'planned'; readonly group: GroupInfo; readonly plan: GroupPlan }
  | {
      readonly kind: 'planned-single';
      readonly pod: PodInfo;
      readonly node: string;
      readonly devices: SeatDevices | undefined;
    }
  | {
      readonly kind: 'waits';
      readonly key: string;
      readonly leader: PodInfo;
      readonly reason: string;
      readonly message: string;
    };

export interface WaitingListOptions {
  readonly cache: ClusterCache;
  /** Wall-clock milliseconds: age counts from a pod's creationTimestamp, so that it survives restarts. */
  readonly wallMs: () => number;
  readonly nowMs: () => number;
  readonly agedAfterMs: number;
  /** A labelled group is planned without its late members after so long. */
  readonly membersLateAfterMs: number;
  /** What is preferred among places that do; default: pack, warm hosts. */
  readonly objective?: Objective;
  /** Tells what no node could ever give, by rank; default: nothing is told. */
  readonly whyImpossible?: (demands: readonly MemberDemand[]) => { readonly message: string } | undefined;
  readonly onPlanned: (seconds: number, outcome: 'planned' | 'rejected' | 'undecided') => void;
}

/** Where a member is to go. */
export interface Seat {
  readonly node: string;
  /** Devices for its claims; undefined where it has none, and for a member that stays: it keeps those it has. */
  readonly devices: SeatDevices | undefined;
}

/** Planned on the cluster as it is now, among the groups that stand there, unless it says otherwise. */
type PlanRequest = Omit<PlanInput, 'memo' | 'snapshot'> & {
  readonly snapshot?: ClusterSnapshot;
  /** Of the group itself, which is no neighbour of its own. */
  readonly key?: string;
};

/** One pass over the line. */
interface Round {
  /** Refusals by what was asked for. */
  readonly refused: Map<string, Rejection | Undecided>;
  /** Who was refused and looks for the groups of an owner, by that owner. */
  readonly lonely: Map<string, Waiting[]>;
}

const rememberedPlaces = 10_000;

/** A pod outside any group is a group of one that asks for no topology. */
const anywhere: TopologyRequest = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };

/**
 * All that wait for a place, and the pass that serves them in order. Others may overtake one that does not fit, but not
 * for ever: once the first in line has aged, the domain nearest to fitting it is reserved.
 */
export class WaitingList {
  readonly #options: WaitingListOptions;
  readonly #placed: PlacedGroups;
  readonly #memo = new FitMemo();
  /** Nodes that have had a group and may still have its images and weights. */
  readonly #lastPlaces = new RecentMap<string, readonly string[]>(rememberedPlaces);
  readonly #groups = new Set<string>();
  readonly #singles = new Set<string>();
  readonly #excluded = new Map<string, Map<string, { cause: string; untilMs: number }>>();
  #reservation: Reservation | undefined;

  constructor(options: WaitingListOptions) {
    this.#options = options;
    this.#placed = new PlacedGroups(options.cache);
  }

  get size(): number {
    return this.#groups.size + this.#singles.size;
  }

  addGroup(key: string): void {
    this.#groups.add(key);
  }

  addSingle(uid: string): void {
    this.#singles.add(uid);
  }

  remove(keyOrUid: string): void {
    this.#groups.delete(keyOrUid);
    this.#singles.delete(keyOrUid);
  }

  clear(): void {
    this.#groups.clear();
    this.#singles.clear();
    this.#reservation = undefined;
  }

  /** Keeps a group off a node for a while, e.g. one that kube-scheduler refused for a reason Berth cannot see. */
  exclude(key: string, node: string, cause: string, forMs: number): void {
    const nodes = this.#excluded.get(key) ?? new Map();
    nodes.set(node, { cause, untilMs: this.#options.nowMs() + forMs });
    this.#excluded.set(key, nodes);
  }

  /** Nodes that a group may not be planned on, each with the cause: those kept from it, and those that are failing. */
  excludedNodes(key: string): ReadonlyMap<string, string> {
    const now = this.#options.nowMs();
    const failing = this.#options.cache.excludedNodes;
    const nodes = this.#excluded.get(key);
    if (nodes === undefined) return failing;
    for (const [node, { untilMs }] of nodes) if (untilMs <= now) nodes.delete(node);
    if (nodes.size === 0) this.#excluded.delete(key);
    return new Map([...failing, ...[...nodes].map(([node, { cause }]) => [node, cause] as const)]);
  }

  /** What the planner is asked about a group that waits; undefined when it does not, or cannot be described. */
  questionOf(key: string): { readonly group: GroupInfo; readonly input: PlanInput } | undefined {
    const { cache, wallMs, membersLateAfterMs } = this.#options;
    const view = this.#groups.has(key) ? cache.group(key) : undefined;
    if (view?.leader === undefined) return undefined;
    const late = wallMs() - view.leader.createdAtMs >= membersLateAfterMs;
    const group = describeGroup(cache, view, view.leader, late);
    if (isObstacle(group)) return undefined;
    const { objective = standardObjective } = this.#options;
    const neighbours = this.#placed.neighboursOf(key, group.topology);
    const asked = { snapshot: cache.snapshot(), ...this.#inputOf(group), neighbours, objective };
    return { group, input: { ...asked, memo: this.#memo } };
  }

  /** Plans one group or re-plans some of its ranks; timed. */
  plan(input: PlanRequest): GroupPlan | Rejection | Undecided {
    const startedMs = this.#options.nowMs();
    const snapshot = input.snapshot ?? this.#options.cache.snapshot();
    const neighbours = input.neighbours ?? this.#placed.neighboursOf(input.key, input.topology);
    const { objective = standardObjective } = this.#options;
    const lastPlace = input.key === undefined ? undefined : this.#lastPlaces.get(input.key);
    const warmNodes = input.warmNodes ?? lastPlace ?? [];
    const memo = this.#memo;
    const asked = { ...input, memo, snapshot, neighbours, objective, warmNodes };
    const first = planGroup(asked);
    const result =
      first.kind === 'plan'
        ? withLastChoiceLast(first, this.#options.cache.lastChoice, input.fixed, nodes =>
            planGroup({ ...asked, excludedNodes: withNodes(input.excludedNodes, nodes) }),
          )
        : first;
    const outcome =
      result.kind === 'plan' ? 'planned' : result.kind === 'rejection' ? 'rejected' : 'undecided';
    this.#options.onPlanned((this.#options.nowMs() - startedMs) / 1000, outcome);
    return result;
  }

  /**
   * Plans some ranks of a group, the leader's among them: those in `fixed` stay, the others get a node and devices. Ranks
   * that are not named do not count. Seat by rank when there is room.
   */
  planRanks(
    group: GroupInfo,
    ranks: readonly number[],
    fixed: ReadonlyMap<number, string>,
    excludedNodes: ReadonlyMap<string, string>,
    snapshot: ClusterSnapshot = this.#options.cache.snapshot(),
  ): ReadonlyMap<number, Seat> | undefined {
    const named = [0, ...ranks.filter(rank => rank !== 0).sort((a, b) => a - b)];
    const demands = named.flatMap(rank => group.demands[rank] ?? []);
    const kept = new Map(
      named.flatMap((rank, at) => (fixed.has(rank) ? [[at, fixed.get(rank) ?? ''] as const] : [])),
    );
    const topology = requestForRanks(group.topology, named);
    const result = this.plan({ key: group.key, demands, topology, fixed: kept, excludedNodes, snapshot });
    if (result.kind !== 'plan') return undefined;
    return new Map(
      named.map((rank, at) => [
        rank,
        { node: result.nodes[at] ?? '', devices: fixed.has(rank) ? undefined : result.devices?.[at] },
      ]),
    );
  }

  /** Devices by rank for members that are to be on these nodes; undefined where nobody has claims, or none are found. */
  devicesOn(
    { demands, topology }: GroupInfo,
    nodes: readonly string[],
    snapshot: ClusterSnapshot,
  ): readonly SeatDevices[] | undefined {
    const placed = withDevices(
      { demands, topology, snapshot, memo: this.#memo },
      { kind: 'plan', nodes, level: -1, domain: [] },
    );
    return placed.kind === 'plan' ? placed.devices : undefined;
  }

  /**
   * One pass over everybody who waits. `place` is called for each that fits and must take the plan into the cache, so
   * that the next one sees the room as taken. Yields to `breathe` between plans.
   */
  async pass(place: (outcome: LineOutcome) => void, breathe: () => Promise<boolean>): Promise<void> {
    const round: Round = { refused: new Map(), lonely: new Map() };
    const line = [...this.#line()];
    // The line grows while it is walked.
    for (const waiting of line) {
      if (!(await breathe())) return;
      const outcome = this.#serve(waiting, round);
      if (outcome === undefined) continue;
      if (outcome.kind === 'planned') this.#lastPlaces.set(outcome.group.key, outcome.plan.nodes);
      if (outcome.kind === 'planned' || outcome.kind === 'planned-single') {
        this.remove(waiting.key);
        if (this.#reservation?.groupKey === waiting.key) this.#reservation = undefined;
      }
      place(outcome);
      if (outcome.kind === 'planned') line.push(...partnersOf(outcome.group, round));
    }
  }

  #line(): readonly Waiting[] {
    const { cache } = this.#options;
    const line: Waiting[] = [];
    for (const key of [...this.#groups, ...this.#singles]) {
      const pod = this.#singles.has(key) ? cache.pod(key) : cache.group(key)?.leader;
      if (pod === undefined) this.remove(key);
      else line.push({ key, priority: pod.priority, createdAtMs: pod.createdAtMs });
    }
    line.sort(byPriorityThenAge);
    if (this.#reservation !== undefined && !line.some(w => w.key === this.#reservation?.groupKey))
      this.#reservation = undefined;
    return line;
  }

  #serve(waiting: Waiting, round: Round): LineOutcome | undefined {
    const { cache, wallMs, membersLateAfterMs } = this.#options;
    const single = this.#singles.has(waiting.key) ? cache.pod(waiting.key) : undefined;
    if (single !== undefined) return this.#serveSingle(single, round);
    const view = cache.group(waiting.key);
    if (view?.leader === undefined) return undefined;
    const late = wallMs() - waiting.createdAtMs >= membersLateAfterMs;
    const group = describeGroup(cache, view, view.leader, late);
    if (isObstacle(group)) {
      return {
        kind: 'waits',
        key: waiting.key,
        leader: view.leader,
        reason: group.code,
        message: group.message,
      };
    }
    const input = this.#inputOf(group);
    const result = this.#planOnce(input, round);
    if (result.kind === 'plan') return { kind: 'planned', group, plan: result };
    const partner = group.topology.sameDomainAs?.owner;
    if (partner !== undefined) round.lonely.set(partner, [...(round.lonely.get(partner) ?? []), waiting]);
    this.#reserveIfAged(waiting, input);
    return { kind: 'waits', key: group.key, leader: group.leader, ...this.#explain(result, group) };
  }

  #serveSingle(pod: PodInfo, round: Round): LineOutcome {
    const input = {
      demands: [demandOfPod(pod)],
      topology: anywhere,
      excludedNodes: this.#excludedFor(pod.uid),
    };
    const result = this.#planOnce(input, round);
    if (result.kind === 'plan')
      return { kind: 'planned-single', pod, node: result.nodes[0] ?? '', devices: result.devices?.[0] };
    return { kind: 'waits', key: pod.uid, leader: pod, ...this.#explain(result) };
  }

  /** Of those that ask for the same, only the first is refused by the planner itself. */
  #planOnce(input: PlanRequest, { refused }: Round): GroupPlan | Rejection | Undecided {
    // A place reserved for it is room that others do not have.
    if (input.snapshot !== undefined && input.snapshot !== this.#options.cache.snapshot())
      return this.plan(input);
    const signature = signatureOf(input, this.#repellersAbout());
    const result = refused.get(signature) ?? this.plan(input);
    if (result.kind !== 'plan') refused.set(signature, result);
    return result;
  }

  #inputOf(group: GroupInfo): PlanRequest {
    const snapshot = this.#options.cache.snapshotFor(group.key);
    return {
      key: group.key,
      demands: group.demands,
      topology: group.topology,
      neighbours: this.#placed.neighboursOf(group.key, group.topology),
      excludedNodes: this.#excludedFor(group.key),
      snapshot,
    };
  }

  #excludedFor(key: string): ReadonlyMap<string, string> {
    const own = this.excludedNodes(key);
    const reservation = this.#reservation;
    if (reservation === undefined || reservation.groupKey === key) return own;
    return new Map([...own, ...reservedNodes(this.#options.cache.snapshot(), reservation)]);
  }

  /** Only the first aged one gets a reservation, and keeps it until it is placed, gone, or could never use it. */
  #reserveIfAged(waiting: Waiting, input: PlanRequest): void {
    if (this.#reservation !== undefined && this.#reservation.groupKey !== waiting.key) return;
    const aged = firstAged([waiting], this.#options.wallMs(), this.#options.agedAfterMs);
    if (aged === undefined) return;
    const snapshot = this.#options.cache.snapshot();
    const domain = nearestDomain({ ...input, memo: this.#memo, snapshot: input.snapshot ?? snapshot });
    if (domain === undefined) {
      this.#reservation = undefined;
      return;
    }
    // Once chosen it stays, or rooms that fill and empty by turns would never come together. The tree may be a new one.
    const keptId = this.#reservation?.domain.id;
    const chosen = snapshot.tree.domains.find(known => known.id === keptId) ?? domain;
    this.#reservation = { groupKey: waiting.key, level: chosen.level, domain: chosen };
  }

  #repellersAbout(): boolean {
    for (const _ of this.#options.cache.snapshot().repellingPods()) return true;
    return false;
  }

  #explain(result: Rejection | Undecided, group?: GroupInfo): { reason: string; message: string } {
    if (result.kind === 'undecided') return { reason: 'Undecided', message: result.reason };
    const message = describeRejection(result, this.#options.cache.levels);
    const impossible = group && this.#options.whyImpossible?.(group.demands);
    if (impossible === undefined) return { reason: result.code, message };
    return { reason: 'NeverFits', message: `${message}; ${impossible.message}` };
  }
}

function withNodes(
  excluded: ReadonlyMap<string, string> | undefined,
  nodes: ReadonlySet<string>,
): ReadonlyMap<string, string> {
  const all = new Map([...nodes].map(node => [node, 'has come back from a failure']));
  for (const [node, cause] of excluded ?? []) all.set(node, cause);
  return all;
}

/** Those refused in this round that look for the groups of the owner of one that has just got its place. */
function partnersOf({ membership }: GroupInfo, { lonely }: Round): readonly Waiting[] {
  const owner = `${membership.namespace}/${membership.owner}`;
  const partners = lonely.get(owner) ?? [];
  lonely.delete(owner);
  return partners;
}

/**
 * Two that ask for the same are refused alike as long as nothing was placed or freed between them. Where pods with
 * anti-affinity are about, namespace and labels count too: they may keep one out and not the other. So do the neighbours,
 * for a group is none of its own.
 */
function signatureOf(input: PlanRequest, repellersAbout: boolean): string {
  const runs: { key: string; count: number }[] = [];
  for (const demand of input.demands) {
    const key = repellersAbout ? interPodKeyOf(demand) : demand.key;
    const last = runs.at(-1);
    if (last?.key === key) last.count++;
    else runs.push({ key, count: 1 });
  }
  const neighbours = input.neighbours?.map(({ key }) => key);
  return JSON.stringify([runs, input.topology, [...(input.excludedNodes ?? [])], neighbours]);
}
