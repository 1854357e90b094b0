import type { CapacityRequestPolicy } from '../../../api/dra.ts';
import { parseQuantity, type Quantity } from '../../quantity.ts';
import type { Capacity, Device } from '../device.ts';

/** Amounts by qualified name. */
export type CapacityAmounts = ReadonlyMap<string, Quantity>;

/** What one request takes of one device. */
export type Consumption =
  | { readonly kind: 'amounts'; readonly amounts: CapacityAmounts }
  /** The device has not what is asked for, or its policy forbids the amount. */
  | { readonly kind: 'refused' }
  /** kube-scheduler fails the pod's whole attempt for it. */
  | { readonly kind: 'error'; readonly message: string };

const nano = 1_000_000_000n;
const nanoPerMilli = 1_000_000n;
const largestInt64 = 2n ** 63n - 1n;
const refused: Consumption = { kind: 'refused' };
const nothing: Consumption = { kind: 'amounts', amounts: new Map() };

/**
 * What a request takes of each capacity of a device: what it asks for, rounded up to what the capacity's policy allows,
 * else the policy's default, else all of it (structured/internal/incubating/consumable_capacity.go, v0.37.2, with
 * gate DRAFractionalCapacityRange on). Errors count before refusals, whatever the order of capacities.
 * @param wanted amounts by the name that the slice writes
 */
export function consumptionOf(device: Device, wanted: CapacityAmounts): Consumption {
  const { capacity } = device;
  if (capacity.size === 0) return wanted.size === 0 ? nothing : refused;
  const amounts = new Map<string, Quantity>();
  let found = 0;
  for (const [name, entry] of capacity) {
    const asked = wanted.size === 0 ? undefined : wanted.get(nameInSlice(device, name));
    if (asked !== undefined) found++;
    const amount = amountOf(entry, asked);
    if (amount === undefined) amounts.set(name, -1n);
    else amounts.set(name, amount);
  }
  if (found < wanted.size) return refused;
  for (const [name, amount] of amounts) {
    if (amount < 0n)
      return { kind: 'error', message: `capacity ${nameInSlice(device, name)} cannot be counted` };
  }
  for (const [name, { policy }] of capacity) {
    if (policy !== undefined && violates(amounts.get(name) ?? 0n, policy)) return refused;
  }
  return { kind: 'amounts', amounts };
}

/** The name by which requests and results speak of a capacity. */
export function nameInSlice({ id, spelledOut }: Device, name: string): string {
  const isBare = name.startsWith(`${id.driver}/`) && spelledOut?.has(name) !== true;
  return isBare ? name.slice(id.driver.length + 1) : name;
}

/** Undefined when the amount, rounded up, would leave the integers that Go counts with. */
function amountOf({ value, policy }: Capacity, asked: Quantity | undefined): Quantity | undefined {
  if (asked === undefined) return policy?.default === undefined ? value : parseQuantity(policy.default);
  if (policy === undefined) return asked;
  if (policy.validRange?.min !== undefined) return roundUp(asked, policy.validRange);
  const valid = policy.validValues?.map(parseQuantity).find(each => asked <= each);
  return valid ?? asked;
}

interface Range {
  readonly min?: string;
  readonly max?: string;
  readonly step?: string;
}

function roundUp(asked: Quantity, range: Range): Quantity | undefined {
  const min = parseQuantity(range.min ?? 0);
  if (asked < min) return min;
  if (range.step === undefined) return asked;
  const unit = unitOf(range);
  if (unit === nanoPerMilli && !isInt64(asked, unit)) return undefined;
  if (unit === nano && asked > largestInt64 * nano) return undefined;
  const from = inUnits(min, unit);
  const step = inUnits(parseQuantity(range.step), unit);
  if (step === 0n) return undefined;
  const added = inUnits(asked, unit) - from;
  const steps = added / step + (added % step === 0n ? 0n : 1n);
  const rounded = from + step * steps;
  return rounded > largestInt64 ? undefined : rounded * unit;
}

/** `default` is always allowed; a range has no lower bound here, for amounts are rounded up to it. */
function violates(amount: Quantity, policy: CapacityRequestPolicy): boolean {
  if (policy.default !== undefined && amount === parseQuantity(policy.default)) return false;
  if (policy.validRange !== undefined) return violatesRange(amount, policy.validRange);
  const values = policy.validValues ?? [];
  return values.length > 0 && !values.some(value => parseQuantity(value) === amount);
}

function violatesRange(amount: Quantity, range: Range): boolean {
  if (range.max !== undefined && amount > parseQuantity(range.max)) return true;
  if (range.step === undefined) return false;
  const unit = unitOf(range);
  if (unit === nanoPerMilli && !isInt64(amount, unit)) return true;
  const step = inUnits(parseQuantity(range.step), unit);
  return step === 0n || (inUnits(amount, unit) - inUnits(parseQuantity(range.min ?? 0), unit)) % step !== 0n;
}

/** Ranges are counted in thousandths where all of their bounds are whole thousandths, else in whole units. */
function unitOf({ min, max, step }: Range): Quantity {
  for (const bound of [min, max, step]) {
    if (bound !== undefined && !isInt64(parseQuantity(bound), nanoPerMilli)) return nano;
  }
  return step !== undefined && parseQuantity(step) < nanoPerMilli ? nano : nanoPerMilli;
}

function isInt64(quantity: Quantity, unit: Quantity): boolean {
  return quantity % unit === 0n && quantity / unit <= largestInt64;
}

/** Rounded away from zero. */
function inUnits(quantity: Quantity, unit: Quantity): bigint {
  const whole = quantity / unit;
  if (whole * unit === quantity) return whole;
  return quantity > 0n ? whole + 1n : whole - 1n;
}
