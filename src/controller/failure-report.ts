import type { Logger } from 'pino';
import { lws } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Braked, BrakeName } from '../failure/brakes.ts';
import { type Intent, namespaceOf, timeText } from '../failure/intent.ts';
import { isPreemption, type Sighting, type SignalName } from '../failure/signal.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { type BadIntent, intentName } from '../kube/intent-store.ts';
import { RecentMap } from '../kube/recent-map.ts';
import type { OwnerRef } from './placement-report.ts';

/** Where the report goes; each call returns at once. */
export interface FailureReportSinks {
  readonly event: (pod: PodInfo, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  readonly ownerEvent: (owner: OwnerRef, type: 'Normal' | 'Warning', reason: string, message: string) => void;
  /** Writes the condition `berth.dev/Failed` onto a leader. */
  readonly condition: (pod: PodInfo, status: 'True' | 'False', reason: string, message: string) => void;
  /** The class of the signal, or `preemption`. `outcome`: evicted, joined (others had begun), would-evict, or how an intent was closed. */
  readonly countEviction: (signalClass: string, outcome: string) => void;
  /** Groups held, by each brake that holds them. */
  readonly setBrakes: (groupsByBrake: ReadonlyMap<string, number>) => void;
  readonly setOpenIntents: (countsByPhase: ReadonlyMap<string, number>) => void;
  /** Seconds of a step of a recovery: decide, drain, evict, leave, bind, ready, and all of them as total. */
  readonly observeRecovery: (step: string, seconds: number) => void;
  /** A condition behind Berth's readiness gate was written. */
  readonly countGate: (status: 'True' | 'False') => void;
  /** Groups hurt, by signal. */
  readonly setFailures: (groupsBySignal: ReadonlyMap<string, number>) => void;
}

export interface FailureReportOptions {
  readonly cache: ClusterCache;
  readonly sinks: FailureReportSinks;
  readonly log: Logger;
}

/** One incarnation of a group with what is wrong with it. */
export interface HurtGroup {
  readonly key: string;
  readonly leaderUid: string;
  /** Whom to tell: the leader, or whoever is left. */
  readonly pod: PodInfo;
  readonly owner: OwnerRef | undefined;
  readonly fault: Sighting;
}

/** What only waits for its time is no news, and what was never asked for is told as WouldEvict. */
const quietBrakes: readonly BrakeName[] = ['mode', 'debounce', 'dry-run'];

interface Held {
  readonly signal: SignalName;
  readonly brakes: readonly BrakeName[];
  readonly text: string;
  readonly leader: PodInfo;
}

/**
 * Tells users and operators what became of failures. What has been said of an incarnation is not said again before it
 * changes, so that a held eviction does not flood its events.
 */
export class FailureReport {
  readonly #options: FailureReportOptions;
  readonly #held = new Map<string, Held>();
  readonly #said = new RecentMap<string, true>(5_000);

  constructor(options: FailureReportOptions) {
    this.#options = options;
  }

  /** A fault has stood long enough to count. */
  detected({ key, pod, owner, fault, leaderUid }: HurtGroup): void {
    if (!this.#once(`detected/${leaderUid}/${fault.signal}/${fault.entity}`)) return;
    const preempted = isPreemption(fault.signal);
    this.#options.log.warn(
      { group: key, signal: fault.signal, class: fault.class, node: fault.nodeName, cause: fault.cause },
      preempted ? 'group must make room' : 'failure detected',
    );
    this.#tell(key, pod, owner, 'Warning', preempted ? 'Preempted' : 'FailureDetected', fault.cause);
  }

  /** A group is left where it is because a brake holds; `brakes` in their order, at least one. */
  held(hurt: HurtGroup, braked: readonly Braked[]): void {
    const [first] = braked;
    if (first === undefined) return;
    const { key, pod, owner, fault, leaderUid } = hurt;
    const text = `${fault.cause}; not evicted: ${first.message}`;
    const known = this.#held.get(leaderUid);
    const brakes = braked.map(({ brake }) => brake);
    this.#held.set(leaderUid, { signal: fault.signal, brakes, text, leader: pod });
    // In a storm hundreds are held, and each is looked at often.
    if (known?.brakes.join() !== brakes.join()) this.#publishBrakes();
    if (quietBrakes.includes(first.brake) || known?.text === text) return;
    this.#options.log.info({ group: key, brake: first.brake, message: first.message }, 'eviction held');
    this.#options.sinks.condition(pod, 'True', fault.signal, text);
    this.#tell(key, pod, owner, 'Warning', 'EvictionHeld', text);
  }

  /** In modes that do not evict, and in dry run: once for each fault. */
  wouldEvict({ key, pod, owner, fault, leaderUid }: HurtGroup, why: string): void {
    if (!this.#once(`would/${leaderUid}/${fault.signal}/${fault.entity}`)) return;
    this.#options.log.info({ group: key, cause: fault.cause, why }, 'group would be evicted');
    this.#options.sinks.countEviction(classOf(fault), 'would-evict');
    this.#tell(key, pod, owner, 'Normal', 'WouldEvict', `the group would be evicted: ${fault.cause}; ${why}`);
  }

  /** Nothing is wrong with an incarnation any more, or it is gone. */
  healed(leaderUid: string): void {
    const held = this.#held.get(leaderUid);
    if (held === undefined) return;
    this.#held.delete(leaderUid);
    this.#publishBrakes();
    const leader = this.#options.cache.pod(held.leader.uid);
    const [first] = held.brakes;
    if (leader === undefined || first === undefined || quietBrakes.includes(first)) return;
    this.#options.sinks.condition(leader, 'False', 'Healed', healedText(held.signal));
  }

  /** Leader UIDs of groups that are held. */
  heldLeaders(): Iterable<string> {
    return this.#held.keys();
  }

  /** A group is about to be taken out of traffic. */
  draining(intent: Intent): void {
    this.#options.log.info({ group: intent.group, cause: intent.cause }, 'group drains');
    this.#tellIntent(
      intent,
      'Normal',
      'GroupDraining',
      `out of service before its eviction: ${intent.cause}`,
    );
  }

  /** A pod is in service by now, or out of it. */
  gateSet(status: 'True' | 'False'): void {
    this.#options.sinks.countGate(status);
  }

  evicted(intent: Intent, byBerth: boolean): void {
    const { sinks, log } = this.#options;
    this.#held.delete(intent.leaderUid);
    this.#publishBrakes();
    log.warn(
      { group: intent.group, leaderUid: intent.leaderUid, cause: intent.cause, plan: intent.plan, byBerth },
      byBerth ? 'group evicted' : 'group is going, others began it',
    );
    sinks.countEviction(classOf(intent), byBerth ? 'evicted' : 'joined');
    const how = byBerth ? 'evicted as a whole' : 'others began to delete it; it is finished as a whole';
    this.#tellIntent(intent, 'Warning', 'GroupEvicted', `${how}: ${intent.cause}`);
  }

  /** An intent that is there does not go on. */
  intentHeld(intent: Intent, reason: 'EvictionHeld' | 'FencingNeeded', message: string): void {
    if (!this.#once(`intent/${intent.leaderUid}/${reason}/${message}`)) return;
    this.#options.log.warn({ group: intent.group, message }, 'eviction does not go on');
    const leader = this.#options.cache.pod(intent.leaderUid);
    if (leader !== undefined) this.#options.sinks.condition(leader, 'True', reason, message);
    this.#tellIntent(intent, 'Warning', reason, message);
  }

  /** @param stillHurt something is wrong with the group all the same */
  closed(intent: Intent, stillHurt: boolean): void {
    const { sinks, log } = this.#options;
    const { times, outcome = 'failed' } = intent;
    const texts = Object.fromEntries(
      Object.entries(times).map(([step, ms]: [string, number | undefined]) => [step, timeText(ms)]),
    );
    log.info({ group: intent.group, outcome, cause: intent.cause, times: texts }, 'eviction closed');
    sinks.countEviction(classOf(intent), outcome);
    const leader = this.#options.cache.pod(intent.leaderUid);
    if (outcome === 'overtaken' && times.evicted === undefined && leader !== undefined && !stillHurt)
      sinks.condition(leader, 'False', 'Healed', healedText(intent.signal));
    if (outcome === 'failed') {
      const record = intentName(intent.leaderUid);
      const text = `its eviction was given up: ${intent.cause}; delete ConfigMap ${record} to let Berth decide anew`;
      this.#tellIntent(intent, 'Warning', 'EvictionFailed', text);
    }
    if (outcome !== 'recovered') return;
    const steps: readonly (readonly [string, number | undefined, number | undefined])[] = [
      ['decide', times.signal, times.intent],
      ['evict', times.intent, times.drain ?? times.evicted],
      ['drain', times.drain, times.evicted],
      ['leave', times.evicted, times.gone],
      ['bind', times.gone, times.bound],
      ['ready', times.bound, times.ready],
      ['total', times.signal, times.ready],
    ];
    for (const [step, from, to] of steps)
      if (from !== undefined && to !== undefined) sinks.observeRecovery(step, Math.max(0, to - from) / 1000);
    const when = ['signal', 'intent', 'drain', 'evicted', 'gone', 'bound', 'ready']
      .filter(step => step !== 'drain' || times.drain !== undefined)
      .map(step => `${step} ${texts[step] ?? '-'}`)
      .join(', ');
    this.#tellIntent(intent, 'Normal', 'GroupRecovered', `whole again after: ${intent.cause} (${when})`);
  }

  /** Somebody has edited an intent, or a later version has written it. Its leader UID stays blocked. */
  badIntent({ name, message }: BadIntent, hurt?: HurtGroup): void {
    if (!this.#once(`bad/${name}/${message}/${hurt?.leaderUid ?? ''}`)) return;
    this.#options.log.error({ configMap: name, message }, 'intent cannot be read');
    if (hurt === undefined) return;
    const text = `its intent ${name} cannot be read (${message}); delete that ConfigMap to let Berth decide anew`;
    this.#tell(hurt.key, hurt.pod, hurt.owner, 'Warning', 'EvictionHeld', text);
  }

  publish(intents: readonly Intent[], failures: ReadonlyMap<string, number>): void {
    const phases = new Map<string, number>([
      ['evicting', 0],
      ['draining', 0],
      ['leaving', 0],
      ['returning', 0],
    ]);
    for (const { phase, times } of intents) {
      if (phase === 'closed') continue;
      const shown = phase === 'evicting' && times.drain !== undefined ? 'draining' : phase;
      phases.set(shown, (phases.get(shown) ?? 0) + 1);
    }
    this.#options.sinks.setOpenIntents(phases);
    this.#options.sinks.setFailures(failures);
  }

  /** Another holder tells now. */
  clear(): void {
    this.#held.clear();
    this.#publishBrakes();
    this.publish([], new Map());
  }

  #publishBrakes(): void {
    const counts = new Map<string, number>();
    for (const { brakes } of this.#held.values())
      for (const brake of brakes) counts.set(brake, (counts.get(brake) ?? 0) + 1);
    this.#options.sinks.setBrakes(counts);
  }

  #once(key: string): boolean {
    if (this.#said.get(key) !== undefined) return false;
    this.#said.set(key, true);
    return true;
  }

  #tellIntent(intent: Intent, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const { cache } = this.#options;
    const heir = cache.group(intent.group)?.leader ?? cache.pod(intent.leaderUid);
    const pod = heir ?? this.#anyAlike(intent);
    const { name, uid } = intent.owner;
    const ref = { apiVersion: lws.apiVersion, kind: lws.kind, namespace: namespaceOf(intent), name, uid };
    const owner = intent.shape === 'lws' ? ref : undefined;
    this.#tell(intent.group, pod, owner, type, reason, message);
  }

  /** A pod outside groups is gone by now: its controller's youngest is most likely what followed it. */
  #anyAlike({ group }: Intent): PodInfo | undefined {
    return [...this.#options.cache.singles(group)]
      .filter(pod => !pod.terminating)
      .sort((a, b) => b.createdAtMs - a.createdAtMs)[0];
  }

  #tell(
    key: string,
    pod: PodInfo | undefined,
    owner: OwnerRef | undefined,
    type: 'Normal' | 'Warning',
    reason: string,
    message: string,
  ): void {
    const { sinks } = this.#options;
    if (pod !== undefined) sinks.event(pod, type, reason, message);
    if (owner !== undefined) sinks.ownerEvent(owner, type, reason, `${key}: ${message}`);
  }
}

/** What metrics tell apart. */
function classOf({ signal, class: signalClass }: Pick<Sighting, 'signal' | 'class'>): string {
  return isPreemption(signal) ? 'preemption' : signalClass;
}

function healedText(signal: SignalName): string {
  return isPreemption(signal) ? 'nobody needs its place any more' : 'the failure has passed';
}
