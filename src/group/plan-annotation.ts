import { berth } from '../api/names.ts';
import { formatResource, QuantityError } from '../cluster/quantity.ts';
import { type Resources, resourcesFrom } from '../cluster/resources.ts';
import { readDevices, type SeatDevices, writeDevices } from './planned-devices.ts';

/**
 * The plan that a leader carries in `berth.dev/plan`. It is the only place where a plan is kept: after a crash, and in
 * every other replica, plans and holds are rebuilt from it. The requests stand in it so that a hold needs neither the
 * LeaderWorkerSet nor a template revision that may be gone by then.
 */
export interface PlanAnnotation {
  /** The incarnation it was made for. A plan found on another pod, e.g. copied with its YAML, means nothing. */
  readonly leaderUid: string;
  /** Grows by one each time a member is planned again. */
  readonly generation: number;
  /** Node name by rank; empty for a rank that was released to kube-scheduler. */
  readonly nodes: readonly string[];
  /** What a member of that rank was counted with, `pods` included. */
  readonly requests: readonly Resources[];
  /** By rank, the devices planned for its claims, and how near they stand; absent where no member has any. */
  readonly devices?: readonly SeatDevices[] | undefined;
}

export interface PlanAnnotationError {
  readonly code: 'InvalidPlan';
  readonly message: string;
}

/** What a member without a seat is told where the extender carries the plan: the same words each time. */
export const noPlanYet = `berth: the group has no plan yet; see condition ${berth.placedCondition} on its leader`;

/** All annotations of an object together may have 256 KiB; the plan takes at most half of it. */
export const maxPlanAnnotationBytes = 128 * 1024;

const version = 1;

/**
 * Writes a plan as JSON: `{"version":1,"leaderUID":..,"generation":..,"nodes":[..],"requests":[{..}],"requestOf":[..]}`,
 * and with devices what {@link writeDevices} says.
 */
export function formatPlanAnnotation(plan: PlanAnnotation): string {
  const distinct: Record<string, string>[] = [];
  const indexByText = new Map<string, number>();
  const requestOf = plan.requests.map(requests => {
    const written = Object.fromEntries(
      [...requests].sort().map(([name, n]) => [name, formatResource(name, n)]),
    );
    const text = JSON.stringify(written);
    const known = indexByText.get(text);
    if (known !== undefined) return known;
    indexByText.set(text, distinct.length);
    distinct.push(written);
    return distinct.length - 1;
  });
  const { leaderUid: leaderUID, generation, nodes } = plan;
  const written = { version, leaderUID, generation, nodes, requests: distinct, requestOf };
  return JSON.stringify(plan.devices === undefined ? written : { ...written, ...writeDevices(plan.devices) });
}

/** Reads a plan back. Whatever is not exactly a plan of this version is refused, for anybody can create a pod with it. */
export function parsePlanAnnotation(text: string): PlanAnnotation | PlanAnnotationError {
  if (text.length > maxPlanAnnotationBytes) return invalid(`is longer than ${maxPlanAnnotationBytes} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return invalid('is not JSON');
  }
  if (!isRecord(value)) return invalid('is not an object');
  if (value['version'] !== version) return invalid(`is not of version ${version}`);
  const { leaderUID, generation, nodes, requests, requestOf } = value;
  if (typeof leaderUID !== 'string' || leaderUID === '') return invalid('lacks leaderUID');
  if (!isWholeNumber(generation)) return invalid('lacks a generation');
  if (!Array.isArray(nodes) || !nodes.every(isNodeName)) return invalid('nodes must be a list of node names');
  if (!Array.isArray(requests) || !requests.every(isRecord))
    return invalid('requests must be a list of objects');
  if (!Array.isArray(requestOf) || requestOf.length !== nodes.length) {
    return invalid('requestOf must have one index for each node');
  }
  const parsed = readRequests(requests);
  if ('code' in parsed) return parsed;
  const byRank: Resources[] = [];
  for (const index of requestOf) {
    const found = isWholeNumber(index) ? parsed.requests[index] : undefined;
    if (found === undefined) return invalid('requestOf points outside requests');
    byRank.push(found);
  }
  const devices = readDevices(value, nodes.length);
  if (devices !== undefined && 'code' in devices) return devices;
  const plan = { leaderUid: leaderUID, generation, nodes, requests: byRank };
  return devices === undefined ? plan : { ...plan, devices };
}

function readRequests(
  lists: readonly Record<string, unknown>[],
): { requests: Resources[] } | PlanAnnotationError {
  const requests: Resources[] = [];
  for (const list of lists) {
    const entries = Object.entries(list);
    if (!entries.every((entry): entry is [string, string] => typeof entry[1] === 'string')) {
      return invalid('requests must hold quantities as strings');
    }
    try {
      requests.push(resourcesFrom(Object.fromEntries(entries), 'requests'));
    } catch (error) {
      if (error instanceof QuantityError) return invalid(error.message);
      throw error;
    }
  }
  return { requests };
}

function invalid(problem: string): PlanAnnotationError {
  return { code: 'InvalidPlan', message: `the plan annotation ${problem}` };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isWholeNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Empty, or a DNS-1123 subdomain as every node name is. */
function isNodeName(value: unknown): value is string {
  return (
    typeof value === 'string' && value.length <= 253 && /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/.test(value)
  );
}
