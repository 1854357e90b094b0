import { besideLeaderIn, offerAt, type Room, workersIn } from './room.ts';
import { isNamed } from './tree-arrays.ts';

/** Equal slices of workers, each to be whole in one domain of a level. */
export interface EqualSlices {
  readonly level: number;
  /** Workers of a slice. */
  readonly size: number;
  /** Slices other than the leader's. */
  readonly count: number;
  /** Workers in the leader's slice; undefined where no leader is to be placed, or where it stands outside the slices. */
  readonly besideLeader: number | undefined;
  /** No two slices in one domain. */
  readonly apart: boolean;
}

/** How many units (workers, or slices of them) inner domains hold, without the leader and beside it (-1: it may not). */
export interface Units {
  readonly all: Float64Array;
  readonly beside: (domain: number) => number;
  readonly host: (node: number) => { readonly all: number; readonly beside: number };
}

const none = { all: 0, beside: -1 };

/** Workers are counted by the index itself. */
export function workerUnits(room: Room): Units {
  return {
    all: room.workers,
    beside: domain => besideLeaderIn(room, domain),
    host: node => {
      const offer = offerAt(room, node);
      return offer === undefined ? none : { all: offer.workers, beside: offer.beside };
    },
  };
}

/**
 * Slices are to the domains of their level what workers are to hosts: a domain takes so many of them, fewer beside the
 * leader, and sums and least losses roll up as before. O(inner domains x classes), or O(hosts) for slices on one host.
 */
export function sliceUnits(room: Room, slices: EqualSlices): Units {
  const { arrays } = room;
  const { domains, parent } = arrays;
  const all = new Float64Array(domains.length);
  const loss = new Float64Array(domains.length).fill(Number.POSITIVE_INFINITY);
  const hostUnits = workerUnits(room).host;
  const ofHost = (node: number) => {
    const { all: workers, beside } = hostUnits(node);
    return slicesIn(workers, beside, slices);
  };
  const add = (from: number, own: { readonly all: number; readonly beside: number }) => {
    for (let at = from; at >= 0; at = parent[at] ?? -1) {
      all[at] = (all[at] ?? 0) + own.all;
      if (own.beside >= 0) loss[at] = Math.min(loss[at] ?? 0, own.all - own.beside);
    }
  };
  if (slices.level === arrays.tree.levels.length)
    for (let node = 0; node < arrays.above.length; node++) add(arrays.above[node] ?? -1, ofHost(node));
  domains.forEach((domain, at) => {
    if (domain.level !== slices.level) return;
    const beside = besideLeaderIn(room, at);
    if (isNamed(arrays, at)) add(at, slicesIn(workersIn(room, at), beside, slices));
    // Hosts in no domain of the level may still take a leader that is in no slice.
    else if (slices.besideLeader === undefined && beside >= 0) add(at, { all: 0, beside: 0 });
  });
  return {
    all,
    beside: domain =>
      loss[domain] === Number.POSITIVE_INFINITY ? -1 : (all[domain] ?? 0) - (loss[domain] ?? 0),
    host: ofHost,
  };
}

function slicesIn(workers: number, beside: number, slices: EqualSlices): { all: number; beside: number } {
  const { size, besideLeader = 0, apart } = slices;
  const most = apart ? 1 : Number.POSITIVE_INFINITY;
  const all = Math.min(most, Math.floor(workers / size));
  if (beside < besideLeader) return { all, beside: -1 };
  const others = apart && slices.besideLeader !== undefined ? 0 : most;
  return { all, beside: Math.min(others, all, Math.floor((beside - besideLeader) / size)) };
}
