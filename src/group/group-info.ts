import type { LeaderWorkerSet } from '../api/kubernetes.ts';
import { berth, lws } from '../api/names.ts';
import { QuantityError } from '../cluster/quantity.ts';
import type { Resources } from '../cluster/resources.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { type ClaimObstacle, type ClaimSource, type ResolvedClaims, resolveClaims } from './claims.ts';
import {
  addedAtAdmission,
  demandAlike,
  demandOfPod,
  demandOfTemplate,
  demandWithRequests,
  type MemberDemand,
  selectionAddedAtAdmission,
} from './demand.ts';
import { groupKeyOf, type Membership } from './membership.ts';
import type { PodInfo } from './pod-info.ts';
import type { AnnotationSources } from './request-annotations.ts';
import { withoutSubgroupTerms } from './subgroup-terms.ts';
import {
  isRequestError,
  readTopologyRequest,
  type TopologyRequest,
  type TopologyRequestError,
} from './topology-request.ts';
import { withTpuSlices } from './tpu-slices.ts';

/** What must land together: every member with its demand, those that do not exist yet included. */
export interface GroupInfo {
  readonly key: string;
  readonly membership: Membership;
  readonly leader: PodInfo;
  readonly size: number;
  readonly priority: number;
  readonly createdAtMs: number;
  /** By rank. */
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
}

/** Why a group cannot be planned now; not a verdict about room. */
export interface GroupObstacle {
  readonly code:
    | 'InvalidTopology'
    | 'InvalidQuantity'
    | 'OwnerMissing'
    | 'MembersMissing'
    | 'SizeChanged'
    | ClaimObstacle['code'];
  readonly field?: string;
  readonly message: string;
}

export interface GroupSource {
  readonly membership: Membership;
  readonly leader: PodInfo;
  /** Live members of this incarnation by rank, the leader included. */
  readonly members: ReadonlyMap<number, PodInfo>;
  readonly owner: LeaderWorkerSet | undefined;
  /** Largest requests seen of a worker made from the same template. */
  readonly seenWorker: Resources | undefined;
  /** Where the objects behind claims are looked up. */
  readonly claims: ClaimSource;
  readonly levels: readonly TopologyLevel[];
  /** A labelled group whose members are late may be planned from those that exist. */
  readonly assumeMissingAlike: boolean;
  /** Members of a labelled group are to be made anew, and go where they can and not where they are. */
  readonly comesAgain?: boolean;
}

export function isObstacle(value: GroupInfo | GroupObstacle): value is GroupObstacle {
  return 'code' in value;
}

/** Describes a whole group from its leader, the members that exist and, for LWS, the owner's templates. */
export function buildGroupInfo(source: GroupSource): GroupInfo | GroupObstacle {
  const { membership, leader, owner, levels } = source;
  const sources = requestSources(leader.annotations, owner);
  const asked = readTopologyRequest(sources, levels, membership);
  if (isRequestError(asked)) return topologyObstacle(asked);
  const read = membership.kind === 'lws' ? readableDemands(source) : labelledDemands(source);
  if ('code' in read) return read;
  const group = groupKeyOf(membership);
  const resolved = resolveClaims({ demands: read.byRank, source: source.claims, sources, group });
  if ('code' in resolved) return resolved;
  const demands = withoutSubgroupTerms(resolved.byRank, asked, levels);
  const sliced = withTpuSlices(asked, { sources, demands, levels });
  if (isRequestError(sliced)) return topologyObstacle(sliced);
  const topology = withClaimRules(sliced, resolved, levels.length);
  return {
    key: group,
    membership,
    leader,
    size: membership.size,
    priority: leader.priority,
    createdAtMs: leader.createdAtMs,
    demands,
    topology,
  };
}

/** Where the request of a group may stand, the leader's own annotations first. */
export function requestSources(
  leaderAnnotations: Readonly<Record<string, string>>,
  owner: LeaderWorkerSet | undefined,
): AnnotationSources {
  const workerTemplate = owner?.spec.leaderWorkerTemplate.workerTemplate;
  return [leaderAnnotations, workerTemplate?.metadata?.annotations, owner?.metadata.annotations];
}

/** Where claims leave the members to be, besides what the topology request says. */
function withClaimRules(
  topology: TopologyRequest,
  { onOneHost, sameLabels }: ResolvedClaims,
  hostLevel: number,
): TopologyRequest {
  return {
    ...topology,
    ...(onOneHost && { requiredLevel: hostLevel }),
    ...(sameLabels.length > 0 && { sameLabels: [...new Set([...topology.sameLabels, ...sameLabels])] }),
  };
}

type Demands = { readonly byRank: readonly MemberDemand[] };

/** A template may hold quantities that the API server would refuse in a pod. */
function readableDemands(source: GroupSource): Demands | GroupObstacle {
  try {
    return lwsDemands(source);
  } catch (error) {
    if (!(error instanceof QuantityError)) throw error;
    return {
      code: 'InvalidQuantity',
      message: `LeaderWorkerSet ${source.membership.owner}: ${error.message}`,
    };
  }
}

function lwsDemands(source: GroupSource): Demands | GroupObstacle {
  const { membership, leader, members, owner } = source;
  // Past its gate it carries a pin, which says where it was to go and not where it could.
  const leaderDemand = demandAlike(leader);
  if (membership.size === 1) return { byRank: [leaderDemand] };
  let absent: MemberDemand | undefined;
  const byRank = [leaderDemand];
  for (let rank = 1; rank < membership.size; rank++) {
    const member = members.get(rank);
    if (member !== undefined && (member.scheduling !== undefined || owner === undefined)) {
      byRank.push(demandOfPod(member));
      continue;
    }
    if (owner === undefined) {
      const message = `the LeaderWorkerSet ${membership.owner}, which describes the missing members, is not there`;
      return { code: 'OwnerMissing', message };
    }
    absent ??= absentWorkerDemand(source, owner);
    // Of a worker past its gate only the requests are kept; where it could go, the template tells.
    byRank.push(member === undefined ? absent : demandWithRequests(absent, member.requests));
  }
  return { byRank };
}

function absentWorkerDemand(source: GroupSource, owner: LeaderWorkerSet): MemberDemand {
  const { membership, leader, seenWorker } = source;
  const { leaderTemplate, workerTemplate } = owner.spec.leaderWorkerTemplate;
  const leaderSpec = (leaderTemplate ?? workerTemplate).spec;
  const groupKey = leader.labels[lws.groupKey];
  const selection =
    leader.scheduling === undefined ? undefined : selectionAddedAtAdmission(leader.scheduling, leaderSpec);
  // A node selector may come from the leader's own RuntimeClass; only of the same template it is sure.
  const ofSameTemplate = leaderTemplate === undefined;
  return demandOfTemplate({
    namespace: membership.namespace,
    template: workerTemplate,
    labels: {
      [lws.name]: membership.owner,
      ...(groupKey !== undefined && { [lws.groupKey]: groupKey }),
    },
    seen: seenWorker,
    addedAtAdmission: addedAtAdmission(leader.requests, leaderSpec),
    selectionAdded: selection && (ofSameTemplate ? selection : { ...selection, nodeSelector: {} }),
  });
}

/**
 * Labelled groups have no template to read. As a rule all members are made at once; when some stay away (a StatefulSet
 * that starts its pods in order) they are taken to be like the last one seen.
 */
function labelledDemands(source: GroupSource): Demands | GroupObstacle {
  const { membership, members, assumeMissingAlike, comesAgain = false } = source;
  const present = [...members.values()];
  const isLabelled = membership.kind === 'labelled';
  const differing = present.find(
    pod => isLabelled && pod.labels[berth.groupSize] !== String(membership.size),
  );
  if (differing !== undefined) {
    const field = `metadata.labels[${berth.groupSize}]`;
    const message = `${field} of pod ${differing.name} differs from the leader's ${membership.size}`;
    return { code: 'SizeChanged', field, message };
  }
  if (members.size < membership.size && !assumeMissingAlike) {
    const message = `${members.size} of ${membership.size} members have been created`;
    return { code: 'MembersMissing', message };
  }
  const last = [...members.keys()].sort((a, b) => b - a)[0] ?? 0;
  const alike = members.get(last) ?? source.leader;
  const byRank = Array.from({ length: membership.size }, (_, rank) => {
    const member = members.get(rank);
    if (member === undefined) return demandAlike(alike);
    return comesAgain ? demandAlike(member) : demandOfPod(member);
  });
  return { byRank };
}

function topologyObstacle(error: TopologyRequestError): GroupObstacle {
  return { code: 'InvalidTopology', field: error.field, message: error.message };
}
