import type { TopologyLevel, TopologyTree } from '../cluster/topology.ts';

/** Communication of a group in steps of the topology. */
export interface HopCost {
  /** Over the pairs of neighbours in a ring of ranks. */
  readonly ring: number;
  readonly ringPairs: number;
  /** Over all pairs. */
  readonly all: number;
  readonly allPairs: number;
}

/** Labels whose domains are joined by NVLink: leaving a host inside one costs half a step. */
const nvlinkLabels: ReadonlySet<string> = new Set([
  'nvidia.com/gpu.clique',
  'accelerator.topograph.run/domain',
  'ds.coreweave.com/nvlink.domain',
]);

/**
 * Two ranks on one host are 0 apart; each level that they do not share adds a step, from host to host inside the finest
 * domain as well. O(ranks x levels).
 */
export function hopCost(tree: TopologyTree, nodes: readonly string[]): HopCost {
  const hosts = tree.domainsByLevel[tree.levels.length] ?? [];
  const paths = nodes.map(name => hosts[tree.indexByNodeName.get(name) ?? -1]?.path ?? []);
  const steps = stepsOf(tree.levels);
  const size = nodes.length;
  let ring = 0;
  for (let rank = 0; size > 1 && rank < size; rank++)
    ring += distance(paths[rank] ?? [], paths[(rank + 1) % size] ?? [], steps);
  const allPairs = (size * (size - 1)) / 2;
  let all = 0;
  steps.forEach((step, level) => {
    all += step * (allPairs - pairsTogether(paths, level));
  });
  return { ring, ringPairs: size > 1 ? size : 0, all, allPairs };
}

/** A ring over so many hosts leaves a host at least once for each of them. */
export function leastRing(levels: readonly TopologyLevel[], hosts: number): number {
  return hosts < 2 ? 0 : hosts * (stepsOf(levels).at(-1) ?? 1);
}

/** What not sharing a level costs; the last is the host. */
function stepsOf(levels: readonly TopologyLevel[]): readonly number[] {
  const finest = levels.at(-1);
  return [...levels.map(() => 1), finest !== undefined && nvlinkLabels.has(finest.nodeLabel) ? 0.5 : 1];
}

function distance(a: readonly string[], b: readonly string[], steps: readonly number[]): number {
  let common = 0;
  while (common < steps.length && a[common] === b[common]) common++;
  let sum = 0;
  for (let level = common; level < steps.length; level++) sum += steps[level] ?? 0;
  return sum;
}

function pairsTogether(paths: readonly (readonly string[])[], level: number): number {
  const counts = new Map<string, number>();
  for (const path of paths) {
    const key = path.slice(0, level + 1).join('\n');
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  let pairs = 0;
  for (const count of counts.values()) pairs += (count * (count - 1)) / 2;
  return pairs;
}
