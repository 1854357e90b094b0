import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Pod } from '../src/api/kubernetes.ts';
import { type PodReviewDeps, type PodVerdict, reviewPod } from './pod.ts';
import { isPod, whyNotPod } from './pod-shape.ts';
import {
  type AdmissionAnswer,
  type AdmissionRequest,
  allow,
  allowWithPatch,
  deny,
  isReviewError,
  parseAdmissionReview,
} from './review.ts';

/** How a call ended: `invalid` is the caller's fault, `failed` Berth's. */
export type AdmissionOutcome = 'untouched' | 'unchanged' | 'patched' | 'denied' | 'invalid' | 'failed';

export interface PodWebhookOptions {
  readonly deps: PodReviewDeps;
  /** Called once per request, with the time since its headers arrived. */
  readonly observe: (outcome: AdmissionOutcome, seconds: number) => void;
  /** Called with the path of the field for which a pod was denied. */
  readonly onDenied?: (field: string) => void;
}

export const mutatePodsPath = '/mutate-pods';

/** The API server takes objects of up to 3 MiB, which grow when Protobuf becomes JSON inside a review. */
export const bodyLimitBytes = 8 * 1024 * 1024;

/** What a client is told about a request that never became a review. Nothing of the cause, which may be internal. */
const clientErrors: ReadonlyMap<number, string> = new Map([
  [400, 'the body is not JSON'],
  [413, `the body is larger than ${bodyLimitBytes} bytes`],
  [415, 'the content type must be application/json'],
]);

/**
 * Serves the mutating webhook for pods. A review that cannot be done is answered with an HTTP error, so that the
 * webhook's failurePolicy decides; only a pod that asks for the impossible is denied.
 */
export async function podWebhook(
  server: FastifyInstance,
  { deps, observe, onDenied }: PodWebhookOptions,
): Promise<void> {
  const finish = (reply: FastifyReply, outcome: AdmissionOutcome) =>
    observe(outcome, reply.elapsedTime / 1000);

  // Fastify takes plain text, too; reviews come as JSON only.
  server.removeContentTypeParser('text/plain');

  server.setErrorHandler((error, request, reply) => {
    const status = statusOf(error);
    const text = clientErrors.get(status);
    finish(reply, text === undefined ? 'failed' : 'invalid');
    if (text !== undefined) return reply.code(status).send({ error: text });
    request.log.error({ err: error }, 'review failed');
    return reply.code(500).send({ error: 'internal error' });
  });

  server.post(mutatePodsPath, { bodyLimit: bodyLimitBytes }, async (request, reply) => {
    const result = answerReview(request.body, deps);
    finish(reply, result.outcome);
    if (result.outcome === 'invalid') return reply.code(400).send({ error: result.error });
    logVerdict(request.log, result);
    if (result.verdict?.kind === 'denied') onDenied?.(result.verdict.field);
    return reply.send(result.answer);
  });

  server.route({
    method: ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    url: mutatePodsPath,
    handler: refuseMethod,
  });
}

interface Reviewed {
  readonly outcome: Exclude<AdmissionOutcome, 'invalid' | 'failed'>;
  readonly answer: AdmissionAnswer;
  readonly request: AdmissionRequest;
  readonly pod?: Pod;
  readonly verdict?: PodVerdict;
}

function answerReview(
  body: unknown,
  deps: PodReviewDeps,
): Reviewed | { readonly outcome: 'invalid'; readonly error: string } {
  const request = parseAdmissionReview(body);
  if (isReviewError(request)) return { outcome: 'invalid', error: request.message };
  if (!isPodCreate(request)) return { outcome: 'untouched', answer: allow(request.uid), request };
  const pod = request.object;
  if (!isPod(pod)) return { outcome: 'invalid', error: whyNotPod(pod) ?? 'request.object must be a pod' };
  const { namespace, operation, dryRun } = request;
  const verdict = reviewPod({ pod, namespace, operation, dryRun }, deps);
  return { ...answerVerdict(request.uid, verdict), request, pod, verdict };
}

function isPodCreate({ operation, resource, subResource }: AdmissionRequest): boolean {
  return operation === 'CREATE' && resource === 'pods' && subResource === '';
}

function answerVerdict(uid: string, verdict: PodVerdict): Pick<Reviewed, 'outcome' | 'answer'> {
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
function logVerdict(log: FastifyBaseLogger, { request, pod, verdict }: Reviewed): void {
  if (verdict === undefined || pod === undefined) return;
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

function refuseMethod(_request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.code(405).header('allow', 'POST').send({ error: 'the method must be POST' });
}

function statusOf(error: unknown): number {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return 500;
  return typeof error.statusCode === 'number' ? error.statusCode : 500;
}
