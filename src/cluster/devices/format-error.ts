import { parseQuantity, type Quantity, QuantityError } from '../quantity.ts';

/** A DRA object is not of the shape that the API describes. `field` is the path of what is wrong. */
export class DeviceFormatError extends Error {
  readonly code = 'InvalidDeviceObject';
  readonly field: string;

  constructor(field: string, problem: string) {
    super(`${field} ${problem}`);
    this.name = 'DeviceFormatError';
    this.field = field;
  }
}

/**
 * Readers of untrusted fields: the API server has checked what it serves, but snapshots are files, and one bad slice
 * must not take the others down with it.
 * @throws DeviceFormatError
 */
export function textAt(value: unknown, field: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new DeviceFormatError(field, 'must be a text that is not empty');
}

export function optionalTextAt(value: unknown, field: string): string | undefined {
  return value === undefined || value === null || value === '' ? undefined : textAt(value, field);
}

export function integerAt(value: unknown, field: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw new DeviceFormatError(field, 'must be an integer that can be counted exactly');
}

export function flagAt(value: unknown, field: string): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value === 'boolean') return value;
  throw new DeviceFormatError(field, 'must be true or false');
}

export function listAt(value: unknown, field: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  throw new DeviceFormatError(field, 'must be a list');
}

export function recordAt(value: unknown, field: string): Readonly<Record<string, unknown>> {
  if (value === undefined || value === null) return {};
  if (typeof value === 'object' && !Array.isArray(value)) return value as Readonly<Record<string, unknown>>;
  throw new DeviceFormatError(field, 'must be an object');
}

/** @throws QuantityError with the field */
export function quantityAt(value: unknown, field: string): Quantity {
  if (typeof value !== 'string' && typeof value !== 'number')
    throw new DeviceFormatError(field, 'must be a quantity like 2, 500m or 1.5Gi');
  try {
    return parseQuantity(value);
  } catch (error) {
    if (error instanceof QuantityError) throw new QuantityError(error.text, error.problem, field);
    throw error;
  }
}
