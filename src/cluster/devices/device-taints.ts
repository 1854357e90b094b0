import type { DeviceToleration } from '../../api/dra.ts';
import { tolerates } from '../taints.ts';
import type { Device } from './device.ts';

/** Both effects keep a device from new claims; `None`, and effects that are not known yet, do not. */
export function isTainted(
  { taints }: Pick<Device, 'taints'>,
  { tolerations = [] }: { readonly tolerations?: readonly DeviceToleration[] | undefined },
): boolean {
  return taints.some(
    taint =>
      (taint.effect === 'NoSchedule' || taint.effect === 'NoExecute') &&
      !tolerations.some(toleration => tolerates(toleration, taint)),
  );
}
