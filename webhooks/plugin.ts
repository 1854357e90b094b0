import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import type { Pod } from '../src/api/kubernetes.ts';
import { type PodReviewDeps, type PodVerdict, reviewPod } from './pod.ts';
import { isPod, whyNotPod } from './pod-shape.ts';
import { type AdmissionRequest, allow, allowWithPatch, deny } from './review.ts';
import { isCreationOf, type Reviewed, type ReviewRoute, serveReviews } from './review-route.ts';

export interface PodWebhookOptions extends Pick<ReviewRoute, 'observe'> {
  readonly deps: PodReviewDeps;
  /** Called with the path of the field for which a pod was denied. */
  readonly onDenied?: (field: string) => void;
}

export const mutatePodsPath = '/mutate-pods';

/** Serves the mutating webhook for pods. Only a pod that asks for the impossible is denied. */
export async function podWebhook(
  server: FastifyInstance,
  { deps, observe, onDenied }: PodWebhookOptions,
): Promise<void> {
  serveReviews(server, {
    path: mutatePodsPath,
    observe,
    review(request, log) {
      if (!isCreationOf('pods', request)) return { outcome: 'untouched', answer: allow(request.uid) };
      const pod = request.object;
      if (!isPod(pod)) return { outcome: 'invalid', error: whyNotPod(pod) ?? 'request.object must be a pod' };
      const { namespace, operation, dryRun } = request;
      const verdict = reviewPod({ pod, namespace, operation, dryRun }, deps);
      logVerdict(log, request, pod, verdict);
      if (verdict.kind === 'denied') onDenied?.(verdict.field);
      return answerVerdict(request.uid, verdict);
    },
  });
}

function answerVerdict(uid: string, verdict: PodVerdict): Reviewed {
  switch (verdict.kind) {
    case 'untouched':
      return { outcome: 'untouched', answer: allow(uid) };
    case 'denied':
      return { outcome: 'denied', answer: deny(uid, verdict) };
    case 'admitted':
      return {
        outcome: verdict.ops.length > 0 ? 'patched' : 'unchanged',
        answer: allowWithPatch(uid, verdict),
      };
  }
}

/** Decisions at info; what was none of ours at debug, for it may be every pod of the cluster. */
function logVerdict(log: FastifyBaseLogger, request: AdmissionRequest, pod: Pod, verdict: PodVerdict): void {
  const name = pod.metadata.name ?? pod.metadata.generateName ?? '';
  const facts = { pod: `${request.namespace}/${name}`, uid: request.uid, dryRun: request.dryRun };
  if (verdict.kind === 'untouched') {
    log.debug({ ...facts, reason: verdict.reason }, 'pod left untouched');
  } else if (verdict.kind === 'denied') {
    log.info({ ...facts, field: verdict.field, reason: verdict.message }, 'pod denied');
  } else {
    const { placement, warnings, ops } = verdict;
    log.info({ ...facts, placement, warnings, ops: ops.length }, 'pod admitted');
  }
}
