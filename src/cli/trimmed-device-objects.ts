import type {
  AllocationResult,
  DeviceClaimConfiguration,
  DeviceClass,
  DeviceTaintRule,
  ResourceClaim,
  ResourceClaimSpec,
  ResourceClaimTemplate,
  ResourceSlice,
} from '../api/dra.ts';
import type { ObjectMeta } from '../api/kubernetes.ts';
import { nvidia } from '../api/names.ts';
import { present } from './present.ts';

/** Attributes and capacities of devices stay whole, for a selector may ask for any of them. */
export function trimSlice({ spec }: ResourceSlice): Pick<ResourceSlice, 'spec'> {
  const { driver, pool, nodeName, nodeSelector, allNodes, perDeviceNodeSelection } = spec;
  const { name, generation, resourceSliceCount } = pool;
  const devices = spec.devices?.map(device => ({
    name: device.name,
    ...present({
      attributes: device.attributes,
      capacity: device.capacity,
      consumesCounters: device.consumesCounters,
      nodeName: device.nodeName,
      nodeSelector: device.nodeSelector,
      allNodes: device.allNodes,
      taints: device.taints,
      bindsToNode: device.bindsToNode,
      bindingConditions: device.bindingConditions,
      bindingFailureConditions: device.bindingFailureConditions,
      allowMultipleAllocations: device.allowMultipleAllocations,
    }),
  }));
  return {
    spec: {
      driver,
      pool: { name, generation, resourceSliceCount },
      ...present({ nodeName, nodeSelector, allNodes, perDeviceNodeSelection }),
      ...present({ devices, sharedCounters: spec.sharedCounters }),
    },
  };
}

export function trimDeviceClass({ spec }: DeviceClass): Pick<DeviceClass, 'spec'> {
  const { selectors, extendedResourceName } = spec;
  return { spec: present({ selectors, extendedResourceName }) };
}

export function trimClaim({ spec, status }: ResourceClaim): Pick<ResourceClaim, 'spec' | 'status'> {
  const allocation = status?.allocation && trimAllocation(status.allocation);
  const reservedFor = status?.reservedFor?.map(({ resource, name, uid }) => ({ resource, name, uid }));
  return {
    spec: trimClaimSpec(spec),
    ...(status && { status: present({ allocation, reservedFor }) }),
  };
}

/** `trimMetadata`: what stays of metadata, which claims get from their template. */
export function trimClaimTemplate(
  { spec }: ResourceClaimTemplate,
  trimMetadata: (metadata: ObjectMeta) => ObjectMeta,
): Pick<ResourceClaimTemplate, 'spec'> {
  return {
    spec: {
      ...(spec.metadata && { metadata: trimMetadata(spec.metadata) }),
      spec: trimClaimSpec(spec.spec),
    },
  };
}

export function trimTaintRule({ spec }: DeviceTaintRule): Pick<DeviceTaintRule, 'spec'> {
  const { driver, pool, device } = spec.deviceSelector ?? {};
  const { key, value, effect } = spec.taint;
  return {
    spec: {
      ...(spec.deviceSelector && { deviceSelector: present({ driver, pool, device }) }),
      taint: { key, effect, ...present({ value }) },
    },
  };
}

function trimClaimSpec({ devices }: ResourceClaimSpec): ResourceClaimSpec {
  if (devices === undefined) return {};
  const { requests, constraints, config } = devices;
  const kept = config?.flatMap(trimConfig);
  return {
    devices: {
      ...present({ requests, constraints }),
      ...(kept !== undefined && kept.length > 0 && { config: kept }),
    },
  };
}

/** Of the parameters for drivers only the ComputeDomain is read; they may hold anything. */
function trimConfig({ requests, opaque }: DeviceClaimConfiguration): DeviceClaimConfiguration[] {
  if (opaque?.driver !== nvidia.computeDomainDriver) return [];
  const { kind, domainID } = (opaque.parameters ?? {}) as Readonly<Record<string, unknown>>;
  return [{ ...present({ requests }), opaque: { driver: opaque.driver, parameters: { kind, domainID } } }];
}

function trimAllocation({ devices, nodeSelector }: AllocationResult): AllocationResult {
  const results = devices?.results?.map(result => ({
    request: result.request,
    driver: result.driver,
    pool: result.pool,
    device: result.device,
    ...present({
      adminAccess: result.adminAccess,
      tolerations: result.tolerations,
      shareID: result.shareID,
      consumedCapacity: result.consumedCapacity,
    }),
  }));
  return {
    ...(results !== undefined && { devices: { results } }),
    ...present({ nodeSelector }),
  };
}
