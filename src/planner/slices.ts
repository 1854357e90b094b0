import type { OpenRanks, PlanInput } from './plan-input.ts';
import type { EqualSlices } from './slice-units.ts';

/** How the ranks of a group with slices fall. */
export interface SlicedRanks {
  readonly equal: EqualSlices;
  /** Worker ranks slice by slice, the leader's first. */
  readonly order: readonly number[];
}

/**
 * Reads the slices of a request for a group of a leader and equal workers. `uneven` where counting does not do: slices of
 * different sizes, ranks in none, members that stay.
 */
export function slicedRanks(
  { topology, fixed, demands }: PlanInput,
  open: OpenRanks,
): SlicedRanks | 'uneven' | undefined {
  const { slices } = topology;
  if (slices === undefined) return undefined;
  if (open.mixed || (fixed !== undefined && fixed.size > 0)) return 'uneven';
  const leaders = slices.ranks.find(ranks => ranks.includes(0));
  const others = slices.ranks.filter(ranks => ranks !== leaders);
  const besideLeader = leaders?.filter(rank => rank !== 0);
  const order = [...(besideLeader ?? []), ...others.flat()];
  const size = others[0]?.length ?? Math.max(1, order.length);
  const sliced = new Set(order);
  const all = sliced.size === order.length && order.length === demands.length - 1;
  if (!all || size === 0 || others.some(ranks => ranks.length !== size)) return 'uneven';
  const { level, apart } = slices;
  return { equal: { level, size, count: others.length, besideLeader: besideLeader?.length, apart }, order };
}
