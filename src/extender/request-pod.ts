import type { Pod } from '../api/kubernetes.ts';
import { QuantityError } from '../cluster/quantity.ts';
import { decodePod, type PodInfo, type PodShare, podController } from '../group/pod-info.ts';
import { isRecord } from '../kube/raw-object.ts';
import { type InvalidRequest, invalidRequest } from './invalid-request.ts';

/** Nothing of a request is kept, so there is nothing to share. */
const unshared: PodShare = {
  resources: resources => resources,
  tolerations: tolerations => tolerations,
  controller: owner => owner && podController(owner),
  spec: spec => spec,
};

/**
 * Reads the pod of a request with the eyes of the cache, as far as answers depend on it: who it is, which group it says
 * it belongs to, what it asks for and where it is pinned. The rest of it is neither checked nor read.
 * @param field where the pod stands in the request, for errors
 */
export function readPod(value: unknown, field: string): PodInfo | InvalidRequest {
  const fault = checkPod(value, field);
  if (fault !== undefined) return fault;
  try {
    return decodePod(trim(value as Pod), unshared);
  } catch (error) {
    if (!(error instanceof QuantityError)) throw error;
    const where = error.field === undefined ? field : `${field}.${error.field}`;
    return invalidRequest(where, `holds ${JSON.stringify(error.text)}, which ${error.problem}`);
  }
}

/** Only what has been checked. */
function trim({ metadata, spec }: Pod): Pod {
  const { containers, initContainers, nodeName, schedulerName, schedulingGates, overhead, resources } = spec;
  const { resourceClaims } = spec;
  const nodeAffinity = spec.affinity?.nodeAffinity;
  return {
    metadata,
    spec: {
      containers: containers.map(({ name, resources }) => ({ name, ...(resources && { resources }) })),
      ...(initContainers && {
        initContainers: initContainers.map(({ name, resources, restartPolicy }) => ({
          name,
          ...(resources && { resources }),
          ...(restartPolicy !== undefined && { restartPolicy }),
        })),
      }),
      ...(nodeName !== undefined && { nodeName }),
      ...(schedulerName !== undefined && { schedulerName }),
      ...(schedulingGates && { schedulingGates }),
      ...(overhead && { overhead }),
      ...(resources && { resources }),
      ...(nodeAffinity && { affinity: { nodeAffinity } }),
      ...(resourceClaims && { resourceClaims }),
    },
  };
}

/** Says the first fault of a value, or undefined. */
type Check = (value: unknown, field: string) => InvalidRequest | undefined;

const text: Check = (value, field) =>
  typeof value === 'string' ? undefined : invalidRequest(field, 'must be a string');

const filledText: Check = (value, field) =>
  typeof value === 'string' && value !== '' ? undefined : invalidRequest(field, 'must be a non-empty string');

const amount: Check = (value, field) =>
  typeof value === 'string' || typeof value === 'number'
    ? undefined
    : invalidRequest(field, 'must be a quantity');

const truth: Check = (value, field) =>
  typeof value === 'boolean' ? undefined : invalidRequest(field, 'must be true or false');

const textMap = optional(mapOf(text));
const amounts = optional(mapOf(amount));
const resources = optional(objectWith({ requests: amounts, limits: amounts }));
const container = objectWith({ name: text, resources, restartPolicy: optional(text) });
const requirements = optional(
  listOf(objectWith({ key: text, operator: text, values: optional(listOf(text)) })),
);
const nodeSelector = objectWith({
  nodeSelectorTerms: optional(
    listOf(objectWith({ matchExpressions: requirements, matchFields: requirements })),
  ),
});

const checkPod = objectWith({
  metadata: objectWith({
    uid: filledText,
    name: filledText,
    namespace: filledText,
    deletionTimestamp: optional(text),
    labels: textMap,
    annotations: textMap,
    ownerReferences: optional(listOf(objectWith({ kind: text, uid: text, controller: optional(truth) }))),
  }),
  spec: objectWith({
    containers: listOf(container),
    initContainers: optional(listOf(container)),
    nodeName: optional(text),
    schedulerName: optional(text),
    schedulingGates: optional(listOf(objectWith({ name: text }))),
    overhead: amounts,
    resources,
    resourceClaims: optional(
      listOf(
        objectWith({
          name: text,
          resourceClaimName: optional(text),
          resourceClaimTemplateName: optional(text),
        }),
      ),
    ),
    affinity: optional(
      objectWith({
        nodeAffinity: optional(
          objectWith({ requiredDuringSchedulingIgnoredDuringExecution: optional(nodeSelector) }),
        ),
      }),
    ),
  }),
});

/** Go leaves out what is absent in API objects; `null` is an error where it would be read. */
function optional(check: Check): Check {
  return (value, field) => (value === undefined ? undefined : check(value, field));
}

function listOf(check: Check): Check {
  return (value, field) => {
    if (!Array.isArray(value)) return invalidRequest(field, 'must be a list');
    for (let index = 0; index < value.length; index++) {
      const fault = check(value[index], `${field}[${index}]`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

function mapOf(check: Check): Check {
  return (value, field) => {
    if (!isRecord(value)) return invalidRequest(field, 'must be an object');
    for (const key of Object.keys(value)) {
      const fault = check(value[key], `${field}[${key}]`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

function objectWith(checks: Readonly<Record<string, Check>>): Check {
  const entries = Object.entries(checks);
  return (value, field) => {
    if (!isRecord(value)) return invalidRequest(field, 'must be an object');
    for (const [key, check] of entries) {
      const fault = check(value[key], `${field}.${key}`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}
