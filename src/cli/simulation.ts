import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { decodeLeaderWorkerSet } from '../group/owner.ts';
import { decodePod, podShare } from '../group/pod-info.ts';
import { admitPod } from './admission.ts';
import type { FleetEvent } from './event-stream.ts';
import { lwsLeaderPod } from './lws-leader.ts';
import {
  type FleetFacts,
  leastHosts,
  type SimulatedAsk,
  simulatedNamespace,
  simulatedPod,
  simulatedSet,
} from './simulated-ask.ts';
import { type Answered, SimulationTally } from './simulation-tally.ts';
import { fewestSpans, type Spans, spansOf } from './span-bounds.ts';
import {
  describeWaiting,
  fitsAnywhere,
  planWaitingGroup,
  planWaitingSingle,
  type Question,
  questionOfSingle,
  removePod,
  type Verdict,
  type WhatIf,
} from './what-if.ts';

export interface SimulationOptions {
  readonly whatIf: WhatIf;
  readonly facts: FleetFacts;
  readonly events: readonly FleetEvent[];
  /** Events at the beginning that are played and not counted. */
  readonly uncounted: number;
  /** Monotonic; what it says goes into `planMs` and nowhere else. */
  readonly nowMs: () => number;
  readonly onProgress: (done: number) => void;
}

export interface SimulationResult {
  readonly tally: SimulationTally;
  /** By request: from the waiting leader to its plan taken into the cache. */
  readonly planMs: readonly number[];
}

/** Plays a stream of events on a cluster that nobody runs. */
export function simulate(options: SimulationOptions): SimulationResult {
  const run = new SimulationRun(options);
  return run.play();
}

interface Owner {
  readonly ask: SimulatedAsk;
  replicas: number;
}

class SimulationRun {
  readonly #options: SimulationOptions;
  readonly #cache: ClusterCache;
  readonly #tally: SimulationTally;
  readonly #share = podShare();
  readonly #owners = new Map<string, Owner>();
  readonly #lost = new Map<string, NodeRecord>();
  readonly #planMs: number[] = [];
  #created = 0;

  constructor(options: SimulationOptions) {
    const { whatIf, facts } = options;
    this.#options = options;
    this.#cache = whatIf.cache;
    this.#tally = new SimulationTally(whatIf.cache.levels, facts.perHost);
  }

  play(): SimulationResult {
    const { events, uncounted, onProgress } = this.#options;
    events.forEach((event, i) => {
      if (i === uncounted) this.#tally.startCounting();
      this.#apply(event);
      const next = events[i + 1]?.atSeconds ?? event.atSeconds;
      this.#tally.lasted(next - event.atSeconds, this.#cache.snapshot());
      onProgress(i + 1);
    });
    return { tally: this.#tally, planMs: this.#planMs };
  }

  #apply(event: FleetEvent): void {
    switch (event.kind) {
      case 'arrive':
        this.#owners.set(event.owner, { ask: event.ask, replicas: 0 });
        this.#setReplicas(event.owner, event.replicas);
        break;
      case 'scale':
        this.#setReplicas(event.owner, event.replicas);
        break;
      case 'depart':
        this.#setReplicas(event.owner, 0);
        this.#owners.delete(event.owner);
        this.#forgetSet(event.owner);
        break;
      case 'node-lost':
        this.#loseNode(event.node);
        break;
      case 'node-back':
        this.#returnNode(event.node);
        break;
    }
  }

  /** As LWS does it: new ordinals at the top, and the highest go first. One that was refused does not come back. */
  #setReplicas(name: string, replicas: number): void {
    const owner = this.#owners.get(name);
    if (owner === undefined) return;
    const { facts } = this.#options;
    const { ask } = owner;
    if (ask.kind === 'group')
      this.#cache.leaderWorkerSets.upsert(
        decodeLeaderWorkerSet(simulatedSet(name, ask, { replicas, facts })),
      );
    for (let ordinal = replicas; ordinal < owner.replicas; ordinal++) this.#remove(name, ask, ordinal);
    for (let ordinal = owner.replicas; ordinal < replicas; ordinal++)
      this.#request(name, ask, { ordinal, cause: 'arrival' });
    owner.replicas = replicas;
  }

  #forgetSet(name: string): void {
    const set = this.#cache.leaderWorkerSet(simulatedNamespace, name);
    if (set !== undefined) this.#cache.leaderWorkerSets.remove(set);
  }

  #loseNode(name: string): void {
    const record = this.#cache.node(name);
    if (record === undefined) return;
    this.#lost.set(name, record);
    this.#cache.nodes.remove(record);
    for (const [owner, { ask, replicas }] of this.#owners) {
      for (let ordinal = 0; ordinal < replicas; ordinal++) {
        if (!this.#standsOn(owner, ask, { ordinal, node: name })) continue;
        this.#remove(owner, ask, ordinal);
        this.#request(owner, ask, { ordinal, cause: 'recovery' });
      }
    }
  }

  #returnNode(name: string): void {
    const record = this.#lost.get(name);
    this.#lost.delete(name);
    if (record !== undefined) this.#cache.nodes.upsert(record);
  }

  #standsOn(
    owner: string,
    ask: SimulatedAsk,
    { ordinal, node }: { readonly ordinal: number; readonly node: string },
  ): boolean {
    if (ask.kind === 'group')
      return this.#cache.group(groupKey(owner, ordinal))?.plan?.nodes.includes(node) ?? false;
    const pod = this.#cache.pod(singleUid(owner, ordinal));
    return pod !== undefined && this.#cache.plannedNode(pod) === node;
  }

  #request(
    owner: string,
    ask: SimulatedAsk,
    { ordinal, cause }: { readonly ordinal: number; readonly cause: Answered['cause'] },
  ): void {
    const { nowMs } = this.#options;
    const question =
      ask.kind === 'group' ? this.#waitGroup(owner, ordinal) : this.#waitSingle(owner, ask, ordinal);
    const before = this.#cache.snapshot();
    const startedMs = nowMs();
    const verdict = this.#plan(owner, ask, ordinal);
    this.#planMs.push(nowMs() - startedMs);
    if (verdict.kind !== 'fits') {
      const outcome = this.#outcomeOf(verdict, question);
      this.#remove(owner, ask, ordinal);
      this.#tally.answered({ ask, cause, outcome }, this.#cache.snapshot());
      return;
    }
    const { nodes } = verdict;
    const place = { nodes, fewest: this.#fewest({ ...question, snapshot: before }, ask, nodes) };
    this.#tally.answered({ ask, cause, outcome: 'placed', place }, this.#cache.snapshot());
  }

  /** Most plans use what no plan could do without; only for the others the whole fleet is looked at. */
  #fewest(
    question: Question & { readonly snapshot: ClusterSnapshot },
    ask: SimulatedAsk,
    nodes: readonly string[],
  ): Spans | undefined {
    const used = spansOf(question.snapshot, nodes);
    const isLeast =
      used.hosts === leastHosts(ask, this.#options.facts) && used.domains.every(count => count === 1);
    return isLeast ? used : fewestSpans({ ...question, memo: this.#options.whatIf.memo });
  }

  #plan(owner: string, ask: SimulatedAsk, ordinal: number): Verdict {
    const { whatIf } = this.#options;
    if (ask.kind === 'group') return planWaitingGroup(whatIf, groupKey(owner, ordinal));
    const pod = this.#cache.pod(singleUid(owner, ordinal));
    if (pod === undefined) throw new Error(`pod ${owner} has not reached the cache`);
    return planWaitingSingle(whatIf, pod);
  }

  #outcomeOf(verdict: Verdict, question: Question): Answered['outcome'] {
    if (verdict.kind === 'undecided') return 'undecided';
    return fitsAnywhere(this.#options.whatIf, question) ? 'fragmented' : 'refused';
  }

  /** Puts the leader of one replica into the cache, gated. */
  #waitGroup(owner: string, ordinal: number): Question {
    const { whatIf } = this.#options;
    const set = this.#cache.leaderWorkerSet(simulatedNamespace, owner);
    if (set === undefined) throw new Error(`LeaderWorkerSet ${owner} has not reached the cache`);
    const uid = leaderUid(owner, ordinal);
    const leader = admitPod(lwsLeaderPod(set, simulatedNamespace, ordinal), this.#admission(uid));
    this.#cache.pods.upsert(decodePod(leader, this.#share));
    const key = groupKey(owner, ordinal);
    const group = describeWaiting(whatIf, key);
    if ('kind' in group) throw new Error(`group ${key} cannot be described: ${JSON.stringify(group)}`);
    return { ...group, group: key };
  }

  #waitSingle(owner: string, ask: SimulatedAsk, ordinal: number): Question {
    const raw = simulatedPod(owner, ask, this.#options.facts);
    const pod = decodePod(admitPod(raw, this.#admission(singleUid(owner, ordinal))), this.#share);
    this.#cache.pods.upsert(pod);
    return questionOfSingle(pod);
  }

  #admission(uid: string) {
    this.#created += 1;
    return { namespace: simulatedNamespace, uid, createdAtMs: this.#created * 1000, priorityClasses: [] };
  }

  #remove(owner: string, ask: SimulatedAsk, ordinal: number): void {
    const uid = ask.kind === 'group' ? leaderUid(owner, ordinal) : singleUid(owner, ordinal);
    const pod = this.#cache.pod(uid);
    if (pod !== undefined) removePod(this.#options.whatIf, pod);
  }
}

function groupKey(owner: string, ordinal: number): string {
  return `${simulatedNamespace}/${owner}-${ordinal}`;
}

function leaderUid(owner: string, ordinal: number): string {
  return `${owner}-${ordinal}`;
}

function singleUid(owner: string, ordinal: number): string {
  return `single:${owner}-${ordinal}`;
}
