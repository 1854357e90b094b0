import type { DeviceClaim } from '../../../api/dra.ts';
import type { PlannedClaim } from '../claims.ts';
import { type AttributeValue, type Device, type DeviceKey, deviceKey } from '../device.ts';
import { maxConstraints } from './limits.ts';
import type { UnsteeredRequest } from './steer-claim.ts';

interface AlignmentInput {
  readonly planned: PlannedClaim;
  readonly onNode: ReadonlyMap<DeviceKey, Device>;
  readonly alignBy?: string;
}

/**
 * Adds constraints that keep requests with untested drivers on the value that the plan has for them: one for each set of
 * requests whose planned devices all have the same value, if one of them cannot be steered for its driver's sake. So two
 * GPUs and two NICs on two PCIe roots, each a request of its own, get two constraints, as planned.
 */
export function alignmentConstraints(
  claim: DeviceClaim,
  unsteered: readonly UnsteeredRequest[],
  { planned, onNode, alignBy }: AlignmentInput,
): DeviceClaim {
  if (alignBy === undefined) return claim;
  const loose = new Set(
    unsteered.filter(({ reason }) => reason === 'driver-not-tested').map(({ request }) => request),
  );
  const byValue = new Map<string, string[]>();
  for (const { request, devices } of planned.requests) {
    const values = new Set(devices.map(id => valueKey(onNode.get(deviceKey(id))?.attributes.get(alignBy))));
    const [value] = values;
    if (values.size !== 1 || value === undefined) continue;
    const [parent = request] = request.split('/');
    byValue.set(value, [...(byValue.get(value) ?? []), parent]);
  }
  const wanted = [...byValue.values()]
    .filter(requests => requests.length > 1 && requests.some(request => loose.has(request)))
    .filter(requests => !isAligned(claim, requests, alignBy))
    .map(requests => ({ requests, matchAttribute: alignBy }));
  const constraints = [...(claim.constraints ?? []), ...wanted];
  return wanted.length === 0 || constraints.length > maxConstraints ? claim : { ...claim, constraints };
}

/** Whether the claim says so itself. */
function isAligned({ constraints }: DeviceClaim, requests: readonly string[], attribute: string): boolean {
  return (constraints ?? []).some(constraint => {
    if (constraint.matchAttribute !== attribute) return false;
    const named = constraint.requests ?? [];
    return named.length === 0 || requests.every(request => named.includes(request));
  });
}

/** Undefined for what is missing, and for lists, which constraints compare in another way. */
function valueKey(attribute: AttributeValue | undefined): string | undefined {
  if (attribute === undefined || Array.isArray(attribute.value)) return undefined;
  return `${attribute.kind} ${attribute.value}`;
}
