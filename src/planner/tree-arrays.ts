import type { TopologyDomain, TopologyTree } from '../cluster/topology.ts';

/**
 * The topology tree in typed arrays. Inner domains (all but hosts) are numbered from the root down, each before those
 * below it; hosts by node index. Made once for each tree.
 */
export interface TreeArrays {
  readonly tree: TopologyTree;
  readonly domains: readonly TopologyDomain[];
  /** -1 for the root. */
  readonly parent: Int32Array;
  /** By level and domain, the domain of that level around it, itself where it is of that level; of the root: the root. */
  readonly ancestors: readonly Int32Array[];
  /** The hosts of a domain are the node indices from `start` up to, not including, `end`. */
  readonly start: Int32Array;
  readonly end: Int32Array;
  /** By node index the inner domain right above the host. */
  readonly above: Int32Array;
  /** Inner domains by level, those without a label value at their level left out. */
  readonly byLevel: readonly (readonly number[])[];
  /** Domains whose children are hosts, the nameless ones too. */
  readonly lowest: readonly number[];
  /** Inner children; empty where the children are hosts. */
  readonly children: readonly (readonly number[])[];
}

const arraysOfTree = new WeakMap<TopologyTree, TreeArrays>();

export function treeArrays(tree: TopologyTree): TreeArrays {
  let arrays = arraysOfTree.get(tree);
  if (arrays === undefined) {
    arrays = build(tree);
    arraysOfTree.set(tree, arrays);
  }
  return arrays;
}

/** The inner domain of a level (-1: the root) that holds an inner domain of that level or a finer one. */
export function ancestorAt({ ancestors }: TreeArrays, domain: number, level: number): number {
  return ancestors[level]?.[domain] ?? 0;
}

/** Whether the labels name the domain down to its own level. */
export function isNamed({ domains }: TreeArrays, domain: number): boolean {
  return domains[domain]?.path.at(-1) !== '';
}

function build(tree: TopologyTree): TreeArrays {
  const hostLevel = tree.levels.length;
  const domains = tree.domains.filter(domain => domain.level < hostLevel);
  const numberOf = new Map(domains.map((domain, at) => [domain, at]));
  const numbers = (of: readonly TopologyDomain[]) => of.flatMap(domain => numberOf.get(domain) ?? []);
  const above = new Int32Array(tree.nodeNames.length);
  const start = new Int32Array(domains.length);
  const end = new Int32Array(domains.length);
  domains.forEach((domain, at) => {
    start[at] = domain.nodes[0] ?? 0;
    end[at] = (domain.nodes.at(-1) ?? -1) + 1;
    // Finer domains come later and write over what coarser ones wrote.
    above.fill(at, start[at], end[at]);
  });
  const parent = Int32Array.from(domains, domain =>
    domain.parent === undefined ? -1 : (numberOf.get(domain.parent) ?? -1),
  );
  const ancestors = tree.levels.map((_, level) => {
    const at = new Int32Array(domains.length);
    // Parents come first.
    domains.forEach((domain, own) => {
      at[own] = domain.level <= level ? own : (at[parent[own] ?? 0] ?? 0);
    });
    return at;
  });
  return {
    tree,
    domains,
    parent,
    ancestors,
    start,
    end,
    above,
    byLevel: tree.levels.map((_, level) => numbers(tree.domainsByLevel[level] ?? [])),
    lowest: numbers(domains.filter(domain => domain.level === hostLevel - 1)),
    children: domains.map(domain => numbers(domain.children)),
  };
}
