import type { AttributeValue } from './device.ts';
import { DeviceFormatError, listAt, recordAt } from './format-error.ts';
import { SharedParts } from './shared-parts.ts';

const noAttributes: ReadonlyMap<string, AttributeValue> = new Map();
const values = new SharedParts<AttributeValue>(16_384);
const attributeMaps = new SharedParts<ReadonlyMap<string, AttributeValue>>(2048);

/** Names without a domain belong to the driver's (k8s.io/dynamic-resource-allocation/cel parseQualifiedName). */
export function qualifiedName(name: string, driver: string): string {
  return name.includes('/') ? name : `${driver}/${name}`;
}

/**
 * Attributes by qualified name. Where a slice has a name both with and without the driver's domain, the one with it
 * counts, as in lookupAttribute of the structured allocator. An attribute of a kind that is not known yet is left out:
 * nothing can match it.
 *
 * @param before what the device had before; it is what comes back when it still has the same
 * @throws DeviceFormatError
 */
export function attributesFrom(
  raw: unknown,
  field: string,
  driver: string,
  before?: ReadonlyMap<string, AttributeValue>,
): ReadonlyMap<string, AttributeValue> {
  const record = recordAt(raw, field);
  if (before !== undefined && areAsBefore(record, driver, before)) return before;
  const entries = Object.entries(record);
  if (entries.length === 0) return noAttributes;
  return attributeMaps.get(`${driver} ${JSON.stringify(raw)}`, () => {
    const attributes = new Map<string, AttributeValue>();
    for (const [name, written] of entries) {
      const qualified = qualifiedName(name, driver);
      if (qualified !== name && name in (raw as object) && qualified in (raw as object)) continue;
      const value = valueFrom(recordAt(written, `${field}[${name}]`), `${field}[${name}]`);
      if (value !== undefined) attributes.set(qualified, value);
    }
    return attributes;
  });
}

/** False also where it would take long to tell. */
function areAsBefore(
  record: Readonly<Record<string, unknown>>,
  driver: string,
  before: ReadonlyMap<string, AttributeValue>,
): boolean {
  let left = before.size;
  for (const name in record) {
    const known = before.get(qualifiedName(name, driver));
    if (known === undefined || !isAsBefore(record[name], known)) return false;
    left -= 1;
  }
  return left === 0;
}

function isAsBefore(written: unknown, { kind, value }: AttributeValue): boolean {
  if (typeof written !== 'object' || written === null) return false;
  const [field, ...others] = Object.keys(written);
  if (field !== kind || others.length > 0) return false;
  const now: unknown = written[field as keyof typeof written];
  return now === (kind === 'int' ? Number(value) : value);
}

function valueFrom(written: Readonly<Record<string, unknown>>, field: string): AttributeValue | undefined {
  const { string: text, int, bool, version } = written;
  if (typeof text === 'string')
    return values.get(`s${text}`, () => Object.freeze({ kind: 'string', value: text }));
  if (int !== undefined) {
    const value = integer(int, `${field}.int`);
    return values.get(`i${value}`, () => Object.freeze({ kind: 'int', value }));
  }
  if (typeof bool === 'boolean')
    return values.get(`b${bool}`, () => Object.freeze({ kind: 'bool', value: bool }));
  if (typeof version === 'string')
    return values.get(`v${version}`, () => Object.freeze({ kind: 'version', value: version }));
  return listValueFrom(written, field);
}

function listValueFrom(
  written: Readonly<Record<string, unknown>>,
  field: string,
): AttributeValue | undefined {
  const { strings, ints, bools, versions, ...rest } = written;
  if (strings !== undefined) return { kind: 'strings', value: texts(strings, `${field}.strings`) };
  if (ints !== undefined) {
    const list = listAt(ints, `${field}.ints`);
    return { kind: 'ints', value: list.map((value, index) => integer(value, `${field}.ints[${index}]`)) };
  }
  if (bools !== undefined) {
    const list = listAt(bools, `${field}.bools`);
    if (list.every(value => typeof value === 'boolean')) return { kind: 'bools', value: list };
    throw new DeviceFormatError(`${field}.bools`, 'must be a list of true and false');
  }
  if (versions !== undefined) return { kind: 'versions', value: texts(versions, `${field}.versions`) };
  for (const kind of ['string', 'bool', 'version']) {
    if (rest[kind] !== undefined) throw new DeviceFormatError(`${field}.${kind}`, `must be a ${kind}`);
  }
  return undefined;
}

function integer(value: unknown, field: string): bigint {
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt(value);
  throw new DeviceFormatError(field, 'must be an integer');
}

function texts(value: unknown, field: string): readonly string[] {
  const list = listAt(value, field);
  if (list.every(entry => typeof entry === 'string')) return list;
  throw new DeviceFormatError(field, 'must be a list of texts');
}
