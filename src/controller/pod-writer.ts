import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import { rankOf, seatOf } from '../cache/group-view.ts';
import type { ClaimRecord } from '../cluster/devices/claims.ts';
import { type JsonPatchOperation, UnpinnableError } from '../cluster/node-affinity.ts';
import { isMembershipError } from '../group/membership.ts';
import { isGated, type PodInfo } from '../group/pod-info.ts';
import { claimsToRemake } from './claims-to-remake.ts';
import type { PlacementReport } from './placement-report.ts';

/** The writes that placement makes; each either happens as a whole or throws. */
export interface PlacementWrites {
  patchPod(pod: PodInfo, ops: readonly JsonPatchOperation[]): Promise<void>;
  /** Deletes a pod as it was last seen; false when it has been bound, replaced or deleted meanwhile. */
  deletePod(pod: PodInfo, propagation: 'Foreground' | 'Background'): Promise<boolean>;
  /** Deletes a claim as it was last seen; false when it is gone or has changed meanwhile. */
  deleteClaim(claim: ClaimRecord): Promise<boolean>;
  /** A live look: this very pod is there, not going, and bound or not as it was last seen. */
  isAsSeen(pod: PodInfo): Promise<boolean>;
  /** True when a failed write means that the pod is not what it was: read again, decide again. */
  isStale(error: unknown): boolean;
}

export interface PodWriterOptions {
  readonly cache: ClusterCache;
  readonly writes: PlacementWrites;
  readonly report: PlacementReport;
  /** Whether this process holds the Lease and knows the whole cluster; asked right before every write. */
  readonly mayAct: () => boolean;
  /** Whether claims that are deleted are made again soon; see kube/server-version.ts. */
  readonly remakesClaims: () => boolean;
}

/** The Lease went between a decision and its write. */
class NotActing extends Error {
  readonly code = 'NotActing';
}

/** Does to pods what placement has decided, as long as this process may. */
export class PodWriter {
  readonly #options: PodWriterOptions;
  /** Pods whose gate was taken away by a write that the watch has not shown yet. */
  readonly #ungateSent = new Set<string>();

  constructor(options: PodWriterOptions) {
    this.#options = options;
  }

  isUngateSent(uid: string): boolean {
    return this.#ungateSent.has(uid);
  }

  forgetWhatWasSent(): void {
    this.#ungateSent.clear();
  }

  forgetGone(): void {
    for (const uid of this.#ungateSent)
      if (this.#options.cache.pod(uid) === undefined) this.#ungateSent.delete(uid);
  }

  /** The pod is not what it was, or this process no longer the one to act: decided again on what comes next. */
  isStale(error: unknown): boolean {
    return error instanceof NotActing || this.#options.writes.isStale(error);
  }

  async patch(pod: PodInfo, ops: readonly JsonPatchOperation[]): Promise<void> {
    this.#demandMayAct();
    if (ops.length === 0) return;
    const ungates = isGated(pod) && ops.some(op => op.op === 'remove');
    if (ungates) this.#ungateSent.add(pod.uid);
    try {
      await this.#options.writes.patchPod(pod, ops);
    } catch (error) {
      if (ungates) this.#ungateSent.delete(pod.uid);
      throw error;
    }
  }

  /** Patches several pods; those that have changed meanwhile are left as they are, and those that cannot be pinned told. */
  async patchEach(
    pods: readonly PodInfo[],
    opsOf: (pod: PodInfo) => readonly JsonPatchOperation[],
  ): Promise<void> {
    await Promise.all(
      pods.map(async pod => {
        try {
          await this.patch(pod, opsOf(pod));
        } catch (error) {
          if (error instanceof UnpinnableError) this.#unpinnable(pod, error);
          else if (!this.isStale(error)) throw error;
        }
      }),
    );
  }

  /** Deletes a pod, or with `Foreground` a group by its leader, for its controller to make it anew. */
  async remake(
    pod: PodInfo,
    propagation: 'Foreground' | 'Background',
    scope: 'member' | 'group',
  ): Promise<void> {
    const { writes, report, mayAct } = this.#options;
    if (!mayAct()) return;
    if (pod.controllerUid === '') {
      report.cannotRemake(pod);
      return;
    }
    report.remade(pod, scope, await writes.deletePod(pod, propagation));
  }

  /** Claims of members that are about to be ungated, made while nobody was there to steer them. */
  async remakeUnsteered(view: GroupView, pods: readonly PodInfo[]): Promise<void> {
    const { cache } = this.#options;
    await Promise.all(
      pods.map(pod => {
        const rank = rankOf(pod) ?? 0;
        const seat = seatOf(view, rank) ?? '';
        return this.remakeClaims(pod, claimsToRemake(cache, pod, seat, view.plan?.devices?.[rank]));
      }),
    );
  }

  /** kube-controller-manager makes a deleted claim again when the pod is ungated, and then it is steered. */
  async remakeClaims(pod: PodInfo, claims: readonly ClaimRecord[]): Promise<void> {
    const { writes, report, remakesClaims } = this.#options;
    if (!remakesClaims()) return;
    for (const claim of claims) {
      this.#demandMayAct();
      if (await writes.deleteClaim(claim)) report.claimRemade(pod, claim.name);
    }
  }

  #demandMayAct(): void {
    if (!this.#options.mayAct()) throw new NotActing('the Lease was lost before the write');
  }

  #unpinnable(pod: PodInfo, { code, message }: UnpinnableError): void {
    const { membership } = pod;
    const key = membership !== undefined && !isMembershipError(membership) ? membership.name : pod.name;
    this.#options.report.waits({ kind: 'waits', key, leader: pod, reason: code, message });
  }
}
