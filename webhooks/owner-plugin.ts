import type { FastifyInstance } from 'fastify';
import { lws } from '../src/api/names.ts';
import { type OwnerReviewDeps, type OwnerVerdict, reviewOwner } from './owner.ts';
import { isOwner, whyNotOwner } from './owner-shape.ts';
import { allow, deny } from './review.ts';
import { isCreationOf, type Reviewed, type ReviewRoute, serveReviews } from './review-route.ts';

export interface OwnerWebhookOptions extends Pick<ReviewRoute, 'observe'> {
  readonly deps: OwnerReviewDeps;
  /** Called with the path of the field for which a LeaderWorkerSet was denied. */
  readonly onDenied?: (field: string) => void;
}

export const reviewOwnersPath = '/review-leaderworkersets';

const [group] = lws.apiVersion.split('/');
const resource = `leaderworkersets.${group}`;

/** Serves the webhook for LeaderWorkerSets. It patches nothing. */
export async function ownerWebhook(
  server: FastifyInstance,
  { deps, observe, onDenied }: OwnerWebhookOptions,
): Promise<void> {
  serveReviews(server, {
    path: reviewOwnersPath,
    observe,
    review(request, log) {
      if (!isCreationOf(resource, request)) return { outcome: 'untouched', answer: allow(request.uid) };
      const { uid, namespace, dryRun, object } = request;
      if (!isOwner(object))
        return {
          outcome: 'invalid',
          error: whyNotOwner(object) ?? 'request.object must be a LeaderWorkerSet',
        };
      const verdict = reviewOwner(object, namespace, deps);
      const facts = { owner: `${namespace}/${object.metadata.name ?? ''}`, uid, dryRun };
      if (verdict.kind === 'untouched') log.debug({ ...facts, verdict }, 'LeaderWorkerSet left untouched');
      else log.info({ ...facts, verdict }, 'LeaderWorkerSet reviewed');
      if (verdict.kind === 'denied') onDenied?.(verdict.field);
      return answerVerdict(uid, verdict);
    },
  });
}

function answerVerdict(uid: string, verdict: OwnerVerdict): Reviewed {
  switch (verdict.kind) {
    case 'untouched':
      return { outcome: 'untouched', answer: allow(uid) };
    case 'denied':
      return { outcome: 'denied', answer: deny(uid, verdict) };
    case 'admitted':
      return { outcome: 'unchanged', answer: allow(uid, verdict.warnings) };
  }
}
