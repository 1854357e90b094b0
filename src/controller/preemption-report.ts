import type { Logger } from 'pino';
import { lws } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Preemption, PreemptionOutcome, PreemptionVictim } from '../failure/preemption.ts';
import { isMembershipError } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { RecentMap } from '../kube/recent-map.ts';
import type { OwnerRef } from './placement-report.ts';

/** Where the report goes; each call returns at once. */
export interface PreemptionReportSinks {
  readonly event: (pod: PodInfo, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  readonly ownerEvent: (owner: OwnerRef, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  /** `outcome`: begun, how it ended, or would-preempt. */
  readonly countPreemption: (outcome: PreemptionOutcome | 'begun' | 'would-preempt') => void;
  readonly countVictim: (kind: PreemptionVictim['kind']) => void;
}

export interface PreemptionReportOptions {
  readonly cache: ClusterCache;
  readonly sinks: PreemptionReportSinks;
  readonly log: Logger;
}

/** Of many victims the first few are named. */
const namedVictims = 5;

/** Tells users and operators whom a group needs to leave, and what came of it; what was said is not said again. */
export class PreemptionReport {
  readonly #options: PreemptionReportOptions;
  readonly #said = new RecentMap<string, true>(2_000);

  constructor(options: PreemptionReportOptions) {
    this.#options = options;
  }

  begun(preemption: Preemption): void {
    const { sinks, log } = this.#options;
    const { group, priority, victims, nodes } = preemption;
    log.warn({ group, priority, victims: victims.map(({ key }) => key), nodes }, 'others must make room');
    sinks.countPreemption('begun');
    this.#tell(preemption, 'Normal', 'Preempting', describeVictims(victims));
  }

  /** In dry run. */
  wouldPreempt(group: string, leader: PodInfo, message: string): void {
    if (!this.#once(`would/${leader.uid}/${message}`)) return;
    this.#options.log.info({ group, message }, 'others would have to make room');
    this.#options.sinks.countPreemption('would-preempt');
    this.#options.sinks.event(leader, 'Normal', 'WouldPreempt', message);
  }

  /** A victim has begun to go. Groups are told by failure handling, which evicts them. */
  went({ kind, key }: PreemptionVictim): void {
    this.#options.log.warn({ kind, victim: key }, 'victim leaves');
    this.#options.sinks.countVictim(kind);
  }

  evicted(pod: PodInfo, cause: string): void {
    this.#options.sinks.event(pod, 'Warning', 'Preempted', cause);
  }

  held(pod: PodInfo, cause: string, message: string): void {
    if (!this.#once(`held/${pod.uid}/${message}`)) return;
    this.#options.log.info({ pod: `${pod.namespace}/${pod.name}`, cause, message }, 'eviction held');
    this.#options.sinks.event(pod, 'Warning', 'EvictionHeld', `${cause}; not evicted: ${message}`);
  }

  ended(preemption: Preemption, outcome: PreemptionOutcome): void {
    const { sinks, log } = this.#options;
    log.info({ group: preemption.group, outcome }, 'preemption over');
    sinks.countPreemption(outcome);
    if (outcome !== 'given-up') return;
    const message = 'room was to be made for it, but it did not get its place; it is tried again later';
    this.#tell(preemption, 'Warning', 'PreemptionGivenUp', message);
  }

  /** Somebody has edited a record. */
  badRecord(name: string, message: string): void {
    if (this.#once(`bad/${name}/${message}`))
      this.#options.log.error({ configMap: name, message }, 'preemption cannot be read');
  }

  #once(key: string): boolean {
    if (this.#said.get(key) !== undefined) return false;
    this.#said.set(key, true);
    return true;
  }

  #tell({ leaderUid, group }: Preemption, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const { cache, sinks } = this.#options;
    const leader = cache.pod(leaderUid);
    if (leader === undefined) return;
    sinks.event(leader, type, reason, message);
    const { membership } = leader;
    if (membership === undefined || isMembershipError(membership) || membership.kind !== 'lws') return;
    const { namespace, owner: name } = membership;
    const uid = cache.leaderWorkerSet(namespace, name)?.metadata.uid;
    if (uid === undefined) return;
    const owner = { apiVersion: lws.apiVersion, kind: lws.kind, namespace, name, uid };
    sinks.ownerEvent(owner, type, reason, `${group}: ${message}`);
  }
}

/** `waits for serving/llama-1 of priority 0 to leave` */
export function describeVictims(victims: readonly PreemptionVictim[]): string {
  const names = victims.map(({ key, priority }) => `${key} of priority ${priority}`);
  const more = names.length - namedVictims;
  const shown = more > 0 ? [...names.slice(0, namedVictims), `${more} more`] : names;
  const last = shown.at(-1) ?? 'nobody';
  const list = shown.length < 2 ? last : `${shown.slice(0, -1).join(', ')} and ${last}`;
  return `waits for ${list} to leave`;
}
