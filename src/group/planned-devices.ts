import { type PlannedClaim, type RequestDevices, rungs } from '../cluster/devices/claims.ts';
import type { MemberDevices, PlanAnnotationError } from './plan-annotation.ts';

/** As lists without names, for a large group has thousands of devices and the annotation's room is limited. */
export function writeDevices(byRank: readonly MemberDevices[]): {
  readonly devices: readonly unknown[];
  readonly alignment: readonly string[];
} {
  return {
    devices: byRank.map(({ claims }) =>
      claims.map(({ claim, requests }) => [
        claim,
        requests.map(({ request, devices }) => [
          request,
          ...devices.map(({ driver, pool, device }) => [driver, pool, device]),
        ]),
      ]),
    ),
    alignment: byRank.map(({ rung }) => rung ?? ''),
  };
}

/** Undefined where the plan has no devices. */
export function readDevices(
  written: unknown,
  alignment: unknown,
  size: number,
): readonly MemberDevices[] | PlanAnnotationError | undefined {
  if (written === undefined) return undefined;
  if (!isListOf(written, size)) return invalid('devices must have one list for each node');
  if (!isListOf(alignment, size)) return invalid('alignment must have one word for each node');
  const byRank: MemberDevices[] = [];
  for (const [rank, lists] of written.entries()) {
    const claims = Array.isArray(lists) ? lists.map(readClaim) : [undefined];
    const known = claims.filter(claim => claim !== undefined);
    if (known.length < claims.length) return invalid(`devices of rank ${rank} cannot be read`);
    const word = alignment[rank];
    const rung = rungs.find(known => known === word);
    if (rung === undefined && word !== '') return invalid(`alignment of rank ${rank} is no rung`);
    byRank.push({ claims: known, rung });
  }
  return byRank;
}

function readClaim(value: unknown): PlannedClaim | undefined {
  if (!Array.isArray(value)) return undefined;
  const [claim, lists] = value;
  if (typeof claim !== 'string' || !Array.isArray(lists)) return undefined;
  const requests = lists.map(readRequest).filter(request => request !== undefined);
  return requests.length === lists.length ? { claim, requests } : undefined;
}

function readRequest(value: unknown): RequestDevices | undefined {
  if (!Array.isArray(value)) return undefined;
  const [request, ...ids] = value;
  if (typeof request !== 'string') return undefined;
  const devices = ids.flatMap(id => {
    if (!Array.isArray(id) || id.length !== 3 || !id.every(part => typeof part === 'string')) return [];
    const [driver = '', pool = '', device = ''] = id;
    return [{ driver, pool, device }];
  });
  return devices.length === ids.length ? { request, devices } : undefined;
}

function isListOf(value: unknown, size: number): value is readonly unknown[] {
  return Array.isArray(value) && value.length === size;
}

function invalid(problem: string): PlanAnnotationError {
  return { code: 'InvalidPlan', message: `the plan annotation: ${problem}` };
}
