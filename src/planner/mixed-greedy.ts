import {
  emptyHost,
  type Filling,
  type HostLoad,
  isNothing,
  type Packed,
  type Packing,
  packedOf,
  put,
  roomFor,
} from './mixed-packing.ts';

/** Of very many hosts only the most promising are compared at each step, so that this bounds the work. */
const mostLooks = 1_000_000;

/**
 * Packs by rules of thumb; undefined when they find no place, which proves nothing. Two rules, each in two orders of the
 * kinds: one aims at few hosts, the other at finding a place at all. Ends early at `leastPrice`, which nothing can beat.
 */
export function packGreedily(packing: Packing, leastPrice: number): Packed | undefined {
  const { kinds, classes } = packing;
  const room = kinds.map((_, kind) =>
    classes.reduce((sum, { most, nodes }) => sum + (most[kind] ?? 0) * nodes.length, 0),
  );
  const heaviestFirst = [...kinds.keys()];
  const scarcestFirst = [...heaviestFirst].sort((a, b) => (room[a] ?? 0) - (room[b] ?? 0));
  // A member counts for the share it takes of all the room there is for its kind.
  const shares = room.map(places => 1 / Math.max(1, places));
  let best: Packed | undefined;
  for (const rule of [fillHosts, placeKinds]) {
    for (const order of [heaviestFirst, scarcestFirst]) {
      const loads = rule(packing, order, shares);
      if (loads === undefined) continue;
      const found = packedOf(packing, loads);
      if (best === undefined || found.price < best.price) best = found;
      if (best.price <= leastPrice) return best;
    }
    // A place was found: the second rule only uses more hosts.
    if (best !== undefined) return best;
  }
  return best;
}

type Rule = (
  packing: Packing,
  order: readonly number[],
  shares: readonly number[],
) => readonly HostLoad[] | undefined;

interface Offer {
  readonly index: number;
  readonly take: readonly number[];
  /** How much of what is left the host would take. */
  readonly value: number;
}

/** Host after host, each time the one that takes most of what is left; the tightest, where several take as much. */
const fillHosts: Rule = (packing, order, shares) => {
  const { kinds, counts, classes } = packing;
  const left = [...counts];
  const loads: HostLoad[] = [];
  const unused = classes.map(({ nodes }) => nodes.length);
  const sizes = classes.map(({ most }) => weigh(most, shares));
  const members = counts.reduce((sum, count) => sum + count, 0);
  const compared = Math.ceil(mostLooks / (members * kinds.length));
  const offerOf = (index: number): Offer => {
    const take = fill(packing, index, order, left);
    return { index, take, value: weigh(take, shares) };
  };
  let candidates = [...classes.keys()];
  if (candidates.length > compared) {
    const offers = candidates.map(offerOf).sort((a, b) => b.value - a.value);
    candidates = offers.map(({ index }) => index);
  }
  while (!isNothing(left)) {
    candidates = candidates.filter(index => (unused[index] ?? 0) > 0);
    let best: Offer | undefined;
    for (const index of candidates.slice(0, compared)) {
      const offer = offerOf(index);
      if (best === undefined || isBetter(packing, sizes, offer, best)) best = offer;
    }
    if (best === undefined || best.value === 0) return undefined;
    const { index, take } = best;
    const times = Math.min(unused[index] ?? 0, timesWithin(take, left));
    for (let i = 0; i < times; i++) loads.push({ hostClass: index, take });
    take.forEach((members, kind) => {
      left[kind] = (left[kind] ?? 0) - members * times;
    });
    unused[index] = (unused[index] ?? 0) - times;
  }
  return loads;
};

/** How many hosts of a class can have just the same load. */
function timesWithin(take: readonly number[], left: readonly number[]): number {
  let times = Number.POSITIVE_INFINITY;
  take.forEach((members, kind) => {
    if (members > 0) times = Math.min(times, Math.floor((left[kind] ?? 0) / members));
  });
  return times;
}

/** Kind after kind, each onto the hosts with the least room for it first, so that roomy hosts stay for those in need. */
const placeKinds: Rule = ({ kinds, counts, classes }, order) => {
  const hosts = classes.flatMap((host, hostClass) =>
    host.nodes.map(() => ({ host, hostClass, filling: emptyHost(host) })),
  );
  for (const kind of order) {
    const amounts = kinds[kind]?.amounts ?? [];
    let left = counts[kind] ?? 0;
    const offers = hosts
      .map(place => ({ ...place, room: roomFor(place.host, kind, amounts, place.filling) }))
      .filter(({ room }) => room > 0)
      .sort((a, b) => a.room - b.room);
    for (const { filling, room } of offers) {
      const members = Math.min(room, left);
      put(filling, kind, amounts, members);
      left -= members;
    }
    if (left > 0) return undefined;
  }
  return hosts.flatMap(({ hostClass, filling: { take } }) => (isNothing(take) ? [] : [{ hostClass, take }]));
};

/** As much of what is left as one host takes, kind after kind. */
function fill(
  { kinds, classes }: Packing,
  index: number,
  order: readonly number[],
  left: readonly number[],
): readonly number[] {
  const host = classes[index];
  if (host === undefined) return [];
  const filling: Filling = emptyHost(host);
  for (const kind of order) {
    const wanted = left[kind] ?? 0;
    if (wanted === 0) continue;
    const amounts = kinds[kind]?.amounts ?? [];
    put(filling, kind, amounts, Math.min(wanted, roomFor(host, kind, amounts, filling)));
  }
  return filling.take;
}

function isBetter({ classes }: Packing, sizes: readonly number[], offer: Offer, best: Offer): boolean {
  const value = offer.value - best.value;
  // The same members may sum up to numbers that differ by rounding.
  if (Math.abs(value) > 1e-9) return value > 0;
  const price = (classes[offer.index]?.price ?? 0) - (classes[best.index]?.price ?? 0);
  if (price !== 0) return price < 0;
  return (sizes[offer.index] ?? 0) < (sizes[best.index] ?? 0);
}

function weigh(take: readonly number[], shares: readonly number[]): number {
  return take.reduce((sum, n, kind) => sum + n * (shares[kind] ?? 0), 0);
}
