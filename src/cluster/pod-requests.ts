import type { Container, ContainerStatus, Pod, PodSpec, ResourceList } from '../api/kubernetes.ts';
import { parseQuantity, type Quantity, QuantityError } from './quantity.ts';
import {
  amountOf,
  checkCountable,
  isAcceleratorResource,
  isCountedResource,
  quantityOf,
  type Resources,
} from './resources.ts';

/** Sums are kept exact and rounded once at the end, since rounding each container would count fractions twice. */
type Amounts = ReadonlyMap<string, Quantity>;

/** Where a container stands: `field` is its path, as in `spec.initContainers[0]`. */
interface Site {
  readonly container: Container;
  readonly field: string;
}

const none: Amounts = new Map();

/**
 * What kube-scheduler counts for a pod that the API server has admitted, pending or bound, as PodInfo.CalculateResource
 * of 1.37 does: component-helpers resource.PodRequests with the status of in-place resizes taken into account, both of
 * containers and of pod-level resources. For a pod whose resize is under way that is the largest of what is wanted,
 * allocated and in force. The pod slot (`pods`) is not part of it.
 * @throws QuantityError naming the field
 */
export function podRequests(pod: Pick<Pod, 'spec' | 'status'>): Resources {
  const { spec, status } = pod;
  const infeasible = isResizeInfeasible(status);
  const total = new Map(containerRequests(spec, status, infeasible));
  for (const [name, quantity] of podLevelRequests(spec, status, infeasible)) total.set(name, quantity);
  addInto(total, amountsOf(spec.overhead, 'spec.overhead'));
  return toResources(total);
}

/**
 * What the pods of a template will request. A template has not been through the API server's defaulting of pods
 * (k8s.io/kubernetes pkg/apis/core/v1 SetDefaults_Pod, pkg/api/pod DefaultPodLevelResources), so it is applied here:
 * a container's limits stand in for absent requests, and at pod level the limits do where neither the pod nor its
 * containers request the resource. What admission adds later (LimitRanges, RuntimeClass overhead, injected sidecars)
 * cannot be known from the template.
 * @throws QuantityError naming the field
 */
export function templateRequests(spec: PodSpec): Resources {
  const total = new Map(aggregate(spec, defaultedRequests));
  for (const [name, quantity] of defaultedPodLevelRequests(spec, total)) total.set(name, quantity);
  addInto(total, amountsOf(spec.overhead, 'spec.overhead'));
  return toResources(total);
}

/**
 * Whether any container asks for devices by an extended resource. An amount that cannot be read counts as asking:
 * templates may hold such amounts, and whoever adds them up will name the field.
 */
export function requestsAccelerator(spec: PodSpec): boolean {
  return sitesOf(spec).some(({ container }) => {
    const { requests, limits } = container.resources ?? {};
    return asksForAccelerator(requests) || asksForAccelerator(limits);
  });
}

/** Whether the pod gets devices through ResourceClaims (DRA). */
export function usesResourceClaims(spec: PodSpec): boolean {
  return (spec.resourceClaims?.length ?? 0) > 0;
}

function containerRequests(spec: PodSpec, status: Pod['status'], infeasible: boolean): Amounts {
  const wanted = aggregate(spec, specRequests);
  if (status === undefined) return wanted;
  const reported = reportedByPod(status) ?? reportedByContainers(spec, status, infeasible);
  return reported === undefined ? wanted : largest(infeasible ? none : wanted, ...reported);
}

/** Pod-level status holds the sums over all containers already; it counts only when it is complete. */
function reportedByPod(status: NonNullable<Pod['status']>): readonly Amounts[] | undefined {
  const inForce = status.resources?.requests;
  if (status.allocatedResources === undefined || inForce === undefined) return undefined;
  return [
    amountsOf(status.allocatedResources, 'status.allocatedResources'),
    amountsOf(inForce, 'status.resources.requests'),
  ];
}

/** What the kubelet has allocated to the containers and what is in force; undefined when it has not said. */
function reportedByContainers(
  spec: PodSpec,
  status: NonNullable<Pod['status']>,
  infeasible: boolean,
): readonly Amounts[] | undefined {
  const statuses = statusesByName(status);
  if (statuses.size === 0 && !infeasible) return undefined;
  const allocated = (site: Site): Amounts => {
    const found = statuses.get(site.container.name);
    if (found?.status.allocatedResources !== undefined) {
      return amountsOf(found.status.allocatedResources, `${found.field}.allocatedResources`);
    }
    // A resize that can never happen has put a wish into the spec that must not be counted.
    return infeasible ? none : specRequests(site);
  };
  const inForce = (site: Site): Amounts => {
    const found = statuses.get(site.container.name);
    const requests = found?.status.resources?.requests;
    return found === undefined || requests === undefined
      ? allocated(site)
      : amountsOf(requests, `${found.field}.resources.requests`);
  };
  return [aggregate(spec, allocated), aggregate(spec, inForce)];
}

/** Statuses that say something about resources; where names collide, containers go before init containers. */
function statusesByName(
  status: NonNullable<Pod['status']>,
): ReadonlyMap<string, { readonly status: ContainerStatus; readonly field: string }> {
  const found = new Map<string, { status: ContainerStatus; field: string }>();
  for (const kind of ['containerStatuses', 'initContainerStatuses'] as const) {
    for (const [index, containerStatus] of (status[kind] ?? []).entries()) {
      if (containerStatus.allocatedResources === undefined && containerStatus.resources === undefined)
        continue;
      if (found.has(containerStatus.name)) continue;
      found.set(containerStatus.name, { status: containerStatus, field: `status.${kind}[${index}]` });
    }
  }
  return found;
}

function isResizeInfeasible(status: Pod['status']): boolean {
  return status?.conditions?.find(({ type }) => type === 'PodResizePending')?.reason === 'Infeasible';
}

/**
 * Pod-level requests override the containers' sum, for the resources that may be set at pod level. Status counts only
 * beside requests in the spec.
 */
function podLevelRequests(spec: PodSpec, status: Pod['status'], infeasible: boolean): Amounts {
  const wanted = podLevelAmounts(spec.resources?.requests, 'spec.resources.requests');
  if (wanted.size === 0 || status?.resources === undefined) return wanted;
  return largest(
    infeasible ? none : wanted,
    podLevelAmounts(status.resources.requests, 'status.resources.requests'),
    podLevelAmounts(status.allocatedResources, 'status.allocatedResources'),
  );
}

function defaultedPodLevelRequests(spec: PodSpec, ofContainers: Amounts): Amounts {
  const requests = podLevelAmounts(spec.resources?.requests, 'spec.resources.requests');
  const limits = podLevelAmounts(spec.resources?.limits, 'spec.resources.limits');
  const defaulted = new Map(requests);
  for (const [name, limit] of limits) {
    // Huge pages cannot be overcommitted: their request is the limit, whatever the containers say.
    const takenFromContainers = ofContainers.has(name) && !name.startsWith('hugepages-');
    if (!requests.has(name) && !takenFromContainers) defaulted.set(name, limit);
  }
  return defaulted;
}

/** KEP-2837: cpu, memory and huge pages; anything else at pod level is ignored. */
function podLevelAmounts(list: ResourceList | undefined, field: string): Amounts {
  if (list === undefined) return none;
  const entries = Object.entries(list);
  const supported = entries.filter(
    ([name]) => name === 'cpu' || name === 'memory' || name.startsWith('hugepages-'),
  );
  return amountsOf(Object.fromEntries(supported), field);
}

/**
 * Containers run side by side and add up. Init containers run one after another before them, each beside the sidecars
 * (restartable init containers) started so far, which then keep running beside the containers (KEP-753).
 */
function aggregate(spec: PodSpec, requestsOf: (site: Site) => Amounts): Amounts {
  const total = new Map<string, Quantity>();
  for (const site of containerSites(spec.containers, 'spec.containers')) addInto(total, requestsOf(site));
  if (spec.initContainers === undefined) return total;
  const sidecars = new Map<string, Quantity>();
  let peak: Amounts = none;
  for (const site of containerSites(spec.initContainers, 'spec.initContainers')) {
    const requests = requestsOf(site);
    const isSidecar = site.container.restartPolicy === 'Always';
    const running = new Map(sidecars);
    addInto(running, requests);
    if (isSidecar) {
      addInto(sidecars, requests);
      addInto(total, requests);
    }
    peak = largest(peak, running);
  }
  return largest(total, peak);
}

function specRequests({ container, field }: Site): Amounts {
  return amountsOf(container.resources?.requests, `${field}.resources.requests`);
}

function defaultedRequests({ container, field }: Site): Amounts {
  const { requests, limits } = container.resources ?? {};
  const defaulted = new Map(amountsOf(limits, `${field}.resources.limits`));
  for (const [name, quantity] of amountsOf(requests, `${field}.resources.requests`))
    defaulted.set(name, quantity);
  return defaulted;
}

function sitesOf(spec: PodSpec): readonly Site[] {
  return [
    ...containerSites(spec.initContainers ?? [], 'spec.initContainers'),
    ...containerSites(spec.containers, 'spec.containers'),
  ];
}

function containerSites(containers: readonly Container[], field: string): readonly Site[] {
  return containers.map((container, index) => ({ container, field: `${field}[${index}]` }));
}

function asksForAccelerator(list: ResourceList | undefined): boolean {
  if (list === undefined) return false;
  return Object.entries(list).some(([name, amount]) => isAcceleratorResource(name) && !isZero(amount));
}

function isZero(amount: string | number): boolean {
  try {
    return parseQuantity(amount) === 0n;
  } catch (error) {
    if (error instanceof QuantityError) return false;
    throw error;
  }
}

function amountsOf(list: ResourceList | undefined, field: string): Amounts {
  if (list === undefined) return none;
  const amounts = new Map<string, Quantity>();
  for (const name of Object.keys(list)) {
    const quantity = quantityOf(list, name, field);
    // A sum could tell only that it is too large; here the container is known that makes it so.
    if (isCountedResource(name)) checkCountable(name, quantity, field);
    amounts.set(name, quantity);
  }
  return amounts;
}

function addInto(total: Map<string, Quantity>, amounts: Amounts): void {
  for (const [name, quantity] of amounts) total.set(name, (total.get(name) ?? 0n) + quantity);
}

function largest(...lists: readonly Amounts[]): Amounts {
  const result = new Map<string, Quantity>();
  for (const list of lists) {
    for (const [name, quantity] of list) {
      const current = result.get(name);
      if (current === undefined || quantity > current) result.set(name, quantity);
    }
  }
  return result;
}

function toResources(amounts: Amounts): Resources {
  const resources = new Map<string, number>();
  for (const [name, quantity] of amounts) {
    if (quantity > 0n && isCountedResource(name)) resources.set(name, amountOf(name, quantity, 'requests'));
  }
  return resources;
}
