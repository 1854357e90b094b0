import { type Rung, rungs } from '../cluster/devices/alignment.ts';
import type { PlannedDevice } from '../cluster/devices/claims.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { SeatDevices } from '../group/planned-devices.ts';
import { demandOn } from '../planner/device-fit.ts';

/** A device planned for a member's claim. */
export interface DeviceReport extends PlannedDevice {
  /** What the pod calls the claim; `<extended-resources>` for the one that kube-scheduler makes. */
  readonly claim: string;
  /** Name of the request, or `request/alternative`. */
  readonly request: string;
}

interface MemberDevices {
  readonly alignment?: Rung;
  readonly devices?: readonly DeviceReport[];
}

/** The devices of one member on its node, and how near they are; see RankReport for what is left out when. */
export function devicesReport(
  info: NodeInfo | undefined,
  demand: MemberDemand,
  seat: SeatDevices | undefined,
): MemberDevices {
  if (info === undefined) return {};
  const { requests, claims } = demandOn(info, demand);
  if (claims.length === 0) return takesPlugged(requests) ? { alignment: 'host' } : {};
  const devices = (seat?.claims ?? []).flatMap(claim =>
    claim.requests.flatMap(({ request, devices: planned }) =>
      planned.map(device => ({ claim: claim.claim, request, ...device })),
    ),
  );
  return { devices, ...(seat?.rung !== undefined && { alignment: seat.rung }) };
}

/** Counts members whose devices come by claims, the nearest first. */
export function alignmentCounts(
  members: readonly MemberDevices[],
): Readonly<Partial<Record<Rung, number>>> | undefined {
  const counts: Partial<Record<Rung, number>> = {};
  for (const rung of rungs) {
    const count = members.filter(
      ({ devices, alignment }) => devices !== undefined && alignment === rung,
    ).length;
    if (count > 0) counts[rung] = count;
  }
  return Object.keys(counts).length === 0 ? undefined : counts;
}

/** The devices as one line: by request, with the claim where there are several, and the pool where it is not the node's. */
export function deviceLine(devices: readonly DeviceReport[] | undefined, node: string): string {
  if (devices === undefined) return '-';
  if (devices.length === 0) return "kube-scheduler's choice";
  const severalClaims = new Set(devices.map(({ claim }) => claim)).size > 1;
  const byRequest = Map.groupBy(devices, ({ claim, request }) =>
    severalClaims ? `${claim}/${request}` : request,
  );
  return [...byRequest]
    .map(([request, granted]) => `${request}: ${granted.map(device => deviceName(device, node)).join(' ')}`)
    .join(', ');
}

function deviceName({ pool, device, consumedCapacity }: DeviceReport, node: string): string {
  const name = pool === node ? device : `${pool}/${device}`;
  const amounts = Object.entries(consumedCapacity ?? {}).map(([capacity, amount]) => `${capacity} ${amount}`);
  return amounts.length === 0 ? name : `${name} (${amounts.join(', ')})`;
}

function takesPlugged(requests: ReadonlyMap<string, number>): boolean {
  for (const [name, amount] of requests) if (amount > 0 && isAcceleratorResource(name)) return true;
  return false;
}
