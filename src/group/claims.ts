import type { ResourceClaimSpec } from '../api/dra.ts';
import type { NodeSelector } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import type { ClaimRecord, PodClaimRef, Rung, WantedClaim } from '../cluster/devices/claims.ts';
import { isAcceleratorResource } from '../cluster/resources.ts';
import { demandWithDevices, type MemberDemand } from './demand.ts';
import { type AnnotationSources, firstAnnotation } from './request-annotations.ts';

/** Looks up the objects behind the claims that pods name. */
export interface ClaimSource {
  template(namespace: string, name: string): ResourceClaimSpec | undefined;
  claim(namespace: string, name: string): ClaimRecord | undefined;
}

/** Of a cluster without claims. */
export const noClaims: ClaimSource = { template: () => undefined, claim: () => undefined };

export interface ClaimObstacle {
  readonly code: 'ClaimMissing' | 'ClaimShared' | 'InvalidAlignment';
  readonly field?: string;
  readonly message: string;
}

export interface ResolvedClaims {
  readonly byRank: readonly MemberDemand[];
  /** All members share a claim that is not allocated yet: they can only be where one of them is. */
  readonly onOneHost: boolean;
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
}): ResolvedClaims | ClaimObstacle {
  const { demands, source, sources } = options;
  const wanted = readMinAlignment(sources);
  if (wanted !== undefined && typeof wanted === 'object') return wanted;
  const ranksByClaim = ranksOfClaims(demands);
  const sharing = [...ranksByClaim].filter(
    ([key, ranks]) => ranks.length > 1 && allocationOf(source, key) === undefined,
  );
  const torn = sharing.find(([, ranks]) => ranks.length < demands.length);
  if (torn !== undefined) {
    const message = `ResourceClaim ${torn[0]} is shared by ${torn[1].length} of ${demands.length} members and not allocated yet; the group is planned once it is`;
    return { code: 'ClaimShared', message };
  }
  const byRank: MemberDemand[] = [];
  for (const [rank, demand] of demands.entries()) {
    const resolved = resolveMember(demand, { source, wanted, ranksByClaim, rank });
    if ('code' in resolved) return resolved;
    byRank.push(resolved);
  }
  return { byRank, onOneHost: sharing.length > 0 };
}

/** How close devices must stand; undefined where nothing is demanded. */
export function readMinAlignment(sources: AnnotationSources): Rung | ClaimObstacle | undefined {
  const word = firstAnnotation(sources, [berth.minAlignment])?.value;
  if (word === undefined || word === 'host') return undefined;
  if (word === 'pcie' || word === 'numa') return word;
  const field = `metadata.annotations[${berth.minAlignment}]`;
  const message = `${field} must be pcie, numa or host; got ${JSON.stringify(word)}`;
  return { code: 'InvalidAlignment', field, message };
}

function resolveMember(
  demand: MemberDemand,
  {
    source,
    wanted,
    ranksByClaim,
    rank,
  }: {
    readonly source: ClaimSource;
    readonly wanted: Rung | undefined;
    readonly ranksByClaim: ReadonlyMap<string, readonly number[]>;
    readonly rank: number;
  },
): MemberDemand | ClaimObstacle {
  const own: WantedClaim[] = [];
  const reach: NodeSelector[] = [];
  for (const { name, template, claim } of demand.claims) {
    if (template !== undefined) {
      const spec = source.template(demand.namespace, template);
      if (spec === undefined) return missing('ResourceClaimTemplate', demand.namespace, template);
      own.push({ name, spec });
    } else if (claim !== undefined) {
      const found = source.claim(demand.namespace, claim);
      if (found === undefined) return missing('ResourceClaim', demand.namespace, claim);
      // Of those that share it the first one is counted with its devices.
      const first = ranksByClaim.get(claimKey(demand.namespace, { claim }))?.[0];
      if (found.allocation === undefined) {
        if (first === rank) own.push({ name, spec: found.spec });
      } else if (found.allocation.nodeSelector !== undefined) reach.push(found.allocation.nodeSelector);
    }
  }
  const minRung = demand.claims.length > 0 || takesDevices(demand) ? wanted : undefined;
  const asksNothing = own.length === 0 && reach.length === 0 && minRung === undefined;
  return asksNothing ? demand : demandWithDevices(demand, { own, reach, minRung });
}

function ranksOfClaims(demands: readonly MemberDemand[]): ReadonlyMap<string, readonly number[]> {
  const ranks = new Map<string, number[]>();
  demands.forEach(({ namespace, claims }, rank) => {
    for (const { claim } of claims) {
      if (claim === undefined) continue;
      const key = claimKey(namespace, { claim });
      const known = ranks.get(key);
      if (known === undefined) ranks.set(key, [rank]);
      else if (known.at(-1) !== rank) known.push(rank);
    }
  });
  return ranks;
}

function claimKey(namespace: string, { claim = '' }: Partial<Pick<PodClaimRef, 'claim'>>): string {
  return `${namespace}/${claim}`;
}

function allocationOf(source: ClaimSource, key: string) {
  const at = key.indexOf('/');
  return source.claim(key.slice(0, at), key.slice(at + 1))?.allocation;
}

function takesDevices({ requests }: MemberDemand): boolean {
  for (const [name, amount] of requests) if (amount > 0 && isAcceleratorResource(name)) return true;
  return false;
}

function missing(kind: string, namespace: string, name: string): ClaimObstacle {
  return { code: 'ClaimMissing', message: `the ${kind} ${namespace}/${name} is not there` };
}
