import type { TopologyDomain, TopologyTree } from '../cluster/topology.ts';
import type { PlanInput } from './plan-input.ts';
import type { HostShare } from './spread-over.ts';

/**
 * Gives ranks to hosts. The leader's host comes first, then the others in topology order starting from the leader's
 * neighbours, so that ranks that talk most sit closest; slices stay together.
 * @param order worker ranks as they are to be seated, slice by slice, the leader's slice first
 */
export function nodesByRank(
  input: PlanInput,
  shares: readonly HostShare[],
  order: readonly number[],
): readonly string[] {
  const { tree } = input.snapshot;
  const nodes = input.demands.map((_, rank) => input.fixed?.get(rank) ?? '');
  const leaderShare = shares.find(share => share.leader);
  const leaderHost = hostOf(tree, leaderShare?.node ?? tree.indexByNodeName.get(input.fixed?.get(0) ?? ''));
  if (leaderShare !== undefined) nodes[0] = tree.nodeNames[leaderShare.node] ?? '';
  const places = placesInOrder(tree, shares, leaderHost);
  order.forEach((rank, i) => {
    nodes[rank] = tree.nodeNames[places[i] ?? -1] ?? '';
  });
  return nodes;
}

/** A node index for each worker: cell by cell, the leader's first, and in each from the leader's neighbours outwards. */
function placesInOrder(
  tree: TopologyTree,
  shares: readonly HostShare[],
  leaderHost: TopologyDomain | undefined,
): readonly number[] {
  const near = (share: HostShare) => commonLevels(hostOf(tree, share.node), leaderHost);
  const nearest = new Map<number, number>();
  const first = new Map<number, number>();
  for (const share of shares) {
    nearest.set(share.cell, Math.max(nearest.get(share.cell) ?? 0, near(share)));
    first.set(share.cell, Math.min(first.get(share.cell) ?? share.node, share.node));
  }
  const cellOf = (share: HostShare) => [
    -(nearest.get(share.cell) ?? 0),
    first.get(share.cell) ?? 0,
    share.cell,
  ];
  const ordered = shares
    .map(share => ({ share, order: [...cellOf(share), -near(share), share.node] }))
    .sort((a, b) => compareNumbers(a.order, b.order));
  return ordered.flatMap(({ share }) => Array.from({ length: share.workers }, () => share.node));
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < a.length; at++) {
    const order = (a[at] ?? 0) - (b[at] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

function hostOf(tree: TopologyTree, node: number | undefined): TopologyDomain | undefined {
  return tree.domainsByLevel[tree.levels.length]?.[node ?? -1];
}

/** How many elements of the path two hosts share; all of them when they are one. */
function commonLevels(host: TopologyDomain | undefined, other: TopologyDomain | undefined): number {
  if (host === undefined || other === undefined) return 0;
  let common = 0;
  while (common < host.path.length && host.path[common] === other.path[common]) common++;
  return common;
}
