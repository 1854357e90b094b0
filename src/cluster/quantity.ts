/**
 * Kubernetes resource quantities as exact numbers. The grammar and the roundings are those of
 * k8s.io/apimachinery/pkg/api/resource (v0.37.2), with two refusals of its oddities: a text without any digit (which
 * it reads as 0), and values beyond 10^60.
 */

/** A quantity in nano units, the finest that Kubernetes keeps: `1` is 1_000_000_000n. */
export type Quantity = bigint;

/**
 * A text is no quantity, or its value cannot be counted exactly in a JavaScript number. `field` is the path of the text
 * where one is known, e.g. `spec.containers[0].resources.limits[nvidia.com/gpu]`.
 */
export class QuantityError extends Error {
  readonly code = 'InvalidQuantity';
  readonly text: string;
  readonly problem: string;
  readonly field: string | undefined;

  constructor(text: string, problem: string, field?: string) {
    super(`${field === undefined ? '' : `${field}: `}${JSON.stringify(text)} ${problem}`);
    this.name = 'QuantityError';
    this.text = text;
    this.problem = problem;
    this.field = field;
  }
}

const nano = 1_000_000_000n;
const nanoPerMilli = 1_000_000n;
const grammar = /^([+-]?)(\d*)(?:\.(\d*))?(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?\d+))?$/;
const binaryExponents: Readonly<Record<string, bigint>> = {
  Ki: 10n,
  Mi: 20n,
  Gi: 30n,
  Ti: 40n,
  Pi: 50n,
  Ei: 60n,
};
const decimalExponents: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};
const largestBinary = (2n ** 63n - 1n) * nano;
const largestExponent = 60;

/** A cluster writes the same few quantities hundreds of thousands of times, and reading one anew is much slower. */
const recent = new Map<string | number, Quantity>();
const recentLimit = 4096;

/**
 * Reads a quantity such as `2`, `1.5Gi`, `500m` or `1e3`. Parts finer than a nano unit round away from zero, and binary
 * suffixes are capped at 2^63-1, as in Kubernetes.
 * @throws QuantityError
 */
export function parseQuantity(text: string | number): Quantity {
  const known = recent.get(text);
  if (known !== undefined) return known;
  const quantity = Number.isSafeInteger(text) ? BigInt(text) * nano : parseText(String(text));
  if (recent.size >= recentLimit) recent.clear();
  recent.set(text, quantity);
  return quantity;
}

/**
 * The quantity in thousandths, rounded away from zero: how the scheduler counts CPU.
 * @throws QuantityError when it is no safe integer
 */
export function milliValue(quantity: Quantity): number {
  return roundedTo(quantity, nanoPerMilli);
}

/**
 * The quantity in whole units, rounded away from zero: how the scheduler counts everything but CPU.
 * @throws QuantityError when it is no safe integer
 */
export function wholeValue(quantity: Quantity): number {
  return roundedTo(quantity, nano);
}

/** The exact quantity as a plain number: whole, or in thousandths (`1500m`), or in nano units. */
export function formatQuantity(quantity: Quantity): string {
  if (quantity % nano === 0n) return String(quantity / nano);
  return quantity % nanoPerMilli === 0n ? `${quantity / nanoPerMilli}m` : `${quantity}n`;
}

/**
 * An amount as people write it: CPU (in milli-CPU) as `4` or `3500m`, bytes with the suffix that makes the exact text
 * shortest (`2Ti`, `1536Mi`, `500M`), everything else plain.
 */
export function formatResource(name: string, amount: number): string {
  if (name === 'cpu') return amount % 1000 === 0 ? String(amount / 1000) : `${amount}m`;
  return isCountedInBytes(name) ? formatBytes(amount) : String(amount);
}

function parseText(text: string): Quantity {
  const match = grammar.exec(text);
  const [, sign, whole = '', fraction = '', binary, decimal, exponent] = match ?? [];
  const digits = whole + fraction;
  if (digits === '') throw new QuantityError(text, 'is no quantity like 2, 500m or 1.5Gi');
  const magnitude =
    binary === undefined
      ? shiftDecimal(text, digits, exponentOf(decimal, exponent) - fraction.length)
      : capBinary(shiftDecimal(text, digits, -fraction.length, binaryExponents[binary]));
  return sign === '-' ? -magnitude : magnitude;
}

function exponentOf(decimal: string | undefined, exponent: string | undefined): number {
  if (decimal !== undefined) return decimalExponents[decimal] ?? 0;
  return exponent === undefined ? 0 : Number(exponent);
}

/** The value `digits * 10^exponent * 2^shift` in nano units, rounded up. */
function shiftDecimal(text: string, digits: string, exponent: number, shift = 0n): Quantity {
  const unscaled = BigInt(digits) << shift;
  if (unscaled === 0n) return 0n;
  const nanoExponent = exponent + 9;
  if (nanoExponent > largestExponent) throw new QuantityError(text, 'is too large');
  if (nanoExponent >= 0) return unscaled * 10n ** BigInt(nanoExponent);
  // Whatever lies wholly below one nano unit becomes one: no need for the huge divisor that would say so.
  if (-nanoExponent > digits.length + 20) return 1n;
  return divideUp(unscaled, 10n ** BigInt(-nanoExponent));
}

function capBinary(quantity: Quantity): Quantity {
  return quantity > largestBinary ? largestBinary : quantity;
}

function divideUp(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor;
  return quotient * divisor === dividend ? quotient : quotient + 1n;
}

function roundedTo(quantity: Quantity, unit: bigint): number {
  const magnitude = divideUp(quantity < 0n ? -quantity : quantity, unit);
  const value = Number(quantity < 0n ? -magnitude : magnitude);
  if (Number.isSafeInteger(value)) return value;
  throw new QuantityError(`${quantity}n`, 'is beyond the integers that can be counted exactly');
}

function isCountedInBytes(name: string): boolean {
  return name === 'memory' || name === 'ephemeral-storage' || name.startsWith('hugepages-');
}

function formatBytes(bytes: number): string {
  let shortest = String(bytes);
  if (bytes === 0) return shortest;
  for (const [index, letter] of ['k', 'M', 'G', 'T', 'P'].entries()) {
    const decimal = bytes / 1000 ** (index + 1);
    const binary = bytes / 1024 ** (index + 1);
    if (Number.isInteger(decimal)) shortest = shorter(`${decimal}${letter}`, shortest);
    if (Number.isInteger(binary)) shortest = shorter(`${binary}${letter.toUpperCase()}i`, shortest);
  }
  return shortest;
}

function shorter(candidate: string, current: string): string {
  return candidate.length < current.length ? candidate : current;
}
