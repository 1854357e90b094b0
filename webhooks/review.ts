import type { JsonPatchOperation } from '../src/cluster/node-affinity.ts';

/**
 * The wire form of admission: reads an AdmissionReview (admission.k8s.io/v1) and builds the answers to it. The kinds of
 * answer are allow, allow with a JSON patch, and deny with a Status that names the field at fault.
 */

/** What an injection wants to do to a pod; warnings are shown to whoever created it. */
export interface Injection {
  readonly ops: readonly JsonPatchOperation[];
  readonly warnings: readonly string[];
}

export const nothingToInject: Injection = { ops: [], warnings: [] };

/** A pod that asks for something that cannot be read or done. `field` is its path, and `message` says what is wrong. */
export interface Refusal {
  readonly code: 'InvalidField';
  readonly field: string;
  readonly message: string;
}

/** A request body that is no AdmissionReview. */
export interface ReviewError {
  readonly code: 'InvalidReview';
  readonly field: string;
  readonly message: string;
}

export type Operation = 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';

/** The parts of an AdmissionRequest that a review needs. `object` is unchecked. */
export interface AdmissionRequest {
  readonly uid: string;
  readonly operation: Operation;
  /** Plural resource name with its group, e.g. `pods` or `resourceclaims.resource.k8s.io`. */
  readonly resource: string;
  /** Empty for the resource itself. */
  readonly subResource: string;
  /** Empty for cluster-scoped objects. */
  readonly namespace: string;
  readonly dryRun: boolean;
  readonly object: unknown;
}

export interface AdmissionAnswer {
  readonly apiVersion: typeof reviewApiVersion;
  readonly kind: typeof reviewKind;
  readonly response: {
    readonly uid: string;
    readonly allowed: boolean;
    readonly patchType?: 'JSONPatch';
    /** Base64 of the JSON text of the patch. */
    readonly patch?: string;
    readonly warnings?: readonly string[];
    readonly status?: AdmissionStatus;
  };
}

interface AdmissionStatus {
  readonly status: 'Failure';
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly details?: { readonly causes: readonly { readonly field: string; readonly message: string }[] };
}

const reviewApiVersion = 'admission.k8s.io/v1';
const reviewKind = 'AdmissionReview';
const operations: readonly string[] = ['CREATE', 'UPDATE', 'DELETE', 'CONNECT'];

/** Reads a parsed request body. The error names the first field that is not as admission.k8s.io/v1 has it. */
export function parseAdmissionReview(body: unknown): AdmissionRequest | ReviewError {
  if (!isRecord(body)) return invalidReview('', 'the body must be a JSON object');
  if (body.apiVersion !== reviewApiVersion) return invalidReview('apiVersion', `must be ${reviewApiVersion}`);
  if (body.kind !== reviewKind) return invalidReview('kind', `must be ${reviewKind}`);
  const request = body.request;
  if (!isRecord(request)) return invalidReview('request', 'must be an object');
  return parseRequest(request);
}

export function isReviewError(value: AdmissionRequest | ReviewError): value is ReviewError {
  return 'code' in value;
}

export function allow(uid: string, warnings: readonly string[] = []): AdmissionAnswer {
  return answer({ uid, allowed: true, ...(warnings.length > 0 && { warnings }) });
}

/** An empty patch is left out, for the API server need not decode what changes nothing. */
export function allowWithPatch(uid: string, { ops, warnings }: Injection): AdmissionAnswer {
  if (ops.length === 0) return allow(uid, warnings);
  const patch = Buffer.from(JSON.stringify(ops)).toString('base64');
  return answer({
    uid,
    allowed: true,
    patchType: 'JSONPatch',
    patch,
    ...(warnings.length > 0 && { warnings }),
  });
}

/** Denies as the API server's own validation does: 422 Invalid with one cause. */
export function deny(
  uid: string,
  refusal: { readonly field: string; readonly message: string },
): AdmissionAnswer {
  const { field, message } = refusal;
  const status: AdmissionStatus = {
    status: 'Failure',
    code: 422,
    reason: 'Invalid',
    message,
    details: { causes: [{ field, message }] },
  };
  return answer({ uid, allowed: false, status });
}

/** Denies what may be right later, as the API server does for what the present state does not allow: 409 Conflict. */
export function denyForNow(uid: string, message: string): AdmissionAnswer {
  const status: AdmissionStatus = { status: 'Failure', code: 409, reason: 'Conflict', message };
  return answer({ uid, allowed: false, status });
}

/** A refusal whose message repeats the field, for clients show the message alone. */
export function refuse(field: string, rule: string, got: string | undefined): Refusal {
  const found = got === undefined ? 'it is missing' : `got ${JSON.stringify(got)}`;
  return { code: 'InvalidField', field, message: `${field} ${rule}; ${found}` };
}

export function isRefusal(value: object): value is Refusal {
  return 'code' in value && value.code === 'InvalidField';
}

export function annotationField(key: string): string {
  return `metadata.annotations[${key}]`;
}

/** Escapes one segment of a JSON pointer (RFC 6901). */
export function pointerSegment(text: string): string {
  return text.replaceAll('~', '~0').replaceAll('/', '~1');
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseRequest(request: Readonly<Record<string, unknown>>): AdmissionRequest | ReviewError {
  const { uid, operation, resource, subResource = '', namespace = '', dryRun = false, object } = request;
  if (typeof uid !== 'string' || uid === '')
    return invalidReview('request.uid', 'must be a non-empty string');
  if (!isOperation(operation))
    return invalidReview('request.operation', `must be one of ${operations.join(', ')}`);
  if (!isRecord(resource)) return invalidReview('request.resource', 'must be an object');
  const { group = '', resource: plural } = resource;
  if (typeof group !== 'string') return invalidReview('request.resource.group', 'must be a string');
  if (typeof plural !== 'string' || plural === '') {
    return invalidReview('request.resource.resource', 'must be a non-empty string');
  }
  if (typeof subResource !== 'string') return invalidReview('request.subResource', 'must be a string');
  if (typeof namespace !== 'string') return invalidReview('request.namespace', 'must be a string');
  if (typeof dryRun !== 'boolean') return invalidReview('request.dryRun', 'must be true or false');
  const qualified = group === '' ? plural : `${plural}.${group}`;
  return { uid, operation, resource: qualified, subResource, namespace, dryRun, object };
}

function isOperation(value: unknown): value is Operation {
  return typeof value === 'string' && operations.includes(value);
}

function answer(response: AdmissionAnswer['response']): AdmissionAnswer {
  return { apiVersion: reviewApiVersion, kind: reviewKind, response };
}

function invalidReview(field: string, rule: string): ReviewError {
  return { code: 'InvalidReview', field, message: field === '' ? rule : `${field} ${rule}` };
}
