import fastJsonPatch from 'fast-json-patch';
import type { Pod, PodSpec } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import type { JsonPatchOperation } from '../../../src/cluster/node-affinity.ts';
import type { ImpossiblePolicy } from '../../../webhooks/device-refusal.ts';
import { type PodReviewDeps, type PodVerdict, reviewPod } from '../../../webhooks/pod.ts';

export const namespace = 'serving';

export interface PodParts {
  readonly name?: string | undefined;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly spec?: Partial<PodSpec>;
}

export function buildPod({ name = 'p', labels, annotations, spec }: PodParts = {}): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec: { containers: [{ name: 'main' }], ...spec },
  };
}

/** A pod of a group without LWS. */
export function memberPod(rank: number, { labels, ...parts }: PodParts = {}): Pod {
  const group = { [berth.group]: 'g', [berth.groupSize]: '4', [berth.groupRank]: String(rank) };
  return buildPod({ name: `g-${rank}`, labels: { ...group, ...labels }, ...parts });
}

/** Applies a patch as the API server does, every operation on the result of the one before. */
export function patched<T>(document: T, ops: readonly JsonPatchOperation[]): T {
  return fastJsonPatch.applyPatch(structuredClone(document), structuredClone([...ops]), true).newDocument;
}

/** Where nothing is known of devices. */
export const neverImpossible: ImpossiblePolicy = { policy: 'refuse', why: () => undefined };

/** An opted-in namespace whose groups have no plan yet. */
export function reviewDeps(deps: Partial<PodReviewDeps> = {}): PodReviewDeps {
  return {
    namespaceMode: () => 'pin',
    gateSingles: () => false,
    placement: () => ({ kind: 'gate' }),
    leaderOf: () => undefined,
    ...deps,
  };
}

export function review(pod: Pod, deps: Partial<PodReviewDeps> = {}): PodVerdict {
  return reviewPod({ pod, namespace, operation: 'CREATE', dryRun: false }, reviewDeps(deps));
}

/** The pod as the review lets it in; throws when it does not. */
export function admitted(pod: Pod, deps: Partial<PodReviewDeps> = {}): Pod {
  const verdict = review(pod, deps);
  if (verdict.kind === 'denied') throw new Error(verdict.message);
  return verdict.kind === 'admitted' ? patched(pod, verdict.ops) : pod;
}
