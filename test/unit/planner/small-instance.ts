/** CPU, accelerators, memory. */
export type Amounts = readonly [number, number, number];

/** Stands for the host name, the level `levels`, and the label `pool` among the labels of a term. */
export type TermKey = number | 'pool';

/** A required inter-pod term: towards pods with that `app` label, or away from them. */
export interface SmallTerm {
  readonly key: TermKey;
  readonly app: string;
}

/** A pod of somebody else that runs on a host. */
export interface Stranger {
  readonly amounts: Amounts;
  readonly app: string;
  readonly port: number;
  readonly away: readonly SmallTerm[];
}

export interface SmallHost {
  readonly name: string;
  /** Value by level, coarse to fine; empty where the label is missing. */
  readonly path: readonly string[];
  /** Value of a further label; empty where it is missing. */
  readonly pool: string;
  /** Whether it carries the label with its host name. */
  readonly hostLabel: boolean;
  readonly tainted: boolean;
  readonly cordoned: boolean;
  readonly ready: boolean;
  readonly excluded: boolean;
  readonly allocatable: Amounts;
  readonly podSlots: number;
  readonly strangers: readonly Stranger[];
  /** Shape of the TPU slice; empty where the label is missing. */
  readonly shape: string;
  /** UID of the ComputeDomain that the host has joined; empty for none. */
  readonly computeDomain: string;
}

export interface SmallDemand {
  readonly amounts: Amounts;
  readonly pool: string;
  readonly tolerates: boolean;
  /** 0 for none. */
  readonly port: number;
  readonly app: string;
  readonly near: readonly SmallTerm[];
  readonly away: readonly SmallTerm[];
}

export interface SmallSlices {
  readonly level: number;
  readonly ranks: readonly (readonly number[])[];
  readonly apart: boolean;
}

/** Another group that has its places. */
export interface Neighbour {
  /** `own` for one of the same owner. */
  readonly owner: 'own' | 'partner' | 'other';
  readonly hosts: readonly number[];
  readonly exclusive: number | undefined;
}

/** A fleet and a group in plain numbers. Levels count from the coarsest; `levels` is one host, -1 is none. */
export interface Instance {
  readonly seed: number;
  readonly levels: number;
  readonly hosts: readonly SmallHost[];
  readonly demands: readonly SmallDemand[];
  /** Index of its demand by rank. */
  readonly members: readonly number[];
  readonly required: number;
  readonly preferred: number;
  readonly samePool: boolean;
  /** Host index of ranks that stay. */
  readonly fixed: ReadonlyMap<number, number>;
  readonly slices: SmallSlices | undefined;
  readonly neighbours: readonly Neighbour[];
  readonly exclusive: number | undefined;
  readonly spread: { readonly level: number; readonly required: boolean } | undefined;
  /** Level of the domain to be shared with the partner. */
  readonly partner: number | undefined;
  readonly computeDomain: string;
  /** Level whose domains are TPU slices; accelerators are TPUs then. */
  readonly tpuLevel: number | undefined;
  /** Host indices. */
  readonly warm: readonly number[];
  readonly prefer: 'pack' | 'spread';
}

/** The domain of a level around a host, as text that is its own; the fleet for -1. */
export function domainOf({ hosts, levels }: Instance, host: number, level: number): string {
  const { path = [], name = '' } = hosts[host] ?? {};
  return JSON.stringify([...path, name].slice(0, Math.min(level, levels) + 1));
}

/** Whether the host is in a domain of the level at all; a host without a rack label is in no rack. */
export function isInDomain({ hosts, levels }: Instance, host: number, level: number): boolean {
  return level < 0 || level >= levels || hosts[host]?.path[level] !== '';
}

export function domainsUsed(instance: Instance, hosts: Iterable<number>, level: number): ReadonlySet<string> {
  return new Set([...hosts].map(host => domainOf(instance, host, level)));
}

/** Finest level on which all of the hosts are in one domain; -1 for the whole fleet. */
export function commonLevel(instance: Instance, placed: readonly number[]): number {
  const [first = 0] = placed;
  for (let level = instance.levels; level >= 0; level--)
    if (isInDomain(instance, first, level) && domainsUsed(instance, placed, level).size === 1) return level;
  return -1;
}

/** The group's ranks that have no host yet. */
export function openRanksOf({ members, fixed }: Instance): readonly number[] {
  return [...members.keys()].filter(rank => !fixed.has(rank));
}

/** No terms of members reach beyond a host towards members of their own group. */
export function isLocal({ members, demands, levels }: Instance): boolean {
  const own = new Set(members.map(member => demands[member]?.app));
  return demands.every(
    ({ near, away }) =>
      near.every(({ app }) => !own.has(app)) && away.every(({ app, key }) => !own.has(app) || key === levels),
  );
}

/** Whether counting decides: a leader and equal workers, slices of one size, no terms that reach beyond a host. */
export function isCounted(instance: Instance): boolean {
  const { members, fixed, slices } = instance;
  const workers = openRanksOf(instance).filter(rank => rank > 0);
  if (new Set(workers.map(rank => members[rank])).size > 1) return false;
  const isSliced = slices !== undefined || instance.tpuLevel !== undefined;
  if (isSliced && fixed.size > 0) return false;
  if (slices !== undefined && !areEven(instance, slices)) return false;
  return isLocal(instance);
}

/** Slices other than the leader's of one size, and all ranks in one, the leader perhaps in none. */
function areEven({ members }: Instance, { ranks }: SmallSlices): boolean {
  const others = ranks.filter(slice => !slice.includes(0));
  const sliced = new Set(ranks.flat());
  return (
    new Set(others.map(slice => slice.length)).size <= 1 &&
    [...members.keys()].every(rank => rank === 0 || sliced.has(rank))
  );
}
