import type {
  LabelSelector,
  LabelSelectorRequirement,
  PodSpec,
  Taint,
  TopologySpreadConstraint,
} from '../api/kubernetes.ts';
import { type Labels, labelValue, matchesLabelSelector } from './labels.ts';
import { matchesNode } from './node-affinity.ts';
import { untoleratedTaint } from './taints.ts';

/** One hard constraint (`DoNotSchedule`) of a pod, with what the API leaves to defaults filled in. */
export interface SpreadConstraint {
  readonly topologyKey: string;
  /** At most so many matching pods more than in the domain with the fewest. */
  readonly maxSkew: number;
  /** With fewer domains than this the fewest counts as none. */
  readonly minDomains: number;
  /** Matches nothing when undefined. */
  readonly selector: LabelSelector | undefined;
  /** Nodes that the pod's node selector and required node affinity leave out are in no domain. */
  readonly honorsAffinity: boolean;
  /** Nodes with a taint that the pod does not tolerate are in no domain. */
  readonly honorsTaints: boolean;
}

/** What spreading looks at in a pod that wants a node. */
export interface SpreadPod {
  readonly namespace: string;
  readonly labels: Labels;
  /** Node selector, affinity and tolerations. */
  readonly spec: Pick<PodSpec, 'nodeSelector' | 'affinity' | 'tolerations'>;
}

export interface SpreadNode {
  readonly name: string;
  readonly labels: Labels;
  readonly taints: readonly Taint[];
}

/** A pod that has its node, or is taken to have it. */
export interface SpreadCounted {
  readonly namespace: string;
  readonly labels: Labels;
  readonly nodeName: string;
  /** It does not count any more. */
  readonly terminating: boolean;
}

/** Why a node does not take the newcomer: it has no such label, or its domain would have too many. */
export interface SpreadRefusal {
  readonly code: 'MissingLabel' | 'Skew';
  readonly topologyKey: string;
}

/** The spread constraints of one newcomer against known pods. Immutable. */
export interface SpreadCheck {
  /** Costs one look-up per constraint. */
  admits(nodeLabels: Labels): true | SpreadRefusal;
  /**
   * The same once required node affinity names that node alone, which is how Berth pins. A constraint that honors node
   * affinity then knows one domain with the pods of that node, so `minDomains` above 1 may refuse what it admitted before.
   */
  admitsPinned(node: Pick<SpreadNode, 'name' | 'labels'>): true | SpreadRefusal;
  /** The same newcomer after more pods have got their nodes; O(domains) per constraint. */
  withPlaced(placed: Iterable<SpreadCounted>): SpreadCheck;
  /**
   * The same newcomer when pods like these get nodes before it, wherever that helps it most: a node refused even then
   * is refused for good. O(domains x log domains) per constraint.
   */
  withCompanions(companions: readonly Pick<SpreadPod, 'namespace' | 'labels'>[]): SpreadCheck;
}

export interface SpreadQuestion {
  /** The newcomer's own constraints. */
  readonly constraints: readonly SpreadConstraint[];
  readonly pod: SpreadPod;
  /** All nodes of the cluster, those that take no pods included: their domains count. */
  readonly nodes: Iterable<SpreadNode>;
  /** All pods with a node. */
  readonly existing: Iterable<SpreadCounted>;
}

/**
 * The hard spread constraints of a pod, made from a template or admitted. `matchLabelKeys` are merged into the selector
 * from the pod's labels: kube-scheduler does that for every pod, whether the API server has done it before or not.
 */
export function compileSpread(pod: {
  readonly labels: Labels;
  readonly spec: Pick<PodSpec, 'topologySpreadConstraints'>;
}): readonly SpreadConstraint[] {
  return (pod.spec.topologySpreadConstraints ?? [])
    .filter(({ whenUnsatisfiable }) => whenUnsatisfiable === 'DoNotSchedule')
    .map(constraint => ({
      topologyKey: constraint.topologyKey,
      maxSkew: constraint.maxSkew,
      minDomains: constraint.minDomains ?? 1,
      selector: mergedSelector(constraint, pod.labels),
      honorsAffinity: (constraint.nodeAffinityPolicy ?? 'Honor') === 'Honor',
      honorsTaints: constraint.nodeTaintsPolicy === 'Honor',
    }));
}

/**
 * Looks once at every node and existing pod, then answers for any number of nodes. The rules are those of the
 * PodTopologySpread plugin's filter (k8s.io/kubernetes pkg/scheduler/framework/plugins/podtopologyspread, v1.37.2 with
 * default gates and configuration).
 */
export function spreadAdmits(question: SpreadQuestion): SpreadCheck {
  const nodes = countedNodes(question);
  const empty = {
    domains: question.constraints.map((_, index) => emptyDomains(nodes, index)),
    hosts: new Map(),
  };
  return checkOf(question, nodes, countPods(question, nodes, empty, question.existing), []);
}

function mergedSelector(
  { labelSelector, matchLabelKeys = [] }: TopologySpreadConstraint,
  labels: Labels,
): LabelSelector | undefined {
  if (labelSelector === undefined) return undefined;
  const merged: LabelSelectorRequirement[] = [];
  for (const key of matchLabelKeys) {
    const value = labelValue(labels, key);
    if (value !== undefined) merged.push({ key, operator: 'In', values: [value] });
  }
  if (merged.length === 0) return labelSelector;
  return { ...labelSelector, matchExpressions: [...(labelSelector.matchExpressions ?? []), ...merged] };
}

/** By node name and constraint the domain that the node belongs to; undefined where a policy leaves the node out. */
type CountedNodes = ReadonlyMap<string, readonly (string | undefined)[]>;

/** Matching pods. */
interface Counts {
  /** By constraint and domain. */
  readonly domains: readonly ReadonlyMap<string, number>[];
  /** By node name and constraint, where there are any. */
  readonly hosts: ReadonlyMap<string, readonly number[]>;
}

function countedNodes({ constraints, pod, nodes }: SpreadQuestion): CountedNodes {
  const counted = new Map<string, readonly (string | undefined)[]>();
  for (const node of nodes) {
    const values = constraints.map(({ topologyKey }) => labelValue(node.labels, topologyKey));
    // A node counts for no constraint when it lacks the label of one.
    if (values.includes(undefined)) continue;
    const selected = matchesNode(pod.spec, node);
    const tolerated = untoleratedTaint(node.taints, pod.spec.tolerations) === undefined;
    const isIn = ({ honorsAffinity, honorsTaints }: SpreadConstraint) =>
      (selected || !honorsAffinity) && (tolerated || !honorsTaints);
    counted.set(
      node.name,
      constraints.map((constraint, index) => (isIn(constraint) ? values[index] : undefined)),
    );
  }
  return counted;
}

function emptyDomains(nodes: CountedNodes, constraint: number): ReadonlyMap<string, number> {
  const empty = new Map<string, number>();
  for (const ofNode of nodes.values()) {
    const domain = ofNode[constraint];
    if (domain !== undefined) empty.set(domain, 0);
  }
  return empty;
}

function countPods(
  { constraints, pod }: SpreadQuestion,
  nodes: CountedNodes,
  before: Counts,
  pods: Iterable<SpreadCounted>,
): Counts {
  const domains = before.domains.map(count => new Map(count));
  const hosts = new Map(before.hosts);
  for (const other of pods) {
    const ofNode = nodes.get(other.nodeName);
    if (ofNode === undefined || other.terminating || other.namespace !== pod.namespace) continue;
    const matched = constraints.map(({ selector }, index) =>
      ofNode[index] !== undefined && countsPods(selector, other.labels) ? 1 : 0,
    );
    ofNode.forEach((domain, index) => {
      const count = domains[index];
      if (domain !== undefined && matched[index] === 1) count?.set(domain, (count.get(domain) ?? 0) + 1);
    });
    const atHost = hosts.get(other.nodeName);
    hosts.set(
      other.nodeName,
      matched.map((one, index) => (atHost?.[index] ?? 0) + one),
    );
  }
  return { domains, hosts };
}

/** Whether a placed pod counts: not by a selector that selects everything, though the newcomer matches that one. */
export function countsPods(selector: LabelSelector | undefined, labels: Labels): boolean {
  const isEmpty =
    Object.keys(selector?.matchLabels ?? {}).length === 0 && (selector?.matchExpressions ?? []).length === 0;
  return !isEmpty && matchesLabelSelector(selector, labels);
}

/** @param companions by constraint, how many pods may raise the fewest before the newcomer comes */
function checkOf(
  question: SpreadQuestion,
  nodes: CountedNodes,
  counts: Counts,
  companions: readonly number[],
): SpreadCheck {
  const { constraints, pod } = question;
  const rules = constraints.map((constraint, index) => {
    const count = counts.domains[index] ?? new Map<string, number>();
    const own = matchesLabelSelector(constraint.selector, pod.labels) ? 1 : 0;
    const fewest = count.size < constraint.minDomains ? 0 : leveled(count, companions[index] ?? 0);
    return { ...constraint, count, own, fewest };
  });

  /** With `pinnedTo`, as it is once the pod's required node affinity names that node alone. */
  const refusal = (nodeLabels: Labels, pinnedTo?: string): true | SpreadRefusal => {
    const alone = pinnedTo === undefined ? undefined : (counts.hosts.get(pinnedTo) ?? []);
    for (const [index, { topologyKey, maxSkew, ...rule }] of rules.entries()) {
      const domain = labelValue(nodeLabels, topologyKey);
      if (domain === undefined) return { code: 'MissingLabel', topologyKey };
      const isAlone = alone !== undefined && rule.honorsAffinity;
      const there = isAlone ? (alone[index] ?? 0) : (rule.count.get(domain) ?? 0);
      const fewest = isAlone ? (rule.minDomains > 1 ? 0 : there) : rule.fewest;
      if (there + rule.own - fewest > maxSkew) return { code: 'Skew', topologyKey };
    }
    return true;
  };

  const numberOf = (pods: readonly Pick<SpreadPod, 'namespace' | 'labels'>[]) =>
    constraints.map(({ selector }) => {
      const matching = pods.filter(other => countsPods(selector, other.labels));
      return matching.filter(other => other.namespace === pod.namespace).length;
    });

  return {
    admits: nodeLabels => refusal(nodeLabels),
    admitsPinned: ({ name, labels }) => refusal(labels, name),
    withPlaced: placed => checkOf(question, nodes, countPods(question, nodes, counts, placed), companions),
    withCompanions: pods => checkOf(question, nodes, counts, numberOf(pods)),
  };
}

/** The fewest pods in a domain once `more` have been put where there were the fewest. */
function leveled(count: ReadonlyMap<string, number>, more: number): number {
  let fewest = Number.POSITIVE_INFINITY;
  for (const pods of count.values()) fewest = Math.min(fewest, pods);
  if (more === 0) return fewest;
  const ascending = [...count.values()].sort((a, b) => a - b);
  let [level, left] = [fewest, more];
  for (let domains = 1; domains <= ascending.length; domains++) {
    const next = ascending[domains] ?? Number.POSITIVE_INFINITY;
    const steps = Math.min(next - level, Math.floor(left / domains));
    level += steps;
    left -= steps * domains;
    if (level < next) break;
  }
  return level;
}
