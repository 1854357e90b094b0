import type { DeviceTaint, DeviceToleration } from '../../../api/dra.ts';

/** Whether a request tolerates all taints that keep a device from being allocated (resourceclaim.ToleratesTaint). */
export function isTolerated(
  taints: readonly DeviceTaint[],
  tolerations: readonly DeviceToleration[],
): boolean {
  return taints.every(
    taint =>
      (taint.effect !== 'NoSchedule' && taint.effect !== 'NoExecute') ||
      tolerations.some(toleration => tolerates(toleration, taint)),
  );
}

function tolerates(
  { key = '', operator = 'Equal', value = '', effect = '' }: DeviceToleration,
  taint: DeviceTaint,
): boolean {
  if (effect !== '' && effect !== taint.effect) return false;
  if (key !== '' && key !== taint.key) return false;
  if (operator === 'Exists') return true;
  return (operator === 'Equal' || operator === '') && value === (taint.value ?? '');
}
