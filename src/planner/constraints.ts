import { nvidia } from '../api/names.ts';
import { labelValue } from '../cluster/labels.ts';
import { levelName, type TopologyDomain, type TopologyTree } from '../cluster/topology.ts';
import { mixesTpu } from '../group/tpu-slices.ts';
import type { PlacedGroup, PlanInput } from './plan-input.ts';
import { barredTpuNodes, type TpuInput } from './tpu-constraints.ts';

/** What the rules between groups look at. */
export type ConstraintInput = Pick<PlanInput, 'topology' | 'snapshot' | 'neighbours'>;
export type BarInput = ConstraintInput & TpuInput;

/** By node index why no member may go there. */
type Bars = Map<number, string>;

const nothingBarred: ReadonlyMap<number, string> = new Map();
const noSiblings: ReadonlyMap<number, number> = new Map();

/**
 * Nodes that no member of a group may use, each with the first cause: those of TPU slices that its members with TPUs
 * could not fill (see tpu-constraints.ts), and those that rules between groups close to it.
 */
export function barredNodes(input: BarInput): ReadonlyMap<number, string> {
  const between = barredBetweenGroups(input);
  // Members without TPUs may use such nodes: see rules.ts.
  const tpu = mixesTpu(input.demands) ? nothingBarred : barredTpuNodes(input);
  if (tpu.size === 0) return between;
  return between.size === 0 ? tpu : new Map([...tpu, ...between]);
}

/**
 * Domains that others keep for themselves or, when the group wants some for itself, those that others stand in; the
 * domains of its siblings when it must be spread; all but those of its partner; nodes of another ComputeDomain.
 *
 * Costs nothing where there are no such wishes and no neighbours; else it follows the domains named, and the fleet only
 * for what can be looked up nowhere else (nodes outside every domain, or outside the ComputeDomain).
 */
function barredBetweenGroups(input: ConstraintInput): ReadonlyMap<number, string> {
  const { topology, neighbours = [] } = input;
  const { exclusiveLevel, spread, sameDomainAs, computeDomain } = topology;
  const apart = exclusiveLevel !== undefined || spread?.required === true;
  if (neighbours.length === 0 && !apart && sameDomainAs === undefined && computeDomain === undefined)
    return nothingBarred;
  const bars: Bars = new Map();
  barKept(bars, input);
  if (exclusiveLevel !== undefined)
    barOccupied(bars, input, { level: exclusiveLevel, by: neighbours, whose: 'other groups' });
  if (spread?.required === true) {
    const by = neighbours.filter(({ owner }) => owner === spread.owner);
    barOccupied(bars, input, { level: spread.level, by, whose: `other groups of ${spread.owner}` });
  }
  if (sameDomainAs !== undefined) barAllBut(bars, input, sameDomainAs);
  if (computeDomain !== undefined) barOtherComputeDomains(bars, input, computeDomain);
  return bars;
}

/**
 * How many groups of the same owner stand where a domain of `level` is: in the domain of the spread level around it or,
 * on a coarser level, in the domain itself. Domains without any are left out; empty when no spread is asked for.
 */
export function siblingsByDomain(input: ConstraintInput, level: number): ReadonlyMap<number, number> {
  const { topology, snapshot, neighbours = [] } = input;
  const { spread } = topology;
  if (spread === undefined) return noSiblings;
  const counts = new Map<number, number>();
  for (const { owner, nodes } of neighbours) {
    if (owner !== spread.owner) continue;
    for (const domain of domainsOfNodes(snapshot.tree, nodes, Math.min(level, spread.level)))
      for (const { index } of inside(domain, level)) counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  return counts;
}

/** The exclusive domains of others. */
function barKept(bars: Bars, { snapshot, neighbours = [] }: ConstraintInput): void {
  const { tree } = snapshot;
  // In the order of the levels, so that the cause does not hang on the order of the groups.
  const exclusive = neighbours.flatMap(({ nodes, exclusiveLevel }) =>
    exclusiveLevel === undefined ? [] : [{ nodes, exclusiveLevel }],
  );
  for (const { nodes, exclusiveLevel } of exclusive.sort((a, b) => a.exclusiveLevel - b.exclusiveLevel)) {
    const cause = `in another group's exclusive ${levelName(tree.levels, exclusiveLevel)}`;
    for (const domain of domainsOfNodes(tree, nodes, exclusiveLevel)) bar(bars, domain.nodes, cause);
  }
}

/** Outside every domain of the level nothing could be kept apart. */
function barOccupied(
  bars: Bars,
  { snapshot: { tree } }: ConstraintInput,
  rule: { readonly level: number; readonly by: readonly PlacedGroup[]; readonly whose: string },
): void {
  const { level, by, whose } = rule;
  const cause = `in one ${levelName(tree.levels, level)} with ${whose}`;
  for (const { nodes } of by)
    for (const domain of domainsOfNodes(tree, nodes, level)) bar(bars, domain.nodes, cause);
  for (const domain of unlabelled(tree.root, level))
    bar(bars, domain.nodes, `without node label ${tree.levels[level]?.nodeLabel}`);
}

function barAllBut(
  bars: Bars,
  { snapshot: { tree }, neighbours = [] }: ConstraintInput,
  { owner, level }: { readonly owner: string; readonly level: number },
): void {
  const partners = neighbours.filter(neighbour => neighbour.owner === owner);
  const domains = partners.flatMap(({ nodes }) => [...domainsOfNodes(tree, nodes, level)]);
  const cause =
    domains.length > 0
      ? `not in the ${levelName(tree.levels, level)} of ${owner}`
      : partners.length > 0
        ? `while ${owner} is in no ${levelName(tree.levels, level)}`
        : `waiting for ${owner} to be placed`;
  const allowed = new Set(domains.flatMap(domain => domain.nodes));
  const others = tree.root.nodes.filter(node => !allowed.has(node));
  bar(bars, others, cause);
}

function barOtherComputeDomains(bars: Bars, { snapshot }: ConstraintInput, computeDomain: string): void {
  let index = 0;
  for (const { record } of snapshot.nodes) {
    const joined = labelValue(record.labels, nvidia.computeDomain);
    if (joined !== undefined && joined !== computeDomain) bar(bars, [index], 'in another ComputeDomain');
    index++;
  }
}

function bar(bars: Bars, nodes: Iterable<number>, cause: string): void {
  for (const node of nodes) if (!bars.has(node)) bars.set(node, cause);
}

/** The domains of a level that some nodes are in; nodes that are gone, or in no such domain, are left out. */
function domainsOfNodes(
  tree: TopologyTree,
  names: Iterable<string>,
  level: number,
): ReadonlySet<TopologyDomain> {
  const hosts = tree.domainsByLevel[tree.levels.length] ?? [];
  const domains = new Set<TopologyDomain>();
  for (const name of names) {
    let domain = hosts[tree.indexByNodeName.get(name) ?? -1];
    while (domain !== undefined && domain.level > level) domain = domain.parent;
    if (domain !== undefined && domain.path.at(-1) !== '') domains.add(domain);
  }
  return domains;
}

/** The domain itself where it is of the level, else those of the level inside it. */
function* inside(domain: TopologyDomain, level: number): Iterable<TopologyDomain> {
  if (domain.level >= level) yield domain;
  else for (const child of domain.children) yield* inside(child, level);
}

/** The parts of the tree whose nodes are in no domain of the level. */
function* unlabelled(domain: TopologyDomain, level: number): Iterable<TopologyDomain> {
  if (domain.level < level) for (const child of domain.children) yield* unlabelled(child, level);
  else if (domain.path.at(-1) === '') yield domain;
}
