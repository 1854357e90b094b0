import type { DeviceClaim } from '../../../api/dra.ts';

/** Limits of resource.k8s.io/v1 (kubernetes v1.37 pkg/apis/resource/types.go). Go counts bytes. */
export const maxExpressionBytes = 10 * 1024;
const maxAlternatives = 8;
const maxSelectors = 32;
/** Of names in one constraint or configuration. */
const maxNames = 32;
export const maxConstraints = 32;

/** Whether what steering one request has changed is more than the API takes. */
export function exceedsLimits({ requests, constraints, config }: DeviceClaim, request: string): boolean {
  const alternatives = requests?.find(({ name }) => name === request)?.firstAvailable ?? [];
  return (
    alternatives.length > maxAlternatives ||
    alternatives.some(({ selectors }) => (selectors?.length ?? 0) > maxSelectors) ||
    [...(constraints ?? []), ...(config ?? [])].some(entry => (entry.requests?.length ?? 0) > maxNames)
  );
}

export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}
