/** A body that is not what kube-scheduler sends. */
export interface InvalidRequest {
  readonly code: 'InvalidRequest';
  /** Path of the field at fault, with the names of the wire; empty for the body itself. */
  readonly field: string;
  readonly message: string;
}

export function invalidRequest(field: string, rule: string): InvalidRequest {
  return { code: 'InvalidRequest', field, message: field === '' ? rule : `${field} ${rule}` };
}

export function isInvalidRequest(value: object): value is InvalidRequest {
  return 'code' in value && value.code === 'InvalidRequest';
}
