import type { ClusterCache } from '../cache/cluster-cache.ts';
import { unitsOf } from '../cache/units.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { WorkQueue } from '../kube/work-queue.ts';
import { explainRefusal } from '../planner/explain.ts';
import { describeExplanation, type Explanation } from '../planner/explanation.ts';
import { FitMemo } from '../planner/fit.ts';
import { planGroup } from '../planner/plan.ts';
import { describeUnblock, findUnblock, type Unblock } from '../planner/unblock.ts';
import type { WaitingList } from './waiting-list.ts';

/** Why a group does not fit, level by level, and what would make it fit; in words and as data. */
export interface ExplainedRefusal {
  readonly key: string;
  readonly leader: PodInfo;
  readonly text: string;
  readonly explanation: Explanation;
  readonly unblock: Unblock;
}

export interface RefusalExplainerOptions {
  readonly cache: ClusterCache;
  readonly waiting: Pick<WaitingList, 'questionOf'>;
  readonly tell: (explained: ExplainedRefusal) => void;
  readonly nowMs: () => number;
  /** Whether this process is the one that plans. */
  readonly mayAct: () => boolean;
  readonly makeQueue: (process: (key: string) => Promise<void>) => WorkQueue;
  /** Least time between two explanations, of whatever groups. */
  readonly everyMs?: number;
}

/**
 * It looks at the whole fleet and asks the planner often, in one go, while kube-scheduler may be waiting for an answer of
 * the extender; so it is asked for rarely and gives up early.
 */
const standardEveryMs = 15_000;
const maxPlans = 60;

/** Explains refusals that were told, one at a time and not often: users look for minutes at a group that waits. */
export class RefusalExplainer {
  readonly #options: RefusalExplainerOptions;
  readonly #queue: WorkQueue;
  readonly #pending = new Set<string>();
  #freeAtMs = 0;

  constructor(options: RefusalExplainerOptions) {
    this.#options = options;
    this.#queue = options.makeQueue(async key => this.#explain(key));
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.shutdown();
  }

  /** A group was told that it does not fit. */
  refused(key: string): void {
    if (this.#pending.has(key)) return;
    this.#pending.add(key);
    const { nowMs, everyMs = standardEveryMs } = this.#options;
    const now = nowMs();
    this.#queue.addAfter(key, Math.max(0, this.#freeAtMs - now));
    this.#freeAtMs = Math.max(now, this.#freeAtMs) + everyMs;
  }

  #explain(key: string): void {
    this.#pending.delete(key);
    const { cache, waiting, tell, mayAct } = this.#options;
    const question = mayAct() ? waiting.questionOf(key) : undefined;
    if (question === undefined) return;
    // What is asked here once is not to fill the memory of the plans that matter.
    const input = { ...question.input, memo: new FitMemo() };
    if (planGroup(input).kind !== 'rejection') return;
    const units = unitsOf(cache);
    const explanation = explainRefusal(input, units);
    const unblock = findUnblock({ input, key, units, maxPlans });
    const text = `${describeExplanation(explanation)}. ${describeUnblock(unblock, cache.levels)}`;
    tell({ key, leader: question.group.leader, text, explanation, unblock });
  }
}
