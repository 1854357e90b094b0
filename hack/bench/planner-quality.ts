import { hostName, hostNumber, hostSize, rackOf } from './stream-fleet.ts';
import type { StreamGroup } from './stream-groups.ts';
import type { Outcome, Stream } from './stream-outcomes.ts';

/** How well a stream of groups was served. */
export interface Quality {
  /** Percent of the groups that arrived. */
  readonly refusedGroups: number;
  /** Percent of the GPUs that they asked for, which is that of hosts where members take whole ones. */
  readonly refusedGpus: number;
  /** Percent of the groups that were refused though as many GPUs were free as they asked for. */
  readonly fragmentation: number;
  /** Percent of the GPUs in use when a group arrives, on average. */
  readonly usedGpus: number;
  /** Racks that no group uses when a group arrives, on average. */
  readonly freeRacks: number;
}

/**
 * Judges a stream by what its groups were given, whoever gave it.
 *
 * @param warmUp arrivals that do not count
 * @throws Error when more GPUs of a host are given away than it has
 */
export function qualityOf(
  hosts: number,
  { events }: Stream,
  outcomes: readonly Outcome[],
  warmUp: number,
): Quality {
  const occupancy = new Occupancy(hosts);
  const total = hosts * hostSize.gpus;
  const seen = { groups: 0, gpus: 0, refused: 0, refusedGpus: 0, fragmented: 0, used: 0, freeRacks: 0 };
  let arrival = 0;
  for (const event of events) {
    if (event.kind === 'leave') {
      occupancy.leave(event.name);
      continue;
    }
    const { nodes } = outcomes[arrival] ?? {};
    if (arrival >= warmUp) {
      const gpus = gpusOf(event.group).reduce((sum, each) => sum + each, 0);
      seen.groups += 1;
      seen.gpus += gpus;
      seen.used += occupancy.used;
      seen.freeRacks += occupancy.freeRacks;
      if (nodes === undefined) {
        seen.refused += 1;
        seen.refusedGpus += gpus;
        if (total - occupancy.used >= gpus) seen.fragmented += 1;
      }
    }
    if (nodes !== undefined) occupancy.enter(event.group, nodes);
    arrival += 1;
  }
  return {
    refusedGroups: (100 * seen.refused) / seen.groups,
    refusedGpus: (100 * seen.refusedGpus) / seen.gpus,
    fragmentation: (100 * seen.fragmented) / seen.groups,
    usedGpus: (100 * seen.used) / seen.groups / total,
    freeRacks: seen.freeRacks / seen.groups,
  };
}

interface Place {
  readonly host: number;
  readonly gpus: number;
}

/** Which GPUs are in use, and which racks have members of groups. */
class Occupancy {
  readonly #byGroup = new Map<string, readonly Place[]>();
  readonly #usedOnHost: number[];
  readonly #membersInRack: number[];
  #used = 0;

  constructor(hosts: number) {
    this.#usedOnHost = new Array(hosts).fill(0);
    this.#membersInRack = new Array(rackOf(hosts - 1) + 1).fill(0);
  }

  get used(): number {
    return this.#used;
  }

  get freeRacks(): number {
    return this.#membersInRack.filter(members => members === 0).length;
  }

  enter(group: StreamGroup, nodes: readonly string[]): void {
    const gpus = gpusOf(group);
    const places = nodes.map((node, rank) => ({ host: hostNumber(node), gpus: gpus[rank] ?? 0 }));
    for (const place of places) {
      this.#count(place, 1);
      if ((this.#usedOnHost[place.host] ?? 0) > hostSize.gpus)
        throw new Error(`${hostName(place.host)} has not the GPUs that ${group.name} was given there`);
    }
    this.#byGroup.set(group.name, places);
  }

  leave(name: string): void {
    for (const place of this.#byGroup.get(name) ?? []) this.#count(place, -1);
    this.#byGroup.delete(name);
  }

  #count({ host, gpus }: Place, sign: 1 | -1): void {
    const rack = rackOf(host);
    this.#usedOnHost[host] = (this.#usedOnHost[host] ?? 0) + sign * gpus;
    this.#membersInRack[rack] = (this.#membersInRack[rack] ?? 0) + sign;
    this.#used += sign * gpus;
  }
}

function gpusOf({ size, worker, leader }: StreamGroup): readonly number[] {
  return Array.from({ length: size }, (_, rank) => (rank === 0 ? (leader ?? worker) : worker).gpus);
}
