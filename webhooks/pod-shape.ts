import type { Pod } from '../src/api/kubernetes.ts';
import { anything, entries, fields, list, optional, text } from './shape.ts';

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

const metadata = fields({
  name: optional(text),
  labels: optional(entries(text)),
  annotations: optional(entries(text)),
  ownerReferences: optional(list(fields({ kind: text, name: text }))),
});

const spec = fields({
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
  resourceClaims: optional(
    list(
      fields({
        name: text,
        resourceClaimName: optional(text),
        resourceClaimTemplateName: optional(text),
      }),
    ),
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
});

const pod = fields({ metadata, spec });

/** What pods are made from; the same fields are read. */
export const podTemplate = fields({ metadata: optional(metadata), spec });
