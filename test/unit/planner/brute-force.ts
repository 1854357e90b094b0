/**
 * A second opinion on small fleets: tries every assignment of members to hosts. Shares no code with the planner and
 * works on plain numbers, so that it can only be wrong in its own way.
 */

/** CPU, GPU, memory. */
export type Amounts = readonly [number, number, number];

export interface SmallHost {
  readonly name: string;
  /** Value by level, coarse to fine; empty where the label is missing. */
  readonly path: readonly string[];
  /** Value of a further label; empty where it is missing. */
  readonly pool: string;
  readonly tainted: boolean;
  readonly cordoned: boolean;
  readonly excluded: boolean;
  readonly allocatable: Amounts;
  readonly podSlots: number;
  /** One pod of a stranger, if any. */
  readonly used: Amounts | undefined;
}

export interface SmallDemand {
  readonly amounts: Amounts;
  readonly pool: string;
  readonly tolerates: boolean;
  readonly port: boolean;
}

export interface Instance {
  readonly seed: number;
  readonly levels: number;
  readonly hosts: readonly SmallHost[];
  readonly demands: readonly SmallDemand[];
  /** Index of its demand by rank. */
  readonly members: readonly number[];
  /** -1 none, `levels` one host. */
  readonly required: number;
  readonly samePool: boolean;
  /** Host index of ranks that stay. */
  readonly fixed: ReadonlyMap<number, number>;
}

export interface Assignment {
  /** Host index by rank. */
  readonly hosts: readonly number[];
  /** Finest level on which all members are in one domain; -1 for the whole fleet. */
  readonly level: number;
}

/** Every assignment that is right, members that are alike in one order only. */
export function allAssignments(instance: Instance): readonly Assignment[] {
  const { members, hosts, fixed } = instance;
  const found: Assignment[] = [];
  const placed: number[] = [];

  function place(rank: number): void {
    if (rank === members.length) {
      if (isRight(instance, placed)) found.push({ hosts: [...placed], level: commonLevel(instance, placed) });
      return;
    }
    const kept = fixed.get(rank);
    if (kept !== undefined) {
      placed[rank] = kept;
      place(rank + 1);
      return;
    }
    for (let host = orderFrom(instance, placed, rank); host < hosts.length; host++) {
      placed[rank] = host;
      if (fitsOn(instance, placed.slice(0, rank + 1), host)) place(rank + 1);
    }
    placed.length = rank;
  }

  place(0);
  return found;
}

/** Says what is wrong with an assignment, whoever made it; undefined when nothing is. */
export function faultOf(instance: Instance, placed: readonly number[]): string | undefined {
  for (const [rank, host] of instance.fixed) if (placed[rank] !== host) return `rank ${rank} was moved`;
  for (const host of new Set(placed)) {
    if (!fitsOn(instance, placed, host)) return `${instance.hosts[host]?.name} cannot take its members`;
  }
  return isRight(instance, placed) ? undefined : 'the members do not agree on their topology';
}

/** Distinct domains of the given level among hosts; the hosts themselves on the finest. */
export function domainsUsed(instance: Instance, hosts: Iterable<number>, level: number): ReadonlySet<string> {
  return new Set([...hosts].map(host => domainOf(instance, host, level)));
}

export function domainOf({ hosts, levels }: Instance, host: number, level: number): string {
  const { path = [], name = '' } = hosts[host] ?? {};
  return JSON.stringify([...path, name].slice(0, Math.min(level, levels) + 1));
}

export function commonLevel(instance: Instance, placed: readonly number[]): number {
  for (let level = instance.levels; level >= 0; level--) {
    const [first = 0] = placed;
    const named = level === instance.levels || instance.hosts[first]?.path[level] !== '';
    if (named && domainsUsed(instance, placed, level).size === 1) return level;
  }
  return -1;
}

function orderFrom({ members, fixed }: Instance, placed: readonly number[], rank: number): number {
  for (let before = rank - 1; before >= 0; before--) {
    if (!fixed.has(before) && members[before] === members[rank]) return placed[before] ?? 0;
  }
  return 0;
}

function isRight(instance: Instance, placed: readonly number[]): boolean {
  const { required, samePool, hosts, levels } = instance;
  if (samePool) {
    const pools = new Set(placed.map(host => hosts[host]?.pool));
    if (pools.size > 1 || pools.has('')) return false;
  }
  if (required < 0) return true;
  if (domainsUsed(instance, placed, required).size > 1) return false;
  return required === levels || placed.every(host => hosts[host]?.path[required] !== '');
}

/** Whether the members so far can stand on a host together; those that stay are there by right. */
function fitsOn(
  { hosts, demands, members, fixed }: Instance,
  placed: readonly number[],
  at: number,
): boolean {
  const host = hosts[at];
  if (host === undefined) return false;
  const taken = [0, 0, 0];
  let pods = 0;
  let ports = 0;
  const take = (amounts: Amounts) => {
    amounts.forEach((amount, i) => {
      taken[i] = (taken[i] ?? 0) + amount;
    });
    pods++;
  };
  if (host.used !== undefined) take(host.used);
  const asked = [false, false, false];
  let newcomers = 0;
  let asksPort = false;
  const ranks = new Set([...placed.keys(), ...fixed.keys()]);
  for (const rank of ranks) {
    const demand = demands[members[rank] ?? 0];
    if (demand === undefined || (fixed.get(rank) ?? placed[rank]) !== at) continue;
    take(demand.amounts);
    if (demand.port) ports++;
    if (fixed.has(rank)) continue;
    newcomers++;
    asksPort ||= demand.port;
    if (host.excluded || host.cordoned || (host.tainted && !demand.tolerates)) return false;
    if (demand.pool !== '' && demand.pool !== host.pool) return false;
    demand.amounts.forEach((amount, i) => {
      if (amount > 0) asked[i] = true;
    });
  }
  if (newcomers === 0) return true;
  if (pods > host.podSlots || (asksPort && ports > 1)) return false;
  return host.allocatable.every((amount, i) => !asked[i] || (taken[i] ?? 0) <= amount);
}
