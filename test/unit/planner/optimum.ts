/**
 * What the best answer to a small instance looks like, told from all right assignments: the level, the domain, how many
 * sub-domains and hosts are opened, and in which order ranks stand.
 */
import { type Assignment, allAssignments, slotsOn } from './brute-force.ts';
import { domainOf, domainsUsed, type Instance, isInDomain, openRanksOf } from './small-instance.ts';

export interface Expectation {
  /** The finest level that any right assignment has. */
  readonly level: number;
  /** Those of that level; none when nothing is right. */
  readonly assignments: readonly Assignment[];
}

export function expectationOf(instance: Instance): Expectation {
  let level = -2;
  let assignments: Assignment[] = [];
  for (const assignment of allAssignments(instance)) {
    if (assignment.level < level) continue;
    if (assignment.level > level) assignments = [];
    level = assignment.level;
    assignments.push(assignment);
  }
  return { level, assignments };
}

/** What could have been had with less; undefined when nothing could. */
export function wasteOf(
  instance: Instance,
  { level, assignments }: Expectation,
  placed: readonly number[],
): string | undefined {
  return (
    wrongDomain(instance, { level, assignments }, placed) ??
    openedTooMany(instance, { level, assignments }, placed) ??
    wrongOrder(instance, placed)
  );
}

interface Place {
  readonly pool: string;
  readonly domain: string;
  readonly host: number;
}

function placeOf(instance: Instance, placed: readonly number[], level: number): Place {
  const [host = 0] = placed;
  const pool = instance.samePool ? (instance.hosts[host]?.pool ?? '') : '';
  return { pool, domain: domainOf(instance, host, level), host };
}

function wrongDomain(
  instance: Instance,
  { level, assignments }: Expectation,
  placed: readonly number[],
): string | undefined {
  if (instance.tpuLevel !== undefined || openRanksOf(instance).length === 0) return undefined;
  const keyOf = ({ pool, domain }: Place) => `${pool} ${domain}`;
  const rivals = Map.groupBy(assignments, ({ hosts }) => keyOf(placeOf(instance, hosts, level)));
  const scores = [...rivals].map(([key, own]) => {
    const place = placeOf(instance, own[0]?.hosts ?? [], level);
    const terms =
      level === instance.levels ? hostTerms(instance, place) : domainTerms(instance, level, place, own);
    return { key, terms: [...terms, place.pool, ...pathOf(instance, place.host, level)] };
  });
  const [best] = scores.sort((a, b) => compareLists(a.terms, b.terms));
  const chosen = keyOf(placeOf(instance, placed, level));
  if (best === undefined || best.key === chosen) return undefined;
  const terms = scores.find(({ key }) => key === chosen)?.terms;
  return `chose ${chosen} (${terms?.join()}) before ${best.key} (${best.terms.join()})`;
}

type Value = number | string;

function compareLists(a: readonly Value[], b: readonly Value[]): number {
  for (const [at, value] of a.entries()) {
    const other = b[at] ?? '';
    if (value !== other) return value < other ? -1 : 1;
  }
  return 0;
}

function pathOf({ hosts, levels }: Instance, at: number, level: number): readonly string[] {
  const { path = [], name = '' } = hosts[at] ?? {};
  return [...path, name].slice(0, Math.min(level, levels) + 1);
}

/** The terms of the objective for a domain on an inner level, in their order. */
function domainTerms(
  instance: Instance,
  level: number,
  { pool, host }: Place,
  own: readonly Assignment[],
): readonly number[] {
  const isLowest = level === instance.levels - 1;
  const { opened, whole } = leastOpened(instance, level, host, own);
  const sign = signOf(instance);
  return [
    ...(isLowest ? [] : [opened]),
    ...siblings(instance, level, host),
    ...wholeAround(instance, level, host),
    isLowest ? opened : sign * whole,
    ...roomAround(instance, { level, host, pool }),
    -warmIn(instance, level, host),
  ];
}

/** For a single host: it counts with the domain that it is in. */
function hostTerms(instance: Instance, { pool, host }: Place): readonly Value[] {
  const { levels, hosts, warm } = instance;
  const lowest = levels - 1;
  const sign = signOf(instance);
  return [
    ...siblings(instance, lowest, host),
    ...wholeAround(instance, lowest, host),
    isWhole(instance, [host]) ? sign : 0,
    sign * slotsOn(instance, host),
    ...roomAround(instance, { level: lowest, host, pool }),
    -warmIn(instance, lowest, host),
    pool,
    ...(hosts[host]?.path ?? []),
    warm.includes(host) ? 0 : 1,
  ];
}

function signOf({ prefer }: Instance): 1 | -1 {
  return prefer === 'pack' ? 1 : -1;
}

function hostsAround(instance: Instance, level: number, at: number): readonly number[] {
  const domain = domainOf(instance, at, level);
  return [...instance.hosts.keys()].filter(host => domainOf(instance, host, level) === domain);
}

function isWhole(instance: Instance, hosts: readonly number[]): boolean {
  const own = [...instance.fixed].map(([rank, host]) => ({
    host,
    amounts: instance.demands[instance.members[rank] ?? -1]?.amounts ?? [0, 0, 0],
  }));
  const pods = [
    ...own,
    ...instance.hosts.flatMap(({ strangers }, host) => strangers.map(({ amounts }) => ({ host, amounts }))),
  ];
  return !pods.some(({ host, amounts }) => hosts.includes(host) && (amounts[1] ?? 0) > 0);
}

function wholeAround(instance: Instance, level: number, host: number): readonly number[] {
  return levelsTo(level).map(at =>
    isWhole(instance, hostsAround(instance, at, host)) ? signOf(instance) : 0,
  );
}

function roomAround(
  instance: Instance,
  { level, host, pool }: { readonly level: number; readonly host: number; readonly pool: string },
): readonly number[] {
  const inPool = (other: number) => pool === '' || instance.hosts[other]?.pool === pool;
  return levelsTo(level)
    .reverse()
    .map(at => {
      const slots = hostsAround(instance, at, host).map(other =>
        inPool(other) ? slotsOn(instance, other) : 0,
      );
      return signOf(instance) * slots.reduce((sum, more) => sum + more, 0);
    });
}

function warmIn(instance: Instance, level: number, host: number): number {
  return hostsAround(instance, level, host).filter(other => instance.warm.includes(other)).length;
}

function siblings(instance: Instance, level: number, at: number): readonly number[] {
  const { spread, neighbours } = instance;
  if (spread === undefined || spread.required) return [];
  const shared = Math.min(level, spread.level);
  if (!isInDomain(instance, at, shared)) return [0];
  const domain = domainOf(instance, at, shared);
  const own = neighbours.filter(({ owner }) => owner === 'own');
  return [own.filter(({ hosts }) => hosts.some(host => domainOf(instance, host, shared) === domain)).length];
}

function levelsTo(level: number): number[] {
  return Array.from({ length: level + 1 }, (_, at) => at);
}

interface Opened {
  readonly opened: number;
  readonly whole: number;
}

/** Sub-domains of the domain of `level` around a host that an assignment opens, where no member stood before. */
function openedBy(instance: Instance, level: number, at: number, placed: readonly number[]): Opened {
  const domain = domainOf(instance, at, level);
  const inside = placed.filter(host => domainOf(instance, host, level) === domain);
  const kept = domainsUsed(instance, instance.fixed.values(), level + 1);
  const opened = new Map(
    inside.map(
      host => [domainOf(instance, host, level + 1), hostsAround(instance, level + 1, host)] as const,
    ),
  );
  for (const known of kept) opened.delete(known);
  const whole = [...opened.values()].filter(hosts => isWhole(instance, hosts)).length;
  return { opened: opened.size, whole };
}

function leastOpened(instance: Instance, level: number, at: number, rivals: readonly Assignment[]): Opened {
  let least: Opened = { opened: Number.POSITIVE_INFINITY, whole: Number.POSITIVE_INFINITY };
  for (const { hosts } of rivals) {
    const own = openedBy(instance, level, at, hosts);
    if (own.opened < least.opened || (own.opened === least.opened && own.whole < least.whole)) least = own;
  }
  return least;
}

/** In the chosen domain, and in each one below given what it got, as few sub-domains as can be, and as few whole ones. */
function openedTooMany(
  instance: Instance,
  { level, assignments }: Expectation,
  placed: readonly number[],
): string | undefined {
  let rivals = assignments;
  for (let at = level; at < instance.levels; at++) {
    const got = gotOf(instance, placed, at);
    rivals = rivals.filter(({ hosts }) => isSameGot(got, gotOf(instance, hosts, at)));
    for (const host of placed) {
      const [own, least] = [openedBy(instance, at, host, placed), leastOpened(instance, at, host, rivals)];
      if (own.opened > least.opened)
        return `opens ${own.opened} sub-domains of ${domainOf(instance, host, at)} where ${least.opened} would do`;
      if (own.whole > least.whole)
        return `opens ${own.whole} whole sub-domains where ${least.whole} would do`;
    }
  }
  return undefined;
}

/** How many workers, and whether the leader, stand in each domain of a level; those that stay are the same by nature. */
function gotOf(instance: Instance, placed: readonly number[], level: number): ReadonlyMap<string, number> {
  const got = new Map<string, number>();
  if (instance.samePool) got.set(`pool ${instance.hosts[placed[0] ?? 0]?.pool}`, 1);
  placed.forEach((host, rank) => {
    const domain = `${rank === 0} ${domainOf(instance, host, level)}`;
    got.set(domain, (got.get(domain) ?? 0) + 1);
  });
  return got;
}

function isSameGot(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([domain, count]) => b.get(domain) === count);
}

/** Workers go from the leader's host outwards, each host and domain at one stretch; slices stay together by themselves. */
function wrongOrder(instance: Instance, placed: readonly number[]): string | undefined {
  const { fixed, slices, levels, members, demands } = instance;
  if (fixed.size > 0 || members.length < 2) return undefined;
  if (slices !== undefined) {
    const order = [...(slices.ranks.find(ranks => ranks.includes(0)) ?? []), ...slices.ranks.flat()];
    const hosts = [...new Set(order)].filter(rank => rank > 0).map(rank => placed[rank] ?? 0);
    const torn = levelsTo(slices.level).find(level =>
      isTorn(hosts.map(host => domainOf(instance, host, level))),
    );
    return torn === undefined ? undefined : `slices in a domain of level ${torn} are not neighbours`;
  }
  const leads = JSON.stringify(demands[members[0] ?? 0]) !== JSON.stringify(demands[members[1] ?? 0]);
  const [leader = 0] = placed;
  const ranked = (leads ? placed.slice(1) : placed).map(host => {
    const shared = leads && host !== leader ? sharedLevel(instance, host, leader) : leads ? levels : 0;
    return [-shared, ...pathOf(instance, host, levels)];
  });
  const isOrdered = ranked.every((entry, at) => at === 0 || compareLists(ranked[at - 1] ?? [], entry) <= 0);
  return isOrdered ? undefined : 'ranks do not go from the leader outwards in topology order';
}

/** Finest level on which two hosts share a domain, be it a nameless one. */
function sharedLevel(instance: Instance, a: number, b: number): number {
  return (
    levelsTo(instance.levels).findLast(
      level => domainOf(instance, a, level) === domainOf(instance, b, level),
    ) ?? -1
  );
}

function isTorn(domains: readonly string[]): boolean {
  const left = new Set<string>();
  return domains.some((domain, at) => {
    const before = domains[at - 1];
    if (before !== undefined && before !== domain) left.add(before);
    return left.has(domain);
  });
}
