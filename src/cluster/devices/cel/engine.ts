import type { Environment } from '@marcbachmann/cel-js';
import type { AttributeValue, Device } from '../device.ts';
import type { SelectorEngine, SelectorVerdict } from '../selectors.ts';
import { selectorEnvironment } from './environment.ts';
import { loopDepth, type MentionedAttribute, mentionedIn, rewritten } from './rewrite.ts';
import { CelFailure, CelQuantity, readSemver } from './values.ts';

/** CELSelectorExpressionMaxLength of resource.k8s.io. */
const longestExpression = 10 * 1024;
/** Deeper ones are counted as too dear: literals have 256 elements at most, devices 32 attributes. */
const deepestLoops = 2;
const rememberedExpressions = 2_000;

type Evaluate = (device: Device) => SelectorVerdict;

interface Compiled {
  readonly evaluate: Evaluate;
  readonly mentioned: readonly MentionedAttribute[] | undefined;
  readonly verdicts: WeakMap<Device, SelectorVerdict>;
}

/**
 * Evaluates CEL selectors of DRA as k8s.io/dynamic-resource-allocation/cel v0.37.2 does, with gate DRAListTypeAttributes
 * off. Three answers come from evaluation, and the fourth, `unknown`, stands for all that this engine does not know how
 * to evaluate. Remembers the last expressions, and each one's verdicts by device.
 */
export class CelSelectors implements SelectorEngine {
  readonly #environment: Environment = selectorEnvironment();
  readonly #compiled = new Map<string, Compiled>();

  matches(expression: string, device: Device): SelectorVerdict {
    const { evaluate, verdicts } = this.#of(expression);
    const known = verdicts.get(device);
    if (known !== undefined) return known;
    const verdict = evaluate(device);
    verdicts.set(device, verdict);
    return verdict;
  }

  /** Attributes that the expression names literally; undefined for one that cannot be read. */
  mentionedAttributes(expression: string): readonly MentionedAttribute[] | undefined {
    return this.#of(expression).mentioned;
  }

  #of(expression: string): Compiled {
    const known = this.#compiled.get(expression);
    if (known !== undefined) return known;
    const compiled = compile(this.#environment, expression);
    if (this.#compiled.size >= rememberedExpressions) this.#compiled.clear();
    this.#compiled.set(expression, compiled);
    return compiled;
  }
}

function compile(environment: Environment, expression: string): Compiled {
  if (expression.length > longestExpression) return opaque(`it is longer than ${longestExpression} bytes`);
  try {
    const { ast } = environment.parse(expression);
    const mentioned = mentionedIn(ast);
    if (loopDepth(ast) > deepestLoops) return opaque('its loops are nested too deeply', mentioned);
    const program = environment.parse(rewritten(ast));
    return {
      evaluate: device => verdictOf(() => program({ device: deviceValue(device) })),
      mentioned,
      verdicts: new WeakMap(),
    };
  } catch (error) {
    return opaque(summaryOf(error));
  }
}

function opaque(message: string, mentioned?: readonly MentionedAttribute[]): Compiled {
  const verdict: SelectorVerdict = { kind: 'unknown', message };
  return { evaluate: () => verdict, mentioned, verdicts: new WeakMap() };
}

/** Codes of the engine for what fails in Kubernetes, too, when the expression is evaluated. */
const failures: ReadonlySet<string> = new Set([
  'no_such_key',
  'no_such_overload',
  'division_by_zero',
  'modulo_by_zero',
  'numeric_overflow',
]);

function verdictOf(run: () => unknown): SelectorVerdict {
  try {
    const result = run();
    if (typeof result === 'boolean') return result ? isTrue : isFalse;
    return { kind: 'error', message: 'the result is not true or false' };
  } catch (error) {
    if (causedByFailure(error)) return { kind: 'error', message: summaryOf(error) };
    const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
    return { kind: failures.has(code) ? 'error' : 'unknown', message: summaryOf(error) };
  }
}

const isTrue: SelectorVerdict = { kind: 'true' };
const isFalse: SelectorVerdict = { kind: 'false' };

function causedByFailure(error: unknown): boolean {
  return error instanceof CelFailure || (error instanceof Error && error.cause instanceof CelFailure);
}

function summaryOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'summary' in error) return String(error.summary);
  return error instanceof Error ? error.message : String(error);
}

const values = new WeakMap<Device, unknown>();

/** `device` as expressions see it. @throws CelFailure for a version that is none */
function deviceValue(device: Device): unknown {
  const known = values.get(device);
  if (known !== undefined) return known;
  const attributes = new Map<string, Map<string, unknown>>();
  for (const [name, value] of device.attributes) put(attributes, name, attributeValue(value));
  const capacity = new Map<string, Map<string, unknown>>();
  for (const [name, { value }] of device.capacity) put(capacity, name, new CelQuantity(value));
  const made = {
    driver: device.id.driver,
    allowMultipleAllocations: device.allowMultipleAllocations,
    attributes: withEmptyDefault(attributes),
    capacity: withEmptyDefault(capacity),
  };
  values.set(device, made);
  return made;
}

function put(byDomain: Map<string, Map<string, unknown>>, name: string, value: unknown): void {
  const at = name.indexOf('/');
  const domain = name.slice(0, at);
  const inner = byDomain.get(domain) ?? new Map<string, unknown>();
  byDomain.set(domain, inner.set(name.slice(at + 1), value));
}

/** A domain that no attribute is in is an empty map, while an attribute that is not in its domain is an error. */
function withEmptyDefault(byDomain: Map<string, Map<string, unknown>>): Map<string, Map<string, unknown>> {
  const get = byDomain.get.bind(byDomain);
  byDomain.get = domain => get(domain) ?? noAttributes;
  return byDomain;
}

const noAttributes: Map<string, unknown> = new Map();

function attributeValue(attribute: AttributeValue): unknown {
  switch (attribute.kind) {
    case 'version':
      return versionOf(attribute.value);
    case 'versions':
      return attribute.value.map(versionOf);
    default:
      return attribute.value;
  }
}

function versionOf(text: string): unknown {
  const version = readSemver(text);
  if (version === undefined) throw new CelFailure(`${text} is no semantic version`);
  return version;
}
