import type { PodCondition } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Intent } from '../failure/intent.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { failureKind } from '../kube/api-errors.ts';
import type { WorkQueue } from '../kube/work-queue.ts';
import type { FailureBook } from './failure-book.ts';
import type { FailureWrites } from './failure-writes.ts';
import { shapes } from './shapes/shapes.ts';

export interface ServiceGatesOptions {
  readonly cache: ClusterCache;
  readonly book: FailureBook;
  readonly writes: FailureWrites;
  readonly wallMs: () => number;
  /** Asked right before every write. */
  readonly acts: () => boolean;
  readonly countWrite: (status: 'True' | 'False') => void;
  readonly makeQueue: (process: (key: string) => Promise<void>) => WorkQueue;
}

/**
 * Keeps the condition behind Berth's readiness gate: True on every bound pod that has the gate, wherever it runs and in
 * every mode, for without it the pod is never Ready; False on the members of a group that drains. Nobody else writes it, and
 * what it must be follows from the records of evictions alone, so a crash loses nothing.
 */
export class ServiceGates {
  readonly #options: ServiceGatesOptions;
  readonly #queue: WorkQueue;

  constructor(options: ServiceGatesOptions) {
    this.#options = options;
    this.#queue = options.makeQueue(uid => this.#process(uid));
    options.cache.subscribe(change => {
      if (change.kind === 'service-gate') this.#queue.add(change.uid);
    });
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.shutdown();
  }

  get depth(): number {
    return this.#queue.depth;
  }

  /** All pods: after taking over, and now and then, should a change ever have been missed. */
  reviewAll(): void {
    const drains = this.#drains();
    for (const pod of this.#options.cache.allPods())
      if (pod.inService !== undefined && this.#conditionOf(pod, drains) !== undefined)
        this.#queue.add(pod.uid);
  }

  /** The record of an eviction has changed. */
  lookAt({ group }: Pick<Intent, 'group'>): void {
    const { cache } = this.#options;
    for (const pod of [...cache.podsOfGroup(group), ...cache.singles(group)])
      if (pod.inService !== undefined) this.#queue.add(pod.uid);
  }

  async #process(uid: string): Promise<void> {
    const { cache, writes, acts, countWrite } = this.#options;
    const pod = cache.pod(uid);
    const condition = pod?.inService === undefined ? undefined : this.#conditionOf(pod, this.#drains());
    if (pod === undefined || condition === undefined || !acts()) return;
    try {
      await writes.setCondition(pod, condition);
      countWrite(condition.status);
    } catch (error) {
      const kind = failureKind(error);
      // It is gone, or another has its name by now.
      if (kind !== 'gone' && kind !== 'conflict' && kind !== 'changed') throw error;
    }
  }

  /** What is to be written on a pod with the gate; undefined when nothing is. */
  #conditionOf(
    pod: PodInfo,
    drains: ReadonlyMap<string, Intent>,
  ): (PodCondition & { readonly status: 'True' | 'False' }) | undefined {
    const { book, wallMs } = this.#options;
    const { inService, nodeName, terminating, terminal } = pod;
    if (nodeName === undefined || terminating || terminal) return undefined;
    const intent = drains.get(pod.uid);
    // Before the records are read nobody knows who drains; but who was never in service waits for nothing else.
    if (intent === undefined && !book.isRead && inService !== '') return undefined;
    const status = intent === undefined ? 'True' : 'False';
    if (inService === status) return undefined;
    const [reason, message] =
      intent === undefined
        ? ['InService', 'nothing is to be evicted']
        : ['Draining', `the group is about to be evicted: ${intent.cause}`];
    const lastTransitionTime = new Date(wallMs()).toISOString().replace(/\.\d+Z$/, 'Z');
    return { type: berth.inService, status, reason, message, lastTransitionTime };
  }

  /** Evictions before which groups were taken out of traffic, until they are over or taken back; by UID of the members. */
  #drains(): ReadonlyMap<string, Intent> {
    const { book, cache } = this.#options;
    const drains = new Map<string, Intent>();
    for (const { intent } of book.open) {
      if (intent.times.drain === undefined) continue;
      for (const { uid } of shapes[intent.shape].podsToGo(cache, intent, () => book.intents))
        drains.set(uid, intent);
    }
    return drains;
  }
}
