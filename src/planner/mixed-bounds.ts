import { type HostClass, hostPrice, type Packing, wholeHostPrice } from './mixed-packing.ts';

/**
 * A weight for each kind of members. Whatever the weights, hosts together take no more than the heaviest load of each:
 * so every measure is a test that all packings pass, and tells how many hosts they need at least.
 */
export interface Measure {
  readonly weights: readonly number[];
  /** By class, what the heaviest load of one host weighs; or something larger. */
  readonly most: readonly number[];
}

/** With more kinds than this not every set of kinds is a measure of its own, only pairs. */
const kindsWithAllSets = 5;

/** Measures that every state of the exact search is held against. */
const mostTables = 12;

/** Sums of bytes go beyond the integers that are exact: a measure refuses only what is clearly too much. */
const tolerance = 1e-9;

/** Each kind and each resource by itself: cheap, and enough for most refusals. */
export function roughMeasures({ kinds, classes }: Packing): readonly Measure[] {
  const perKind = kinds.map((_, kind) => ({
    weights: kinds.map((_, other) => (other === kind ? 1 : 0)),
    most: classes.map(({ most }) => most[kind] ?? 0),
  }));
  const perResource = (kinds[0]?.amounts ?? []).map((_, resource) => ({
    weights: kinds.map(({ amounts }) => amounts[resource] ?? 0),
    most: classes.map(({ free }) => free[resource] ?? 0),
  }));
  return [...perKind, ...perResource];
}

/** Sets of kinds counted together, and the resources, against what hosts can really be loaded with. */
export function sharpMeasures(
  { kinds }: Packing,
  loads: readonly (readonly (readonly number[])[])[],
): readonly Measure[] {
  const sets = setsOfKinds(kinds.length).map(set => kinds.map((_, kind) => (set.includes(kind) ? 1 : 0)));
  const resources = (kinds[0]?.amounts ?? []).map((_, resource) =>
    kinds.map(({ amounts }) => amounts[resource] ?? 0),
  );
  return [...resources, ...sets].map(weights => ({
    weights,
    most: loads.map(ofClass => ofClass.reduce((most, load) => Math.max(most, weigh(weights, load)), 0)),
  }));
}

/**
 * No packing costs less; Infinity when the measures prove that there is none. Each measure tells how many hosts it takes
 * at least, and with that many hosts how many of them at least are whole ones.
 */
export function leastPrice({ counts, classes }: Packing, measures: readonly Measure[]): number {
  const ladders = measures.map(measure => roomLadders(classes, measure, weigh(measure.weights, counts)));
  const hosts = ladders.reduce((most, ladder) => Math.max(most, fewestHosts(ladder)), 0);
  if (hosts === Number.POSITIVE_INFINITY) return hosts;
  const whole = ladders.reduce((most, ladder) => Math.max(most, fewestWhole(ladder, hosts)), 0);
  return (hosts - whole) * hostPrice + whole * wholeHostPrice;
}

/** Whether what is left may yet be packed into the hosts from a class on for less than a price. */
export type PromiseFrom = (left: readonly number[], hostClass: number, below: number) => boolean;

/** For questions asked very often: it takes all hosts from a class on for as roomy as the roomiest of them. */
export function promiseFrom(packing: Packing, measures: readonly Measure[]): PromiseFrom {
  const { classes } = packing;
  const inUse = sumsFrom(classes.map(({ price, nodes }) => (price === hostPrice ? nodes.length : 0)));
  const tables = sharpestFirst(packing, measures)
    .slice(0, mostTables)
    .map(({ weights, most }) => {
      const room = classes.map(({ nodes }, index) => (most[index] ?? 0) * nodes.length);
      const opens = classes.map(({ price }) => price > 0);
      return {
        weights,
        room: sumsFrom(room),
        roomForFree: sumsFrom(room.map((amount, index) => (opens[index] ? 0 : amount))),
        roomiest: maximaFrom(most.map((amount, index) => (opens[index] ? amount : 0))),
      };
    });
  return (left, hostClass, below) => {
    for (const { weights, room, roomForFree, roomiest } of tables) {
      const need = weigh(weights, left) * (1 - tolerance);
      if (need > (room[hostClass] ?? 0)) return false;
      const rest = need - (roomForFree[hostClass] ?? 0);
      if (rest <= 0) continue;
      const hosts = Math.ceil(rest / (roomiest[hostClass] ?? 0));
      if (priceOf(hosts, inUse[hostClass] ?? 0) >= below) return false;
    }
    return below > 0;
  };
}

/** The measures that refuse most go first: those that need most hosts, or where hosts cost nothing have least to spare. */
function sharpestFirst({ counts, classes }: Packing, measures: readonly Measure[]): readonly Measure[] {
  const rated = measures.map(measure => {
    const room = classes.reduce(
      (sum, { nodes }, index) => sum + (measure.most[index] ?? 0) * nodes.length,
      0,
    );
    const roomiest = classes.reduce(
      (most, { price }, index) => Math.max(most, price > 0 ? (measure.most[index] ?? 0) : 0),
      0,
    );
    const need = weigh(measure.weights, counts);
    return { measure, sharpness: need / Math.max(tolerance, roomiest > 0 ? roomiest : room) };
  });
  return rated.sort((a, b) => b.sharpness - a.sharpness).map(({ measure }) => measure);
}

/** Hosts in use are cheaper, as long as there are any. */
function priceOf(hosts: number, inUse: number): number {
  const cheap = Math.min(hosts, inUse);
  return cheap === hosts ? hosts * hostPrice : cheap * hostPrice + (hosts - cheap) * wholeHostPrice;
}

/** By number of hosts, the most room that so many hosts have, by what they cost; until it is enough or none is left. */
interface RoomLadders {
  /** What hosts that cost something are still to take. */
  readonly need: number;
  readonly inUse: readonly number[];
  readonly whole: readonly number[];
  readonly any: readonly number[];
}

function roomLadders(classes: readonly HostClass[], { most }: Measure, demanded: number): RoomLadders {
  let need = demanded * (1 - tolerance);
  const rungs: { room: number; hosts: number; isWhole: boolean }[] = [];
  classes.forEach(({ price, nodes }, index) => {
    const room = most[index] ?? 0;
    if (price === 0) need -= room * nodes.length;
    else if (room > 0) rungs.push({ room, hosts: nodes.length, isWhole: price > hostPrice });
  });
  rungs.sort((a, b) => b.room - a.room);
  const ladderOf = (chosen: readonly { room: number; hosts: number }[]): readonly number[] => {
    const ladder = [0];
    let sum = 0;
    for (const { room, hosts } of chosen) {
      for (let host = 0; host < hosts && sum < need; host++) {
        sum += room;
        ladder.push(sum);
      }
    }
    return ladder;
  };
  const inUse = ladderOf(rungs.filter(({ isWhole }) => !isWhole));
  const whole = ladderOf(rungs.filter(({ isWhole }) => isWhole));
  return { need, inUse, whole, any: ladderOf(rungs) };
}

function fewestHosts({ need, any }: RoomLadders): number {
  return (any.at(-1) ?? 0) < need ? Number.POSITIVE_INFINITY : any.length - 1;
}

function fewestWhole({ need, inUse, whole }: RoomLadders, hosts: number): number {
  const roomOf = (ladder: readonly number[], n: number) => ladder[Math.min(n, ladder.length - 1)] ?? 0;
  let n = 0;
  while (n < hosts && roomOf(whole, n) + roomOf(inUse, hosts - n) < need) n++;
  return n;
}

function setsOfKinds(kinds: number): readonly (readonly number[])[] {
  const all = Array.from({ length: kinds }, (_, kind) => kind);
  if (kinds <= kindsWithAllSets) {
    return Array.from({ length: 2 ** kinds - 1 }, (_, i) => all.filter(kind => ((i + 1) >> kind) & 1));
  }
  const pairs = all.flatMap(a => all.slice(a + 1).map(b => [a, b]));
  return [...all.map(kind => [kind]), ...pairs, all];
}

function weigh(weights: readonly number[], counts: readonly number[]): number {
  let sum = 0;
  for (let kind = 0; kind < weights.length; kind++) sum += (weights[kind] ?? 0) * (counts[kind] ?? 0);
  return sum;
}

/** For each index the sum from there to the end. */
function sumsFrom(values: readonly number[]): readonly number[] {
  return accumulatedFrom(values, (sum, value) => sum + value);
}

function maximaFrom(values: readonly number[]): readonly number[] {
  return accumulatedFrom(values, Math.max);
}

function accumulatedFrom(
  values: readonly number[],
  join: (a: number, b: number) => number,
): readonly number[] {
  const joined = values.map(() => 0);
  let sum = 0;
  for (let i = values.length - 1; i >= 0; i--) {
    sum = join(sum, values[i] ?? 0);
    joined[i] = sum;
  }
  return joined;
}
