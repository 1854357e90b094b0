import { compareText, levelName, type TopologyLevel } from '../cluster/topology.ts';

/**
 * A refusal: the same input gives the same value and the same sentence, counts sorted, so that an unchanged cluster
 * writes nothing anew.
 */
export interface Rejection {
  readonly kind: 'rejection';
  /** `NoRoom` may pass as others end; `NoNodeMatches` will not pass before nodes or the request change. */
  readonly code: 'NoRoom' | 'NoNodeMatches';
  readonly level: number;
  /** Domains looked at on that level. */
  readonly domains: number;
  /** Most members any of them has room for at once. */
  readonly bestRoom: number;
  readonly size: number;
  readonly nodes: number;
  /** Nodes without room for a single worker (or the leader, when that is what fails), by cause. */
  readonly causes: readonly { readonly cause: string; readonly nodes: number }[];
  /** Which member the causes are about. */
  readonly about: 'leader' | 'workers' | 'members';
}

/** The search ended before it could tell; the group keeps waiting and is tried again. Never says "impossible". */
export interface Undecided {
  readonly kind: 'undecided';
  readonly reason: string;
}

/** One sentence for people, e.g. in an event or `kubectl describe`. */
export function describeRejection(rejection: Rejection, levels: readonly TopologyLevel[]): string {
  const { size, level, domains, bestRoom, nodes, causes, about } = rejection;
  const what = size === 1 ? 'pod does' : `${size} pods do`;
  const where = level < 0 ? 'in the cluster' : `in one ${levelName(levels, level)}`;
  const room =
    level < 0
      ? `there is room for ${bestRoom} of ${size}`
      : domains === 0
        ? `no node carries the label of that level`
        : `the best of ${domains} ${levelName(levels, level)}${domains === 1 ? '' : 's'} has room for ${bestRoom} of ${size}`;
  const unfit = causes.reduce((sum, cause) => sum + cause.nodes, 0);
  const detail = causes.map(({ cause, nodes: n }) => `${n} ${cause}`).join(', ');
  const tail = unfit === 0 ? '' : `; ${unfit} of ${nodes} nodes take no ${singular(about)}: ${detail}`;
  return `${what} not fit ${where}: ${room}${tail}`;
}

/** Counts causes, largest first, ties by name. */
export function countCauses(
  causes: Iterable<string>,
): readonly { readonly cause: string; readonly nodes: number }[] {
  const counts = new Map<string, number>();
  for (const cause of causes) counts.set(cause, (counts.get(cause) ?? 0) + 1);
  return [...counts]
    .map(([cause, nodes]) => ({ cause, nodes }))
    .sort((a, b) => b.nodes - a.nodes || compareText(a.cause, b.cause));
}

function singular(about: Rejection['about']): string {
  return about === 'leader' ? 'leader' : about === 'workers' ? 'worker' : 'member';
}
