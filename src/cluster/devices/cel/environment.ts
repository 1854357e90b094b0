import { Environment } from '@marcbachmann/cel-js';
import { RE2JS } from 're2js';
import {
  CelFailure,
  CelQuantity,
  CelSemver,
  CelSets,
  compareSemver,
  readLooseSemver,
  readQuantity,
  readSemver,
} from './values.ts';

/**
 * What selectors may use: the base of Kubernetes' CEL (k8s.io/apiserver/pkg/cel/environment and library, v0.37.2) as far
 * as the engine has it or it is added here. Functions that are missing make an expression unknown, never false.
 *
 * The engine's own functions cannot be overridden, so those that behave otherwise than Kubernetes' are given other names,
 * which `rewrite.ts` puts into expressions.
 */
export function selectorEnvironment(): Environment {
  const environment = new Environment({
    enableOptionalTypes: true,
    // Values of attributes are of any type, and may stand beside literals.
    homogeneousAggregateLiterals: false,
    limits: {
      maxAstNodes: 4096,
      maxDepth: 64,
      maxListElements: 256,
      maxMapEntries: 256,
      maxCallArguments: 32,
    },
  });
  environment
    .registerType('Quantity', CelQuantity)
    .registerType('Semver', CelSemver)
    .registerType('Sets', CelSets)
    .registerVariable('device', 'dyn')
    .registerConstant('sets', 'Sets', new CelSets());
  registerQuantities(environment);
  registerVersions(environment);
  registerStrings(environment);
  registerSets(environment);
  registerIn(environment);
  return environment;
}

function registerQuantities(environment: Environment): void {
  environment
    .registerFunction('quantity(string): Quantity', (text: string) =>
      orFail(readQuantity(text), `${text} is no quantity`),
    )
    .registerFunction('isQuantity(string): bool', (text: string) => readQuantity(text) !== undefined)
    .registerFunction('sign(Quantity): int', ({ nano }: CelQuantity) =>
      nano > 0n ? 1n : nano < 0n ? -1n : 0n,
    )
    .registerFunction('Quantity.isInteger(): bool', ({ nano }: CelQuantity) => isWhole(nano))
    .registerFunction('Quantity.asInteger(): int', ({ nano }: CelQuantity) => {
      if (!isWhole(nano)) throw new CelFailure('the quantity is no integer');
      return nano / nanoPerUnit;
    })
    .registerFunction('Quantity.asApproximateFloat(): double', ({ nano }: CelQuantity) => Number(nano) / 1e9)
    .registerFunction('Quantity.compareTo(Quantity): int', (a: CelQuantity, b: CelQuantity) =>
      a.nano < b.nano ? -1n : a.nano > b.nano ? 1n : 0n,
    )
    .registerFunction(
      'Quantity.isLessThan(Quantity): bool',
      (a: CelQuantity, b: CelQuantity) => a.nano < b.nano,
    )
    .registerFunction(
      'Quantity.isGreaterThan(Quantity): bool',
      (a: CelQuantity, b: CelQuantity) => a.nano > b.nano,
    )
    .registerFunction(
      'Quantity.add(Quantity): Quantity',
      (a: CelQuantity, b: CelQuantity) => new CelQuantity(a.nano + b.nano),
    )
    .registerFunction(
      'Quantity.add(int): Quantity',
      (a: CelQuantity, b: bigint) => new CelQuantity(a.nano + b * nanoPerUnit),
    )
    .registerFunction(
      'Quantity.sub(Quantity): Quantity',
      (a: CelQuantity, b: CelQuantity) => new CelQuantity(a.nano - b.nano),
    )
    .registerFunction(
      'Quantity.sub(int): Quantity',
      (a: CelQuantity, b: bigint) => new CelQuantity(a.nano - b * nanoPerUnit),
    )
    .registerOperator('Quantity == Quantity', (a: CelQuantity, b: CelQuantity) => a.nano === b.nano);
}

function registerVersions(environment: Environment): void {
  environment
    .registerFunction('semver(string): Semver', (text: string) =>
      orFail(readSemver(text), `${text} is no semantic version`),
    )
    .registerFunction('semver(string, bool): Semver', (text: string, loose: boolean) =>
      orFail(loose ? readLooseSemver(text) : readSemver(text), `${text} is no semantic version`),
    )
    .registerFunction('isSemver(string): bool', (text: string) => readSemver(text) !== undefined)
    .registerFunction(
      'isSemver(string, bool): bool',
      (text: string, loose: boolean) => (loose ? readLooseSemver(text) : readSemver(text)) !== undefined,
    )
    .registerFunction('Semver.major(): int', ({ numbers }: CelSemver) => numbers[0] ?? 0n)
    .registerFunction('Semver.minor(): int', ({ numbers }: CelSemver) => numbers[1] ?? 0n)
    .registerFunction('Semver.patch(): int', ({ numbers }: CelSemver) => numbers[2] ?? 0n)
    .registerFunction('Semver.compareTo(Semver): int', (a: CelSemver, b: CelSemver) =>
      BigInt(Math.sign(compareSemver(a, b))),
    )
    .registerFunction(
      'Semver.isLessThan(Semver): bool',
      (a: CelSemver, b: CelSemver) => compareSemver(a, b) < 0,
    )
    .registerFunction(
      'Semver.isGreaterThan(Semver): bool',
      (a: CelSemver, b: CelSemver) => compareSemver(a, b) > 0,
    )
    .registerOperator('Semver == Semver', (a: CelSemver, b: CelSemver) => compareSemver(a, b) === 0);
  for (const other of ['string', 'int', 'double', 'bool'])
    environment.registerOperator(`Semver == ${other}`, notComparable);
}

/** In Kubernetes a version equal to something else is an error, unequal to it is true, and in a list depends on the list. */
function notComparable(): boolean {
  throw new Error('a version is compared with something else');
}

function registerStrings(environment: Environment): void {
  environment
    .registerFunction('string.re2Matches(string): bool', (text: string, pattern: string) =>
      regexOf(pattern).matcher(text).find(),
    )
    .registerFunction('string.find(string): string', (text: string, pattern: string) => {
      const matcher = regexOf(pattern).matcher(text);
      return matcher.find() ? (matcher.group() ?? '') : '';
    })
    .registerFunction('string.asciiLower(): string', (text: string) =>
      text.replace(/[A-Z]/g, letter => letter.toLowerCase()),
    )
    .registerFunction('string.asciiUpper(): string', (text: string) =>
      text.replace(/[a-z]/g, letter => letter.toUpperCase()),
    )
    .registerFunction('string.replace(string, string): string', (text: string, from: string, to: string) =>
      text.split(from).join(to),
    );
}

/** `in`, told anew because Kubernetes looks for versions and quantities in lists otherwise than for plain values. */
function registerIn(environment: Environment): void {
  environment
    .registerFunction('within(dyn, list): bool', (value: unknown, list: readonly unknown[]) =>
      list.some(other => isSame(value, other)),
    )
    .registerFunction('within(dyn, map): bool', (key: unknown, map: unknown) => {
      if (map instanceof Map) return map.has(key);
      throw new Error('such a map is not looked into');
    });
}

function isSame(a: unknown, b: unknown): boolean {
  if (typeof a === 'object' || typeof b === 'object') throw new Error('such values are not looked for');
  // Numbers of different types are equal when their values are.
  if (typeof a === 'bigint' && typeof b === 'number') return Number(a) === b;
  if (typeof a === 'number' && typeof b === 'bigint') return a === Number(b);
  return a === b;
}

function registerSets(environment: Environment): void {
  const isIn = (list: readonly unknown[], value: unknown) => list.some(other => other === value);
  const contains = (list: readonly unknown[], sub: readonly unknown[]) =>
    sub.every(value => isIn(list, value));
  environment
    .registerFunction('Sets.contains(list, list): bool', (_: CelSets, list: unknown[], sub: unknown[]) =>
      contains(plain(list), plain(sub)),
    )
    .registerFunction(
      'Sets.equivalent(list, list): bool',
      (_: CelSets, a: unknown[], b: unknown[]) =>
        contains(plain(a), plain(b)) && contains(plain(b), plain(a)),
    )
    .registerFunction('Sets.intersects(list, list): bool', (_: CelSets, a: unknown[], b: unknown[]) =>
      plain(a).some(value => isIn(plain(b), value)),
    );
}

/** Lists of values that `===` compares as CEL does; of others nothing is known. */
function plain(list: readonly unknown[]): readonly unknown[] {
  const kinds = new Set(list.map(value => typeof value));
  if (kinds.size > 1 || kinds.has('object') || kinds.has('number'))
    throw new Error('sets of such values are not known');
  return list;
}

const nanoPerUnit = 1_000_000_000n;
const largestInteger = 2n ** 63n;

function isWhole(nano: bigint): boolean {
  const units = nano / nanoPerUnit;
  return nano % nanoPerUnit === 0n && units < largestInteger && units >= -largestInteger;
}

function orFail<T>(value: T | undefined, message: string): T {
  if (value === undefined) throw new CelFailure(message);
  return value;
}

const regexes = new Map<string, RE2JS>();
const mostRegexes = 256;

/** RE2 as Go has it: linear in the text, no look-around. */
function regexOf(pattern: string): RE2JS {
  const known = regexes.get(pattern);
  if (known !== undefined) return known;
  const compiled = RE2JS.compile(pattern);
  if (regexes.size >= mostRegexes) regexes.clear();
  regexes.set(pattern, compiled);
  return compiled;
}
