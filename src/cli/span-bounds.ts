import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { TopologyDomain } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { TopologyRequest } from '../group/topology-request.ts';
import type { FitMemo } from '../planner/fit.ts';

/** Hosts, or domains of one level, that a group stands in. */
export interface Spans {
  /** By configured level, coarse to fine. */
  readonly domains: readonly number[];
  readonly hosts: number;
}

/** What one host or domain takes. */
interface Place {
  /** Workers, without the leader. */
  readonly workers: number;
  /** Workers beside the leader; -1 where the leader does not fit. */
  readonly besideLeader: number;
}

export interface SpanQuestion {
  readonly snapshot: ClusterSnapshot;
  readonly memo: FitMemo;
  /** Leader first. */
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
}

/**
 * The fewest hosts and domains of each level that could hold a group whose workers are alike, each level by itself, inside
 * what the group requires. Exact: with the leader's place chosen, the roomiest places are the best for workers, and
 * places with the same room are interchangeable. Undefined where nothing holds the group, and for groups of more than
 * two kinds or with rules between members.
 */
export function fewestSpans(question: SpanQuestion): Spans | undefined {
  const { snapshot, topology, demands } = question;
  if (!isSimple(topology, demands)) return undefined;
  const { tree } = snapshot;
  const required = topology.requiredLevel ?? -1;
  const outer = required < 0 ? [tree.root] : (tree.domainsByLevel[required] ?? []);
  const hosts = hostPlaces(question);
  const workers = hasOwnLeader(demands) ? demands.length - 1 : demands.length;
  const fewestAt = (level: number) => {
    const counts = outer.flatMap(
      domain => fewest(placesWithin(domain, level, hosts), workers, hasOwnLeader(demands)) ?? [],
    );
    return counts.length === 0 ? undefined : Math.min(...counts);
  };
  const counts = [...tree.levels, 'host'].map((_, level) => (level <= required ? 1 : fewestAt(level)));
  const known = counts.flatMap(count => count ?? []);
  if (known.length < counts.length) return undefined;
  return { domains: known.slice(0, -1), hosts: known.at(-1) ?? 0 };
}

/** How many hosts and domains a plan uses. */
export function spansOf({ tree }: ClusterSnapshot, nodes: readonly string[]): Spans {
  const hosts = new Set(nodes.flatMap(name => tree.indexByNodeName.get(name) ?? []));
  const domains = tree.levels.map(
    (_, level) => new Set([...hosts].map(host => pathTo(tree, host, level))).size,
  );
  return { domains, hosts: hosts.size };
}

function pathTo(tree: ClusterSnapshot['tree'], host: number, level: number): string {
  const path = tree.domainsByLevel[tree.levels.length]?.[host]?.path ?? [];
  return path.slice(0, level + 1).join('/');
}

/** Fewest places that hold all workers, and the leader where it is another. */
function fewest(places: readonly Place[], workers: number, withLeader: boolean): number | undefined {
  const rooms = places.map(place => place.workers).sort((a, b) => b - a);
  const sums = [0];
  for (const room of rooms) sums.push((sums.at(-1) ?? 0) + room);
  if (!withLeader) return firstAtLeast(sums, workers);
  let best: number | undefined;
  const seen = new Set<string>();
  for (const { workers: own, besideLeader } of places) {
    const key = `${own} ${besideLeader}`;
    if (besideLeader < 0 || seen.has(key)) continue;
    seen.add(key);
    const count = countBeside(sums, rooms, own, workers - besideLeader);
    if (count !== undefined && (best === undefined || count < best)) best = count;
  }
  return best;
}

/** The leader's place and the roomiest others, until `left` workers have found room. */
function countBeside(
  sums: readonly number[],
  rooms: readonly number[],
  own: number,
  left: number,
): number | undefined {
  if (left <= 0) return 1;
  const at = rooms.indexOf(own);
  for (let others = 1; others < rooms.length; others++) {
    // The leader's own place may be among the roomiest; then the next one steps in for it.
    const room = at < others ? (sums[others + 1] ?? 0) - own : (sums[others] ?? 0);
    if (room >= left) return 1 + others;
  }
  return undefined;
}

function firstAtLeast(sums: readonly number[], wanted: number): number | undefined {
  const at = sums.findIndex(sum => sum >= wanted);
  return at === -1 ? undefined : at;
}

function hostPlaces({ snapshot, memo, demands }: SpanQuestion): readonly Place[] {
  const worker = demands.at(-1);
  const leader = hasOwnLeader(demands) ? demands[0] : undefined;
  return [...snapshot.nodes].map(node => {
    const workers = worker === undefined ? 0 : memo.fit(node, worker).slots;
    if (leader === undefined || worker === undefined) return { workers, besideLeader: -1 };
    return { workers, besideLeader: memo.slotsBeside(node, leader, worker) };
  });
}

/** Domains of a level below a domain, each as one place; its hosts for the level below all others. */
function placesWithin(domain: TopologyDomain, level: number, hosts: readonly Place[]): readonly Place[] {
  if (domain.level === level) return [placeOf(domain, hosts)];
  return domain.children.flatMap(child => placesWithin(child, level, hosts));
}

function placeOf(domain: TopologyDomain, hosts: readonly Place[]): Place {
  let workers = 0;
  let gain = Number.NEGATIVE_INFINITY;
  for (const node of domain.nodes) {
    const host = hosts[node];
    if (host === undefined) continue;
    workers += host.workers;
    if (host.besideLeader >= 0) gain = Math.max(gain, host.besideLeader - host.workers);
  }
  return { workers, besideLeader: gain === Number.NEGATIVE_INFINITY ? -1 : workers + gain };
}

function hasOwnLeader(demands: readonly MemberDemand[]): boolean {
  return demands.length > 1 && demands[0]?.key !== demands[1]?.key;
}

function isSimple(topology: TopologyRequest, demands: readonly MemberDemand[]): boolean {
  const { requiredLevel: _required, preferredLevel: _preferred, sameLabels, ...rest } = topology;
  const rules = Object.values(rest).some(rule => rule !== undefined);
  const alike = demands.slice(2).every(({ key }) => key === demands[1]?.key);
  const free = demands.every(({ affinity, hostPorts }) => affinity === undefined && hostPorts.length === 0);
  return !rules && sameLabels.length === 0 && alike && free;
}
