import type { DeviceConstraint } from '../../../api/dra.ts';
import type { AttributeValue, Device } from '../device.ts';

/** One constraint of a claim while its devices are chosen. */
export interface ConstraintState {
  /** Takes a device in, or says that it must not be. */
  add(request: string, alternative: string | undefined, device: Device): boolean;
  /** Takes back the last `add` that succeeded, of the same arguments. */
  remove(request: string, alternative: string | undefined): void;
}

/** Undefined for a kind of constraint that is not known. */
export function constraintState(constraint: DeviceConstraint): ConstraintState | undefined {
  const { requests = [], matchAttribute, distinctAttribute } = constraint;
  const applies = (request: string, alternative: string | undefined) =>
    requests.length === 0 ||
    requests.includes(request) ||
    (alternative !== undefined && requests.includes(`${request}/${alternative}`));
  if (matchAttribute !== undefined) return new AttributeConstraint(matchAttribute, applies, sameAsFirst);
  if (distinctAttribute !== undefined) return new AttributeConstraint(distinctAttribute, applies, unlikeAll);
  return undefined;
}

type Accepts = (value: AttributeValue, before: readonly AttributeValue[]) => boolean;

class AttributeConstraint implements ConstraintState {
  readonly #attribute: string;
  readonly #applies: (request: string, alternative: string | undefined) => boolean;
  readonly #accepts: Accepts;
  readonly #values: AttributeValue[] = [];

  constructor(
    attribute: string,
    applies: (request: string, alternative: string | undefined) => boolean,
    accepts: Accepts,
  ) {
    this.#attribute = attribute;
    this.#applies = applies;
    this.#accepts = accepts;
  }

  add(request: string, alternative: string | undefined, device: Device): boolean {
    if (!this.#applies(request, alternative)) return true;
    const value = device.attributes.get(this.#attribute);
    if (value === undefined || !this.#accepts(value, this.#values)) return false;
    this.#values.push(value);
    return true;
  }

  remove(request: string, alternative: string | undefined): void {
    if (this.#applies(request, alternative)) this.#values.pop();
  }
}

/** The first device may have any value, even a list, which no second one can match. */
function sameAsFirst(value: AttributeValue, [first]: readonly AttributeValue[]): boolean {
  return first === undefined || (isScalar(value) && isEqual(value, first));
}

function unlikeAll(value: AttributeValue, before: readonly AttributeValue[]): boolean {
  return before.length === 0 || (isScalar(value) && !before.some(other => isEqual(value, other)));
}

/** Lists come with gate DRAListTypeAttributes, which is off. */
function isScalar({ kind }: AttributeValue): boolean {
  return kind === 'string' || kind === 'int' || kind === 'bool' || kind === 'version';
}

function isEqual(a: AttributeValue, b: AttributeValue): boolean {
  return a.kind === b.kind && a.value === b.value;
}
