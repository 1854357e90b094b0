import type { DeviceRequest, DeviceRequestBody, DeviceSelector } from '../../api/dra.ts';
import type { WantedClaim } from './claims.ts';
import type { Device } from './device.ts';
import type { SelectorEngine } from './selectors.ts';

/** Whether a request, named as in results, may get a device. */
export type Allows = (claim: string, request: string, device: Device) => boolean;

/**
 * The same claims for the allocator, with one more selector in each request: `allows`. It is no CEL but a name that only
 * the engine returned here knows, so nothing of the allocator is bypassed.
 */
export function restrictClaims(
  claims: readonly WantedClaim[],
  selectors: SelectorEngine,
  allows: Allows,
): { readonly claims: readonly WantedClaim[]; readonly selectors: SelectorEngine } {
  const named = new Map<string, (device: Device) => boolean>();
  const within = (claim: string, request: string): DeviceSelector => {
    const expression = `allowed ${named.size}`;
    named.set(expression, device => allows(claim, request, device));
    return { cel: { expression } };
  };
  return {
    claims: claims.map(({ name, spec }) => ({
      name,
      spec: {
        ...spec,
        devices: {
          ...spec.devices,
          requests: (spec.devices?.requests ?? []).map(request =>
            restrictRequest(request, label => within(name, label)),
          ),
        },
      },
    })),
    selectors: {
      matches: (expression, device) => {
        const known = named.get(expression);
        if (known === undefined) return selectors.matches(expression, device);
        return { kind: known(device) ? 'true' : 'false' };
      },
    },
  };
}

/**
 * The new selector comes last: what the others say of a device, errors too, is heard all the same. A request for all
 * devices would be for fewer with it, so it stays as it is.
 */
function restrictRequest(request: DeviceRequest, within: (label: string) => DeviceSelector): DeviceRequest {
  const { name, exactly, firstAvailable } = request;
  const restrict = <Body extends DeviceRequestBody>(body: Body, label: string): Body =>
    body.allocationMode === 'All' ? body : { ...body, selectors: [...(body.selectors ?? []), within(label)] };
  if (exactly !== undefined) return { name, exactly: restrict(exactly, name) };
  const alternatives = firstAvailable ?? [];
  return { name, firstAvailable: alternatives.map(body => restrict(body, `${name}/${body.name}`)) };
}
