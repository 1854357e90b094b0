import type { LabelSelector, LabelSelectorRequirement, PodAffinityTerm, PodSpec } from '../api/kubernetes.ts';
import { type Labels, labelValue, matchesLabelSelector } from './labels.ts';

/** One required inter-pod term, with its namespaces resolved as far as the pod alone allows. */
export interface AffinityTerm {
  readonly topologyKey: string;
  readonly selector: LabelSelector | undefined;
  readonly namespaces: readonly string[];
  readonly namespaceSelector: LabelSelector | undefined;
}

/** A pod's required inter-pod terms; at least one of the lists has some. */
export interface PodAffinity {
  readonly affinity: readonly AffinityTerm[];
  readonly antiAffinity: readonly AffinityTerm[];
}

/** What terms can see of a pod. */
export interface AffinityPod {
  readonly namespace: string;
  readonly labels: Labels;
}

/** A pod that has its node, or is taken to have it. */
export interface ExistingPod extends AffinityPod {
  /** Only topology spread looks at it; a pod without does not count there. */
  readonly nodeName?: string | undefined;
  readonly nodeLabels: Labels;
  /** Topology spread does not count it any more; inter-pod terms do. */
  readonly terminating?: boolean | undefined;
  /** Only its anti-affinity binds others; its affinity was a matter of its own placement. */
  readonly antiAffinity?: PodAffinity | undefined;
}

/** Which rule of the InterPodAffinity plugin keeps a pod off a node, and over which node label. */
export interface AffinityRefusal {
  readonly code: 'PodAffinity' | 'PodAntiAffinity' | 'ExistingPodAntiAffinity';
  readonly topologyKey: string;
}

/** The inter-pod rules for one newcomer against known pods. Immutable. */
export interface AffinityCheck {
  /** No node can be refused: the newcomer has no terms and nobody's anti-affinity names it. */
  readonly refusesNothing: boolean;
  /** Costs one look-up per term and label of the node, however many pods there are. */
  admits(nodeLabels: Labels): true | AffinityRefusal;
  /** The same newcomer after more pods have got their nodes, e.g. members of its own group placed before it. */
  withPlaced(placed: Iterable<ExistingPod>): AffinityCheck;
}

export interface AffinityQuestion {
  /** The newcomer's own terms. */
  readonly terms: PodAffinity | undefined;
  readonly pod: AffinityPod;
  /** All pods with a node; for a newcomer without terms those that have anti-affinity suffice. */
  readonly existing: Iterable<ExistingPod>;
  readonly namespaceLabels: (namespace: string) => Labels;
}

type RequiredTerms = Pick<PodSpec, 'affinity'>;

const required = 'requiredDuringSchedulingIgnoredDuringExecution';

/**
 * The required inter-pod terms of a pod that the API server has admitted; undefined when it has none. `matchLabelKeys`
 * and `mismatchLabelKeys` are ignored: the API server has merged them into the selectors when the pod was made, and
 * labels may have changed since.
 */
export function compileAffinity(
  pod: AffinityPod & { readonly spec: RequiredTerms },
): PodAffinity | undefined {
  return compile(pod, term => term.labelSelector);
}

/**
 * The required inter-pod terms that a pod made from a template will have: `matchLabelKeys` and `mismatchLabelKeys` are
 * merged into the selectors from the pod's labels, as the API server does (pkg/registry/core/pod mutatePodAffinity).
 */
export function compileTemplateAffinity(
  pod: AffinityPod & { readonly spec: RequiredTerms },
): PodAffinity | undefined {
  return compile(pod, term => mergedSelector(term, pod.labels));
}

/**
 * Looks once at every existing pod, then answers for any number of nodes. The rules are those of the InterPodAffinity
 * plugin's filter (k8s.io/kubernetes pkg/scheduler/framework/plugins/interpodaffinity, v1.37.2 with default gates).
 */
export function affinityAdmits(question: AffinityQuestion): AffinityCheck {
  const matcher = termMatcher(question.namespaceLabels);
  const seen = observe(question, matcher, question.existing, noObservation);
  return checkOf(question, matcher, seen, noObservation);
}

function compile(
  pod: AffinityPod & { readonly spec: RequiredTerms },
  selectorOf: (term: PodAffinityTerm) => LabelSelector | undefined,
): PodAffinity | undefined {
  const { podAffinity, podAntiAffinity } = pod.spec.affinity ?? {};
  const compileTerm = (term: PodAffinityTerm): AffinityTerm => ({
    topologyKey: term.topologyKey,
    selector: selectorOf(term),
    namespaces: namespacesOf(term, pod.namespace),
    namespaceSelector: term.namespaceSelector,
  });
  const affinity = (podAffinity?.[required] ?? []).map(compileTerm);
  const antiAffinity = (podAntiAffinity?.[required] ?? []).map(compileTerm);
  return affinity.length + antiAffinity.length === 0 ? undefined : { affinity, antiAffinity };
}

/** A term that names no namespace in either way means the pod's own. */
function namespacesOf(term: PodAffinityTerm, own: string): readonly string[] {
  const named = term.namespaces ?? [];
  return named.length === 0 && term.namespaceSelector === undefined ? [own] : named;
}

function mergedSelector(term: PodAffinityTerm, labels: Labels): LabelSelector | undefined {
  const { labelSelector, matchLabelKeys = [], mismatchLabelKeys = [] } = term;
  if (labelSelector === undefined) return undefined;
  const merged: LabelSelectorRequirement[] = [];
  for (const [keys, operator] of [
    [matchLabelKeys, 'In'],
    [mismatchLabelKeys, 'NotIn'],
  ] as const) {
    for (const key of keys) {
      const value = labelValue(labels, key);
      if (value !== undefined) merged.push({ key, operator, values: [value] });
    }
  }
  if (merged.length === 0) return labelSelector;
  return { ...labelSelector, matchExpressions: [...(labelSelector.matchExpressions ?? []), ...merged] };
}

type Matches = (term: AffinityTerm, pod: AffinityPod) => boolean;

/** Namespaces are few and pods many, so each namespace is held against each term's selector once. */
function termMatcher(namespaceLabels: AffinityQuestion['namespaceLabels']): Matches {
  const selected = new Map<AffinityTerm, Map<string, boolean>>();
  const selectsNamespace = (term: AffinityTerm, namespace: string): boolean => {
    if (term.namespaces.includes(namespace)) return true;
    if (term.namespaceSelector === undefined) return false;
    let known = selected.get(term);
    if (known === undefined) {
      known = new Map();
      selected.set(term, known);
    }
    let selects = known.get(namespace);
    if (selects === undefined) {
      selects = matchesLabelSelector(term.namespaceSelector, namespaceLabels(namespace));
      known.set(namespace, selects);
    }
    return selects;
  };
  return (term, pod) =>
    selectsNamespace(term, pod.namespace) && matchesLabelSelector(term.selector, pod.labels);
}

/** Values by topology key, such as `zone` -> {a, b}. */
type Domains = ReadonlyMap<string, ReadonlySet<string>>;

/** Topology domains in which pods stand that matter to the newcomer. */
interface Observation {
  /** Domains with a pod that matches all of the newcomer's affinity terms. */
  readonly wanted: Domains;
  /** Domains with a pod that one of the newcomer's anti-affinity terms names. */
  readonly avoided: Domains;
  /** Domains that existing pods' anti-affinity keeps the newcomer out of. */
  readonly forbidden: Domains;
}

const noObservation: Observation = { wanted: new Map(), avoided: new Map(), forbidden: new Map() };

function observe(
  { terms, pod }: AffinityQuestion,
  matches: Matches,
  existing: Iterable<ExistingPod>,
  before: Observation,
): Observation {
  const { affinity = [], antiAffinity = [] } = terms ?? {};
  const wanted = copyOf(before.wanted);
  const avoided = copyOf(before.avoided);
  const forbidden = copyOf(before.forbidden);
  for (const other of existing) {
    // A pod counts for affinity only when it matches every term, yet it then counts for each term's domain apart.
    if (affinity.length > 0 && affinity.every(term => matches(term, other))) {
      for (const { topologyKey } of affinity) addDomain(wanted, topologyKey, other.nodeLabels);
    }
    for (const term of antiAffinity) {
      if (matches(term, other)) addDomain(avoided, term.topologyKey, other.nodeLabels);
    }
    for (const term of other.antiAffinity?.antiAffinity ?? []) {
      if (matches(term, pod)) addDomain(forbidden, term.topologyKey, other.nodeLabels);
    }
  }
  return { wanted, avoided, forbidden };
}

function copyOf(domains: Domains): Map<string, Set<string>> {
  return new Map([...domains].map(([key, values]) => [key, new Set(values)]));
}

function addDomain(domains: Map<string, Set<string>>, topologyKey: string, nodeLabels: Labels): void {
  const value = labelValue(nodeLabels, topologyKey);
  if (value === undefined) return;
  const values = domains.get(topologyKey);
  if (values === undefined) domains.set(topologyKey, new Set([value]));
  else values.add(value);
}

/** `base` is shared by all checks of one question; `placed` is small and copied whenever it grows. */
function checkOf(
  question: AffinityQuestion,
  matches: Matches,
  base: Observation,
  placed: Observation,
): AffinityCheck {
  const affinity = question.terms?.affinity ?? [];
  const nobodyMatches = base.wanted.size === 0 && placed.wanted.size === 0;
  // The first pod of a group that wants to be near itself may go anywhere, else none of them could ever start.
  const leadsItself = nobodyMatches && affinity.every(term => matches(term, question.pod));

  const missedDomain = (nodeLabels: Labels): string | undefined => {
    let missed: string | undefined;
    for (const { topologyKey } of affinity) {
      const value = labelValue(nodeLabels, topologyKey);
      // Every topology label must exist on the node, for the first of a group too.
      if (value === undefined) return topologyKey;
      if (!holds(base.wanted, topologyKey, value) && !holds(placed.wanted, topologyKey, value))
        missed ??= topologyKey;
    }
    return leadsItself ? undefined : missed;
  };

  const rules = [
    ['PodAffinity', missedDomain],
    ['PodAntiAffinity', enteredDomain(base.avoided, placed.avoided)],
    ['ExistingPodAntiAffinity', enteredDomain(base.forbidden, placed.forbidden)],
  ] as const;
  return {
    refusesNothing: question.terms === undefined && base.forbidden.size === 0 && placed.forbidden.size === 0,
    admits(nodeLabels) {
      for (const [code, refusedOver] of rules) {
        const topologyKey = refusedOver(nodeLabels);
        if (topologyKey !== undefined) return { code, topologyKey };
      }
      return true;
    },
    withPlaced: more => checkOf(question, matches, base, observe(question, matches, more, placed)),
  };
}

/** Finds the key by which a node belongs to one of the domains. */
function enteredDomain(a: Domains, b: Domains): (nodeLabels: Labels) => string | undefined {
  const keys = [...new Set([...a.keys(), ...b.keys()])];
  return nodeLabels =>
    keys.find(key => {
      const value = labelValue(nodeLabels, key);
      return value !== undefined && (holds(a, key, value) || holds(b, key, value));
    });
}

function holds(domains: Domains, key: string, value: string): boolean {
  return domains.get(key)?.has(value) ?? false;
}
