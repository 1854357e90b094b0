import type { ResourceList } from '../api/kubernetes.ts';
import { k8s } from '../api/names.ts';
import { milliValue, parseQuantity, type Quantity, QuantityError, wholeValue } from './quantity.ts';

/**
 * Amounts by resource name: `cpu` in milli-CPU, everything else in whole units (bytes, devices). A name that is absent
 * counts as zero.
 */
export type Resources = ReadonlyMap<string, number>;

export const noResources: Resources = new Map();

/** The largest quantities that can be counted exactly: in nano units, cpu counted in thousandths. */
const largestAmount = BigInt(Number.MAX_SAFE_INTEGER) * 1_000_000_000n;
const largestCpu = BigInt(Number.MAX_SAFE_INTEGER) * 1_000_000n;

export function addResources(a: Resources, b: Resources): Resources {
  const sum = new Map(a);
  for (const [name, amount] of b) sum.set(name, (sum.get(name) ?? 0) + amount);
  return sum;
}

/** What is left of `a`; negative where `b` asks for more than there is. */
export function subtractResources(a: Resources, b: Resources): Resources {
  const rest = new Map(a);
  for (const [name, amount] of b) rest.set(name, (rest.get(name) ?? 0) - amount);
  return rest;
}

export function maxResources(a: Resources, b: Resources): Resources {
  const largest = new Map(a);
  for (const [name, amount] of b) largest.set(name, Math.max(largest.get(name) ?? 0, amount));
  return largest;
}

export function scaleResources(resources: Resources, factor: number): Resources {
  return new Map([...resources].map(([name, amount]) => [name, amount * factor]));
}

/** Resources that are not asked for are not looked at, even where overcommitted: the scheduler's NodeResourcesFit. */
export function fits(free: Resources, demand: Resources): boolean {
  for (const [name, amount] of demand) if (amount > 0 && amount > (free.get(name) ?? 0)) return false;
  return true;
}

/** How many times `demand` fits into `free`; Infinity when it asks for nothing. */
export function howManyFit(free: Resources, demand: Resources): number {
  let count = Number.POSITIVE_INFINITY;
  for (const [name, amount] of demand) {
    if (amount > 0) count = Math.min(count, Math.max(0, Math.floor((free.get(name) ?? 0) / amount)));
  }
  return count;
}

/**
 * Converts a resource list of the API.
 * @param field path of the list, for errors
 * @throws QuantityError with the field
 */
export function resourcesFrom(list: ResourceList, field: string): Resources {
  const resources = new Map<string, number>();
  for (const name of Object.keys(list)) {
    resources.set(name, amountOf(name, quantityOf(list, name, field), field));
  }
  return resources;
}

/**
 * Reads one quantity of a resource list. A negative one is an error: the API server refuses it in pods and nodes, so it
 * can only stand in a template whose pods could never be created.
 * @throws QuantityError with the field
 */
export function quantityOf(list: ResourceList, name: string, field: string): Quantity {
  const text = list[name] ?? 0;
  const quantity = withField(field, name, () => parseQuantity(text));
  if (quantity < 0n) throw new QuantityError(String(text), 'must not be negative', `${field}[${name}]`);
  return quantity;
}

/**
 * An exact quantity as the amount that is counted for the resource.
 * @throws QuantityError with the field, when it is beyond the safe integers
 */
export function amountOf(name: string, quantity: Quantity, field: string): number {
  return withField(field, name, () => (name === 'cpu' ? milliValue(quantity) : wholeValue(quantity)));
}

/**
 * Refuses what `amountOf` would refuse, cheaply.
 * @throws QuantityError with the field, when the quantity is beyond the safe integers
 */
export function checkCountable(name: string, quantity: Quantity, field: string): void {
  if (quantity > (name === 'cpu' ? largestCpu : largestAmount)) amountOf(name, quantity, field);
}

/**
 * Whether a resource stands for devices: an extended resource (k8s.io/kubernetes pkg/apis/core/v1/helper
 * IsExtendedResourceName), or one that DRA serves under the implicit name of a device class.
 */
export function isAcceleratorResource(name: string): boolean {
  if (name.startsWith(k8s.deviceClassResourcePrefix)) return true;
  return isExtendedResource(name);
}

/**
 * Whether the scheduler counts the resource at all when it fits a pod onto a node (pkg/scheduler/util
 * IsScalarResourceName, beside cpu, memory and ephemeral-storage). `pods` is no request: callers count pods.
 */
export function isCountedResource(name: string): boolean {
  if (name === 'cpu' || name === 'memory' || name === 'ephemeral-storage') return true;
  if (name.startsWith('hugepages-') || name.startsWith('attachable-volumes-')) return true;
  return name.includes('kubernetes.io/') || isExtendedResource(name);
}

/** Equal for resources that hold the same amounts; zeros do not count. */
export function keyOf(resources: Resources): string {
  const parts: string[] = [];
  for (const [name, amount] of resources) if (amount !== 0) parts.push(`${name}=${amount}`);
  return parts.sort().join(',');
}

function isExtendedResource(name: string): boolean {
  return name.includes('/') && !name.includes('kubernetes.io/') && !name.startsWith('requests.');
}

/** The path is put together only when it is needed: there are many quantities and few errors. */
function withField<T>(field: string, name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof QuantityError)
      throw new QuantityError(error.text, error.problem, `${field}[${name}]`);
    throw error;
  }
}

/**
 * Makes equal resources one object: thousands of pods ask for the same, and kept apart they would take most of the
 * memory. Give it every list that is kept for long.
 */
export function sharedResources(): (resources: Resources) => Resources {
  const known = new Map<string, Resources>();
  return resources => {
    const key = keyOf(resources);
    const shared = known.get(key);
    if (shared !== undefined) return shared;
    known.set(key, resources);
    return resources;
  };
}
