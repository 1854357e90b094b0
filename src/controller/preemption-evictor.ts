import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Braked } from '../failure/brakes.ts';
import type { PreemptionMode } from '../failure/claim.ts';
import type { FailureMode } from '../failure/settings.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { failureKind } from '../kube/api-errors.ts';
import type { FailureWrites } from './failure-writes.ts';
import { podOptsOut } from './preemption-victims.ts';

export interface PreemptionEvictorOptions {
  readonly cache: ClusterCache;
  readonly mode: PreemptionMode;
  readonly writes: Pick<FailureWrites, 'livePod' | 'evictSingle'>;
  /** What holds the eviction of a pod outside groups; `halted` as it was read live. */
  readonly brakesOnPod: (pod: PodInfo, mode: FailureMode, halted: boolean) => readonly Braked[];
  readonly isHalted: () => Promise<boolean>;
  readonly nowMs: () => number;
  /** Asked right before the write. */
  readonly mayAct: () => boolean;
}

export type SingleOutcome =
  /** It goes, by this call or by somebody else's. */
  | { readonly kind: 'going'; readonly byBerth: boolean }
  | { readonly kind: 'later' }
  | { readonly kind: 'held'; readonly message: string };

const refusedMs = 10_000;

/**
 * Evicts pods outside groups that must make room. The only place with such calls: each is made right after live reads,
 * for this very pod, and only while the Lease is held.
 */
export class PreemptionEvictor {
  readonly #options: PreemptionEvictorOptions;
  /** What the API server answered and when it may be asked again, by UID: each try may charge a budget. */
  readonly #refused = new Map<string, { readonly untilMs: number; readonly message: string }>();

  constructor(options: PreemptionEvictorOptions) {
    this.#options = options;
  }

  /** @param isNeeded asked after the last live read */
  async evict(pod: PodInfo, belowPriority: number, isNeeded: () => boolean): Promise<SingleOutcome> {
    const { cache, mode, writes, isHalted, nowMs, mayAct, brakesOnPod } = this.#options;
    const { namespace, name, uid } = pod;
    const refused = this.#refused.get(uid);
    if (refused !== undefined && nowMs() < refused.untilMs) return { kind: 'held', message: refused.message };
    this.#refused.delete(uid);
    const live = await writes.livePod({ namespace, name });
    if (live?.metadata.uid !== uid || live.metadata.deletionTimestamp !== undefined)
      return { kind: 'going', byBerth: false };
    const isOther = (live.spec.nodeName ?? '') !== (pod.nodeName ?? '');
    if (isOther || (live.spec.priority ?? 0) >= belowPriority) return { kind: 'later' };
    const halted = await isHalted();
    const current = cache.pod(uid);
    if (current === undefined || !isNeeded() || !mayAct()) return { kind: 'later' };
    const [brake] = brakesOnPod(current, podOptsOut(cache, current) ? 'off' : mode, halted);
    if (brake !== undefined) return { kind: 'held', message: brake.message };
    try {
      await writes.evictSingle({ namespace, name, uid });
    } catch (error) {
      return this.#refusal(uid, error);
    }
    return { kind: 'going', byBerth: true };
  }

  /** Another holder decides now. */
  standDown(): void {
    this.#refused.clear();
  }

  #refusal(uid: string, error: unknown): SingleOutcome {
    const kind = failureKind(error);
    if (kind === 'gone' || kind === 'conflict' || kind === 'changed') return { kind: 'later' };
    const messages: Readonly<Record<string, string>> = {
      budget: 'a PodDisruptionBudget does not allow it',
      forbidden: 'Berth has no right to do it: see its RBAC for evictions',
      invalid: 'the API server refuses it as invalid',
    };
    const message = messages[kind];
    if (message === undefined) throw error;
    this.#refused.set(uid, { untilMs: this.#options.nowMs() + refusedMs, message });
    return { kind: 'held', message };
  }
}
