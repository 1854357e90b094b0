import { k8s } from '../api/names.ts';
import { labelValue } from './labels.ts';

/**
 * The topology tree: nodes grouped by configured levels, coarse to fine, e.g.
 *
 *     zone      us-a
 *              /    \
 *     block   b0     b1
 *            /  \     |
 *     rack  r0  r1   r0       (rack r0 of block b1 is another domain than r0 of b0)
 *           |    |    |
 *     host  n0  n1   n2       (implicit finest level, one node each)
 *
 * The tree is immutable and shared by every snapshot until a node comes, goes or changes a level label.
 */

/** One configured level. The finest, `host`, is always there and is not configured. */
export interface TopologyLevel {
  /** The word users write in annotations, e.g. `rack`. */
  readonly name: string;
  /** Node label whose value names the domain, e.g. `example.com/rack`. */
  readonly nodeLabel: string;
  /**
   * Node label with the shape of the TPU slice that a domain of this level is, e.g. `4x4`: its chips reach each other only
   * when a workload runs on all of its hosts.
   */
  readonly shapeLabel?: string;
  /** The shape itself, where the platform has one label for each shape and so no label that says it. */
  readonly shape?: string;
}

export interface TopologyDomain {
  /** Position in `TopologyTree.domains`, for numbers kept beside the tree in typed arrays. */
  readonly index: number;
  /** Index into `TopologyTree.levels`; `levels.length` for a host. */
  readonly level: number;
  /** Label values from the coarsest level down to this one; a host's last element is its node name. */
  readonly path: readonly string[];
  /** Path as one string, unique among the domains of a level, which are sorted by path. */
  readonly id: string;
  readonly parent: TopologyDomain | undefined;
  readonly children: readonly TopologyDomain[];
  /** Indices of the nodes below, ascending, which is also topology order. */
  readonly nodes: readonly number[];
}

export interface TopologyTree {
  readonly levels: readonly TopologyLevel[];
  readonly root: TopologyDomain;
  /** Every domain, each before its children; the root is first. Walk it backwards to sum up from the hosts. */
  readonly domains: readonly TopologyDomain[];
  /** Domains by level, coarse to fine, hosts last. Domains without a value at their own level are left out. */
  readonly domainsByLevel: readonly (readonly TopologyDomain[])[];
  /** Node names in topology order: sorted by path, then by name. */
  readonly nodeNames: readonly string[];
  readonly indexByNodeName: ReadonlyMap<string, number>;
}

export const hostLevelName = 'host';

interface DomainDraft {
  readonly index: number;
  readonly level: number;
  readonly path: readonly string[];
  readonly id: string;
  readonly parent: DomainDraft | undefined;
  readonly children: DomainDraft[];
  readonly nodes: number[];
}

/** Builds the tree. Cost O(nodes x levels) and a sort of the nodes. */
export function buildTopologyTree(
  levels: readonly TopologyLevel[],
  nodes: Iterable<{ readonly name: string; readonly labels: Readonly<Record<string, string>> }>,
): TopologyTree {
  const rows = [...nodes]
    .map(node => ({
      name: node.name,
      path: levels.map(level => labelValue(node.labels, level.nodeLabel) ?? ''),
    }))
    .sort((a, b) => comparePaths(a.path, b.path) || compareText(a.name, b.name));
  const root: DomainDraft = {
    index: 0,
    level: -1,
    path: [],
    id: '',
    parent: undefined,
    children: [],
    nodes: [],
  };
  const domains = [root];
  rows.forEach((row, index) => {
    root.nodes.push(index);
    let parent = root;
    [...row.path, row.name].forEach((value, level) => {
      parent = childOf(parent, level, value, domains);
      parent.nodes.push(index);
    });
  });
  return {
    levels,
    root,
    domains,
    domainsByLevel: [...levels, hostLevelName].map((_, level) =>
      domains.filter(domain => domain.level === level && domain.path.at(-1) !== ''),
    ),
    nodeNames: rows.map(row => row.name),
    indexByNodeName: new Map(rows.map((row, index) => [row.name, index])),
  };
}

/**
 * Index of the level that a user named, by level name or by node label; undefined when no level is called that. The
 * host name's label means the implicit host level.
 */
export function findLevel(levels: readonly TopologyLevel[], wanted: string): number | undefined {
  if (wanted === hostLevelName || wanted === k8s.hostname) return levels.length;
  const index = levels.findIndex(level => level.name === wanted || level.nodeLabel === wanted);
  return index === -1 ? undefined : index;
}

/** The domain of a level (-1: the root) around a domain; itself where it is of that level or of a coarser one. */
export function domainAround(domain: TopologyDomain, level: number): TopologyDomain {
  let at = domain;
  while (at.level > level && at.parent !== undefined) at = at.parent;
  return at;
}

/** What a level is called in sentences. */
export function levelName(levels: readonly TopologyLevel[], level: number): string {
  return level < 0 ? 'cluster' : (levels[level]?.name ?? hostLevelName);
}

/** Plain code-unit order, so that results do not depend on a locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Rows come sorted, so a domain that exists is always the last child. */
function childOf(parent: DomainDraft, level: number, value: string, domains: DomainDraft[]): DomainDraft {
  const last = parent.children.at(-1);
  if (last !== undefined && last.path.at(-1) === value) return last;
  const path = [...parent.path, value];
  const child: DomainDraft = {
    index: domains.length,
    level,
    path,
    id: path.join('/'),
    parent,
    children: [],
    nodes: [],
  };
  parent.children.push(child);
  domains.push(child);
  return child;
}

function comparePaths(a: readonly string[], b: readonly string[]): number {
  for (let i = 0; i < a.length; i++) {
    const order = compareText(a[i] ?? '', b[i] ?? '');
    if (order !== 0) return order;
  }
  return 0;
}
