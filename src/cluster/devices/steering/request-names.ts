import type { DeviceClaim } from '../../../api/dra.ts';

/**
 * A request has become one with alternatives. Drivers look for the name in the result, `request/alternative` now, among
 * the names of a configuration and know nothing of parents (dra-driver-nvidia-gpu cmd/gpu-kubelet-plugin/device_state.go,
 * dranet pkg/driver/dra_hooks.go): so each configuration that named the request names all alternatives. Constraints may go
 * on naming it: to the allocator the name of a request covers its alternatives.
 */
export function nameAlternatives(
  claim: DeviceClaim,
  request: string,
  alternatives: readonly string[],
): DeviceClaim {
  const full = alternatives.map(alternative => `${request}/${alternative}`);
  const { config } = claim;
  if (config === undefined) return claim;
  return { ...claim, config: renamed(config, name => (name === request ? full : [name])) };
}

/**
 * An alternative has come to others, made from one of them: whatever named that one by its full name names both. An entry
 * that names the request alone is left: to the API it covers all alternatives, and a driver that compares names exactly
 * has ignored it before and goes on to.
 */
export function addAlternativeBeside(
  claim: DeviceClaim,
  request: string,
  { beside, add }: { readonly beside: string; readonly add: string },
): DeviceClaim {
  const { config, constraints } = claim;
  const model = `${request}/${beside}`;
  const withNew = (name: string) => (name === model ? [`${request}/${add}`, name] : [name]);
  return {
    ...claim,
    ...(config !== undefined && { config: renamed(config, withNew) }),
    ...(constraints !== undefined && { constraints: renamed(constraints, withNew) }),
  };
}

/** Entries without names cover all requests and stay so. */
function renamed<Entry extends { readonly requests?: readonly string[] }>(
  entries: readonly Entry[],
  namesFor: (name: string) => readonly string[],
): readonly Entry[] {
  return entries.map(entry =>
    entry.requests === undefined
      ? entry
      : { ...entry, requests: [...new Set(entry.requests.flatMap(namesFor))] },
  );
}
