import { k8s } from '../api/names.ts';
import { type Labels, labelValue, matchesLabelSelector } from '../cluster/labels.ts';
import {
  type AffinityCheck,
  type AffinityRefusal,
  type AffinityTerm,
  affinityAdmits,
} from '../cluster/pod-affinity.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';

/** Tells for a node, by its labels, why inter-pod terms keep the member away; empty when they do not. */
export type Admitter = (nodeLabels: Labels) => string;

interface InterPodInput {
  readonly snapshot: ClusterSnapshot;
  readonly demands: readonly MemberDemand[];
  readonly fixed?: ReadonlyMap<number, string>;
  readonly affinityAssumed?: boolean;
}

const admitsAll: Admitter = () => '';

const causes: Record<AffinityRefusal['code'], string> = {
  PodAffinity: 'pod affinity',
  PodAntiAffinity: 'pod anti-affinity',
  ExistingPodAntiAffinity: 'anti-affinity of other pods',
};

/** Looks once at the existing pods; free where neither the member nor any existing pod has required terms. */
export function admitterFor(input: InterPodInput, demand: MemberDemand | undefined): Admitter {
  if (demand === undefined) return admitsAll;
  const asked = input.affinityAssumed ? withoutAffinity(demand) : demand;
  const check = checkFor(input.snapshot, asked);
  if (check === undefined) return admitsAll;
  return labels => {
    const verdict = check.admits(labels);
    return verdict === true ? '' : causes[verdict.code];
  };
}

/**
 * Whether anti-affinity over the host name, in either direction, keeps two demands (or two of one demand) off one host.
 * Of the terms between a group's own members only these can be counted in places per host.
 */
export function keepApartOnHost(
  snapshot: ClusterSnapshot,
  a: MemberDemand | undefined,
  b: MemberDemand | undefined,
): (nodeLabels: Labels) => boolean {
  const apart = a !== undefined && b !== undefined && (repels(snapshot, a, b) || repels(snapshot, b, a));
  // A term over a label that the node does not carry means nothing there.
  return nodeLabels => apart && labelValue(nodeLabels, k8s.hostname) !== undefined;
}

/**
 * Node labels over which members want to be near other members of the group, where pods that exist already do not
 * settle it. A host asked about one member alone would refuse it for want of the others.
 */
export function ownAffinityKeys(input: InterPodInput): readonly string[] {
  const { snapshot, demands, fixed } = input;
  const keys = new Set<string>();
  demands.forEach((demand, rank) => {
    const terms = demand.affinity?.affinity ?? [];
    if (terms.length === 0 || fixed?.has(rank) || leadsItself(snapshot, demand)) return;
    const helped = demands.some(
      (other, at) => at !== rank && terms.every(term => selects(snapshot, term, other)),
    );
    if (helped) for (const { topologyKey } of terms) keys.add(topologyKey);
  });
  return [...keys].sort();
}

/**
 * Whether kube-scheduler would admit the members of a finished plan one after the other, in some order. Counts per host
 * cannot see terms between the group's own members, so a plan is held against them at the end.
 */
export function admitsEachInTurn(input: InterPodInput, nodes: readonly string[]): boolean {
  const { snapshot, demands, fixed } = input;
  const checks = checksByRank(input);
  if (checks.size === 0) return true;
  const nodeLabels = (rank: number): Labels => {
    const index = snapshot.tree.indexByNodeName.get(nodes[rank] ?? '');
    return (index === undefined ? undefined : snapshot.nodes[index]?.record.labels) ?? {};
  };
  let waiting = demands.map((_, rank) => rank).filter(rank => !fixed?.has(rank));
  const placed: number[] = [];
  const admits = (rank: number): boolean => {
    const members = placed.flatMap(earlier => {
      const demand = demands[earlier];
      if (demand === undefined) return [];
      const { namespace, labels, affinity } = demand;
      return [{ namespace, labels, nodeLabels: nodeLabels(earlier), antiAffinity: affinity }];
    });
    return checks.get(rank)?.withPlaced(members).admits(nodeLabels(rank)) === true;
  };
  // A member that waits for another is tried again once more have got their nodes.
  while (waiting.length > 0) {
    const before = waiting.length;
    waiting = waiting.filter(rank => {
      if (!admits(rank)) return true;
      placed.push(rank);
      return false;
    });
    if (waiting.length === before) return false;
  }
  return true;
}

/** By rank; empty where no required terms are about, neither of the group nor of other pods. */
function checksByRank(input: InterPodInput): ReadonlyMap<number, AffinityCheck> {
  const { snapshot, demands } = input;
  const checks = new Map<number, AffinityCheck>();
  const noTerms = demands.every(demand => demand.affinity === undefined);
  if (noTerms && isEmpty(snapshot.repellingPods())) return checks;
  const known = new Map<string, AffinityCheck>();
  demands.forEach((demand, rank) => {
    const key = interPodKeyOf(demand);
    const check = known.get(key) ?? freshCheck(snapshot, demand);
    known.set(key, check);
    checks.set(rank, check);
  });
  return checks;
}

function checkFor(snapshot: ClusterSnapshot, demand: MemberDemand): AffinityCheck | undefined {
  return demand.affinity === undefined && isEmpty(snapshot.repellingPods())
    ? undefined
    : freshCheck(snapshot, demand);
}

function freshCheck(snapshot: ClusterSnapshot, demand: MemberDemand): AffinityCheck {
  return affinityAdmits({
    terms: demand.affinity,
    pod: { namespace: demand.namespace, labels: demand.labels },
    existing: demand.affinity === undefined ? snapshot.repellingPods() : snapshot.existingPods(),
    namespaceLabels: namespace => snapshot.namespaceLabels(namespace),
  });
}

/** Nobody matches the member's affinity but itself, so it may go to any domain: a value that no node has will do. */
function leadsItself(snapshot: ClusterSnapshot, demand: MemberDemand): boolean {
  const keys = demand.affinity?.affinity.map(({ topologyKey }) => [topologyKey, '\u0000']) ?? [];
  return freshCheck(snapshot, demand).admits(Object.fromEntries(keys)) === true;
}

function withoutAffinity(demand: MemberDemand): MemberDemand {
  const antiAffinity = demand.affinity?.antiAffinity ?? [];
  return { ...demand, affinity: antiAffinity.length === 0 ? undefined : { affinity: [], antiAffinity } };
}

function repels(snapshot: ClusterSnapshot, a: MemberDemand, b: MemberDemand): boolean {
  const terms = a.affinity?.antiAffinity ?? [];
  return terms.some(term => term.topologyKey === k8s.hostname && selects(snapshot, term, b));
}

function selects(
  snapshot: ClusterSnapshot,
  term: AffinityTerm,
  pod: Pick<MemberDemand, 'namespace' | 'labels'>,
): boolean {
  const { namespaces, namespaceSelector, selector } = term;
  const inNamespace =
    namespaces.includes(pod.namespace) ||
    matchesLabelSelector(namespaceSelector, snapshot.namespaceLabels(pod.namespace));
  return inNamespace && matchesLabelSelector(selector, pod.labels);
}

function isEmpty(pods: Iterable<unknown>): boolean {
  for (const _ of pods) return false;
  return true;
}
