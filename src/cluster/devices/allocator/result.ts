import type { DeviceRequestAllocationResult } from '../../../api/dra.ts';
import type { LabelSelectorRequirement, NodeSelector } from '../../../api/kubernetes.ts';
import { formatQuantity } from '../../quantity.ts';
import type { Candidate } from '../pools.ts';
import { type CapacityAmounts, nameInSlice } from './capacity.ts';
import type { WantedRequest } from './wanted-request.ts';

/** A device in the place that a search has found for it. */
export interface TakenDevice {
  readonly request: WantedRequest;
  readonly candidate: Candidate;
  /** What a share of it takes; undefined for a device that is taken whole. */
  readonly consumed: CapacityAmounts | undefined;
}

export function resultOf({ request, candidate, consumed }: TakenDevice): DeviceRequestAllocationResult {
  const { device } = candidate;
  return {
    request: request.name,
    ...device.id,
    ...(request.adminAccess && { adminAccess: true }),
    ...(request.tolerations !== undefined && { tolerations: request.tolerations }),
    ...(consumed !== undefined && {
      consumedCapacity: Object.fromEntries(
        [...consumed].map(([name, amount]) => [nameInSlice(device, name), formatQuantity(amount)]),
      ),
    }),
  };
}

/**
 * Where a claim with these devices may be used: on this node alone if one device is local to it, else where all of them
 * reach, and anywhere when that is everywhere. Slices have no more than one term (API validation).
 */
export function nodeSelectorOf(taken: readonly TakenDevice[], nodeName: string): NodeSelector | undefined {
  const matchFields: LabelSelectorRequirement[] = [];
  const matchExpressions: LabelSelectorRequirement[] = [];
  for (const { candidate } of taken) {
    const { device, slice } = candidate;
    const reach = slice.reach.kind === 'per-device' ? device.reach : slice.reach;
    if (reach?.kind === 'node' || device.bindsToNode) {
      const pin = { key: 'metadata.name', operator: 'In', values: [nodeName] };
      return { nodeSelectorTerms: [{ matchFields: [pin] }] };
    }
    if (reach?.kind !== 'selector') continue;
    const [term] = reach.selector.nodeSelectorTerms;
    addNew(term?.matchFields ?? [], matchFields);
    addNew(term?.matchExpressions ?? [], matchExpressions);
  }
  if (matchFields.length === 0 && matchExpressions.length === 0) return undefined;
  return {
    nodeSelectorTerms: [
      {
        ...(matchExpressions.length > 0 && { matchExpressions }),
        ...(matchFields.length > 0 && { matchFields }),
      },
    ],
  };
}

function addNew(from: readonly LabelSelectorRequirement[], to: LabelSelectorRequirement[]): void {
  for (const requirement of from) {
    if (!to.some(known => isSame(known, requirement))) to.push(requirement);
  }
}

function isSame(a: LabelSelectorRequirement, b: LabelSelectorRequirement): boolean {
  const valuesOfA = new Set(a.values);
  const valuesOfB = new Set(b.values);
  return (
    a.key === b.key &&
    a.operator === b.operator &&
    valuesOfA.size === valuesOfB.size &&
    [...valuesOfA].every(value => valuesOfB.has(value))
  );
}
