import type { TopologyDomain } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { OpenRanks, PlanInput } from './plan-input.ts';
import type { SearchMember } from './search.ts';

/** Members to be searched for, with what their slices mean for them. */
export interface SlicedMembers {
  readonly members: readonly SearchMember[];
  /** Slices of which no member stays; the search finds a domain for each. */
  readonly slices: readonly (readonly number[])[];
  /** The domain of members whose slice has members that stay; their demands are their own, so that they are told apart. */
  readonly confined: ReadonlyMap<MemberDemand, TopologyDomain>;
  /** Domains in which slices stand already, closed to others where slices stand apart. */
  readonly taken: ReadonlySet<TopologyDomain>;
}

/** Sorts out the slices of a group of which some members may stay. Undefined when one that stays is in no such domain. */
export function slicedMembers(
  { topology, demands, fixed, snapshot }: PlanInput,
  open: OpenRanks,
): SlicedMembers | undefined {
  const { slices } = topology;
  const confinedByRank = new Map<number, MemberDemand>();
  const confined = new Map<MemberDemand, TopologyDomain>();
  const taken = new Set<TopologyDomain>();
  const free: (readonly number[])[] = [];
  for (const [at, ranks] of (slices?.ranks ?? []).entries()) {
    const stays = ranks.find(rank => fixed?.has(rank));
    if (stays === undefined) {
      free.push(ranks);
      continue;
    }
    const node = snapshot.tree.indexByNodeName.get(fixed?.get(stays) ?? '');
    const domain = snapshot.tree.domainsByLevel[slices?.level ?? -1]?.find(({ nodes }) =>
      nodes.includes(node ?? -1),
    );
    if (domain === undefined) return undefined;
    taken.add(domain);
    const copies = new Map<string, MemberDemand>();
    for (const rank of ranks) {
      const demand = demands[rank];
      if (demand === undefined || fixed?.has(rank)) continue;
      const copy = copies.get(demand.key) ?? { ...demand, key: `${demand.key}\nslice ${at}` };
      copies.set(demand.key, copy);
      confinedByRank.set(rank, copy);
      confined.set(copy, domain);
    }
  }
  const members = open.ranks.flatMap(rank => {
    const demand = confinedByRank.get(rank) ?? demands[rank];
    return demand === undefined ? [] : [{ rank, demand }];
  });
  return { members, slices: free, confined, taken };
}

/** Where free slices may go inside of a domain: the domains of their level in it, or itself where it is finer. */
export function sliceDomainsIn(
  { topology, snapshot }: PlanInput,
  { taken }: SlicedMembers,
  domain: TopologyDomain,
): readonly TopologyDomain[] {
  const { slices } = topology;
  if (slices === undefined) return [];
  const [first = 0, last = -1] = [domain.nodes[0], domain.nodes.at(-1)];
  const open = (snapshot.tree.domainsByLevel[slices.level] ?? []).filter(
    inner => !(slices.apart && taken.has(inner)),
  );
  if (domain.level > slices.level) return open.some(inner => inner.nodes.includes(first)) ? [domain] : [];
  return open.filter(({ nodes }) => (nodes[0] ?? -1) >= first && (nodes[0] ?? -1) <= last);
}
