import type { DeviceRequestBody } from '../../api/dra.ts';
import { tolerates } from '../taints.ts';
import { Selection } from './allocator/selection.ts';
import type { NodeDevices } from './choice-input.ts';
import type { Device } from './device.ts';

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

export function expressionsOf({ selectors = [] }: DeviceRequestBody): readonly string[] {
  return selectors.flatMap(({ cel }) => (cel === undefined ? [] : [cel.expression]));
}

/** Both effects keep a device from new claims; `None`, and effects that are not known yet, do not. */
export function isTainted({ taints }: Device, { tolerations = [] }: DeviceRequestBody): boolean {
  return taints.some(
    taint =>
      (taint.effect === 'NoSchedule' || taint.effect === 'NoExecute') &&
      !tolerations.some(toleration => tolerates(toleration, taint)),
  );
}
