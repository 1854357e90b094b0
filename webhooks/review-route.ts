import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  type AdmissionAnswer,
  type AdmissionRequest,
  isReviewError,
  parseAdmissionReview,
} from './review.ts';

/** How a call ended: `invalid` is the caller's fault, `failed` Berth's. */
export type AdmissionOutcome = 'untouched' | 'unchanged' | 'patched' | 'denied' | 'invalid' | 'failed';

/** What came of a review. */
export type Reviewed =
  | { readonly outcome: Exclude<AdmissionOutcome, 'invalid'>; readonly answer: AdmissionAnswer }
  /** The object is not what it claims to be. */
  | { readonly outcome: 'invalid'; readonly error: string };

export interface ReviewRoute {
  readonly path: string;
  readonly review: (request: AdmissionRequest, log: FastifyBaseLogger) => Reviewed | Promise<Reviewed>;
  /** Called once per request, with the time since its headers arrived. */
  readonly observe: (outcome: AdmissionOutcome, seconds: number) => void;
}

/** The API server takes objects of up to 3 MiB, which grow when Protobuf becomes JSON inside a review. */
export const bodyLimitBytes = 8 * 1024 * 1024;

/** What a client is told about a request that never became a review. Nothing of the cause, which may be internal. */
const clientErrors: ReadonlyMap<number, string> = new Map([
  [400, 'the body is not JSON'],
  [413, `the body is larger than ${bodyLimitBytes} bytes`],
  [415, 'the content type must be application/json'],
]);

/**
 * Serves reviews of one kind under one path. A review that cannot be done is answered with an HTTP error, so that the
 * webhook's failurePolicy decides. To be called in a plugin of its own, for content types and errors are settled for all
 * of the server that it is given.
 */
export function serveReviews(server: FastifyInstance, { path, review, observe }: ReviewRoute): void {
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

  server.post(path, { bodyLimit: bodyLimitBytes }, async (request, reply) => {
    const parsed = parseAdmissionReview(request.body);
    const result: Reviewed = isReviewError(parsed)
      ? { outcome: 'invalid', error: parsed.message }
      : await review(parsed, request.log);
    finish(reply, result.outcome);
    if (result.outcome === 'invalid') return reply.code(400).send({ error: result.error });
    return reply.send(result.answer);
  });

  server.route({
    method: ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    url: path,
    handler: refuseMethod,
  });
}

/** Whether an object of this resource itself is being created; `resource` is plural, with its group. */
export function isCreationOf(
  resource: string,
  { operation, resource: requested, subResource }: AdmissionRequest,
): boolean {
  return operation === 'CREATE' && requested === resource && subResource === '';
}

function refuseMethod(_request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.code(405).header('allow', 'POST').send({ error: 'the method must be POST' });
}

function statusOf(error: unknown): number {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return 500;
  return typeof error.statusCode === 'number' ? error.statusCode : 500;
}
