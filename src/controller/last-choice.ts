import { type DeviceKey, deviceKey } from '../cluster/devices/device.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import type { GroupPlan } from '../planner/plan.ts';
import type { Rejection, Undecided } from '../planner/rejection.ts';

/** What is to be used last, as `ClusterCache.lastChoice` tells it. */
export interface LastChoice {
  readonly nodes: ReadonlySet<string>;
  /** With the node of each. */
  readonly devices: ReadonlyMap<DeviceKey, string>;
}

/**
 * The plan, or one that does without what has just come back from a failure, where such a place is as near together. Asked
 * only of plans that use something of the kind, so that all others cost nothing more; and it never refuses.
 * @param fixed ranks that stay where they are
 * @param planOff plans again, off these nodes as well
 */
export function withLastChoiceLast(
  plan: GroupPlan,
  lastChoice: LastChoice,
  fixed: ReadonlyMap<number, string> | undefined,
  planOff: (nodes: ReadonlySet<string>) => GroupPlan | Rejection | Undecided,
): GroupPlan {
  const { nodes, devices } = lastChoice;
  const usesNode =
    nodes.size > 0 && plan.nodes.some((node, rank) => nodes.has(node) && fixed?.has(rank) !== true);
  const usesDevice = devices.size > 0 && (plan.devices ?? []).some(seat => usesOneOf(seat, devices));
  if (!usesNode && !usesDevice) return plan;
  const other = planOff(plan.devices === undefined ? nodes : new Set([...nodes, ...devices.values()]));
  return other.kind === 'plan' && other.level >= plan.level ? other : plan;
}

function usesOneOf({ claims }: SeatDevices, devices: ReadonlyMap<DeviceKey, string>): boolean {
  return claims.some(({ requests }) =>
    requests.some(request => request.devices.some(device => devices.has(deviceKey(device)))),
  );
}
