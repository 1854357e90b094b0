import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import type { ResourceClaim } from '../src/api/dra.ts';
import { type ClaimReviewDeps, type ClaimVerdict, reviewClaim, type UnsteeredReason } from './claim.ts';
import { isClaim, whyNotClaim } from './claim-shape.ts';
import { type AdmissionRequest, allow, allowWithPatch, denyForNow } from './review.ts';
import { isCreationOf, type Reviewed, type ReviewRoute, serveReviews } from './review-route.ts';

export interface ClaimWebhookOptions extends Pick<ReviewRoute, 'observe'> {
  readonly deps: ClaimReviewDeps;
  /** Called with the number of requests that a review has steered, if any. */
  readonly onSteered: (requests: number) => void;
  /** Called for each request that passes as it was asked though its namespace has Berth steer claims. */
  readonly onUnsteered: (reason: UnsteeredReason) => void;
}

export const mutateClaimsPath = '/mutate-claims';

/** Serves the mutating webhook for ResourceClaims. Dry runs are reviewed like all others, and counted, too. */
export async function claimWebhook(
  server: FastifyInstance,
  { deps, observe, onSteered, onUnsteered }: ClaimWebhookOptions,
): Promise<void> {
  serveReviews(server, {
    path: mutateClaimsPath,
    observe,
    async review(request, log) {
      if (!isCreationOf('resourceclaims.resource.k8s.io', request))
        return { outcome: 'untouched', answer: allow(request.uid) };
      const claim = request.object;
      if (!isClaim(claim))
        return { outcome: 'invalid', error: whyNotClaim(claim) ?? 'request.object must be a ResourceClaim' };
      const { namespace, operation } = request;
      const verdict = await reviewClaim({ claim, namespace, operation }, deps);
      logVerdict(log, request, claim, verdict);
      if (verdict.kind === 'admitted') {
        if (verdict.steered.length > 0) onSteered(verdict.steered.length);
        for (const { reason } of verdict.unsteered) onUnsteered(reason);
      }
      return answerVerdict(request.uid, verdict);
    },
  });
}

function answerVerdict(uid: string, verdict: ClaimVerdict): Reviewed {
  switch (verdict.kind) {
    case 'untouched':
      return { outcome: 'untouched', answer: allow(uid) };
    case 'denied':
      return { outcome: 'denied', answer: denyForNow(uid, verdict.message) };
    case 'admitted': {
      const answer = allowWithPatch(uid, { ops: verdict.ops, warnings: [] });
      if (verdict.error !== undefined) return { outcome: 'failed', answer };
      return { outcome: verdict.ops.length > 0 ? 'patched' : 'unchanged', answer };
    }
  }
}

/** Decisions at info; what was none of ours, and the same refusal again and again, at debug. */
function logVerdict(
  log: FastifyBaseLogger,
  request: AdmissionRequest,
  { metadata }: ResourceClaim,
  verdict: ClaimVerdict,
): void {
  const name = metadata.name ?? metadata.generateName ?? '';
  const facts = { claim: `${request.namespace}/${name}`, uid: request.uid, dryRun: request.dryRun };
  if (verdict.kind === 'untouched') {
    log.debug({ ...facts, reason: verdict.reason, detail: verdict.detail }, 'claim left untouched');
  } else if (verdict.kind === 'denied') {
    log.debug(facts, 'claim refused until its pod has a place');
  } else {
    const { steered, unsteered, error } = verdict;
    if (error !== undefined)
      log.error({ ...facts, err: error }, 'review of a claim failed, it passes as asked');
    else log.info({ ...facts, steered, unsteered }, 'claim admitted');
  }
}
