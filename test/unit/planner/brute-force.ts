/**
 * A second opinion on small fleets: tries every assignment of members to hosts. Shares no code with the planner and
 * works on plain numbers, so that it can only be wrong in its own way.
 */
import { canComeInTurn, isAdmitted } from './brute-force-affinity.ts';
import { tpuFault } from './brute-force-tpu.ts';
import {
  commonLevel,
  domainOf,
  domainsUsed,
  type Instance,
  isInDomain,
  openRanksOf,
  type SmallDemand,
} from './small-instance.ts';

export interface Assignment {
  /** Host index by rank. */
  readonly hosts: readonly number[];
  readonly level: number;
}

/** Every assignment that is right, members that are alike in one order only. */
export function* allAssignments(instance: Instance): Iterable<Assignment> {
  const { members, hosts, fixed } = instance;
  const open = openRanksOf(instance);
  const scene = sceneOf(instance);
  const placed = members.map((_, rank) => fixed.get(rank) ?? -1);
  const twins = open.map((rank, at) => open.slice(0, at).findLast(other => areAlike(instance, rank, other)));

  function* place(at: number): Iterable<Assignment> {
    const rank = open[at];
    if (rank === undefined) {
      if (faultOfWhole(instance, placed) === undefined)
        yield { hosts: [...placed], level: commonLevel(instance, placed) };
      return;
    }
    const twin = twins[at];
    for (let host = twin === undefined ? 0 : (placed[twin] ?? 0); host < hosts.length; host++) {
      if (!scene.take(rank, host)) continue;
      placed[rank] = host;
      if (mayGoOn(instance, placed, rank)) yield* place(at + 1);
      scene.giveBack(rank, host);
      placed[rank] = -1;
    }
  }

  yield* place(0);
}

/** Says what is wrong with an assignment, whoever made it; undefined when nothing is. */
export function faultOf(instance: Instance, placed: readonly number[]): string | undefined {
  for (const [rank, host] of instance.fixed) if (placed[rank] !== host) return `rank ${rank} was moved`;
  const scene = sceneOf(instance);
  for (const rank of openRanksOf(instance)) {
    const host = placed[rank] ?? -1;
    if (!scene.take(rank, host)) return `${instance.hosts[host]?.name ?? 'no host'} cannot take rank ${rank}`;
  }
  return faultOfWhole(instance, placed);
}

/** Members that may change places. */
function areAlike({ members, slices }: Instance, a: number, b: number): boolean {
  const sliceOf = (rank: number) => slices?.ranks.findIndex(ranks => ranks.includes(rank));
  return members[a] === members[b] && sliceOf(a) === sliceOf(b);
}

/** How many workers of the group, nobody else of it there, the host takes: those that stay are there, though. */
export function slotsOn(instance: Instance, host: number): number {
  const open = openRanksOf(instance);
  const rank = open.find(other => other > 0) ?? open[0];
  const demand = instance.demands[instance.members[rank ?? -1] ?? -1];
  if (rank === undefined || demand === undefined || !isAdmitted(instance, demand, host)) return 0;
  const scene = sceneOf(instance);
  const repelsItself =
    instance.hosts[host]?.hostLabel === true &&
    demand.away.some(({ key, app }) => key === instance.levels && app === demand.app);
  let slots = 0;
  while (scene.take(rank, host)) slots++;
  return repelsItself ? Math.min(slots, 1) : slots;
}

/** Cuts off what can come to nothing: the rule itself is checked at the end. */
function mayGoOn(instance: Instance, placed: readonly number[], rank: number): boolean {
  const { required, slices } = instance;
  const host = placed[rank] ?? 0;
  const meets = (other: number, level: number) => {
    const at = placed[other] ?? -1;
    return at < 0 || domainOf(instance, at, level) === domainOf(instance, host, level);
  };
  if (required >= 0 && !placed.every((_, other) => meets(other, required))) return false;
  const slice = slices?.ranks.find(ranks => ranks.includes(rank)) ?? [];
  return slices === undefined || slice.every(other => meets(other, slices.level));
}

function faultOfWhole(instance: Instance, placed: readonly number[]): string | undefined {
  const { required, samePool, hosts } = instance;
  if (samePool) {
    const pools = new Set(placed.map(host => hosts[host]?.pool));
    if (pools.size > 1 || pools.has('')) return 'the members do not agree on the label';
  }
  if (required >= 0 && !isOneDomain(instance, placed, required)) return 'the members are not in one domain';
  return (
    sliceFault(instance, placed) ??
    tpuFault(instance, placed) ??
    (canComeInTurn(instance, placed) ? undefined : 'inter-pod terms keep the members out')
  );
}

function sliceFault(instance: Instance, placed: readonly number[]): string | undefined {
  const { slices } = instance;
  if (slices === undefined || placed.length < 2) return undefined;
  const hostsOf = (ranks: readonly number[]) => ranks.map(rank => placed[rank] ?? 0);
  for (const ranks of slices.ranks)
    if (!isOneDomain(instance, hostsOf(ranks), slices.level)) return 'a slice is not in one domain';
  const domains = slices.ranks.map(ranks => domainOf(instance, hostsOf(ranks)[0] ?? 0, slices.level));
  return slices.apart && new Set(domains).size < domains.length ? 'two slices share a domain' : undefined;
}

function isOneDomain(instance: Instance, hosts: readonly number[], level: number): boolean {
  return (
    domainsUsed(instance, hosts, level).size === 1 && hosts.every(host => isInDomain(instance, host, level))
  );
}

/** What is left on the hosts while members come and go. */
interface Scene {
  /** Whether the host takes one more member, which is there then. */
  readonly take: (rank: number, host: number) => boolean;
  readonly giveBack: (rank: number, host: number) => void;
}

function sceneOf(instance: Instance): Scene {
  const { hosts, demands, members, fixed } = instance;
  const left = hosts.map(({ allocatable }) => [...allocatable]);
  const slots = hosts.map(({ podSlots }) => podSlots);
  const ports = hosts.map((): number[] => []);
  const barred = hosts.map((_, host) => isBarred(instance, host));
  const add = (host: number, { amounts, port }: Pick<SmallDemand, 'amounts' | 'port'>, sign: 1 | -1) => {
    amounts.forEach((amount, i) => {
      const row = left[host] ?? [];
      row[i] = (row[i] ?? 0) - sign * amount;
    });
    slots[host] = (slots[host] ?? 0) - sign;
    if (port === 0) return;
    if (sign === 1) ports[host]?.push(port);
    else ports[host]?.splice(ports[host].lastIndexOf(port), 1);
  };
  const demandOf = (rank: number) => demands[members[rank] ?? -1];
  hosts.forEach(({ strangers }, host) => {
    for (const stranger of strangers) add(host, stranger, 1);
  });
  for (const [rank, host] of fixed) {
    const demand = demandOf(rank);
    if (demand !== undefined) add(host, demand, 1);
  }
  return {
    take(rank, at) {
      const [host, demand] = [hosts[at], demandOf(rank)];
      if (host === undefined || demand === undefined || barred[at]) return false;
      if (host.tainted && !demand.tolerates) return false;
      if (demand.pool !== '' && demand.pool !== host.pool) return false;
      if (demand.port !== 0 && ports[at]?.includes(demand.port)) return false;
      if ((slots[at] ?? 0) < 1) return false;
      // What a member does not ask for may be overdrawn by others.
      if (demand.amounts.some((amount, i) => amount > 0 && amount > (left[at]?.[i] ?? 0))) return false;
      add(at, demand, 1);
      return true;
    },
    giveBack(rank, host) {
      const demand = demandOf(rank);
      if (demand !== undefined) add(host, demand, -1);
    },
  };
}

/** Hosts that no newcomer of the group may use. */
export function isBarred(instance: Instance, at: number): boolean {
  const host = instance.hosts[at];
  if (host === undefined || host.excluded || host.cordoned || !host.ready) return true;
  if (instance.samePool && host.pool === '') return true;
  const { computeDomain } = instance;
  if (computeDomain !== '' && host.computeDomain !== '' && host.computeDomain !== computeDomain) return true;
  return isBarredByNeighbours(instance, at);
}

function isBarredByNeighbours(instance: Instance, at: number): boolean {
  const { neighbours, exclusive, spread, partner } = instance;
  const standsBeside = (hosts: readonly number[], level: number) =>
    isInDomain(instance, at, level) &&
    hosts.some(host => domainOf(instance, host, level) === domainOf(instance, at, level));
  if (neighbours.some(other => other.exclusive !== undefined && standsBeside(other.hosts, other.exclusive)))
    return true;
  if (exclusive !== undefined) {
    if (!isInDomain(instance, at, exclusive)) return true;
    if (neighbours.some(({ hosts }) => standsBeside(hosts, exclusive))) return true;
  }
  if (spread?.required) {
    if (!isInDomain(instance, at, spread.level)) return true;
    if (neighbours.some(({ owner, hosts }) => owner === 'own' && standsBeside(hosts, spread.level)))
      return true;
  }
  if (partner === undefined) return false;
  return !neighbours.some(({ owner, hosts }) => owner === 'partner' && standsBeside(hosts, partner));
}
