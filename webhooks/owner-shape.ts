import type { LeaderWorkerSet } from '../src/api/kubernetes.ts';
import { podTemplate } from './pod-shape.ts';
import { entries, fields, number, optional, text } from './shape.ts';

/** As for pods (pod-shape.ts): every field that a review of a LeaderWorkerSet reads is checked first, and no other. */
export function isOwner(value: unknown): value is LeaderWorkerSet {
  return whyNotOwner(value) === undefined;
}

/** The first field that a LeaderWorkerSet cannot have in this form, as a sentence; undefined for a LeaderWorkerSet. */
export function whyNotOwner(value: unknown): string | undefined {
  return owner(value, 'request.object');
}

const owner = fields({
  metadata: fields({ name: optional(text), annotations: optional(entries(text)) }),
  spec: fields({
    leaderWorkerTemplate: fields({
      size: optional(number),
      leaderTemplate: optional(podTemplate),
      workerTemplate: podTemplate,
    }),
  }),
});
