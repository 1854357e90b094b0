import type { HostOffer } from './host-offer.ts';
import { domainTerms, hostTerms, leastBy, type Objective, type Siblings } from './objective.ts';
import { offerAt } from './room.ts';
import {
  classHoldsAll,
  type HostShare,
  holdingAll,
  type Spreading,
  sharesSliceDomain,
  spreadOver,
} from './spread-over.ts';
import { ancestorAt, isNamed, type TreeArrays } from './tree-arrays.ts';

export interface DomainQuestion {
  readonly spreading: Spreading;
  /** -1 for the whole cluster, the number of configured levels for one host. */
  readonly requiredLevel: number;
  readonly siblings: Siblings;
  readonly objective: Objective;
}

/** A domain that holds the whole group, the best of its level. */
export interface Candidate {
  /** The number of configured levels for a single host. */
  readonly level: number;
  /** Inner domain, or the lowest one around the host. */
  readonly domain: number;
  /** The terms of the objective; smaller is better. Comparable on one level only. */
  readonly score: readonly number[];
  readonly shares: readonly HostShare[];
}

/**
 * The best domain for the group, on the finest level that has one: a group never spans more than it must. Cost: the inner
 * domains of the levels looked at, and for the chosen one what is below it.
 */
export function bestDomain(question: DomainQuestion): Candidate | undefined {
  const { spreading, requiredLevel } = question;
  const onHost = bestHost(question);
  if (onHost !== undefined) return onHost;
  for (let level = spreading.room.arrays.tree.levels.length - 1; level >= requiredLevel; level--) {
    const found = bestOfLevel(question, level);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Inner domains of a level (the whole cluster for -1) that contain every member that stays and, below the required
 * level, belong to a named domain of it: a host without a rack label is in no rack.
 */
export function candidatesOf({ spreading, requiredLevel }: DomainQuestion, level: number): readonly number[] {
  const { arrays } = spreading.room;
  const ofLevel = level < 0 ? [0] : (arrays.byLevel[level] ?? []);
  const isAny = spreading.kept.size === 0 && level <= requiredLevel;
  if (isAny) return ofLevel;
  return ofLevel.filter(
    domain =>
      containsKept(spreading, domain) && (level <= requiredLevel || isInNamed(arrays, domain, requiredLevel)),
  );
}

/** Lowest domains, the nameless ones too, whose hosts may be candidates: a host is a domain by itself. */
export function hostsParents({ spreading, requiredLevel }: DomainQuestion): readonly number[] {
  const { arrays } = spreading.room;
  const required = requiredLevel < arrays.tree.levels.length ? requiredLevel : -1;
  return arrays.lowest.filter(
    domain =>
      (spreading.kept.size === 0 || containsKept(spreading, domain)) && isInNamed(arrays, domain, required),
  );
}

function bestOfLevel(question: DomainQuestion, level: number): Candidate | undefined {
  const { spreading, siblings, objective } = question;
  const able = holdingAll(spreading, candidatesOf(question, level));
  const terms = domainTerms(spreading, level, siblings, objective);
  const domain = leastBy(able, terms);
  if (domain === undefined) return undefined;
  return { level, domain, score: terms.map(({ of }) => of(domain)), shares: spreadOver(spreading, domain) };
}

/** A single host for all. Lowest domains are looked at by the classes of their hosts, which are few. */
function bestHost(question: DomainQuestion): Candidate | undefined {
  const { spreading, siblings, objective } = question;
  const { room, workers, withLeader } = spreading;
  const level = room.arrays.tree.levels.length;
  const best = bestOffers(question);
  const offerOf = (domain: number) => room.offers[best.get(domain) ?? -1] ?? noOffer;
  const terms = hostTerms(spreading, offerOf, siblings, objective);
  const domain = leastBy([...best.keys()], terms);
  if (domain === undefined) return undefined;
  const node = hostOffering(spreading, domain, offerOf(domain));
  if (node === undefined) return undefined;
  const shares = workers > 0 || withLeader ? [{ node, workers, leader: withLeader, cell: 0 }] : [];
  return { level, domain, score: terms.map(({ of }) => of(domain)), shares };
}

const noOffer: HostOffer = { workers: 0, beside: -1, whole: false, workerCause: '', leaderCause: '' };

/** By lowest domain the best class of its hosts that hold all; domains without such hosts are left out. */
function bestOffers(question: DomainQuestion): ReadonlyMap<number, number> {
  const { spreading, objective } = question;
  const { room, kept } = spreading;
  const { counts, stride, offers } = room;
  const found = new Map<number, number>();
  if (kept.size > 1) return found;
  const sign = objective.prefer === 'pack' ? 1 : -1;
  const worth = (at: number) => sign * (Number(offers[at]?.whole) * 1e9 + (offers[at]?.workers ?? 0));
  const [keptNode] = kept;
  const ofKept = keptNode === undefined ? undefined : (room.classOf[keptNode] ?? 0);
  const classes = [...offers.keys()]
    .filter(at => classHoldsAll(spreading, at) && (ofKept === undefined || at === ofKept))
    .sort((a, b) => worth(a) - worth(b));
  if (classes.length === 0 || (keptNode !== undefined && room.bars.has(keptNode) && !isPlaced(spreading)))
    return found;
  for (const domain of hostsParents(question)) {
    const best = classes.find(at => kept.size > 0 || (counts[domain * stride + at] ?? 0) > 0);
    if (best !== undefined && sharesSliceDomain(spreading, domain)) found.set(domain, best);
  }
  return found;
}

/** Nobody is left to be placed. */
function isPlaced({ workers, withLeader }: Spreading): boolean {
  return workers === 0 && !withLeader;
}

/** The first host that holds all and is worth what the best one is, of whatever class; a warm one rather. */
function hostOffering(spreading: Spreading, domain: number, best: HostOffer): number | undefined {
  const { room, kept, warm } = spreading;
  const [keptNode] = kept;
  if (keptNode !== undefined) return keptNode;
  const { start, end } = room.arrays;
  const [first, beyond] = [start[domain] ?? 0, end[domain] ?? 0];
  const suits = (node: number) => {
    const offer = offerAt(room, node);
    const isWorthIt = offer?.whole === best.whole && offer.workers === best.workers;
    return isWorthIt && classHoldsAll(spreading, room.classOf[node] ?? 0);
  };
  for (const node of warm) if (node >= first && node < beyond && suits(node)) return node;
  for (let node = first; node < beyond; node++) if (suits(node)) return node;
  return undefined;
}

function containsKept({ kept, room }: Spreading, domain: number): boolean {
  const [start, end] = [room.arrays.start[domain] ?? 0, room.arrays.end[domain] ?? 0];
  for (const node of kept) if (node < start || node >= end) return false;
  return true;
}

/** Whether the domain belongs to a named domain of a level; always so for the cluster. */
function isInNamed(arrays: TreeArrays, domain: number, level: number): boolean {
  return level < 0 || isNamed(arrays, ancestorAt(arrays, domain, level));
}
