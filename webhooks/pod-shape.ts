import type { Pod } from '../src/api/kubernetes.ts';
import { isRecord } from './review.ts';

/**
 * Anybody who reaches the port may post a review, so what claims to be a pod is checked before it is read: every field
 * that a review reads has the type that src/api/kubernetes.ts says, or is absent. Other fields are not looked at.
 */
export function isPod(value: unknown): value is Pod {
  return whyNotPod(value) === undefined;
}

/** The first field that a pod cannot have in this form, as a sentence; undefined for a pod. */
export function whyNotPod(value: unknown): string | undefined {
  return pod(value, 'request.object');
}

/** A sentence about the first fault, or undefined. */
type Check = (value: unknown, path: string) => string | undefined;

const text: Check = (value, path) => (typeof value === 'string' ? undefined : `${path} must be a string`);
const anything: Check = () => undefined;

const requirements = optional(list(fields({ key: text, operator: text, values: optional(list(text)) })));
const nodeSelector = fields({
  nodeSelectorTerms: list(fields({ matchFields: requirements, matchExpressions: requirements })),
});

const container = fields({
  name: text,
  restartPolicy: optional(text),
  env: optional(list(fields({ name: text, value: optional(text) }))),
  volumeMounts: optional(list(fields({ name: text, mountPath: text }))),
  resources: optional(
    fields({
      requests: optional(entries(anything)),
      limits: optional(entries(anything)),
      claims: optional(list(fields({ name: text }))),
    }),
  ),
});

const pod = fields({
  metadata: fields({
    name: optional(text),
    labels: optional(entries(text)),
    annotations: optional(entries(text)),
    ownerReferences: optional(list(fields({ kind: text, name: text }))),
  }),
  spec: fields({
    nodeName: optional(text),
    schedulerName: optional(text),
    hostname: optional(text),
    subdomain: optional(text),
    schedulingGates: optional(list(fields({ name: text }))),
    affinity: optional(
      fields({
        nodeAffinity: optional(
          fields({ requiredDuringSchedulingIgnoredDuringExecution: optional(nodeSelector) }),
        ),
      }),
    ),
    initContainers: optional(list(container)),
    containers: list(container),
    volumes: optional(
      list(
        fields({
          name: text,
          image: optional(fields({ reference: optional(text), pullPolicy: optional(text) })),
        }),
      ),
    ),
  }),
});

function optional(check: Check): Check {
  return (value, path) => (value === undefined ? undefined : check(value, path));
}

function list(check: Check): Check {
  return (value, path) => {
    if (!Array.isArray(value)) return `${path} must be a list`;
    for (const [index, item] of value.entries()) {
      const fault = check(item, `${path}[${index}]`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

function entries(check: Check): Check {
  return (value, path) => {
    if (!isRecord(value)) return `${path} must be an object`;
    for (const [key, item] of Object.entries(value)) {
      const fault = check(item, `${path}[${key}]`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

function fields(checks: Readonly<Record<string, Check>>): Check {
  const checked = Object.entries(checks);
  return (value, path) => {
    if (!isRecord(value)) return `${path} must be an object`;
    for (const [key, check] of checked) {
      const fault = check(value[key], `${path}.${key}`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}
