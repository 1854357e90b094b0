import { parseQuantity, type Quantity, QuantityError } from '../../quantity.ts';

/** A resource quantity inside an expression (k8s.io/apiserver/pkg/cel Quantity). */
export class CelQuantity {
  readonly nano: Quantity;

  constructor(nano: Quantity) {
    this.nano = nano;
  }
}

export function readQuantity(text: string): CelQuantity | undefined {
  try {
    return new CelQuantity(parseQuantity(text));
  } catch (error) {
    if (error instanceof QuantityError) return undefined;
    throw error;
  }
}

/** A semantic version inside an expression (k8s.io/apiserver/pkg/cel Semver, which is blang/semver). */
export class CelSemver {
  readonly numbers: readonly bigint[];
  readonly prerelease: readonly string[];

  constructor(numbers: readonly bigint[], prerelease: readonly string[]) {
    this.numbers = numbers;
    this.prerelease = prerelease;
  }
}

const number = '(0|[1-9][0-9]*)';
const identifiers = '([0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)';
const strict = new RegExp(`^${number}\\.${number}\\.${number}(?:-${identifiers})?(?:\\+${identifiers})?$`);
const largestNumber = 2n ** 64n - 1n;

/** Reads a version as semver.Parse of github.com/blang/semver/v4 does: three numbers, nothing left out. */
export function readSemver(text: string): CelSemver | undefined {
  const [, major = '', minor = '', patch = '', prerelease = ''] = strict.exec(text) ?? [];
  if (major === '') return undefined;
  const parts = prerelease === '' ? [] : prerelease.split('.');
  if (parts.some(part => /^0[0-9]+$/.test(part))) return undefined;
  const numbers = [major, minor, patch].map(BigInt);
  return numbers.some(n => n > largestNumber) ? undefined : new CelSemver(numbers, parts);
}

/** The same after leading `v` and leading zeros are dropped and missing numbers filled in (`semver(text, true)`). */
export function readLooseSemver(text: string): CelSemver | undefined {
  const [, core = '', rest = ''] = /^v?([0-9.]*)(.*)$/s.exec(text) ?? [];
  const parts = core.split('.').map(part => part.replace(/^0+(?=[0-9])/, ''));
  if (parts.length > 3) return undefined;
  while (parts.length < 3) parts.push('0');
  return readSemver(`${parts.join('.')}${rest}`);
}

/** Below 0, 0 or above 0, by the precedence of semver.org 2.0.0; builds do not count. */
export function compareSemver(a: CelSemver, b: CelSemver): number {
  for (let at = 0; at < 3; at++) {
    const [left = 0n, right = 0n] = [a.numbers[at], b.numbers[at]];
    if (left !== right) return left < right ? -1 : 1;
  }
  if (a.prerelease.length === 0 || b.prerelease.length === 0)
    return b.prerelease.length - a.prerelease.length;
  for (let at = 0; at < Math.min(a.prerelease.length, b.prerelease.length); at++) {
    const order = comparePrerelease(a.prerelease[at] ?? '', b.prerelease[at] ?? '');
    if (order !== 0) return order;
  }
  return a.prerelease.length - b.prerelease.length;
}

function comparePrerelease(a: string, b: string): number {
  const [aIsNumber, bIsNumber] = [a, b].map(text => /^[0-9]+$/.test(text));
  if (aIsNumber && bIsNumber) return Number(BigInt(a) - BigInt(b));
  if (aIsNumber !== bIsNumber) return aIsNumber ? -1 : 1;
  return a === b ? 0 : a < b ? -1 : 1;
}

/** The value of namespace `sets`. */
export class CelSets {}

/** What Kubernetes, too, ends an evaluation with. */
export class CelFailure extends Error {
  readonly code = 'CelFailure';
}
