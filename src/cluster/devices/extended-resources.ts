import type { DeviceRequest } from '../../api/dra.ts';
import type { Container, PodSpec } from '../../api/kubernetes.ts';
import { k8s } from '../../api/names.ts';
import { parseQuantity, QuantityError } from '../quantity.ts';
import { isAcceleratorResource, type Resources } from '../resources.ts';
import { compareText } from '../topology.ts';
import { type DeviceClassRecord, extendedResourceClaim, type WantedClaim } from './claims.ts';

/** The class behind each resource name that a DeviceClass stands behind. */
export type ExtendedResourceClasses = ReadonlyMap<string, DeviceClassRecord>;

/**
 * By `extendedResourceName` and by the implicit name that every class has. Of two classes with one name the newer
 * counts, then the one whose name comes first (k8s.io/dynamic-resource-allocation deviceclass/extendedresourcecache,
 * v0.37.2, which moreover forgets the implicit name of the class that loses, depending on the order of events).
 */
export function extendedResourceClasses(classes: Iterable<DeviceClassRecord>): ExtendedResourceClasses {
  const byResource = new Map<string, DeviceClassRecord>();
  for (const each of classes) {
    byResource.set(`${k8s.deviceClassResourcePrefix}${each.name}`, each);
    if (each.extendedResourceName === undefined) continue;
    const rival = byResource.get(each.extendedResourceName);
    if (rival === undefined || goesBefore(each, rival)) byResource.set(each.extendedResourceName, each);
  }
  return byResource;
}

/**
 * Whether a node provides a resource by DRA: a class stands behind it, and no device plugin offers any
 * (k8s.io/kubernetes plugins/noderesources shouldDelegateResourceToDRA, v1.37.2). NodeResourcesFit does not count it
 * then.
 */
export function isDelegatedToDra(
  nodeAllocatable: Resources,
  resource: string,
  classes: ExtendedResourceClasses,
): boolean {
  return (nodeAllocatable.get(resource) ?? 0) <= 0 && classes.has(resource);
}

/**
 * The claim that kube-scheduler makes for the extended resources of a pod which a node provides by DRA; undefined when
 * there are none (k8s.io/kubernetes plugins/dynamicresources createRequestsAndMappings, v1.37.2). Init containers that
 * end use the devices of the containers after them, and one request more for what the largest of them lacks. A spec
 * from a template is read with limits in place of absent requests, as the API server fills it in.
 */
export function implicitClaim(
  spec: PodSpec,
  classes: ExtendedResourceClasses,
  isDelegated: (resource: string) => boolean,
): WantedClaim | undefined {
  const containers = containersOf(spec);
  const resources = new Set(containers.flatMap(({ amounts }) => [...amounts.keys()]));
  const requests: DeviceRequest[] = [];
  for (const resource of resources) {
    const deviceClass = isAcceleratorResource(resource) ? classes.get(resource) : undefined;
    if (deviceClass !== undefined && isDelegated(resource))
      requests.push(...requestsFor(containers, resource, deviceClass.name));
  }
  if (requests.length === 0) return undefined;
  requests.sort((a, b) => compareText(a.name, b.name));
  return { name: extendedResourceClaim, spec: { devices: { requests } } };
}

interface AskingContainer {
  /** What it requests, in the order of names. */
  readonly amounts: ReadonlyMap<string, string | number>;
  /** An init container that ends before the containers start. */
  readonly isShortLived: boolean;
}

interface CountedRequest {
  readonly name: string;
  readonly count: number;
}

function containersOf({ initContainers = [], containers }: PodSpec): readonly AskingContainer[] {
  const amountsOf = ({ resources }: Container): ReadonlyMap<string, string | number> => {
    const requests = Object.entries({ ...resources?.limits, ...resources?.requests });
    return new Map(requests.sort(([a], [b]) => compareText(a, b)));
  };
  return [
    ...initContainers.map(container => ({
      amounts: amountsOf(container),
      isShortLived: container.restartPolicy !== 'Always',
    })),
    ...containers.map(container => ({ amounts: amountsOf(container), isShortLived: false })),
  ];
}

function requestsFor(
  containers: readonly AskingContainer[],
  resource: string,
  deviceClassName: string,
): readonly DeviceRequest[] {
  const longLived = containers.map((container, index) =>
    container.isShortLived ? undefined : requestOf(container, index, resource, []),
  );
  let largest: CountedRequest | undefined;
  for (const [index, container] of containers.entries()) {
    if (!container.isShortLived) continue;
    const request = requestOf(container, index, resource, longLived.slice(index));
    if (request !== undefined && request.count > (largest?.count ?? 0)) largest = request;
  }
  return [largest, ...longLived].flatMap(request =>
    request === undefined
      ? []
      : [
          {
            name: request.name,
            exactly: { deviceClassName, allocationMode: 'ExactCount', count: request.count },
          },
        ],
  );
}

/** What a container needs beyond the devices of others that it may use. */
function requestOf(
  { amounts }: AskingContainer,
  index: number,
  resource: string,
  reusable: readonly (CountedRequest | undefined)[],
): CountedRequest | undefined {
  const wanted = wholeNumber(amounts.get(resource));
  const reused = reusable.reduce((sum, request) => sum + (request?.count ?? 0), 0);
  if (wanted <= reused) return undefined;
  return {
    name: `container-${index}-request-${[...amounts.keys()].indexOf(resource)}`,
    count: wanted - reused,
  };
}

/** 0 for what is no whole number: the API server refuses it for extended resources. */
function wholeNumber(text: string | number | undefined): number {
  if (text === undefined) return 0;
  try {
    const quantity = parseQuantity(text);
    return quantity % 1_000_000_000n === 0n ? Number(quantity / 1_000_000_000n) : 0;
  } catch (error) {
    if (error instanceof QuantityError) return 0;
    throw error;
  }
}

function goesBefore(a: DeviceClassRecord, b: DeviceClassRecord): boolean {
  return a.createdAtMs === b.createdAtMs ? a.name < b.name : a.createdAtMs > b.createdAtMs;
}
