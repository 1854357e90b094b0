import { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../src/cluster/node-info.ts';
import { demandOfPod, type MemberDemand } from '../../src/group/demand.ts';
import { decodePod, type PodInfo, type PodShare, podShare } from '../../src/group/pod-info.ts';
import { FitMemo } from '../../src/planner/fit.ts';
import { planGroup } from '../../src/planner/plan.ts';
import { describeRejection } from '../../src/planner/rejection.ts';
import type { StreamFleet } from './stream-fleet.ts';
import { boundPod, leaderPod, type StreamGroup, type StreamResident, workerPod } from './stream-groups.ts';
import type { Outcome, Stream } from './stream-outcomes.ts';

export interface Placing {
  /** Node by rank, the leader's first; undefined when the group was refused. */
  readonly nodes: readonly string[] | undefined;
  /** Why it was refused. */
  readonly reason: string;
  /** Time to read the leader, which a watch brings. */
  readonly arriveMs: number;
  /** Time to find places. */
  readonly planMs: number;
  /** Time until the places are taken and everybody can see it. */
  readonly applyMs: number;
}

/** Runs a stream through Berth's planner. */
export function outcomesOfBerth(fleet: StreamFleet, { residents, events }: Stream): readonly Outcome[] {
  const arm = new PlannerArm(fleet, residents);
  let freedMs = 0;
  return events.flatMap(event => {
    if (event.kind === 'leave') {
      freedMs += arm.free(event.name);
      return [];
    }
    const { nodes, planMs, applyMs } = arm.place(event.group);
    const outcome = { group: event.group, nodes, planMs, applyMs: applyMs + freedMs };
    freedMs = 0;
    return outcome;
  });
}

/** Berth's planner on the cache that feeds it in the process, without the API around them. */
export class PlannerArm {
  readonly #cache: ClusterCache;
  readonly #memo = new FitMemo();
  readonly #share = podShare();
  readonly #leaders = new Map<string, PodInfo>();

  constructor(fleet: StreamFleet, residents: readonly StreamResident[] = []) {
    this.#cache = new ClusterCache({ levels: fleet.levels });
    this.#cache.nodes.replace(fleet.nodes.map(decodeNode));
    this.#cache.pods.replace(residents.map(resident => decodePod(boundPod(resident), this.#share)));
    this.#cache.snapshot();
  }

  /** Plans a group that arrives; its leader stays, with the places it was given, until it leaves. */
  place(group: StreamGroup): Placing {
    const leader = decodePod(leaderPod(group), this.#share);
    const arrived = timed(() => {
      this.#cache.pods.upsert(leader);
      this.#cache.snapshot();
    });
    const demands = demandsOf(group, leader, this.#share);
    const key = `${leader.namespace}/${group.name}`;
    const topology = { requiredLevel: group.requiredLevel, preferredLevel: undefined, sameLabels: [] };
    const planned = timed(() => {
      const snapshot = this.#cache.snapshotFor(key);
      return planGroup({ demands, topology, snapshot, memo: this.#memo });
    });
    const times = { arriveMs: arrived.ms, planMs: planned.ms };
    const result = planned.value;
    if (result.kind !== 'plan') {
      this.#cache.pods.remove(leader);
      const reason =
        result.kind === 'undecided' ? result.reason : describeRejection(result, this.#cache.levels);
      return { nodes: undefined, reason, ...times, applyMs: 0 };
    }
    const { nodes } = result;
    const requests = demands.map(demand => demand.requests);
    this.#leaders.set(group.name, leader);
    const applied = timed(() => {
      this.#cache.assumePlan(leader, { leaderUid: leader.uid, generation: 1, nodes, requests });
      this.#cache.snapshot();
    });
    return { nodes, reason: '', ...times, applyMs: applied.ms };
  }

  /** Time to give a group's places back, in ms; 0 for a group that was refused. */
  free(name: string): number {
    const leader = this.#leaders.get(name);
    if (leader === undefined) return 0;
    this.#leaders.delete(name);
    const freed = timed(() => {
      this.#cache.pods.remove(leader);
      this.#cache.snapshot();
    });
    return freed.ms;
  }
}

function demandsOf(group: StreamGroup, leader: PodInfo, share: PodShare): readonly MemberDemand[] {
  const first = demandOfPod(leader);
  const others = group.leader === undefined ? first : demandOfPod(decodePod(workerPod(group), share));
  return Array.from({ length: group.size }, (_, rank) => (rank === 0 ? first : others));
}

function timed<T>(act: () => T): { readonly value: T; readonly ms: number } {
  const startedMs = performance.now();
  const value = act();
  return { value, ms: performance.now() - startedMs };
}
