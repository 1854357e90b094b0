import type { Resources } from '../cluster/resources.ts';
import type { PlanAnnotation } from '../group/plan-annotation.ts';
import { noSeatDevices } from '../group/planned-devices.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { Seat } from './waiting-list.ts';

/** A plan as it is to be written. Members that stay keep the devices of the plan before. */
export function planFromSeats(options: {
  readonly leader: PodInfo;
  readonly before: PlanAnnotation | undefined;
  readonly seats: ReadonlyMap<number, Seat>;
  /** By rank; as many as there are members. */
  readonly requests: readonly Resources[];
}): PlanAnnotation {
  const { leader, before, seats, requests } = options;
  const nodes = requests.map((_, rank) => seats.get(rank)?.node ?? '');
  const devices = requests.map((_, rank) => {
    const seat = seats.get(rank);
    if (seat === undefined) return noSeatDevices;
    const kept = before?.nodes[rank] === seat.node ? before.devices?.[rank] : undefined;
    return seat.devices ?? kept ?? noSeatDevices;
  });
  const plan = { leaderUid: leader.uid, generation: (before?.generation ?? 0) + 1, nodes, requests };
  return devices.every(each => each === noSeatDevices) ? plan : { ...plan, devices };
}

/** Seats of members that stay. */
export function seatsOf(nodes: ReadonlyMap<number, string>): ReadonlyMap<number, Seat> {
  return new Map([...nodes].map(([rank, node]) => [rank, { node, devices: undefined }]));
}
