import { labelValue } from '../cluster/labels.ts';
import { compareText, type TopologyLevel } from '../cluster/topology.ts';

/** A domain as records and sentences name it, such as `rack us-a/b0/r1`: the level, and the path from the coarsest down. */
export type DomainName = string;

export const domainNamePattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])? [-A-Za-z0-9._/]*$/;

/**
 * The domain of the finest configured level that a node with these labels stands in: hosts of one rack share power, a
 * switch and spares. Undefined where the node has no label of that level, or no level is configured.
 */
export function finestDomain(
  labels: Readonly<Record<string, string>>,
  levels: readonly TopologyLevel[],
): DomainName | undefined {
  const level = levels.at(-1);
  const path = levels.map(({ nodeLabel }) => labelValue(labels, nodeLabel) ?? '');
  return level === undefined || path.at(-1) === '' ? undefined : `${level.name} ${path.join('/')}`;
}

/** The finest domains of several nodes, each once and in order; a group may stand in more than one. */
export function finestDomains(
  nodes: Iterable<Readonly<Record<string, string>>>,
  levels: readonly TopologyLevel[],
): readonly DomainName[] {
  const found = new Set<DomainName>();
  for (const labels of nodes) {
    const domain = finestDomain(labels, levels);
    if (domain !== undefined) found.add(domain);
  }
  return [...found].sort(compareText);
}
