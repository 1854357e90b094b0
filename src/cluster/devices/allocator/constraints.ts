import type { DeviceConstraint } from '../../../api/dra.ts';
import type { WantedClaim } from '../claims.ts';
import type { AttributeValue, Device } from '../device.ts';
import { type AllocationFault, type ExtraConstraint, fault } from './question.ts';

/** Which request a device is taken for: its name, and that of the alternative or ''. */
export interface RequestNames {
  readonly base: string;
  readonly alternative: string;
}

/** Keeps count of the devices taken so far under one constraint. Devices leave in the reverse order of coming. */
interface AttributeRule {
  /** Takes a device in, unless the rule forbids it. */
  add(device: Device): boolean;
  remove(): void;
}

/** A rule as it concerns one claim. */
export interface ClaimConstraint {
  readonly rule: AttributeRule;
  /** Empty: all requests of the claim. */
  readonly requests: ReadonlySet<string>;
  /** Berth's own: that it cannot hold is no error of the claim. */
  readonly isExtra: boolean;
}

/** The constraints of every claim, in their order. */
export function constraintsOf(
  claims: readonly WantedClaim[],
  extra: readonly ExtraConstraint[],
): ClaimConstraint[][] | AllocationFault {
  const byClaim: ClaimConstraint[][] = [];
  for (const { name, spec } of claims) {
    const ofClaim: ClaimConstraint[] = [];
    for (const [index, constraint] of (spec.devices?.constraints ?? []).entries()) {
      const rule = ruleOf(constraint);
      if (rule === undefined)
        return fault('unsupported', `claim ${name}, constraint #${index}: empty constraint`);
      ofClaim.push({ rule, requests: new Set(constraint.requests), isExtra: false });
    }
    byClaim.push(ofClaim);
  }
  for (const { matchAttribute, among } of extra) {
    const rule = new SameValue(matchAttribute);
    for (const { claim, requests } of among) {
      const index = claims.findIndex(({ name }) => name === claim);
      byClaim[index]?.push({ rule, requests: new Set(requests), isExtra: true });
    }
  }
  return byClaim;
}

export function concerns({ requests }: ClaimConstraint, { base, alternative }: RequestNames): boolean {
  if (requests.size === 0 || requests.has(base)) return true;
  return alternative !== '' && requests.has(`${base}/${alternative}`);
}

function ruleOf({ matchAttribute, distinctAttribute }: DeviceConstraint): AttributeRule | undefined {
  if (matchAttribute !== undefined) return new SameValue(matchAttribute);
  return distinctAttribute === undefined ? undefined : new DistinctValues(distinctAttribute);
}

/** matchAttribute: the first device may have any value of any kind, all others must have the same. */
class SameValue implements AttributeRule {
  readonly #attribute: string;
  #value: AttributeValue | undefined;
  #count = 0;

  constructor(attribute: string) {
    this.#attribute = attribute;
  }

  add(device: Device): boolean {
    const value = device.attributes.get(this.#attribute);
    if (value === undefined) return false;
    if (this.#count === 0) this.#value = value;
    else if (this.#value === undefined || !isSame(value, this.#value)) return false;
    this.#count++;
    return true;
  }

  remove(): void {
    this.#count--;
  }
}

/** distinctAttribute: no two devices may have the same value; values of different kinds differ. */
class DistinctValues implements AttributeRule {
  readonly #attribute: string;
  readonly #values: AttributeValue[] = [];

  constructor(attribute: string) {
    this.#attribute = attribute;
  }

  add(device: Device): boolean {
    const value = device.attributes.get(this.#attribute);
    if (value === undefined) return false;
    // With gate DRAListTypeAttributes off (the default) a list cannot be told from another value, so none may stand
    // beside one that came before it.
    if (this.#values.length > 0 && isList(value)) return false;
    for (const other of this.#values) if (isSame(value, other)) return false;
    this.#values.push(value);
    return true;
  }

  remove(): void {
    this.#values.pop();
  }
}

/** Versions compare as texts; lists equal nothing, for gate DRAListTypeAttributes is off by default. */
function isSame(a: AttributeValue, b: AttributeValue): boolean {
  return a.kind === b.kind && !isList(a) && a.value === b.value;
}

function isList({ kind }: AttributeValue): boolean {
  return kind === 'strings' || kind === 'ints' || kind === 'bools' || kind === 'versions';
}
