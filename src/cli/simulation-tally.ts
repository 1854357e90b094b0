import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { devicesOf } from './event-stream.ts';
import { deviceUse, type FreeRoom, freeRoom } from './free-room.ts';
import { hopCost, leastRing } from './hop-cost.ts';
import type { SimulatedAsk } from './simulated-ask.ts';
import { type Spans, spansOf } from './span-bounds.ts';

export interface RequestCounts {
  readonly requests: number;
  readonly placed: number;
  readonly refused: number;
  readonly undecided: number;
  /** Refused though it would fit if it asked for no topology: room is there, and lies badly. */
  readonly fragmented: number;
}

/** The quality of placement as peers measure it, of the counted part of a stream. Times are of the stream. */
export interface Quality {
  readonly arrivals: RequestCounts;
  /** Groups that lost a node and asked again at once. */
  readonly recoveries: RequestCounts;
  readonly fragmentationPer1000: number;
  /** Of the hosts asked for, those of requests refused for fragmentation. */
  readonly fragmentedHostShare: number;
  /** Time mean of taken devices over those of usable nodes. */
  readonly allocationRate: number | undefined;
  /** The same at the first refusal of all, fragmentation included, even in the part that is not counted. */
  readonly allocationAtFirstRefusal: number | undefined;
  readonly freeHosts: number;
  /** Time means. */
  readonly levels: readonly {
    readonly level: string;
    readonly domains: number;
    readonly whole: number;
    /** Hosts of the largest group of whole hosts that would fit into one domain. */
    readonly largest: number;
    /** Domains used over the fewest that would have done, both summed over requests; undefined before the first. */
    readonly spanOverFewest: number | undefined;
  }[];
  readonly hostSpanOverFewest: number | undefined;
  /** Mean steps between neighbours in the ring of ranks, and between any two ranks. */
  readonly hopsPerRingPair: number | undefined;
  readonly hopsPerPair: number | undefined;
  /** Ring cost over the least that so few hosts allow. */
  readonly ringOverLeast: number | undefined;
}

interface Counts {
  requests: number;
  placed: number;
  refused: number;
  undecided: number;
  fragmented: number;
}

/** One request that was answered. */
export interface Answered {
  readonly ask: SimulatedAsk;
  readonly cause: 'arrival' | 'recovery';
  readonly outcome: 'placed' | 'refused' | 'fragmented' | 'undecided';
  /** With `placed`: where, and the fewest that would have done as the cluster was before. */
  readonly place?: { readonly nodes: readonly string[]; readonly fewest: Spans | undefined };
}

/** Sums up a stream; nothing counts before `startCounting`, but the first refusal. */
export class SimulationTally {
  readonly #levels: readonly TopologyLevel[];
  readonly #perHost: number;
  readonly #arrivals = noCounts();
  readonly #recoveries = noCounts();
  #counting = false;
  #hosts = { asked: 0, fragmented: 0 };
  #used: Spans;
  #fewest: Spans;
  #hops = { ring: 0, ringPairs: 0, all: 0, allPairs: 0, leastRing: 0 };
  #seconds = 0;
  #room: { whole: number[]; largest: number[]; domains: number[]; freeHosts: number };
  #allocation = 0;
  #atFirstRefusal: number | undefined;

  constructor(levels: readonly TopologyLevel[], perHost: number) {
    this.#levels = levels;
    this.#perHost = perHost;
    const zeros = () => levels.map(() => 0);
    this.#used = { domains: zeros(), hosts: 0 };
    this.#fewest = { domains: zeros(), hosts: 0 };
    this.#room = { whole: zeros(), largest: zeros(), domains: zeros(), freeHosts: 0 };
  }

  startCounting(): void {
    this.#counting = true;
  }

  answered(answer: Answered, snapshot: ClusterSnapshot): void {
    if (answer.outcome === 'refused' || answer.outcome === 'fragmented')
      this.#atFirstRefusal ??= allocation(snapshot);
    if (!this.#counting) return;
    const counts = answer.cause === 'arrival' ? this.#arrivals : this.#recoveries;
    counts.requests++;
    if (answer.outcome === 'fragmented') counts.refused++;
    counts[answer.outcome]++;
    if (answer.cause === 'arrival') {
      const hosts = devicesOf(answer.ask) / Math.max(1, this.#perHost);
      this.#hosts.asked += hosts;
      if (answer.outcome === 'fragmented') this.#hosts.fragmented += hosts;
    }
    if (answer.place !== undefined) this.#placed(answer.place, snapshot);
  }

  /** The fleet stayed like this for so long. */
  lasted(seconds: number, snapshot: ClusterSnapshot): void {
    if (!this.#counting || seconds === 0) return;
    this.#seconds += seconds;
    this.#allocation += seconds * (allocation(snapshot) ?? 0);
    this.#addRoom(seconds, freeRoom(snapshot));
  }

  quality(): Quality {
    const { requests, fragmented } = this.#arrivals;
    const perSecond = (sum: number) => (this.#seconds === 0 ? 0 : sum / this.#seconds);
    const hops = this.#hops;
    return {
      arrivals: this.#arrivals,
      recoveries: this.#recoveries,
      fragmentationPer1000: requests === 0 ? 0 : (1000 * fragmented) / requests,
      fragmentedHostShare: ratio(this.#hosts.fragmented, this.#hosts.asked) ?? 0,
      allocationRate: ratio(this.#allocation, this.#seconds),
      allocationAtFirstRefusal: this.#atFirstRefusal,
      freeHosts: perSecond(this.#room.freeHosts),
      levels: this.#levels.map(({ name }, i) => ({
        level: name,
        domains: perSecond(this.#room.domains[i] ?? 0),
        whole: perSecond(this.#room.whole[i] ?? 0),
        largest: perSecond(this.#room.largest[i] ?? 0),
        spanOverFewest: ratio(this.#used.domains[i] ?? 0, this.#fewest.domains[i] ?? 0),
      })),
      hostSpanOverFewest: ratio(this.#used.hosts, this.#fewest.hosts),
      hopsPerRingPair: ratio(hops.ring, hops.ringPairs),
      hopsPerPair: ratio(hops.all, hops.allPairs),
      ringOverLeast: ratio(hops.ring, hops.leastRing),
    };
  }

  #placed({ nodes, fewest }: NonNullable<Answered['place']>, snapshot: ClusterSnapshot): void {
    if (fewest === undefined) return;
    this.#used = addSpans(this.#used, spansOf(snapshot, nodes));
    this.#fewest = addSpans(this.#fewest, fewest);
    const cost = hopCost(snapshot.tree, nodes);
    this.#hops.ring += cost.ring;
    this.#hops.ringPairs += cost.ringPairs;
    this.#hops.all += cost.all;
    this.#hops.allPairs += cost.allPairs;
    this.#hops.leastRing += leastRing(this.#levels, fewest.hosts);
  }

  #addRoom(seconds: number, { freeHosts, levels }: FreeRoom): void {
    this.#room.freeHosts += seconds * freeHosts;
    levels.forEach(({ domains, whole, largest }, i) => {
      add(this.#room.domains, i, seconds * domains);
      add(this.#room.whole, i, seconds * whole);
      add(this.#room.largest, i, seconds * largest);
    });
  }
}

function noCounts(): Counts {
  return { requests: 0, placed: 0, refused: 0, undecided: 0, fragmented: 0 };
}

/** Undefined in a fleet without devices. */
function allocation(snapshot: ClusterSnapshot): number | undefined {
  const { free, all } = deviceUse(snapshot);
  return all === 0 ? undefined : 1 - free / all;
}

function add(sums: number[], index: number, amount: number): void {
  sums[index] = (sums[index] ?? 0) + amount;
}

function addSpans(a: Spans, b: Spans): Spans {
  return { domains: a.domains.map((count, i) => count + (b.domains[i] ?? 0)), hosts: a.hosts + b.hosts };
}

function ratio(part: number, whole: number): number | undefined {
  return whole === 0 ? undefined : part / whole;
}
