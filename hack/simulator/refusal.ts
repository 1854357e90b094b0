interface StatusCause {
  readonly reason?: string;
  readonly field?: string;
  readonly message?: string;
}

/** A request that the simulated API server refuses. */
export class Refusal extends Error {
  readonly code = 'Refused';
  readonly status: number;
  /** As in `Status.reason`. */
  readonly reason: string;
  readonly causes: readonly StatusCause[];

  constructor(status: number, reason: string, message: string, causes: readonly StatusCause[] = []) {
    super(message);
    this.name = 'Refusal';
    this.status = status;
    this.reason = reason;
    this.causes = causes;
  }
}

export function notFound(what: string): Refusal {
  return new Refusal(404, 'NotFound', `${what} not found`);
}

export function conflict(what: string): Refusal {
  return new Refusal(409, 'Conflict', `${what}: the object has been modified`);
}

/** The Status object that clients get. */
export function statusOf({ status, reason, message, causes }: Refusal): Record<string, unknown> {
  const details = causes.length === 0 ? {} : { details: { causes } };
  return { apiVersion: 'v1', kind: 'Status', status: 'Failure', code: status, reason, message, ...details };
}
