import type { PodInfo } from '../group/pod-info.ts';

/**
 * Since when kube-scheduler refuses pods, by our own clock since we first saw it: API timestamps come from other clocks.
 * Under another plan a pod has another seat, so it begins anew.
 */
export class UnschedulableMemory {
  readonly #since = new Map<string, { readonly sinceMs: number; readonly generation: number }>();

  /**
   * Undefined for a pod that is not refused.
   * @param onFirst it is seen to be refused for the first time: come back when its time is over
   */
  forMs(pod: PodInfo, generation: number, nowMs: number, onFirst: () => void): number | undefined {
    if (pod.unschedulableMessage === undefined) {
      this.#since.delete(pod.uid);
      return undefined;
    }
    const known = this.#since.get(pod.uid);
    if (known?.generation !== generation) {
      this.#since.set(pod.uid, { sinceMs: nowMs, generation });
      onFirst();
      return 0;
    }
    return nowMs - known.sinceMs;
  }

  forgetGone(isThere: (uid: string) => boolean): void {
    for (const uid of this.#since.keys()) if (!isThere(uid)) this.#since.delete(uid);
  }
}
