import type { NodeSelector } from '../api/kubernetes.ts';
import { berth, nvidia } from '../api/names.ts';
import type { Rung } from '../cluster/devices/alignment.ts';
import type { ClaimRecord, ClaimTemplateRecord, WantedClaim } from '../cluster/devices/claims.ts';
import { computeDomainOf } from '../cluster/devices/compute-domain.ts';
import type { DeviceId } from '../cluster/devices/device.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import { demandWithDevices, type MemberDemand } from './demand.ts';
import { type AnnotationSources, firstAnnotation } from './request-annotations.ts';

/** Looks up the objects behind the claims that pods name. */
export interface ClaimSource {
  template(namespace: string, name: string): ClaimTemplateRecord | undefined;
  claim(namespace: string, name: string): ClaimRecord | undefined;
  /** Whether Berth may steer claims that are made in the namespace. */
  steers(namespace: string): boolean;
  /** Why a group must not be planned with a claim as it is now; undefined when it may. */
  trouble(claim: ClaimRecord, group: string): ClaimTrouble | undefined;
}

export type ClaimTrouble =
  /** It has a device that nobody new should get, until all that use it have let go of it. */
  | { readonly kind: 'failed'; readonly device: DeviceId; readonly users: readonly string[] }
  /** It is about to be allocated for another group, which decides where it will be. */
  | { readonly kind: 'wanted'; readonly group: string };

/** Of a cluster without claims. */
export const noClaims: ClaimSource = {
  template: () => undefined,
  claim: () => undefined,
  steers: () => false,
  trouble: () => undefined,
};

export interface ClaimObstacle {
  readonly code: 'ClaimMissing' | 'ClaimShared' | 'ClaimOnFailedDevice' | 'InvalidAlignment';
  readonly field?: string;
  readonly message: string;
}

export interface ResolvedClaims {
  readonly byRank: readonly MemberDemand[];
  /** All members share a claim that is not allocated yet: they can only be where one of them is. */
  readonly onOneHost: boolean;
  /** A node label on which all members must agree; IMEX channels reach no further than their clique. */
  readonly sameLabels: readonly string[];
}

/**
 * Finds what the claims of all members ask for.
 *
 * A claim that several members name is allocated once. When that has happened, it says where they may go. Before, the
 * first of them to be bound decides for the others, so all members must stand on one host; where only some of them share
 * it, Berth cannot tell yet.
 */
export function resolveClaims(options: {
  readonly demands: readonly MemberDemand[];
  readonly source: ClaimSource;
  readonly sources: AnnotationSources;
  /** Key of the group; without one claims are taken as they are. */
  readonly group?: string;
}): ResolvedClaims | ClaimObstacle {
  const { demands, source, sources, group } = options;
  const wanted = readMinAlignment(sources);
  if (wanted !== undefined && typeof wanted === 'object') return wanted;
  if (wanted === undefined && demands.every(({ claims }) => claims.length === 0))
    return { byRank: demands, onOneHost: false, sameLabels: [] };
  const ranksByClaim = ranksOfClaims(demands);
  for (const { namespace, name } of group === undefined ? [] : ranksByClaim.values()) {
    const claim = source.claim(namespace, name);
    const trouble = claim && source.trouble(claim, group ?? '');
    if (trouble !== undefined) return obstacleOf(`${namespace}/${name}`, trouble);
  }
  const sharing = [...ranksByClaim.values()].filter(
    ({ namespace, name, ranks }) =>
      ranks.length > 1 && source.claim(namespace, name)?.allocation === undefined,
  );
  const torn = sharing.find(({ ranks }) => ranks.length < demands.length);
  if (torn !== undefined) {
    const message = `ResourceClaim ${torn.namespace}/${torn.name} is shared by ${torn.ranks.length} of ${demands.length} members and not allocated yet; the group is planned once it is`;
    return { code: 'ClaimShared', message };
  }
  const byRank: MemberDemand[] = [];
  // Members of one template share one demand: what it comes to is worked out once, but for claims counted at one rank.
  const known = new Map<MemberDemand, MemberDemand>();
  for (const [rank, demand] of demands.entries()) {
    const isFirst = (claim: string) => ranksByClaim.get(claimKey(demand.namespace, claim))?.ranks[0] === rank;
    const namesClaims = demand.claims.some(({ claim }) => claim !== undefined);
    const before = namesClaims ? undefined : known.get(demand);
    const resolved = before ?? resolveMember(demand, { source, wanted, isFirst });
    if ('code' in resolved) return resolved;
    known.set(demand, resolved);
    byRank.push(resolved);
  }
  const claimsChannels = byRank.some(({ devices }) => devices?.computeDomain !== undefined);
  return {
    byRank,
    onOneHost: sharing.length > 0,
    sameLabels: claimsChannels ? [nvidia.clique] : [],
  };
}

function obstacleOf(claim: string, trouble: ClaimTrouble): ClaimObstacle {
  if (trouble.kind === 'wanted') {
    const message = `ResourceClaim ${claim} is about to be allocated for group ${trouble.group}; this one is planned once it is`;
    return { code: 'ClaimShared', message };
  }
  const { driver, pool, device } = trouble.device;
  const users = trouble.users.length === 0 ? 'the old pods of the group' : trouble.users.join(', ');
  const message = `ResourceClaim ${claim} has the failed device ${device} of pool ${pool} (${driver}), and gets another one once it is released by ${users}`;
  return { code: 'ClaimOnFailedDevice', message };
}

/** How near devices must stand; undefined where nothing is demanded. */
export function readMinAlignment(sources: AnnotationSources): Rung | ClaimObstacle | undefined {
  const word = firstAnnotation(sources, [berth.minAlignment])?.value;
  if (word === undefined || word === 'host') return undefined;
  if (word === 'pcie' || word === 'numa') return word;
  const field = `metadata.annotations[${berth.minAlignment}]`;
  const message = `${field} must be pcie, numa or host; got ${JSON.stringify(word)}`;
  return { code: 'InvalidAlignment', field, message };
}

interface MemberQuestion {
  readonly source: ClaimSource;
  readonly wanted: Rung | undefined;
  /** Of those that share a claim the first one is counted with its devices. */
  readonly isFirst: (claim: string) => boolean;
}

function resolveMember(
  demand: MemberDemand,
  { source, wanted, isFirst }: MemberQuestion,
): MemberDemand | ClaimObstacle {
  const own: WantedClaim[] = [];
  const reach: NodeSelector[] = [];
  let steerable = source.steers(demand.namespace);
  for (const { name, template, claim } of demand.claims) {
    if (template !== undefined) {
      const found = source.template(demand.namespace, template);
      if (found === undefined) return missing('ResourceClaimTemplate', demand.namespace, template);
      if (found.annotations[berth.steerClaims] === 'false') steerable = false;
      own.push({ name, spec: found.spec });
    } else if (claim !== undefined) {
      const found = source.claim(demand.namespace, claim);
      if (found === undefined) return missing('ResourceClaim', demand.namespace, claim);
      if (found.allocation === undefined) {
        if (isFirst(claim)) own.push({ name, spec: found.spec });
        // A claim that somebody has made by hand is never rewritten.
        steerable = false;
      } else if (found.allocation.nodeSelector !== undefined) reach.push(found.allocation.nodeSelector);
    } else {
      const message = `claim ${name} names neither a ResourceClaim nor a ResourceClaimTemplate`;
      return { code: 'ClaimMissing', message };
    }
  }
  const minRung = demand.claims.length > 0 || takesDevices(demand) ? wanted : undefined;
  if (own.length === 0 && reach.length === 0 && minRung === undefined) return demand;
  const computeDomain = computeDomainOf(own.flatMap(({ spec }) => spec.devices?.config ?? []));
  return demandWithDevices(demand, { own, reach, minRung, steerable, computeDomain });
}

function ranksOfClaims(
  demands: readonly MemberDemand[],
): ReadonlyMap<
  string,
  { readonly namespace: string; readonly name: string; readonly ranks: readonly number[] }
> {
  const found = new Map<string, { namespace: string; name: string; ranks: number[] }>();
  demands.forEach(({ namespace, claims }, rank) => {
    for (const { claim } of claims) {
      if (claim === undefined) continue;
      const key = claimKey(namespace, claim);
      const entry = found.get(key) ?? { namespace, name: claim, ranks: [] };
      if (entry.ranks.at(-1) !== rank) entry.ranks.push(rank);
      found.set(key, entry);
    }
  });
  return found;
}

function claimKey(namespace: string, claim: string): string {
  return `${namespace}/${claim}`;
}

function takesDevices({ requests }: MemberDemand): boolean {
  for (const [name, amount] of requests) if (amount > 0 && isAcceleratorResource(name)) return true;
  return false;
}

function missing(kind: string, namespace: string, name: string): ClaimObstacle {
  return { code: 'ClaimMissing', message: `the ${kind} ${namespace}/${name} is not there` };
}
