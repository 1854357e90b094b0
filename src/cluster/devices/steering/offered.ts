import type { DeviceRequestBody } from '../../../api/dra.ts';
import type { DeviceClassRecord } from '../claims.ts';
import type { Device } from '../device.ts';
import { expressionsOf } from '../request-selection.ts';
import type { SelectorEngine } from '../selectors.ts';

/**
 * Says whether class and selectors of a request may let a device through. What cannot be evaluated, and a class that is
 * not known, lets everything through: then a device counts as one to be told apart from the planned ones.
 */
export function offeredBy(
  engine: SelectorEngine,
  classOf: (name: string) => DeviceClassRecord | undefined,
): (body: DeviceRequestBody, device: Device) => boolean {
  return (body, device) => {
    const expressions = [...(classOf(body.deviceClassName)?.selectors ?? []), ...expressionsOf(body)];
    return expressions.every(expression => engine.matches(expression, device).kind !== 'false');
  };
}
