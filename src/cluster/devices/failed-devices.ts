import type { DeviceRequestAllocationResult } from '../../api/dra.ts';
import { berthDomain } from '../../api/names.ts';
import { tolerates } from '../taints.ts';
import { type AppliedTaint, type DeviceId, type DeviceKey, deviceKey } from './device.ts';

export interface FailureLookup {
  /** Berth keeps it off new claims. */
  readonly isExcluded: (device: DeviceKey) => boolean;
  /** What is published for it, rules included; empty for a device that is not there. */
  readonly taintsOf: (device: DeviceId) => readonly AppliedTaint[];
}

/**
 * Devices of an allocation that nobody new should get by it. Whoever reserves an allocated claim gets its devices, whatever
 * is known of them by now: kube-scheduler looks at taints only when it allocates.
 *
 * That is a device which Berth excludes, unless the claim puts up with all that its driver and administrators say of it:
 * then its users are not evicted either, and nobody would ever release it. And one whose NoExecute taint the claim does not
 * tolerate for ever, in whatever mode: kube-controller-manager ends every pod that gets it. Devices that are only looked at
 * (admin access) do not count, as they do not among the signals.
 */
export function failedDevices(
  results: readonly DeviceRequestAllocationResult[],
  { isExcluded, taintsOf }: FailureLookup,
): readonly DeviceId[] {
  return results.filter(result => {
    if (result.adminAccess === true) return false;
    const foreign = taintsOf(result).filter(({ key }) => !key.startsWith(berthDomain));
    const untolerated = foreign.filter(taint => keepsOff(taint) && !isTolerated(taint, result));
    if (untolerated.some(({ effect }) => effect === 'NoExecute')) return true;
    const isMeant = untolerated.length > 0 || !foreign.some(keepsOff);
    return isMeant && isExcluded(deviceKey(result));
  });
}

function keepsOff({ effect }: AppliedTaint): boolean {
  return effect === 'NoSchedule' || effect === 'NoExecute';
}

function isTolerated(taint: AppliedTaint, { tolerations = [] }: DeviceRequestAllocationResult): boolean {
  return tolerations.some(
    toleration => toleration.tolerationSeconds === undefined && tolerates(toleration, taint),
  );
}
