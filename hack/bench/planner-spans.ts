import { mulberry32 } from '../../test/unit/planner/instances.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { outcomesOfBerth } from './planner-berth.ts';
import { type Bin, binOf, fewestBins } from './planner-fewest.ts';
import { outcomesOfKueueArms } from './planner-kueue.ts';
import { summarize } from './statistics.ts';
import { blockOf, hostName, hostNumber, hostSize, rackLevel, rackOf, streamFleet } from './stream-fleet.ts';
import type { StreamDemand, StreamEvent, StreamGroup, StreamResident } from './stream-groups.ts';
import type { Outcome, Stream } from './stream-outcomes.ts';

const hosts = 1_024;
const fullGroups = 300;
const part = 'planner';

/** What a group was given, over the fewest that would have done. */
interface Span {
  /** Hosts, over the fewest in the racks that it was given. */
  readonly hosts: number;
  /** Hosts, over the fewest in any rack that holds the group. */
  readonly hostsAnywhere: number;
  /** Racks, over the fewest in any block that holds the group. */
  readonly racks: number;
}

/**
 * How many hosts and racks a leader and workers with parts of hosts are spread over, beside the exact minimum. Groups ask
 * one fleet of which parts are in use, and leave at once.
 */
export async function measureSpans(
  oracle: string,
  context: BenchContext,
  seeds: number,
): Promise<readonly Figure[]> {
  context.say(`planner: hosts and racks of leaders and workers, ${seeds} seeds`);
  const fleet = streamFleet(hosts);
  const numbers = Array.from({ length: seeds }, (_, index) => index + 1);
  const groups = scaled(context, fullGroups);
  const streams = numbers.map(seed => partsStream(groups, seed));
  const kueue = await outcomesOfKueueArms(
    oracle,
    streams.map(stream => ({ fleet, stream, remembers: false })),
  );
  const runs = streams.map((stream, index) => ({
    berth: ratiosOf(stream, outcomesOfBerth(fleet, stream)),
    kueue: ratiosOf(stream, kueue[index] ?? []),
  }));
  const figure = (what: string, pick: (ratios: Span) => number, isAimed: boolean): Figure => ({
    part,
    what: `leaders and workers with parts of hosts: ${what}`,
    unit: 'of fewest',
    berth: summarize(runs.map(run => pick(run.berth))),
    beside: { name: 'Kueue', value: summarize(runs.map(run => pick(run.kueue))) },
    ...(isAimed && { aim: { of: 'value', atMost: 1 } }),
  });
  return [
    figure('hosts used, in the racks chosen', span => span.hosts, true),
    figure('hosts used, in any rack that would do', span => span.hostsAnywhere, false),
    figure('racks used by groups larger than a rack', span => span.racks, true),
  ];
}

/** Sums over all groups that were placed; both arms place the same ones, for all of them leave at once. */
function ratiosOf({ residents }: Stream, outcomes: readonly Outcome[]): Span {
  const fleet = freeHosts(residents);
  const sums = { hosts: 0, fewest: 0, narrow: 0, fewestAnywhere: 0, racks: 0, fewestRacks: 0 };
  for (const { group, nodes } of outcomes) {
    if (nodes === undefined) continue;
    const bins = fleet.map(free => binFor(free, group));
    const used = [...new Set(nodes.map(hostNumber))];
    const racks = new Set(used.map(rackOf));
    const fewestIn = (members: readonly number[]) =>
      fewestOf(
        members.flatMap(host => bins[host] ?? []),
        group,
      ) ?? Number.POSITIVE_INFINITY;
    sums.hosts += used.length;
    sums.fewest += fewestIn([...bins.keys()].filter(host => racks.has(rackOf(host))));
    if (group.requiredLevel === rackLevel) {
      sums.narrow += used.length;
      sums.fewestAnywhere += Math.min(...domainsBy(rackOf, bins).map(fewestIn));
      continue;
    }
    sums.racks += racks.size;
    sums.fewestRacks += Math.min(
      ...domainsBy(blockOf, bins).map(
        members => fewestOf(racksAsBins(members, bins), group) ?? Number.POSITIVE_INFINITY,
      ),
    );
  }
  return {
    hosts: sums.hosts / sums.fewest,
    hostsAnywhere: sums.narrow / sums.fewestAnywhere,
    racks: sums.racks / sums.fewestRacks,
  };
}

function domainsBy(domainOf: (host: number) => number, bins: readonly Bin[]): readonly (readonly number[])[] {
  return [...Map.groupBy(bins.keys(), domainOf).values()];
}

function racksAsBins(members: readonly number[], bins: readonly Bin[]): readonly Bin[] {
  const byRack = Map.groupBy(members, rackOf);
  return [...byRack.values()].map(rack => binOf(rack.flatMap(host => bins[host] ?? [])));
}

function fewestOf(bins: readonly Bin[], { size, leader }: StreamGroup): number | undefined {
  return leader === undefined ? fewestBins(bins, size, false) : fewestBins(bins, size - 1, true);
}

/** Hosts of which some GPUs and CPUs are in use, and groups that need parts of hosts. */
function partsStream(groups: number, seed: number): Stream {
  const random = mulberry32(seed);
  const upTo = (largest: number) => Math.floor(random() * (largest + 1));
  const residents = Array.from({ length: hosts }, (_, host) => host).flatMap((host): StreamResident[] => {
    const demand = { cpus: upTo(160), memoryGi: upTo(1_024), gpus: upTo(hostSize.gpus) };
    return random() < 0.15 ? [] : [{ name: `resident-${host}`, demand, node: hostName(host) }];
  });
  const events = Array.from({ length: groups }, (_, index): StreamEvent[] => {
    const name = `group-${index}`;
    const isWide = random() < 0.5;
    const worker = { cpus: 4 + upTo(12), memoryGi: 32, gpus: 1 + upTo(3) };
    const leader = { cpus: 16 + upTo(100), memoryGi: 64, gpus: upTo(2) };
    const group = isWide
      ? { name, size: 24 + upTo(40), worker, leader }
      : { name, size: 2 + upTo(8), worker, leader, requiredLevel: rackLevel };
    return [
      { kind: 'arrive', group },
      { kind: 'leave', name },
    ];
  });
  return { residents, events: events.flat() };
}

/** By host what is free, as Berth and Kueue count it. */
function freeHosts(residents: readonly StreamResident[]): readonly StreamDemand[] {
  const byHost = new Map(residents.map(({ node, demand }) => [hostNumber(node), demand]));
  return Array.from({ length: hosts }, (_, host) => less(hostSize, byHost.get(host)));
}

function binFor(free: StreamDemand, { worker, leader }: StreamGroup): Bin {
  const beside = leader === undefined ? undefined : less(free, leader);
  const takesLeader = beside !== undefined && Math.min(beside.cpus, beside.memoryGi, beside.gpus) >= 0;
  return { workers: slotsIn(free, worker), besideLeader: takesLeader ? slotsIn(beside, worker) : -1 };
}

function slotsIn(free: StreamDemand, { cpus, memoryGi, gpus }: StreamDemand): number {
  return Math.floor(Math.min(free.cpus / cpus, free.memoryGi / memoryGi, gpus > 0 ? free.gpus / gpus : 99));
}

function less(free: StreamDemand, taken: StreamDemand | undefined): StreamDemand {
  if (taken === undefined) return free;
  return {
    cpus: free.cpus - taken.cpus,
    memoryGi: free.memoryGi - taken.memoryGi,
    gpus: free.gpus - taken.gpus,
  };
}
