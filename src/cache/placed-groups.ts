import { lws } from '../api/names.ts';
import { requestSources } from '../group/group-info.ts';
import { isRequestError, readTopologyRequest, type TopologyRequest } from '../group/topology-request.ts';
import type { PlacedGroup } from '../planner/plan-input.ts';
import type { ClusterCache } from './cluster-cache.ts';
import { type GroupView, seatOf } from './group-view.ts';

/** What is kept of a group: enough to find the neighbours of another without looking at all of them. */
interface Entry {
  readonly namespace: string;
  readonly owner: string;
  readonly hasSubgroups: boolean;
  readonly exclusiveLevel: number | undefined;
  readonly exclusiveAmong: TopologyRequest['exclusiveAmong'];
  /** The group as those see it to whom its exclusive domains are closed, and as all others do. */
  readonly closed: readonly PlacedGroup[];
  readonly open: readonly PlacedGroup[];
}

/**
 * The groups that have places, for rules between groups. It follows the cache's changes: a change costs one reading of
 * that group's request, and a question follows the number of groups that matter to it.
 */
export class PlacedGroups {
  readonly #cache: ClusterCache;
  readonly #entries = new Map<string, Entry>();
  readonly #byOwner = new Map<string, Set<string>>();
  readonly #exclusive = new Set<string>();
  readonly #touched: Set<string>;

  constructor(cache: ClusterCache) {
    this.#cache = cache;
    this.#touched = new Set(cache.groupKeys());
    cache.subscribe(change => {
      if (change.kind === 'group') this.#touched.add(change.key);
    });
  }

  /** All groups with bound or held members. */
  all(): readonly PlacedGroup[] {
    this.#refresh();
    return [...this.#entries.values()].flatMap(({ closed }) => closed);
  }

  /**
   * The other groups that one with this request has to look at, those that keep domains for themselves among them. A pod
   * outside any group has no key, no wishes and no neighbours.
   */
  neighboursOf(key: string | undefined, request: TopologyRequest): readonly PlacedGroup[] {
    this.#refresh();
    const { exclusiveLevel, exclusiveAmong, spread, sameDomainAs } = request;
    const own = key === undefined ? undefined : this.#entries.get(key);
    const keys = new Set<string>();
    if (key !== undefined)
      for (const other of this.#exclusive) if (keepsOut(this.#entries.get(other), own)) keys.add(other);
    for (const owner of [spread?.owner, sameDomainAs?.owner])
      for (const other of this.#byOwner.get(owner ?? '') ?? []) keys.add(other);
    if (exclusiveLevel !== undefined)
      for (const [other, entry] of this.#entries)
        if (exclusiveAmong === undefined || areSubgrouped(own, entry)) keys.add(other);
    if (key !== undefined) keys.delete(key);
    return [...keys].flatMap(other => {
      const entry = this.#entries.get(other);
      return (keepsOut(entry, own) ? entry?.closed : entry?.open) ?? [];
    });
  }

  #refresh(): void {
    for (const key of this.#touched) {
      this.#forget(key);
      const view = this.#cache.group(key);
      if (view === undefined) continue;
      const entry = this.#entryOf(view);
      this.#entries.set(key, entry);
      this.#byOwner.set(entry.owner, (this.#byOwner.get(entry.owner) ?? new Set()).add(key));
      if (entry.exclusiveLevel !== undefined) this.#exclusive.add(key);
    }
    this.#touched.clear();
  }

  #forget(key: string): void {
    const before = this.#entries.get(key);
    if (before === undefined) return;
    this.#entries.delete(key);
    this.#exclusive.delete(key);
    const siblings = this.#byOwner.get(before.owner);
    siblings?.delete(key);
    if (siblings?.size === 0) this.#byOwner.delete(before.owner);
  }

  /** A group that is going as a whole keeps nothing for itself, and one whose request is wrong asks for nothing. */
  #entryOf(view: GroupView): Entry {
    const { membership, leader } = view;
    const { kind, namespace, owner } = membership;
    const set = kind === 'lws' ? this.#cache.leaderWorkerSet(namespace, owner) : undefined;
    const sources = requestSources(leader?.annotations ?? {}, set);
    const request = leader && readTopologyRequest(sources, this.#cache.levels, membership);
    const { exclusiveLevel, exclusiveAmong } =
      request === undefined || isRequestError(request) ? noWishes : request;
    const open = placesOf(view, `${namespace}/${owner}`);
    return {
      namespace,
      owner: `${namespace}/${owner}`,
      hasSubgroups: leader?.annotations[lws.subgroupSize] !== undefined,
      exclusiveLevel,
      exclusiveAmong,
      closed: exclusiveLevel === undefined ? open : open.map(part => ({ ...part, exclusiveLevel })),
      open,
    };
  }
}

const noWishes: Pick<TopologyRequest, 'exclusiveLevel' | 'exclusiveAmong'> = {};

/** Whether the exclusive domains of a group are closed to one that comes. */
function keepsOut(entry: Entry | undefined, own: Entry | undefined): boolean {
  return entry !== undefined && (entry.exclusiveAmong === undefined || areSubgrouped(own, entry));
}

function areSubgrouped(a: Entry | undefined, b: Entry): boolean {
  return a?.hasSubgroups === true && b.hasSubgroups && a.namespace === b.namespace;
}

/**
 * Members that are going are a neighbour without an owner: where they stand is not free yet, but it is no place to be
 * near to or away from.
 */
function placesOf(view: GroupView, owner: string): readonly PlacedGroup[] {
  const { key, plan, members, leaving, others } = view;
  const places = [...members].flatMap(
    ([rank, pod]) => pod.nodeName ?? seatOf(view, rank) ?? pod.pinnedTo ?? [],
  );
  const held = (plan?.nodes ?? []).filter((_, rank) => !members.has(rank));
  const going = [...leaving.values(), ...others].flatMap(({ nodeName }) => nodeName ?? []);
  return [
    { key, owner, nodes: distinct([...places, ...held]) },
    { key, owner: '', nodes: distinct(going) },
  ].filter(({ nodes }) => nodes.length > 0);
}

function distinct(nodes: readonly string[]): readonly string[] {
  return [...new Set(nodes)].filter(node => node !== '');
}
