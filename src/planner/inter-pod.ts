import { k8s } from '../api/names.ts';
import { type Labels, labelValue, matchesLabelSelector } from '../cluster/labels.ts';
import {
  type AffinityCheck,
  type AffinityRefusal,
  type AffinityTerm,
  affinityAdmits,
} from '../cluster/pod-affinity.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { SpreadCheck } from '../cluster/topology-spread.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';
import {
  admitsSpread,
  countedBySpread,
  lastingSpreadCheckOf,
  type Place,
  spreadCause,
  spreadCheckOf,
} from './pod-spread.ts';

/** Tells for a node, by its labels, why inter-pod terms or spread constraints keep the member away; empty if not. */
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

/** Looks once at the existing pods; free where neither the member nor any existing pod has rules about others. */
export function admitterFor(input: InterPodInput, demand: MemberDemand | undefined): Admitter {
  if (demand === undefined) return admitsAll;
  const asked = input.affinityAssumed ? withoutAffinity(demand) : demand;
  const check = checkFor(input.snapshot, asked);
  const spread = lastingSpreadCheckOf(input, demand);
  if (check === undefined && spread === undefined) return admitsAll;
  return labels => {
    const verdict = check?.admits(labels) ?? true;
    if (verdict !== true) return causes[verdict.code];
    const spreading = spread?.admits(labels) ?? true;
    return spreading === true ? '' : spreadCause(spreading);
  };
}

/**
 * Whether anti-affinity over the host name, in either direction, keeps two demands (or two of one demand) off one host.
 * Of the terms between a group's own members only these can be counted in places per host.
 */
export function keepsApart(
  snapshot: ClusterSnapshot,
  a: MemberDemand | undefined,
  b: MemberDemand | undefined,
): boolean {
  return a !== undefined && b !== undefined && (repels(snapshot, a, b) || repels(snapshot, b, a));
}

/** Whether anti-affinity over any label, in either direction, keeps two members off two nodes with these labels. */
export function keepApartOver(
  snapshot: ClusterSnapshot,
  a: { readonly demand: MemberDemand; readonly nodeLabels: Labels },
  b: { readonly demand: MemberDemand; readonly nodeLabels: Labels },
): boolean {
  const isShared = (key: string) => {
    const value = labelValue(a.nodeLabels, key);
    return value !== undefined && value === labelValue(b.nodeLabels, key);
  };
  const isRepelled = (by: MemberDemand, other: MemberDemand) =>
    by.affinity?.antiAffinity.some(term => isShared(term.topologyKey) && selects(snapshot, term, other)) ===
    true;
  return isRepelled(a.demand, b.demand) || isRepelled(b.demand, a.demand);
}

/** The same for a node: a term over a label that it does not carry means nothing there. */
export function keepApartOnHost(
  snapshot: ClusterSnapshot,
  a: MemberDemand | undefined,
  b: MemberDemand | undefined,
): (nodeLabels: Labels) => boolean {
  const apart = keepsApart(snapshot, a, b);
  return nodeLabels => apart && labelValue(nodeLabels, k8s.hostname) !== undefined;
}

/** Whether no rule between pods can keep a member off any node, so that node and demand alone decide. */
export function isUnruled({ snapshot, demands }: InterPodInput): boolean {
  const distinct = new Set(demands);
  for (const { affinity, spread } of distinct) if (affinity !== undefined || spread.length > 0) return false;
  if (isEmpty(snapshot.repellingPods())) return true;
  // Members that ask for the same may bear different labels, by which the anti-affinity of others tells them apart.
  for (const demand of distinct) if (!freshCheck(snapshot, demand).refusesNothing) return false;
  return true;
}

/**
 * The same question with keys of their own for demands that ask for the same and are not treated the same by others:
 * anti-affinity towards them looks at labels, which a key leaves out where the demand has no terms itself.
 */
export function toldApart<T extends InterPodInput>(input: T): T {
  const { snapshot, demands } = input;
  const hasTerms = demands.some(({ affinity, spread }) => affinity !== undefined || spread.length > 0);
  if (!hasTerms && isEmpty(snapshot.repellingPods())) return input;
  const variants = new Map([...new Set(demands)].map(demand => [interPodKeyOf(demand), demand]));
  if (variants.size === new Set(demands.map(({ key }) => key)).size) return input;
  const treated = new Map([...variants].map(([variant, demand]) => [variant, treatmentOf(input, demand)]));
  return {
    ...input,
    demands: demands.map(demand => ({
      ...demand,
      key: `${demand.key}\n${treated.get(interPodKeyOf(demand)) ?? ''}`,
    })),
  };
}

/** Which nodes take the demand as far as other pods go, and which terms inside the group name it. */
function treatmentOf({ snapshot, demands }: InterPodInput, demand: MemberDemand): string {
  const check = freshCheck(snapshot, demand);
  const nodes = check.refusesNothing
    ? ''
    : Array.from(snapshot.nodes, ({ record }) => (check.admits(record.labels) === true ? '1' : '0')).join('');
  const named = [...new Set(demands)].flatMap(({ affinity }) =>
    [...(affinity?.affinity ?? []), ...(affinity?.antiAffinity ?? [])].map(term =>
      selects(snapshot, term, demand) ? '1' : '0',
    ),
  );
  return `${nodes}/${named.join('')}/${countedBySpread(new Set(demands), demand)}`;
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
  const placeOf = (rank: number): Place => {
    const index = snapshot.tree.indexByNodeName.get(nodes[rank] ?? '');
    return (index === undefined ? undefined : snapshot.nodes.at(index)?.record) ?? { name: '', labels: {} };
  };
  const admits = (rank: number, placed: readonly number[]): boolean => {
    const members = placed.flatMap(earlier => {
      const demand = demands[earlier];
      if (demand === undefined) return [];
      const { namespace, labels, affinity } = demand;
      const { name: nodeName, labels: nodeLabels } = placeOf(earlier);
      return [{ namespace, labels, nodeName, nodeLabels, terminating: false, antiAffinity: affinity }];
    });
    const { affinity, spread } = checks.get(rank) ?? {};
    const place = placeOf(rank);
    if (affinity?.withPlaced(members).admits(place.labels) !== true) return false;
    return spread === undefined || admitsSpread(spread.withPlaced(members), place) === true;
  };
  const ranks = demands.map((_, rank) => rank).filter(rank => !fixed?.has(rank));
  if (allArrive(ranks, admits)) return true;
  // Nobody is harder to place for coming later, but who may go anywhere only as the first, and who is spread.
  const matters = ranks.some(rank => {
    const { affinity, spread = [] } = demands[rank] ?? {};
    return spread.length > 0 || (affinity?.affinity.length ?? 0) > 0;
  });
  return matters && arriveInSomeOrder(ranks, rank => `${nodes[rank]}\n${demands[rank]?.key}`, admits);
}

type Admits = (rank: number, placed: readonly number[]) => boolean;

/** In the order as given; a member that waits for another is tried again once more have got their nodes. */
function allArrive(order: readonly number[], admits: Admits): boolean {
  let waiting = order;
  const placed: number[] = [];
  while (waiting.length > 0) {
    const before = waiting.length;
    waiting = waiting.filter(rank => {
      if (!admits(rank, placed)) return true;
      placed.push(rank);
      return false;
    });
    if (waiting.length === before) return false;
  }
  return true;
}

/** Members that are asked at most, in all orders together: enough for all orders of eight sorts. */
const mostArrivals = 2048;

/** Tries all orders of sorts, which are the members that are alike and stand on one node. */
function arriveInSomeOrder(
  ranks: readonly number[],
  sortOf: (rank: number) => string,
  admits: Admits,
): boolean {
  const sorts = [...Map.groupBy(ranks, sortOf).values()];
  const dead = new Set<string>();
  let left = mostArrivals;
  const arrive = (counts: readonly number[]): boolean => {
    const placed = sorts.flatMap((sort, at) => sort.slice(0, counts[at]));
    if (placed.length === ranks.length) return true;
    const key = counts.join();
    if (dead.has(key)) return false;
    const found = sorts.some((sort, at) => {
      const next = sort[counts[at] ?? 0];
      if (next === undefined || left-- <= 0 || !admits(next, placed)) return false;
      return arrive(counts.map((count, other) => (other === at ? count + 1 : count)));
    });
    dead.add(key);
    return found;
  };
  return arrive(sorts.map(() => 0));
}

interface Checks {
  readonly affinity: AffinityCheck;
  readonly spread: SpreadCheck | undefined;
}

/** By rank; empty where no rules between pods are about, neither of the group nor of other pods. */
function checksByRank(input: InterPodInput): ReadonlyMap<number, Checks> {
  const { snapshot, demands } = input;
  const checks = new Map<number, Checks>();
  const noTerms = demands.every(({ affinity, spread }) => affinity === undefined && spread.length === 0);
  if (noTerms && isEmpty(snapshot.repellingPods())) return checks;
  const known = new Map<string, Checks>();
  demands.forEach((demand, rank) => {
    const key = interPodKeyOf(demand);
    const check = known.get(key) ?? {
      affinity: freshCheck(snapshot, demand),
      spread: spreadCheckOf(snapshot, demand),
    };
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
