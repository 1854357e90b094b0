import { SeededRandom } from './seeded-random.ts';
import type { FleetFacts, SimulatedAsk } from './simulated-ask.ts';

/** Something that happens to a fleet. What a planner made of it is no part of it, so that one stream suits all. */
export type FleetEvent =
  | {
      readonly kind: 'arrive';
      readonly atSeconds: number;
      readonly owner: string;
      readonly replicas: number;
      readonly ask: SimulatedAsk;
    }
  | { readonly kind: 'scale'; readonly atSeconds: number; readonly owner: string; readonly replicas: number }
  | { readonly kind: 'depart'; readonly atSeconds: number; readonly owner: string }
  | { readonly kind: 'node-lost' | 'node-back'; readonly atSeconds: number; readonly node: string };

/** Sizes of groups, drawn evenly: members, and devices of each. */
export interface DeckEntry {
  readonly size: number;
  readonly devices: number;
}

export interface MixEntry {
  readonly weight: number;
  readonly kind: 'group' | 'single';
  readonly topology?: { readonly wish: 'required' | 'preferred'; readonly level: number } | undefined;
}

export interface StreamOptions {
  readonly seed: number;
  /** Beside those that fill the fleet at time 0. */
  readonly events: number;
  /** Share of the fleet's devices that is asked for on average, were nothing refused. */
  readonly load: number;
  readonly deck: readonly DeckEntry[];
  readonly mix: readonly MixEntry[];
  /** Share of groups whose leader asks for no device. */
  readonly cpuLeaders: number;
  /** For each arrival. */
  readonly scaleRate: number;
  /** For each arrival. */
  readonly lossRate: number;
  readonly levelNames: readonly string[];
  readonly facts: FleetFacts;
}

const meanLifeSeconds = 3600;
const meanRepairSeconds = 1800;
/** Most owners are small. */
const replicaDeck = [1, 1, 1, 2, 2, 3] as const;

/**
 * A stream for a fleet: it is filled to the wanted load at time 0, then owners arrive as a Poisson process and stay for
 * exponential times, whether they get a place or not; nodes fail and come back, owners change their replicas.
 */
export function fleetEvents(options: StreamOptions): readonly FleetEvent[] {
  return new Stream(options).run();
}

/** How many of the events fill the fleet at time 0. */
export function fillingEvents(events: readonly FleetEvent[]): number {
  const first = events.findIndex(({ atSeconds }) => atSeconds > 0);
  return first === -1 ? events.length : first;
}

type Due = { readonly atSeconds: number } & (
  | { readonly kind: 'depart'; readonly owner: string }
  | { readonly kind: 'node-back'; readonly node: string }
);

class Stream {
  readonly #options: StreamOptions;
  readonly #random: SeededRandom;
  readonly #events: FleetEvent[] = [];
  /** By time. */
  readonly #due: Due[] = [];
  readonly #groupOwners: string[] = [];
  readonly #lost = new Set<string>();
  #owners = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
  }

  run(): readonly FleetEvent[] {
    const { load, facts, events, scaleRate, lossRate } = this.#options;
    let asked = 0;
    while (asked < load * facts.capacity) asked += this.#arrive(0);
    const filling = this.#events.length;
    const perOwner = this.#meanDevices();
    const arrivalsPerSecond = (load * facts.capacity) / perOwner / meanLifeSeconds;
    const rates = [
      { kind: 'arrive', weight: 1 },
      { kind: 'scale', weight: scaleRate },
      { kind: 'node-lost', weight: lossRate },
    ] as const;
    const all = rates.reduce((sum, { weight }) => sum + weight, 0) * arrivalsPerSecond;
    let atSeconds = 0;
    while (this.#events.length - filling < events) {
      atSeconds = rounded(atSeconds + this.#random.exponential(1 / all));
      this.#settleDue(atSeconds);
      const kind = this.#random.weighted(rates)?.kind;
      if (kind === 'arrive') this.#arrive(atSeconds);
      else if (kind === 'scale') this.#scale(atSeconds);
      else this.#loseNode(atSeconds);
    }
    return this.#events.slice(0, filling + events);
  }

  #arrive(atSeconds: number): number {
    const ask = this.#drawAsk();
    const replicas = ask.kind === 'single' ? 1 : (this.#random.pick(replicaDeck) ?? 1);
    const owner = `w${this.#owners++}`;
    this.#events.push({ kind: 'arrive', atSeconds, owner, replicas, ask });
    if (ask.kind === 'group') this.#groupOwners.push(owner);
    const endSeconds = rounded(atSeconds + this.#random.exponential(meanLifeSeconds));
    this.#schedule({ kind: 'depart', atSeconds: endSeconds, owner });
    return replicas * devicesOf(ask);
  }

  #scale(atSeconds: number): void {
    const owner = this.#random.pick(this.#groupOwners);
    const replicas = this.#random.pick(replicaDeck) ?? 1;
    if (owner !== undefined) this.#events.push({ kind: 'scale', atSeconds, owner, replicas });
  }

  #loseNode(atSeconds: number): void {
    const node = this.#random.pick(this.#options.facts.nodeNames);
    const repairSeconds = this.#random.exponential(meanRepairSeconds);
    if (node === undefined || this.#lost.has(node)) return;
    this.#lost.add(node);
    this.#events.push({ kind: 'node-lost', atSeconds, node });
    this.#schedule({ kind: 'node-back', atSeconds: rounded(atSeconds + repairSeconds), node });
  }

  #settleDue(untilSeconds: number): void {
    while ((this.#due[0]?.atSeconds ?? Number.POSITIVE_INFINITY) <= untilSeconds) {
      const due = this.#due.shift();
      if (due === undefined) return;
      this.#events.push(due);
      if (due.kind === 'node-back') this.#lost.delete(due.node);
      else removeFrom(this.#groupOwners, due.owner);
    }
  }

  #schedule(due: Due): void {
    let low = 0;
    let high = this.#due.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#due[middle]?.atSeconds ?? 0) <= due.atSeconds) low = middle + 1;
      else high = middle;
    }
    this.#due.splice(low, 0, due);
  }

  #drawAsk(): SimulatedAsk {
    const { deck, mix, cpuLeaders, facts } = this.#options;
    const { kind = 'group', topology } = this.#random.weighted(mix) ?? {};
    if (kind === 'single') {
      const devices = 1 + this.#random.below(Math.max(1, facts.perHost / 2));
      return { kind, size: 1, devices, leaderDevices: devices };
    }
    const { size = 1, devices = facts.perHost } = this.#random.pick(deck) ?? {};
    const cpuLeader = size > 1 && this.#random.next() < cpuLeaders;
    return {
      kind,
      size,
      devices,
      leaderDevices: cpuLeader ? 0 : devices,
      ...(topology && this.#wishFor({ size, devices }, topology)),
    };
  }

  /** A level whose domains could never hold the group is no wish that anybody would utter: the next coarser one is. */
  #wishFor(entry: DeckEntry, topology: NonNullable<MixEntry['topology']>): Pick<SimulatedAsk, 'topology'> {
    const { facts, levelNames } = this.#options;
    const hosts = Math.ceil(entry.size / Math.max(1, Math.floor(facts.perHost / entry.devices)));
    for (let level = topology.level; level >= 0; level--) {
      const name = levelNames[level];
      if (name !== undefined && (facts.largestDomains[level] ?? 0) >= hosts)
        return { topology: { wish: topology.wish, level: name } };
    }
    return {};
  }

  /** Of one owner, over what the deck and the mix make likely. */
  #meanDevices(): number {
    const { deck, mix, cpuLeaders, facts } = this.#options;
    const mean = (amounts: readonly number[]) =>
      amounts.reduce((sum, amount) => sum + amount, 0) / Math.max(1, amounts.length);
    const ofGroup = mean(deck.map(({ size, devices }) => devices * (size - (size > 1 ? cpuLeaders : 0))));
    const ofSingle = (1 + Math.max(1, Math.floor(facts.perHost / 2))) / 2;
    const weight = mix.reduce((sum, entry) => sum + entry.weight, 0);
    const singles =
      mix.reduce((sum, entry) => sum + (entry.kind === 'single' ? entry.weight : 0), 0) / weight;
    return singles * ofSingle + (1 - singles) * ofGroup * mean(replicaDeck);
  }
}

/** Devices of one group, or of the single pod. */
export function devicesOf({ size, devices, leaderDevices }: SimulatedAsk): number {
  return leaderDevices + (size - 1) * devices;
}

/** To the millisecond, so that a trace holds what the simulation has seen. */
function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

/** Order does not matter, and the list may be long. */
function removeFrom(list: string[], item: string): void {
  const at = list.indexOf(item);
  const last = list.pop();
  if (at !== -1 && last !== undefined && at < list.length) list[at] = last;
  else if (at === -1 && last !== undefined) list.push(last);
}
