import type { DeviceRequest, DeviceRequestBody } from '../../api/dra.ts';
import { Selection } from './allocator/selection.ts';
import type { NodeDevices } from './choice-input.ts';

/** What a request may get by the selectors of its class and its own; undefined when there is no such class. */
export function selectionOf(
  body: DeviceRequestBody,
  classes: NodeDevices['classes'],
  selectors: NodeDevices['selectors'],
): Selection | undefined {
  const deviceClass = classes(body.deviceClassName);
  if (deviceClass === undefined) return undefined;
  return new Selection(body.deviceClassName, selectors, [...deviceClass.selectors, ...expressionsOf(body)]);
}

/** What a request may be met by: itself, or one of its alternatives. */
export function bodiesOf({ exactly, firstAvailable = [] }: DeviceRequest): readonly DeviceRequestBody[] {
  return exactly === undefined ? firstAvailable : [exactly];
}

export function expressionsOf({ selectors = [] }: DeviceRequestBody): readonly string[] {
  return selectors.flatMap(({ cel }) => (cel === undefined ? [] : [cel.expression]));
}
