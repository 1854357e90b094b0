import { levelName, type TopologyLevel } from '../cluster/topology.ts';
import { hasShape, tpuLevelOf, tpuResource } from '../cluster/tpu-shape.ts';
import type { MemberDemand } from './demand.ts';
import {
  type AnnotationSources,
  invalidTopology,
  isRequestError,
  type TopologyRequestError,
} from './request-annotations.ts';
import { readSlicing } from './slices.ts';
import type { TopologyRequest } from './topology-request.ts';

/**
 * What follows from TPUs. The chips of a TPU slice reach each other only when a workload runs on all of its hosts, so the
 * members with TPUs of a group, or of each of its slices, fill one TPU slice each: they are to be whole in one domain
 * of the level that has shapes. Members without TPUs (a leader on a CPU host) are not held to it.
 *
 * The level is the one that the request itself names, where that has shapes, else the coarsest that has.
 */
export function withTpuSlices(
  request: TopologyRequest,
  group: {
    readonly sources: AnnotationSources;
    readonly demands: readonly MemberDemand[];
    readonly levels: readonly TopologyLevel[];
  },
): TopologyRequest | TopologyRequestError {
  const { sources, demands, levels } = group;
  const coarsest = tpuLevelOf(levels);
  if (coarsest === undefined || !demands.some(takesTpu)) return request;
  const slicing = readSlicing(sources, demands.length);
  if (isRequestError(slicing)) return slicing;
  const { slices, requiredLevel } = request;
  const level =
    [slices?.level, requiredLevel].find(named => named !== undefined && hasShape(levels[named])) ?? coarsest;
  if (slices?.apart === true && slices.level < level)
    return invalidTopology(
      slicing?.key ?? '',
      `keeps subgroups in domains of the level ${levelName(levels, slices.level)}, but their TPU slices are domains of ${levelName(levels, level)}: keep them in those`,
      { permanent: false },
    );
  const parts = tpuRanks(demands, slicing?.ranks ?? [[...demands.keys()]]);
  const tpuSlices = { level, hosts: parts.map(ranks => ranks.length) };
  return { ...request, ...wholeIn(request, { level, parts, size: demands.length }), tpuSlices };
}

export function takesTpu(demand: MemberDemand): boolean {
  return (demand.requests.get(tpuResource) ?? 0) > 0;
}

/** Some members ask for TPUs and some do not, so that what keeps the ones off a node says nothing about the others. */
export function mixesTpu(demands: readonly MemberDemand[]): boolean {
  const [first] = demands;
  return first !== undefined && demands.some(demand => takesTpu(demand) !== takesTpu(first));
}

/** The ranks with TPUs of each part; those in no part make one more. */
function tpuRanks(
  demands: readonly MemberDemand[],
  parts: readonly (readonly number[])[],
): readonly (readonly number[])[] {
  const rest = new Set(demands.flatMap((demand, rank) => (takesTpu(demand) ? [rank] : [])));
  const inParts = parts.map(part => part.filter(rank => rest.delete(rank)));
  return [...inParts, [...rest]].filter(ranks => ranks.length > 0);
}

/** How the planner is told to keep the parts whole. What asks for that already, or for more, stays as it is. */
function wholeIn(
  { requiredLevel, slices }: TopologyRequest,
  tpu: { readonly level: number; readonly parts: readonly (readonly number[])[]; readonly size: number },
): Pick<TopologyRequest, 'slices'> | { readonly requiredLevel: number } {
  const { level, parts, size } = tpu;
  if (parts.every(ranks => ranks.length === 1)) return {};
  if (requiredLevel !== undefined && requiredLevel >= level) return {};
  if (slices !== undefined && slices.level >= level) return {};
  if (slices === undefined && parts[0]?.length === size) return { requiredLevel: level };
  return { slices: { level, ranks: parts, apart: slices?.apart ?? false } };
}
