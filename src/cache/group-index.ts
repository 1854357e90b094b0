import { groupKeyOf, isMembershipError } from '../group/membership.ts';
import type { PodInfo } from '../group/pod-info.ts';

/** Pods by the group that they say they belong to, and members of groups by the claims that they name. */
export class GroupIndex {
  readonly #pods = new Map<string, Set<PodInfo>>();
  /** `namespace/name` of a claim. */
  readonly #byClaim = new Map<string, Set<PodInfo>>();

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

  /** Members that name a claim, whether or not it is reserved for them. */
  podsNaming(namespace: string, claim: string): Iterable<PodInfo> {
    return this.#byClaim.get(`${namespace}/${claim}`) ?? [];
  }

  /** A pod came, went or changed; a labelled one may change its group. */
  move(before: PodInfo | undefined, after: PodInfo | undefined): void {
    const from = groupKeyOfPod(before);
    const to = groupKeyOfPod(after);
    if (before !== undefined && from !== undefined) {
      drop(this.#pods, from, before);
      for (const claim of claimsNamedBy(before)) drop(this.#byClaim, claim, before);
    }
    if (after !== undefined && to !== undefined) {
      put(this.#pods, to, after);
      for (const claim of claimsNamedBy(after)) put(this.#byClaim, claim, after);
    }
  }
}

/** Undefined for a pod outside groups, or with labels that say nothing sound. */
export function groupKeyOfPod(pod: PodInfo | undefined): string | undefined {
  const membership = pod?.membership;
  return membership === undefined || isMembershipError(membership) ? undefined : groupKeyOf(membership);
}

function claimsNamedBy({ namespace, claims }: PodInfo): readonly string[] {
  return claims.flatMap(({ claim }) => (claim === undefined ? [] : [`${namespace}/${claim}`]));
}

function put(index: Map<string, Set<PodInfo>>, key: string, pod: PodInfo): void {
  index.set(key, (index.get(key) ?? new Set()).add(pod));
}

function drop(index: Map<string, Set<PodInfo>>, key: string, pod: PodInfo): void {
  const pods = index.get(key);
  pods?.delete(pod);
  if (pods?.size === 0) index.delete(key);
}
