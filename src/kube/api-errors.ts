/** One entry of Status.details.causes. */
export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
}

export interface ApiErrorFacts {
  readonly status: number;
  readonly reason?: string | undefined;
  readonly message: string;
  readonly causes?: readonly StatusCause[] | undefined;
  readonly retryAfterMs?: number | undefined;
}

/** The API server answered, with an HTTP status of 400 or more, or with an ERROR event of a watch. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code = 'ApiError';
  readonly status: number;
  /** Status.reason as the server gave it (`NotFound`, `AlreadyExists`, `Expired` ...), or ''. */
  readonly reason: string;
  readonly causes: readonly StatusCause[];
  /** How long the server asks to wait (Retry-After, or Status.details.retryAfterSeconds). */
  readonly retryAfterMs: number | undefined;

  constructor(facts: ApiErrorFacts) {
    super(facts.message);
    this.status = facts.status;
    this.reason = facts.reason ?? '';
    this.causes = facts.causes ?? [];
    this.retryAfterMs = facts.retryAfterMs;
  }
}

/**
 * - `stale-connection`: the request went over a kept connection that turned out closed; most likely the server never
 *   saw it
 * - `silence`: a stream was open and then brought no byte for its limit
 */
export type UnreachableDetail = 'stale-connection' | 'silence';

/**
 * No answer: connection refused or cut, time over, no credentials to ask with. A write that ended so may or may not
 * have happened.
 */
export class ApiUnreachable extends Error {
  override readonly name = 'ApiUnreachable';
  readonly code = 'ApiUnreachable';
  readonly detail: UnreachableDetail | undefined;

  constructor(
    message: string,
    options: { readonly cause?: unknown; readonly detail?: UnreachableDetail } = {},
  ) {
    super(message, { cause: options.cause });
    this.detail = options.detail;
  }
}

/** An answer that is not the JSON it should be: something else than an API server may be speaking. */
export class ApiGarbled extends Error {
  override readonly name = 'ApiGarbled';
  readonly code = 'ApiGarbled';
}

/**
 * What a failed request means to its caller.
 * - `gone`: the object (or its resource) does not exist (404)
 * - `exists`: a create met an object of that name (409 AlreadyExists)
 * - `conflict`: a UID or resourceVersion precondition did not hold (409)
 * - `changed`: a JSON patch did not apply, because a `test` failed or a path is missing (422 without field causes)
 * - `invalid`: the server refuses the content whatever the state (400, 415, 422 with field causes)
 * - `expired`: a resourceVersion or continue token is too old (410)
 * - `budget`: a PodDisruptionBudget holds an eviction back (cause DisruptionBudget, with 429 or 403)
 * - `throttled`: too many requests (429)
 * - `forbidden`: 401 or 403
 * - `unavailable`: 5xx, no answer, or one that is no JSON
 * - `aborted`: the caller's own signal
 * - `unknown`: anything else
 */
export type FailureKind =
  | 'gone'
  | 'exists'
  | 'conflict'
  | 'changed'
  | 'invalid'
  | 'expired'
  | 'budget'
  | 'throttled'
  | 'forbidden'
  | 'unavailable'
  | 'aborted'
  | 'unknown';

export function failureKind(error: unknown): FailureKind {
  if (error instanceof ApiUnreachable || error instanceof ApiGarbled) return 'unavailable';
  if (error instanceof ApiError) return kindOfStatus(error);
  if (error instanceof Error && error.name === 'AbortError') return 'aborted';
  return 'unknown';
}

function kindOfStatus(error: ApiError): FailureKind {
  // k8s.io/kubernetes pkg/registry/core/pod/storage/eviction.go: 429, or 403 when the budget itself is in trouble.
  if (error.causes.some(cause => cause.reason === 'DisruptionBudget')) return 'budget';
  switch (error.status) {
    case 404:
      return 'gone';
    case 409:
      return error.reason === 'AlreadyExists' ? 'exists' : 'conflict';
    case 410:
      return 'expired';
    case 422:
      return kindOfUnprocessable(error);
    case 429:
      return 'throttled';
    case 401:
    case 403:
      return 'forbidden';
  }
  if (error.reason === 'Expired' || error.reason === 'Gone') return 'expired';
  if (error.status >= 500) return 'unavailable';
  return error.status >= 400 ? 'invalid' : 'unknown';
}

/**
 * Validation names the fields it refuses; a JSON patch that does not apply comes without any (k8s.io/apiserver
 * endpoints/handlers/patch.go). A changed UID is refused as an immutable field and means the same to the caller.
 */
function kindOfUnprocessable(error: ApiError): FailureKind {
  if (error.causes.length === 0) return 'changed';
  return error.causes.some(cause => cause.field === 'metadata.uid') ? 'changed' : 'invalid';
}
