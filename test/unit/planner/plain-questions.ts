import { demandOfPod, type MemberDemand } from '../../../src/group/demand.ts';
import type { TopologyRequest } from '../../../src/group/topology-request.ts';
import { decode } from '../../builders/planning.ts';
import { type Ask, podOf } from '../../builders/pods.ts';

/** Demands of members that exist and wait, by rank. */
export function demandsOf(asks: readonly Ask[]): readonly MemberDemand[] {
  return asks.map((ask, rank) => demandOfPod(decode(podOf({ name: `m-${rank}`, gated: true, ...ask }))));
}

export function requestOf(wish: Partial<TopologyRequest> = {}): TopologyRequest {
  return { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [], ...wish };
}

/** Members of equal slices by rank. */
export function slicesOf(
  level: number,
  sizes: readonly number[],
  apart = false,
): Pick<TopologyRequest, 'slices'> {
  let next = 0;
  const ranks = sizes.map(size => Array.from({ length: size }, () => next++));
  return { slices: { level, ranks, apart } };
}
