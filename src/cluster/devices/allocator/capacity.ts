import type { CapacityRequestPolicy } from '../../../api/dra.ts';
import { parseQuantity, type Quantity } from '../../quantity.ts';
import type { Capacity, Device } from '../device.ts';

/** Amounts by qualified name. */
export type Amounts = ReadonlyMap<string, Quantity>;

/** A request that no arithmetic of Kubernetes can represent: fatal for the pod on every node. */
export interface CapacityError {
  readonly message: string;
}

const milli = 1_000_000n;
const unit = 1_000_000_000n;
const largest = 2n ** 63n - 1n;

/**
 * What a request takes of a device's capacity, each amount as the device's policy rounds it; undefined where the device
 * cannot grant it (k8s.io/dynamic-resource-allocation/structured/internal/incubating/consumable_capacity.go, v0.37.2, with
 * gate DRAFractionalCapacityRange on). `taken` is what others have of it.
 */
export function capacityTaken(
  device: Device,
  wanted: Amounts | undefined,
  taken: readonly (Amounts | undefined)[],
): Amounts | CapacityError | undefined {
  for (const name of wanted?.keys() ?? []) if (!device.capacity.has(name)) return undefined;
  const amounts = new Map<string, Quantity>();
  for (const [name, capacity] of device.capacity) {
    const amount = rounded(wanted?.get(name), capacity);
    if (amount === undefined || amount < 0n)
      return { message: `an amount of capacity ${name} cannot be represented` };
    amounts.set(name, amount);
  }
  for (const [name, { value, policy }] of device.capacity) {
    const amount = amounts.get(name) ?? 0n;
    if (policy !== undefined && violates(amount, policy)) return undefined;
    const sum = taken.reduce((total, others) => total + (others?.get(name) ?? 0n), amount);
    if (sum > value) return undefined;
  }
  return amounts;
}

function rounded(wanted: Quantity | undefined, { value, policy }: Capacity): Quantity | undefined {
  if (wanted === undefined) return policy?.default === undefined ? value : parseQuantity(policy.default);
  if (policy?.validRange?.min !== undefined) return roundedInRange(wanted, policy.validRange);
  if (policy?.validValues !== undefined)
    return policy.validValues.map(parseQuantity).find(valid => wanted <= valid) ?? wanted;
  return wanted;
}

type Range = NonNullable<CapacityRequestPolicy['validRange']>;

function roundedInRange(wanted: Quantity, range: Range): Quantity | undefined {
  const min = parseQuantity(range.min ?? '0');
  if (wanted < min) return min;
  if (range.step === undefined) return wanted;
  const step = parseQuantity(range.step);
  if (countsInMilli(range)) {
    if (wanted % milli !== 0n || wanted / milli > largest) return undefined;
    const result = min + stepsUp(wanted - min, step) * step;
    return result / milli > largest ? undefined : result;
  }
  const [asked, least, each] = [wanted, min, step].map(wholeUnits) as [bigint, bigint, bigint];
  if (wanted > largest * unit || each === 0n) return undefined;
  const result = least + stepsUp(asked - least, each) * each;
  return result > largest ? undefined : result * unit;
}

function violates(amount: Quantity, policy: CapacityRequestPolicy): boolean {
  if (policy.default !== undefined && amount === parseQuantity(policy.default)) return false;
  const { validRange, validValues = [] } = policy;
  if (validRange !== undefined) {
    if (validRange.max !== undefined && amount > parseQuantity(validRange.max)) return true;
    if (validRange.step === undefined) return false;
    const [min, step] = [parseQuantity(validRange.min ?? '0'), parseQuantity(validRange.step)];
    if (countsInMilli(validRange)) return amount % milli !== 0n || (amount - min) % step !== 0n;
    return (wholeUnits(amount) - wholeUnits(min)) % wholeUnits(step) !== 0n;
  }
  return validValues.length > 0 && !validValues.some(valid => parseQuantity(valid) === amount);
}

/** Ranges are counted in thousandths where all of their bounds can be. */
function countsInMilli({ min, max, step }: Range): boolean {
  return [min, max, step].every(bound => {
    if (bound === undefined) return true;
    const value = parseQuantity(bound);
    return value % milli === 0n && value / milli <= largest;
  });
}

/** Rounded away from zero, as Quantity.Value does. */
function wholeUnits(value: Quantity): bigint {
  const rest = value % unit;
  return value / unit + (rest > 0n ? 1n : rest < 0n ? -1n : 0n);
}

function stepsUp(distance: bigint, step: bigint): bigint {
  return distance / step + (distance % step === 0n ? 0n : 1n);
}
