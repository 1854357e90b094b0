import type { Question, QuestionDemand, QuestionHost } from './question.ts';

/**
 * A second opinion that shares no code with either planner: whether a leader and equal workers fit, by trying every host
 * for the leader and adding up what is left for the workers.
 */

/** Rules of Kueue that no scheduler has; each may be looked at by itself. */
export interface KueueRules {
  /** The leader goes where the workers may go; its own selector and tolerations are not looked at. */
  readonly leaderGoesWithWorkers: boolean;
  /** A node that lacks the label of any level is not there. */
  readonly nodesNeedEveryLabel: boolean;
}

export const noRules: KueueRules = { leaderGoesWithWorkers: false, nodesNeedEveryLabel: false };
export const kueueRules: KueueRules = { leaderGoesWithWorkers: true, nodesNeedEveryLabel: true };

/** Whether the group fits, by the rules of kube-scheduler unless others are given. */
export function fitsExactly(question: Question, rules: KueueRules = noRules): boolean {
  const { wish } = question;
  const level = wish.kind === 'required' ? wish.level : -1;
  return fitsInOneDomain(question, level, rules);
}

/** Whether one domain of a level holds the group; -1 stands for the whole fleet. */
export function fitsInOneDomain(question: Question, level: number, rules: KueueRules = noRules): boolean {
  const hosts = rules.nodesNeedEveryLabel
    ? question.hosts.filter(host => host.path.every(value => value !== ''))
    : question.hosts;
  return [...domainsOf(hosts, level, question.levels).values()].some(domain =>
    holds(question, domain, rules),
  );
}

/** Fewest hosts of one fleet on which the group fits; undefined when it does not. */
export function fewestHosts(question: Question): number | undefined {
  const { hosts } = question;
  let fewest: number | undefined;
  for (let chosen = 1; chosen < 1 << hosts.length; chosen++) {
    const some = hosts.filter((_, index) => (chosen >> index) & 1);
    if (fewest !== undefined && some.length >= fewest) continue;
    if (holds(question, some, noRules)) fewest = some.length;
  }
  return fewest;
}

/** What is wrong with an assignment, by the rules of kube-scheduler and of the request; empty when nothing is. */
export function faultsOf(question: Question, nodes: readonly string[]): readonly string[] {
  const { hosts, size, wish, slice, levels } = question;
  if (nodes.length !== size) return [`${nodes.length} places for ${size} members`];
  const byName = new Map(hosts.map(host => [host.name, host]));
  const places = nodes.flatMap(name => byName.get(name) ?? []);
  if (places.length !== size) return ['a node that is not there'];
  const faults = places.flatMap((host, rank) => {
    const cause = barredFrom(host, demandOf(question, rank));
    return cause === '' ? [] : [`${rank === 0 && question.leader ? 'leader' : 'worker'}: ${cause}`];
  });
  for (const host of new Set(places)) {
    const members = [...places.keys()].filter(rank => places[rank] === host);
    const free = members.reduce((left, rank) => without(left, demandOf(question, rank)), freeOf(host));
    // What nobody of them asks for may be overcommitted by others.
    const overfull = free.some(
      (amount, kind) =>
        amount < 0 && members.some(rank => (needsOf(demandOf(question, rank))[kind] ?? 0) > 0),
    );
    if (overfull) faults.push('more on a host than it has');
  }
  if (wish.kind === 'required' && domainsOf(places, wish.level, levels).size !== 1) faults.push('apart');
  if (wish.kind === 'required' && places.some(host => isInNoDomain(host, wish.level)))
    faults.push('in no domain');
  if (slice !== undefined && !sliceable(places, slice, levels)) faults.push('a slice apart');
  return faults;
}

/** Hosts by the domain of a level that they are in; those without its label are in none. */
export function domainsOf(
  hosts: readonly QuestionHost[],
  level: number,
  levels: number,
): ReadonlyMap<string, readonly QuestionHost[]> {
  const named = hosts.filter(host => !isInNoDomain(host, level));
  return Map.groupBy(named, host =>
    level >= levels ? host.name : JSON.stringify(host.path.slice(0, level + 1)),
  );
}

function isInNoDomain(host: QuestionHost, level: number): boolean {
  return host.path[level] === '';
}

/** Members are alike where there are slices, so it is enough that each domain has whole slices. */
function sliceable(
  places: readonly QuestionHost[],
  slice: { readonly size: number; readonly level: number },
  levels: number,
): boolean {
  const domains = [...domainsOf(places, slice.level, levels).values()];
  const placed = domains.reduce((sum, domain) => sum + domain.length, 0);
  return placed === places.length && domains.every(domain => domain.length % slice.size === 0);
}

function holds(question: Question, hosts: readonly QuestionHost[], rules: KueueRules): boolean {
  const { size, worker, leader, slice, levels } = question;
  if (slice !== undefined) {
    const domains = [...domainsOf(hosts, slice.level, levels).values()];
    const slices = domains.map(domain =>
      Math.floor(sum(domain.map(host => slotsOn(host, worker))) / slice.size),
    );
    return sum(slices) >= size / slice.size;
  }
  if (leader === undefined) return sum(hosts.map(host => slotsOn(host, worker))) >= size;
  const leaderChosenBy = rules.leaderGoesWithWorkers
    ? { ...leader, pool: worker.pool, tolerates: worker.tolerates }
    : leader;
  return hosts.some(leaderHost => {
    if (slotsOn(leaderHost, leaderChosenBy) < 1) return false;
    const slots = hosts.map(host => slotsOn(host, worker, host === leaderHost ? leader : undefined));
    return sum(slots) >= size - 1;
  });
}

function slotsOn(host: QuestionHost, demand: QuestionDemand, beside?: QuestionDemand): number {
  if (barredFrom(host, demand) !== '') return 0;
  const free = beside === undefined ? freeOf(host) : without(freeOf(host), beside);
  const counts = needsOf(demand).map((need, kind) => (need > 0 ? Math.floor((free[kind] ?? 0) / need) : 99));
  return Math.max(0, Math.min(...counts));
}

function barredFrom(host: QuestionHost, { pool, tolerates }: QuestionDemand): string {
  if (host.cordoned) return 'cordoned';
  if (host.tainted && !tolerates) return 'taint';
  return pool !== '' && host.pool !== pool ? 'selector' : '';
}

function demandOf({ worker, leader }: Question, rank: number): QuestionDemand {
  return rank === 0 ? (leader ?? worker) : worker;
}

function freeOf(host: QuestionHost): readonly number[] {
  const total = [...host.allocatable, host.podSlots];
  return host.used.reduce<readonly number[]>((free, used) => minus(free, [...used, 1]), total);
}

function without(free: readonly number[], demand: QuestionDemand): readonly number[] {
  return minus(free, needsOf(demand));
}

/** With one pod slot. */
function needsOf({ amounts }: QuestionDemand): readonly number[] {
  return [...amounts, 1];
}

function minus(a: readonly number[], b: readonly number[]): readonly number[] {
  return a.map((amount, kind) => amount - (b[kind] ?? 0));
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
