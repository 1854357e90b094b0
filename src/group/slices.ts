import { berth, kueue, lws } from '../api/names.ts';
import {
  type AnnotationSources,
  firstAnnotation,
  invalidTopology,
  type TopologyRequestError,
} from './request-annotations.ts';

/** The parts that a group falls into, wherever they are to be. */
export interface Slicing {
  /** Key of the annotation that says the size of a part. */
  readonly key: string;
  /** Ranks of each part, ascending. */
  readonly ranks: readonly (readonly number[])[];
}

const permanent = { permanent: true };

/**
 * Reads how a group falls into slices: by LWS's subGroupPolicy, whose pods carry it as annotations, else by a slice size.
 * A size that does not come out even is an error that names it.
 */
export function readSlicing(
  sources: AnnotationSources,
  size: number,
): Slicing | TopologyRequestError | undefined {
  const subgroups = firstAnnotation(sources, [lws.subgroupSize]);
  const wanted = firstAnnotation(sources, [berth.sliceSize, kueue.sliceSize]);
  if (subgroups === undefined) return wanted && equalSlices(wanted, size);
  if (wanted !== undefined && wanted.value !== subgroups.value)
    return invalidTopology(
      wanted.key,
      `must not differ from the subGroupSize ${subgroups.value} of the LeaderWorkerSet; got ${JSON.stringify(wanted.value)}`,
      permanent,
    );
  const policy = firstAnnotation(sources, [lws.subgroupPolicyType])?.value;
  return lwsSlices(subgroups, size, policy === 'LeaderExcluded');
}

/** Parts of equal size in the order of ranks, as Kueue cuts a pod set. */
function equalSlices(
  { key, value }: { readonly key: string; readonly value: string },
  size: number,
): Slicing | TopologyRequestError {
  const sliceSize = memberCount(value);
  if (sliceSize === undefined) return notACount(key, value);
  if (size % sliceSize !== 0)
    return invalidTopology(key, `must divide the group size ${size}; got ${sliceSize}`, permanent);
  const ranks = Array.from({ length: size / sliceSize }, (_, slice) =>
    Array.from({ length: sliceSize }, (_, at) => slice * sliceSize + at),
  );
  return { key, ranks };
}

/** LWS lets size or size - 1 be divisible, and only size - 1 when the leader is in no subgroup (its object webhook). */
function lwsSlices(
  { key, value }: { readonly key: string; readonly value: string },
  size: number,
  leaderExcluded: boolean,
): Slicing | TopologyRequestError {
  const subgroupSize = memberCount(value);
  if (subgroupSize === undefined) return notACount(key, value);
  const divides = (size - 1) % subgroupSize === 0 || (!leaderExcluded && size % subgroupSize === 0);
  if (!divides || subgroupSize > size) {
    const whole = leaderExcluded ? `the ${size - 1} workers` : `the group size ${size} or its workers`;
    return invalidTopology(key, `must divide ${whole}; got ${subgroupSize}`, permanent);
  }
  return { key, ranks: lwsSubgroups({ size, subgroupSize, leaderExcluded }) };
}

/**
 * Ranks by subgroup as LWS labels its pods (v0.10, pkg/webhooks/pod_webhook.go): where only size - 1 is divisible the
 * leader comes on top of the first subgroup, else it is its first member. With LeaderExcluded it is in none. Up to v0.9 a
 * subGroupSize of 1 put the first worker to the leader.
 */
export function lwsSubgroups(policy: {
  readonly size: number;
  readonly subgroupSize: number;
  readonly leaderExcluded: boolean;
}): readonly (readonly number[])[] {
  const { size, subgroupSize, leaderExcluded } = policy;
  const leaderOnTop = leaderExcluded || size % subgroupSize !== 0;
  const subgroups: number[][] = [];
  for (let rank = leaderExcluded ? 1 : 0; rank < size; rank++) {
    const index = rank === 0 ? 0 : Math.floor((leaderOnTop ? rank - 1 : rank) / subgroupSize);
    const subgroup = subgroups[index] ?? [];
    subgroups[index] = subgroup;
    subgroup.push(rank);
  }
  return subgroups;
}

function memberCount(text: string): number | undefined {
  return /^[1-9][0-9]{0,6}$/.test(text) ? Number(text) : undefined;
}

function notACount(key: string, value: string): TopologyRequestError {
  return invalidTopology(
    key,
    `must be a whole number of at least 1; got ${JSON.stringify(value)}`,
    permanent,
  );
}
