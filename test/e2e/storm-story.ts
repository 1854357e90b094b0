import type { DeviceTaintRule, ResourceClaim, ResourceSlice } from '../../src/api/dra.ts';
import type { ConfigMap, KubernetesObject, Node, Pod } from '../../src/api/kubernetes.ts';

/** One event of a watch, and when this process heard of it. */
export type StormChange = { readonly atMs: number; readonly type: string } & (
  | { readonly resource: 'nodes'; readonly object: Node }
  | { readonly resource: 'pods'; readonly object: Pod }
  | { readonly resource: 'statefulsets'; readonly object: KubernetesObject }
  | { readonly resource: 'resourceslices'; readonly object: ResourceSlice }
  | { readonly resource: 'devicetaintrules'; readonly object: DeviceTaintRule }
  | { readonly resource: 'resourceclaims'; readonly object: ResourceClaim }
  | { readonly resource: 'configmaps'; readonly object: ConfigMap }
);

/** An eviction or deletion that Berth asked for, as the audit log has it. */
export interface StormCall {
  readonly atMs: number;
  readonly what: 'evict' | 'delete-pod' | 'delete-set';
  readonly namespace: string;
  readonly name: string;
  /** Empty when it would have hit whoever bears the name. */
  readonly uid: string;
  readonly done: boolean;
}

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** All that is known of one storm. */
export interface StormStory {
  readonly changes: readonly StormChange[];
  readonly calls: readonly StormCall[];
  /** When `halt` was on, from the answer to its beginning to the asking for its end. */
  readonly halts: readonly Span[];
  /** UIDs of pods that nothing was done to. */
  readonly innocents: ReadonlySet<string>;
  /** Members of each group. */
  readonly size: number;
  readonly limits: StormLimits;
}

export interface StormLimits {
  readonly servingEvictionsPerSecond: number;
  readonly servingBurst: number;
  readonly brokenEvictionsPerSecond: number;
  readonly brokenBurst: number;
  readonly inFlight: number;
  readonly inFlightPerOwner: number;
}

/** So far what is seen by a watch and what an audit log says may be apart. */
export const slackMs = 2_000;

/** States that begin and end, each by the name of what they are about. */
export class Spans {
  readonly #spans = new Map<string, { fromMs: number; toMs: number }[]>();

  /** Notes that the state holds or does not, from now on. */
  set(key: string, holds: boolean, atMs: number): void {
    const of = this.#spans.get(key) ?? [];
    const last = of.at(-1);
    const isOpen = last?.toMs === Number.POSITIVE_INFINITY;
    if (holds === isOpen) return;
    if (last !== undefined && isOpen) last.toMs = atMs;
    else of.push({ fromMs: atMs, toMs: Number.POSITIVE_INFINITY });
    this.#spans.set(key, of);
  }

  /** Notes that it holds for these and for no other. */
  setAll(keys: ReadonlySet<string>, atMs: number): void {
    for (const key of keys) this.set(key, true, atMs);
    for (const key of this.#spans.keys()) if (!keys.has(key)) this.set(key, false, atMs);
  }

  /** Whether it held at any moment from one time to another. */
  touches(key: string, fromMs: number, toMs: number): boolean {
    return (this.#spans.get(key) ?? []).some(span => span.fromMs <= toMs && span.toMs >= fromMs);
  }

  /** Whether it held all the time. */
  covers(key: string, fromMs: number, toMs: number): boolean {
    return (this.#spans.get(key) ?? []).some(span => span.fromMs <= fromMs && span.toMs >= toMs);
  }
}

/** Resource versions of one etcd are one sequence over all resources, so separate watches can be put in order. */
export function inOrder(changes: readonly StormChange[]): readonly StormChange[] {
  return [...changes].sort(
    (a, b) => Number(a.object.metadata.resourceVersion) - Number(b.object.metadata.resourceVersion),
  );
}

export function rankOf(pod: Pod): number {
  return Number(pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/worker-index'] ?? Number.NaN);
}

export function ownerUidOf({ metadata }: KubernetesObject): string {
  return metadata.ownerReferences?.find(({ controller }) => controller === true)?.uid ?? '';
}
