import type { KubernetesObject } from '../api/kubernetes.ts';
import { DeviceFormatError } from '../cluster/devices/format-error.ts';
import { QuantityError } from '../cluster/quantity.ts';
import { InputError } from './input-error.ts';

/**
 * Decodes an object that came from a file.
 * @throws InputError with the place and the field of what cannot be read
 */
export function withPlace<Raw extends KubernetesObject, T>(
  raw: Raw,
  placeOf: () => string | undefined,
  decode: (raw: Raw) => T,
): T {
  try {
    return decode(raw);
  } catch (error) {
    if (!(error instanceof QuantityError || error instanceof DeviceFormatError)) throw error;
    const place = placeOf();
    const where = place === undefined ? '' : `${place}: `;
    throw new InputError([`${where}${raw.kind ?? 'object'} ${raw.metadata.name ?? ''}: ${error.message}`]);
  }
}
