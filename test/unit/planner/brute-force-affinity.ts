import { type Instance, openRanksOf, type SmallDemand, type SmallTerm } from './small-instance.ts';

/** A pod with its host. */
interface Standing extends Pick<SmallDemand, 'app' | 'away'> {
  readonly host: number;
}

/** Whether the open members could come to their hosts one by one, in some order, each by the rules of that moment. */
export function canComeInTurn(instance: Instance, placed: readonly number[]): boolean {
  const { hosts, members, demands } = instance;
  const hasTerms =
    demands.some(({ near, away }) => near.length + away.length > 0) ||
    hosts.some(({ strangers }) => strangers.some(({ away }) => away.length > 0));
  if (!hasTerms) return true;
  const before = standingBefore(instance);
  const open = openRanksOf(instance);
  const failed = new Set<number>();

  function comes(there: number): boolean {
    if (there === 2 ** open.length - 1) return true;
    if (failed.has(there)) return false;
    const standing = [
      ...before,
      ...open.flatMap((rank, at) => (there & (1 << at) ? standingAt(instance, rank, placed[rank]) : [])),
    ];
    const found = open.some((rank, at) => {
      const demand = demands[members[rank] ?? -1];
      if (there & (1 << at) || demand === undefined) return false;
      return admits(instance, standing, demand, placed[rank] ?? 0) && comes(there | (1 << at));
    });
    if (!found) failed.add(there);
    return found;
  }

  return comes(0);
}

/** Whether the rules let a pod like this onto the host while none of the group's open members is there. */
export function isAdmitted(instance: Instance, demand: SmallDemand, host: number): boolean {
  return admits(instance, standingBefore(instance), demand, host);
}

function standingBefore(instance: Instance): readonly Standing[] {
  const others = instance.hosts.flatMap(({ strangers }, host) =>
    strangers.map(({ app, away }) => ({ app, away, host })),
  );
  return [...others, ...[...instance.fixed].map(([rank, host]) => standingAt(instance, rank, host))];
}

function standingAt({ members, demands }: Instance, rank: number, host = 0): Standing {
  const { app = '', away = [] } = demands[members[rank] ?? -1] ?? {};
  return { app, away, host };
}

function admits(
  instance: Instance,
  standing: readonly Standing[],
  demand: SmallDemand,
  host: number,
): boolean {
  const isWith = (other: number, { key }: SmallTerm) => {
    const value = labelOf(instance, host, key);
    return value !== '' && value === labelOf(instance, other, key);
  };
  for (const { app, away, host: other } of standing) {
    if (demand.away.some(term => term.app === app && isWith(other, term))) return false;
    if (away.some(term => term.app === demand.app && isWith(other, term))) return false;
  }
  return isNear(instance, standing, demand, host);
}

function isNear(
  instance: Instance,
  standing: readonly Standing[],
  { near, app }: SmallDemand,
  host: number,
): boolean {
  if (near.length === 0) return true;
  if (near.some(({ key }) => labelOf(instance, host, key) === '')) return false;
  // A pod is of interest only when all terms name it.
  const wanted = standing.filter(other => near.every(term => term.app === other.app));
  const isSeen = wanted.some(other => near.some(({ key }) => labelOf(instance, other.host, key) !== ''));
  if (!isSeen && near.every(term => term.app === app)) return true;
  return near.every(({ key }) =>
    wanted.some(other => labelOf(instance, other.host, key) === labelOf(instance, host, key)),
  );
}

/** The value of one label by itself: two racks of one name are one to a term. */
function labelOf({ hosts, levels }: Instance, at: number, key: SmallTerm['key']): string {
  const host = hosts[at];
  if (host === undefined) return '';
  if (key === 'pool') return host.pool;
  return key === levels ? (host.hostLabel ? host.name : '') : (host.path[key] ?? '');
}
