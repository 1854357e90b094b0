import { labelValue } from '../cluster/labels.ts';
import { NodeList } from '../cluster/node-list.ts';
import { buildTopologyTree, domainAround, type TopologyDomain } from '../cluster/topology.ts';
import type { PlanInput } from './plan.ts';
import type { ReleaseCandidate, Unit } from './release.ts';

/**
 * Candidates that may keep the group out of a domain by a rule and not by what they take there: anti-affinity on either
 * side, exclusive domains, and groups that must be spread.
 */
export function barringCandidates(
  input: PlanInput,
  candidates: readonly ReleaseCandidate[],
): readonly ReleaseCandidate[] {
  const { topology, neighbours = [] } = input;
  const asks = topology.exclusiveLevel !== undefined || topology.spread?.required === true;
  const exclusive = new Set(neighbours.filter(n => n.exclusiveLevel !== undefined).map(({ key }) => key));
  const avoids = ownKeys(input).length > 0;
  const mayBar = ({ key, existing }: Unit) =>
    asks || exclusive.has(key) || existing.some(pod => avoids || pod.antiAffinity !== undefined);
  return candidates.filter(candidate => candidate.release.units.some(mayBar));
}

/** Which of these candidates are near enough to the domain for such a rule. */
export function barsOf(input: PlanInput, domain: TopologyDomain): (candidate: ReleaseCandidate) => boolean {
  const { snapshot, topology, neighbours = [] } = input;
  const own = ownKeys(input);
  const known = new Map<string, ReadonlySet<string>>();
  const valuesOf = (key: string): ReadonlySet<string> => {
    const values =
      known.get(key) ??
      new Set(
        domain.nodes.flatMap(node => labelValue(snapshot.nodes.at(node)?.record.labels ?? {}, key) ?? []),
      );
    known.set(key, values);
    return values;
  };
  const spread = topology.spread?.required === true ? topology.spread.level : undefined;
  const exclusive = new Map(neighbours.map(({ key, exclusiveLevel }) => [key, exclusiveLevel]));
  const barsByTerms = ({ existing }: Unit) =>
    existing.some(({ nodeLabels, antiAffinity }) => {
      const keys = [...own, ...(antiAffinity?.antiAffinity ?? []).map(term => term.topologyKey)];
      return keys.some(key => {
        const value = labelValue(nodeLabels, key);
        return value !== undefined && valuesOf(key).has(value);
      });
    });
  const barsByLevel = ({ key, uses }: Unit) => {
    const levels = [topology.exclusiveLevel, spread, exclusive.get(key)].filter(level => level !== undefined);
    if (levels.length === 0) return false;
    const { nodes } = domainAround(domain, Math.min(...levels));
    return uses.some(({ node }) => {
      const index = snapshot.tree.indexByNodeName.get(node) ?? -1;
      return index >= (nodes[0] ?? 0) && index <= (nodes.at(-1) ?? -1);
    });
  };
  return ({ release }) => release.units.some(unit => barsByTerms(unit) || barsByLevel(unit));
}

/**
 * The question with the nodes of one domain only, so that the planner's cost follows the domain. Where a rule looks
 * further than that, the domain that it looks at comes along, its other nodes excluded.
 */
export function withinDomain(input: PlanInput, domain: TopologyDomain): PlanInput {
  const { snapshot, excludedNodes } = input;
  const scope = domainAround(domain, Math.min(domain.level, widestRule(input)));
  const inside = new Set(domain.nodes);
  const outside = scope.nodes.filter(node => !inside.has(node));
  const excluded = new Map(excludedNodes);
  for (const node of outside) excluded.set(snapshot.tree.nodeNames[node] ?? '', 'outside the domain');
  if (scope === snapshot.tree.root) return { ...input, excludedNodes: excluded };
  const infos = scope.nodes.flatMap(node => snapshot.nodes.at(node) ?? []);
  const tree = buildTopologyTree(
    snapshot.tree.levels,
    infos.map(({ record }) => record),
  );
  const byName = new Map(infos.map(info => [info.record.name, info]));
  const nodes = NodeList.of(tree.nodeNames.flatMap(name => byName.get(name) ?? []));
  return { ...input, excludedNodes: excluded, snapshot: { ...snapshot, tree, nodes } };
}

/** The coarsest level that anything but room looks at; -1 where only the whole cluster will do. */
function widestRule({ topology, neighbours = [], snapshot }: PlanInput): number {
  if (topology.sameDomainAs !== undefined) return -1;
  const { levels } = snapshot.tree;
  return Math.min(
    topology.exclusiveLevel ?? levels.length,
    topology.spread?.level ?? levels.length,
    ...neighbours.map(({ exclusiveLevel }) => exclusiveLevel ?? levels.length),
    // A slice is usable as a whole only, so half of it must not pass for one.
    ...levels.map(({ shapeLabel }, level) => (shapeLabel === undefined ? levels.length : level)),
  );
}

/** Node labels over which the group's own anti-affinity looks at others. */
function ownKeys({ demands, fixed }: PlanInput): readonly string[] {
  const open = demands.filter((_, rank) => !fixed?.has(rank));
  const terms = open.flatMap(({ affinity }) => affinity?.antiAffinity ?? []);
  return [...new Set(terms.map(term => term.topologyKey))];
}
