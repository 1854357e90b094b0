import { berth, lws } from '../api/names.ts';
import { findLevel, hostLevelName, type TopologyLevel } from '../cluster/topology.ts';

/** Where a group wants to be. Levels are indices, coarse to fine, into the configured levels. */
export interface TopologyRequest {
  /** All members in one domain of this level, or the group waits. */
  readonly requiredLevel: number | undefined;
  /** All members in one domain of this level if that can be had. */
  readonly preferredLevel: number | undefined;
  /** Node labels that all members' nodes must agree on though they are no configured level. */
  readonly sameLabels: readonly string[];
}

export interface TopologyRequestError {
  readonly code: 'InvalidTopology';
  readonly field: string;
  readonly message: string;
}

/** Kueue's own words for the same wish; they hold node label keys. Read only where Kueue does not own the pod. */
const kueueRequired = 'kueue.x-k8s.io/podset-required-topology';
const kueuePreferred = 'kueue.x-k8s.io/podset-preferred-topology';

/**
 * Reads the topology request from annotations, most specific source first (pod, template, owner).
 *
 * LWS's exclusive-topology is read as a requirement too: once the leader is bound, LWS gives every worker a
 * nodeSelector with the leader's value of that label, so a plan that spreads over two values could never come true.
 */
export function readTopologyRequest(
  sources: readonly (Readonly<Record<string, string>> | undefined)[],
  levels: readonly TopologyLevel[],
): TopologyRequest | TopologyRequestError {
  const required = read(sources, [berth.requiredTopology, kueueRequired], levels);
  if (required !== undefined && 'code' in required) return required;
  const preferred = read(sources, [berth.preferredTopology, kueuePreferred], levels);
  if (preferred !== undefined && 'code' in preferred) return preferred;

  // LWS takes an empty value for none.
  const exclusiveLabel = annotationOf(sources, lws.exclusiveTopology) || undefined;
  const exclusive = exclusiveLabel === undefined ? undefined : findLevel(levels, exclusiveLabel);
  return {
    requiredLevel: finest(required?.level, exclusive),
    preferredLevel: preferred?.level,
    sameLabels: exclusiveLabel !== undefined && exclusive === undefined ? [exclusiveLabel] : [],
  };
}

function read(
  sources: readonly (Readonly<Record<string, string>> | undefined)[],
  keys: readonly string[],
  levels: readonly TopologyLevel[],
): { level: number } | TopologyRequestError | undefined {
  for (const key of keys) {
    const wanted = annotationOf(sources, key);
    if (wanted === undefined) continue;
    const level = findLevel(levels, wanted);
    if (level !== undefined) return { level };
    const field = `metadata.annotations[${key}]`;
    const known = [...levels.map(l => l.name), hostLevelName].join(', ');
    const message = `${field} names the unknown topology level ${JSON.stringify(wanted)}; known levels are ${known}`;
    return { code: 'InvalidTopology', field, message };
  }
  return undefined;
}

function annotationOf(
  sources: readonly (Readonly<Record<string, string>> | undefined)[],
  key: string,
): string | undefined {
  return sources.find(source => source?.[key] !== undefined)?.[key];
}

function finest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.max(a, b);
}
