import { z } from 'zod';
import { deviceSchemas } from './device-schemas.ts';
import { InputError } from './input-error.ts';
import type { SourceObject } from './read-objects.ts';

/**
 * The fields that planning reads, so that a mistake in a file is told as one and not met later as a missing property.
 * Whatever else an object has is let through.
 */
const texts = z.record(z.string(), z.string('must be text; put it in quotes')).optional();
const quantity = z.union([z.string(), z.number()], 'must be a quantity like 2, 500m or 1.5Gi');
const resourceList = z.record(z.string(), quantity).optional();
const resources = z.looseObject({ requests: resourceList, limits: resourceList }).optional();

const ownerReference = z.looseObject({ kind: z.string(), name: z.string(), uid: z.string() });
const metadata = z.looseObject({
  name: z.string().min(1).optional(),
  namespace: z.string().optional(),
  uid: z.string().optional(),
  labels: texts,
  annotations: texts,
  ownerReferences: z.array(ownerReference).optional(),
});
const namedMetadata = metadata.extend({ name: z.string().min(1) });

const container = z.looseObject({
  name: z.string(),
  resources,
  ports: z.array(z.looseObject({ hostPort: z.int().optional() })).optional(),
});
const podSpec = z.looseObject({
  containers: z.array(container),
  initContainers: z.array(container).optional(),
  nodeName: z.string().optional(),
  nodeSelector: texts,
  affinity: z.looseObject({}).optional(),
  tolerations: z.array(z.looseObject({})).optional(),
  schedulingGates: z.array(z.looseObject({ name: z.string() })).optional(),
  priority: z.int().optional(),
  priorityClassName: z.string().optional(),
  overhead: resourceList,
  resources,
  resourceClaims: z
    .array(
      z.looseObject({
        name: z.string().min(1),
        resourceClaimName: z.string().optional(),
        resourceClaimTemplateName: z.string().optional(),
      }),
    )
    .optional(),
});
const podTemplate = z.looseObject({ metadata: metadata.optional(), spec: podSpec });
const conditions = z.array(z.looseObject({ type: z.string(), status: z.string() })).optional();

const schemas = {
  Node: z.looseObject({
    metadata: namedMetadata,
    spec: z
      .looseObject({
        unschedulable: z.boolean().optional(),
        taints: z.array(z.looseObject({ key: z.string(), effect: z.string() })).optional(),
      })
      .optional(),
    status: z.looseObject({ allocatable: resourceList, capacity: resourceList, conditions }).optional(),
  }),
  Pod: z.looseObject({
    metadata,
    spec: podSpec,
    status: z.looseObject({ phase: z.string().optional(), conditions }).optional(),
  }),
  Namespace: z.looseObject({ metadata: namedMetadata }),
  StatefulSet: z.looseObject({ metadata: namedMetadata }),
  PriorityClass: z.looseObject({
    metadata: namedMetadata,
    value: z.int(),
    globalDefault: z.boolean().optional(),
  }),
  LeaderWorkerSet: z.looseObject({
    metadata: namedMetadata,
    spec: z.looseObject({
      replicas: z.int().min(0).max(1_000_000).optional(),
      leaderWorkerTemplate: z.looseObject({
        size: z.int().min(1).max(1_000_000).optional(),
        leaderTemplate: podTemplate.optional(),
        workerTemplate: podTemplate,
      }),
    }),
  }),
  ...deviceSchemas(namedMetadata),
} as const;

export type KnownKind = keyof typeof schemas;

export function isKnownKind(kind: string): kind is KnownKind {
  return Object.hasOwn(schemas, kind);
}

/**
 * The object as its wire type. Null stands for an absent field, as the API server takes it.
 * @throws InputError with every field at fault
 */
export function checkedObject<T>(kind: KnownKind, source: SourceObject): T {
  const value = withoutNulls(source.value);
  const result = schemas[kind].safeParse(value);
  if (!result.success) {
    throw new InputError(
      result.error.issues.map(({ path, message }) => {
        const keys = path.map(part => (typeof part === 'symbol' ? String(part) : part));
        return `${source.placeOf(keys)}: ${kind} ${nameOf(value)}: ${fieldText(keys)}: ${message}`;
      }),
    );
  }
  // The schema has checked what the wire type says is always there.
  return value as T;
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, inner]) => inner !== null);
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutNulls(inner)]));
}

export function nameOf(value: unknown): string {
  const named = z.object({ metadata: z.object({ name: z.string() }) }).safeParse(value);
  return named.success ? named.data.metadata.name : '(without name)';
}

function fieldText(path: readonly (string | number)[]): string {
  return path
    .map((part, i) => {
      if (typeof part === 'number') return `[${part}]`;
      return /^\w+$/.test(part) ? `${i === 0 ? '' : '.'}${part}` : `[${part}]`;
    })
    .join('');
}
