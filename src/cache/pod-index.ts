import { groupKeyOf, isMembershipError } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';

/** Pods by keys that each of them has. */
export class PodIndex {
  readonly #keysOf: (pod: PodInfo) => readonly string[];
  readonly #pods = new Map<string, Set<PodInfo>>();

  constructor(keysOf: (pod: PodInfo) => readonly string[]) {
    this.#keysOf = keysOf;
  }

  has(key: string): boolean {
    return this.#pods.has(key);
  }

  keys(): Iterable<string> {
    return this.#pods.keys();
  }

  entries(): Iterable<readonly [string, ReadonlySet<PodInfo>]> {
    return this.#pods;
  }

  podsOf(key: string): ReadonlySet<PodInfo> | undefined {
    return this.#pods.get(key);
  }

  /** A pod came, went or changed. The keys that it had or has. */
  move(before: PodInfo | undefined, after: PodInfo | undefined): ReadonlySet<string> {
    const from = before === undefined ? [] : this.#keysOf(before);
    const to = after === undefined ? [] : this.#keysOf(after);
    for (const key of from) {
      const pods = this.#pods.get(key);
      if (before !== undefined) pods?.delete(before);
      if (pods?.size === 0) this.#pods.delete(key);
    }
    for (const key of to)
      if (after !== undefined) this.#pods.set(key, (this.#pods.get(key) ?? new Set()).add(after));
    return new Set([...from, ...to]);
  }
}

/** Undefined for a pod outside groups, or with labels that say nothing sound. */
export function groupKeyOfPod(pod: PodInfo | undefined): string | undefined {
  const membership = pod?.membership;
  return membership === undefined || isMembershipError(membership) ? undefined : groupKeyOf(membership);
}

/** Claims that a member of a group names, whether or not they are reserved for it: `namespace/name`. */
export function claimsNamedBy(pod: PodInfo): readonly string[] {
  if (groupKeyOfPod(pod) === undefined) return [];
  return pod.claims.flatMap(({ claim }) => (claim === undefined ? [] : [`${pod.namespace}/${claim}`]));
}
