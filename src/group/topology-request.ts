import { berth, kueue, lws } from '../api/names.ts';
import { findLevel, hostLevelName, levelName, type TopologyLevel } from '../cluster/topology.ts';
import {
  type AnnotationSources,
  firstAnnotation,
  invalidTopology,
  isRequestError,
  type TopologyRequestError,
} from './request-annotations.ts';
import { readSlicing, type Slicing } from './slices.ts';

export { isRequestError, type TopologyRequestError } from './request-annotations.ts';

/** Where a group wants to be. Levels are indices, coarse to fine, into the configured levels. */
export interface TopologyRequest {
  /** All members in one domain of this level, or the group waits. */
  readonly requiredLevel: number | undefined;
  /** All members in one domain of this level if that can be had. */
  readonly preferredLevel: number | undefined;
  /** Node labels that all members' nodes must agree on though they are no configured level. */
  readonly sameLabels: readonly string[];
  /** Parts of the group that are each to be whole in a finer domain. */
  readonly slices?: SliceRequest | undefined;
  /** No domain of this level that members of other groups stand in, and none of them comes in afterwards. */
  readonly exclusiveLevel?: number | undefined;
  /** LWS keeps subgroups apart from subgroups of its namespace only; absent where all groups are kept away. */
  readonly exclusiveAmong?: 'subgroups' | undefined;
  /** Keeps away from domains of this level in which other groups of the owner (its own) stand: must, or rather. */
  readonly spread?: SpreadRequest | undefined;
  /** In a domain of this level where groups of another owner (`namespace/name`) stand. */
  readonly sameDomainAs?: { readonly owner: string; readonly level: number } | undefined;
  /** TPU slices that the members with TPUs fill, see tpu-slices.ts. */
  readonly tpuSlices?: TpuSlices | undefined;
  /** UID of the ComputeDomain that its members join: their nodes are in it or in none. */
  readonly computeDomain?: string | undefined;
}

/** LWS calls them subgroups. */
export interface SliceRequest {
  /** Each slice whole in one domain of this level. */
  readonly level: number;
  /** Ranks of each slice, ascending; a rank in none goes anywhere in the group's domain. */
  readonly ranks: readonly (readonly number[])[];
  /** No two slices in one domain. */
  readonly apart: boolean;
}

export interface SpreadRequest {
  readonly level: number;
  /** `namespace/name` of the owner whose groups keep away from each other. */
  readonly owner: string;
  readonly required: boolean;
}

export interface TpuSlices {
  /** A level with shapes. */
  readonly level: number;
  /** For each TPU slice that the group fills the number of its hosts, which is that of its members. */
  readonly hosts: readonly number[];
}

/** Who asks. */
export interface RequestingGroup {
  readonly namespace: string;
  /** Name of its owner in that namespace. */
  readonly owner: string;
  readonly size: number;
}

interface NamedLevel {
  readonly key: string;
  readonly level: number;
}

type LevelWish = 'required' | 'preferred' | 'slice' | 'exclusive' | 'spread';
type NamedLevels = { readonly [wish in LevelWish]?: NamedLevel };

/** The keys that may name a level, Berth's word before Kueue's. */
const levelKeys: readonly (readonly [LevelWish, readonly string[]])[] = [
  ['required', [berth.requiredTopology, kueue.requiredTopology]],
  ['preferred', [berth.preferredTopology, kueue.preferredTopology]],
  ['slice', [berth.sliceTopology, kueue.sliceTopology]],
  ['exclusive', [berth.exclusiveTopology]],
  ['spread', [berth.spreadTopology]],
];

const permanent = { permanent: true };
const configurable = { permanent: false };

/**
 * Reads the topology request from annotations, most specific source first (pod, template, owner).
 *
 * LWS's exclusive-topology is read as a requirement too: once the leader is bound, LWS gives every worker a
 * nodeSelector with the leader's value of that label, so a plan that spreads over two values could never come true.
 */
export function readTopologyRequest(
  sources: AnnotationSources,
  levels: readonly TopologyLevel[],
  group: RequestingGroup,
): TopologyRequest | TopologyRequestError {
  const named = readLevels(sources, levels);
  if (isRequestError(named)) return named;
  const slices = readSlices(sources, levels, group, named.slice);
  if (isRequestError(slices)) return slices;
  const spread = readSpread(sources, group, named.spread);
  if (isRequestError(spread)) return spread;

  // LWS takes an empty value for none.
  const exclusiveLabel = firstAnnotation(sources, [lws.exclusiveTopology])?.value || undefined;
  const exclusive = exclusiveLabel === undefined ? undefined : findLevel(levels, exclusiveLabel);
  const requiredLevel = finest(named.required?.level, exclusive);
  const sameDomainAs = readSameDomainAs(sources, levels, { group, requiredLevel });
  if (isRequestError(sameDomainAs)) return sameDomainAs;
  return (
    whyNeverTrue({ slices, requiredLevel, levels }) ?? {
      requiredLevel,
      preferredLevel: named.preferred?.level,
      sameLabels: exclusiveLabel !== undefined && exclusive === undefined ? [exclusiveLabel] : [],
      ...(slices !== undefined && { slices: slices.request }),
      ...readExclusivity(named.exclusive, slices),
      ...(spread !== undefined && { spread }),
      ...(sameDomainAs !== undefined && { sameDomainAs }),
    }
  );
}

/** The request for some members of the group alone, whose ranks are counted anew in the order given. */
export function requestForRanks(request: TopologyRequest, ranks: readonly number[]): TopologyRequest {
  const { slices } = request;
  if (slices === undefined) return request;
  const newRanks = new Map(ranks.map((rank, at) => [rank, at]));
  const kept = slices.ranks.map(slice => slice.flatMap(rank => newRanks.get(rank) ?? []));
  return { ...request, slices: { ...slices, ranks: kept.filter(slice => slice.length > 0) } };
}

function readLevels(
  sources: AnnotationSources,
  levels: readonly TopologyLevel[],
): NamedLevels | TopologyRequestError {
  const named: { [wish in LevelWish]?: NamedLevel } = {};
  for (const [wish, keys] of levelKeys) {
    const found = firstAnnotation(sources, keys);
    if (found === undefined) continue;
    const level = findLevel(levels, found.value);
    if (level === undefined) return unknownLevel(found.key, found.value, levels);
    named[wish] = { key: found.key, level };
  }
  return named;
}

interface Slices {
  readonly request: SliceRequest;
  /** The annotation that decided the level. */
  readonly key: string;
}

/** A slicing alone asks for nothing: LWS's subgroups are often there for other reasons. */
function readSlices(
  sources: AnnotationSources,
  levels: readonly TopologyLevel[],
  { size }: RequestingGroup,
  wanted: NamedLevel | undefined,
): Slices | TopologyRequestError | undefined {
  const slicing = readSlicing(sources, size);
  if (isRequestError(slicing)) return slicing;
  const apart = slicing?.key === lws.subgroupSize ? readApart(sources, levels) : undefined;
  if (isRequestError(apart)) return apart;
  if (slicing === undefined)
    return (
      wanted &&
      invalidTopology(wanted.key, `needs ${berth.sliceSize} or a subGroupPolicy beside it`, permanent)
    );
  const level = apart ?? wanted;
  if (level === undefined) return sizeAlone(slicing);
  if (apart !== undefined && wanted !== undefined && wanted.level > apart.level)
    return invalidTopology(
      wanted.key,
      `names the level ${levelName(levels, wanted.level)}, which is finer than the one of ${apart.key}; leave one of them out`,
      configurable,
    );
  return {
    request: { level: level.level, ranks: slicing.ranks, apart: apart !== undefined },
    key: level.key,
  };
}

function sizeAlone({ key }: Slicing): TopologyRequestError | undefined {
  if (key === lws.subgroupSize) return undefined;
  return invalidTopology(key, `needs ${berth.sliceTopology} beside it`, permanent);
}

/** LWS gives each pod of a subgroup required terms over that label, towards its own subgroup and away from all others. */
function readApart(
  sources: AnnotationSources,
  levels: readonly TopologyLevel[],
): NamedLevel | TopologyRequestError | undefined {
  const key = lws.subgroupExclusiveTopology;
  const label = firstAnnotation(sources, [key])?.value ?? '';
  if (label === '') return undefined;
  const level = findLevel(levels, label);
  return level === undefined ? unknownLevel(key, label, levels) : { key, level };
}

/** Where both are there, the coarser level is kept from all groups: that is at least what each of them asks for. */
function readExclusivity(
  wanted: NamedLevel | undefined,
  slices: Slices | undefined,
): Pick<TopologyRequest, 'exclusiveLevel' | 'exclusiveAmong'> {
  const apart = slices?.request.apart === true ? slices.request.level : undefined;
  if (wanted !== undefined) return { exclusiveLevel: Math.min(wanted.level, apart ?? wanted.level) };
  return apart === undefined ? {} : { exclusiveLevel: apart, exclusiveAmong: 'subgroups' };
}

/** The words of topologySpreadConstraints' whenUnsatisfiable. */
function readSpread(
  sources: AnnotationSources,
  { namespace, owner }: RequestingGroup,
  wanted: NamedLevel | undefined,
): SpreadRequest | TopologyRequestError | undefined {
  const policy = firstAnnotation(sources, [berth.spreadPolicy]);
  if (policy !== undefined && policy.value !== 'ScheduleAnyway' && policy.value !== 'DoNotSchedule')
    return invalidTopology(
      policy.key,
      `must be ScheduleAnyway or DoNotSchedule; got ${JSON.stringify(policy.value)}`,
      permanent,
    );
  if (wanted === undefined)
    return policy && invalidTopology(policy.key, `needs ${berth.spreadTopology} beside it`, permanent);
  const required = policy?.value === 'DoNotSchedule';
  return { level: wanted.level, owner: `${namespace}/${owner}`, required };
}

/** `[level:][namespace/]name`; a level may be a node label, which has no colon either. */
const partnerPattern = /^(?:(?<level>[^:]*):)?(?:(?<namespace>[^:/]*)\/)?(?<name>[^:/]*)$/;
const objectName = /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/;

function readSameDomainAs(
  sources: AnnotationSources,
  levels: readonly TopologyLevel[],
  { group, requiredLevel }: { readonly group: RequestingGroup; readonly requiredLevel: number | undefined },
): TopologyRequest['sameDomainAs'] | TopologyRequestError {
  const wanted = firstAnnotation(sources, [berth.sameDomainAs]);
  if (wanted === undefined) return undefined;
  const { key, value } = wanted;
  const {
    level: levelText,
    namespace = group.namespace,
    name = '',
  } = partnerPattern.exec(value)?.groups ?? {};
  if (!objectName.test(namespace) || !objectName.test(name))
    return invalidTopology(key, `must be [level:][namespace/]name; got ${JSON.stringify(value)}`, permanent);
  if (namespace === group.namespace && name === group.owner)
    return invalidTopology(key, "must name another owner than the group's own", permanent);
  const level = levelText === undefined ? requiredLevel : findLevel(levels, levelText);
  if (level !== undefined) return { owner: `${namespace}/${name}`, level };
  return levelText === undefined
    ? invalidTopology(key, `needs a level: ${berth.requiredTopology}, or level:${value}`, permanent)
    : unknownLevel(key, levelText, levels);
}

/** What no cluster could give, whatever its nodes. */
function whyNeverTrue(wish: {
  readonly slices: Slices | undefined;
  readonly requiredLevel: number | undefined;
  readonly levels: readonly TopologyLevel[];
}): TopologyRequestError | undefined {
  const { slices, requiredLevel, levels } = wish;
  if (slices === undefined || requiredLevel === undefined) return undefined;
  const { level, ranks, apart } = slices.request;
  const [inner, outer] = [levelName(levels, level), levelName(levels, requiredLevel)];
  if (level < requiredLevel)
    return invalidTopology(
      slices.key,
      `names the level ${inner}, which is coarser than the level ${outer} that must hold the whole group`,
      configurable,
    );
  if (apart && level === requiredLevel && ranks.length > 1)
    return invalidTopology(
      slices.key,
      `keeps ${ranks.length} subgroups in as many domains of the level ${inner}, of which one must hold the whole group`,
      configurable,
    );
  return undefined;
}

function unknownLevel(key: string, wanted: string, levels: readonly TopologyLevel[]): TopologyRequestError {
  const known = [...levels.map(l => l.name), hostLevelName].join(', ');
  return invalidTopology(
    key,
    `names the unknown topology level ${JSON.stringify(wanted)}; known levels are ${known}`,
    configurable,
  );
}

function finest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.max(a, b);
}
