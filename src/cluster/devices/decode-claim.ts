import type {
  AllocatedDeviceStatus,
  DeviceClass,
  DeviceRequestAllocationResult,
  ResourceClaim,
  ResourceClaimSpec,
  ResourceClaimTemplate,
} from '../../api/dra.ts';
import type { NodeSelector } from '../../api/kubernetes.ts';
import { berth, k8s } from '../../api/names.ts';
import {
  type ClaimAllocation,
  type ClaimRecord,
  type ClaimTemplateRecord,
  type DeviceClassRecord,
  type DeviceConditionRecord,
  extendedResourceClaim,
} from './claims.ts';
import { computeDomainOf } from './compute-domain.ts';
import { deviceKey } from './device.ts';
import { listAt, optionalTextAt, recordAt, textAt } from './format-error.ts';

/**
 * What Berth keeps of a ResourceClaim.
 * @throws DeviceFormatError, which names the field
 */
export function decodeResourceClaim(raw: ResourceClaim): ClaimRecord {
  const { metadata } = raw;
  const status = recordAt(raw.status, 'status');
  const annotations = metadata.annotations ?? {};
  const owner = metadata.ownerReferences?.find(
    ({ kind, controller }) => kind === 'Pod' && controller === true,
  );
  const isForExtendedResources = annotations[k8s.extendedResourceClaim] === 'true';
  const spec = specFrom(raw.spec);
  const allocation = allocationFrom(status['allocation']);
  const conditions = conditionsOf(status['devices']);
  const computeDomain = computeDomainOf(spec.devices?.config ?? []);
  return {
    uid: textAt(metadata.uid, 'metadata.uid'),
    namespace: textAt(metadata.namespace, 'metadata.namespace'),
    name: textAt(metadata.name, 'metadata.name'),
    podUid: owner?.uid,
    podClaimName: isForExtendedResources ? extendedResourceClaim : annotations[k8s.podClaimName],
    // What it asks for is over once it has devices, and would take most of the memory. One that pods name outlives them.
    spec: allocation === undefined || owner === undefined ? spec : nothingAsked,
    allocation,
    ...(conditions.length > 0 && { conditions }),
    ...(computeDomain !== undefined && { computeDomain }),
    reservedFor: podsOf(status['reservedFor']),
    steeringOff: annotations[berth.steerClaims] === 'false',
    terminating: metadata.deletionTimestamp !== undefined,
  };
}

const nothingAsked: ResourceClaimSpec = {};

/**
 * What Berth keeps of a ResourceClaimTemplate.
 * @throws DeviceFormatError, which names the field
 */
export function decodeResourceClaimTemplate({ metadata, spec }: ResourceClaimTemplate): ClaimTemplateRecord {
  const template = recordAt(spec, 'spec');
  const claim = recordAt(template['metadata'] ?? {}, 'spec.metadata');
  const annotations = recordAt(claim['annotations'] ?? {}, 'spec.metadata.annotations');
  return {
    namespace: textAt(metadata.namespace, 'metadata.namespace'),
    name: textAt(metadata.name, 'metadata.name'),
    annotations: Object.fromEntries(
      Object.entries(annotations).map(([key, value]) => [
        key,
        textAt(value, `spec.metadata.annotations[${key}]`),
      ]),
    ),
    spec: specFrom(template['spec']),
  };
}

/**
 * What Berth keeps of a DeviceClass.
 * @throws DeviceFormatError, which names the field
 */
export function decodeDeviceClass(raw: DeviceClass): DeviceClassRecord {
  const spec = recordAt(raw.spec, 'spec');
  return {
    name: textAt(raw.metadata.name, 'metadata.name'),
    selectors: listAt(spec['selectors'], 'spec.selectors').map((selector, index) => {
      const field = `spec.selectors[${index}]`;
      return textAt(
        recordAt(recordAt(selector, field)['cel'], `${field}.cel`)['expression'],
        `${field}.cel.expression`,
      );
    }),
    extendedResourceName: optionalTextAt(spec['extendedResourceName'], 'spec.extendedResourceName'),
    createdAtMs: Date.parse(raw.metadata.creationTimestamp ?? '') || 0,
    spec: spec as DeviceClass['spec'],
  };
}

/** Checked as deep as Berth reads it without asking again; the allocator answers for what requests say. */
function specFrom(raw: unknown): ResourceClaimSpec {
  const spec = recordAt(raw, 'spec');
  const devices = recordAt(spec['devices'], 'spec.devices');
  listAt(devices['requests'], 'spec.devices.requests').forEach((request, index) => {
    textAt(
      recordAt(request, `spec.devices.requests[${index}]`)['name'],
      `spec.devices.requests[${index}].name`,
    );
  });
  for (const list of ['constraints', 'config']) {
    listAt(devices[list], `spec.devices.${list}`).forEach((entry, index) => {
      recordAt(entry, `spec.devices.${list}[${index}]`);
    });
  }
  return spec as ResourceClaimSpec;
}

function allocationFrom(raw: unknown): ClaimAllocation | undefined {
  if (raw === undefined || raw === null) return undefined;
  const allocation = recordAt(raw, 'status.allocation');
  const devices = recordAt(allocation['devices'], 'status.allocation.devices');
  const results = listAt(devices['results'], 'status.allocation.devices.results').map((value, index) => {
    const field = `status.allocation.devices.results[${index}]`;
    const result = recordAt(value, field);
    for (const part of ['request', 'driver', 'pool', 'device']) textAt(result[part], `${field}.${part}`);
    return result as unknown as DeviceRequestAllocationResult;
  });
  return { results, nodeSelector: allocation['nodeSelector'] as NodeSelector | undefined };
}

/** What cannot be read is left out: placement must not hang on what a driver tells by the way. */
function conditionsOf(raw: unknown): readonly DeviceConditionRecord[] {
  if (!Array.isArray(raw)) return [];
  return raw.flatMap((told: Partial<AllocatedDeviceStatus> | null) => {
    const { driver, pool, device, conditions } = told ?? {};
    if (driver === undefined || pool === undefined || device === undefined) return [];
    if (!Array.isArray(conditions)) return [];
    const key = deviceKey({ driver, pool, device });
    return conditions.flatMap(condition => {
      const { type, status } = condition ?? {};
      return typeof type === 'string' && typeof status === 'string' ? [{ device: key, type, status }] : [];
    });
  });
}

function podsOf(raw: unknown): readonly string[] {
  return listAt(raw, 'status.reservedFor').flatMap((value, index) => {
    const consumer = recordAt(value, `status.reservedFor[${index}]`);
    return consumer['resource'] === 'pods'
      ? [textAt(consumer['uid'], `status.reservedFor[${index}].uid`)]
      : [];
  });
}
