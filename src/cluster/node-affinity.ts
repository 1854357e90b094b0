import type { LabelSelectorRequirement, NodeSelectorTerm, PodSpec } from '../api/kubernetes.ts';
import { type Labels, labelValue, matchesRequirements } from './labels.ts';

type Selecting = Pick<PodSpec, 'nodeSelector' | 'affinity'>;

/** An operation of a JSON Patch (RFC 6902). */
export type JsonPatchOperation =
  | { readonly op: 'add' | 'replace' | 'test'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string };

/** A pod's required node affinity matches no node at all, and the API server lets nobody change that. */
export class UnpinnableError extends Error {
  readonly code = 'Unpinnable';
  readonly nodeName: string;

  constructor(nodeName: string) {
    super(
      `required node affinity has no term that matches any node, so the pod cannot be pinned to ${nodeName}`,
    );
    this.name = 'UnpinnableError';
    this.nodeName = nodeName;
  }
}

const nameField = 'metadata.name';
const required = 'requiredDuringSchedulingIgnoredDuringExecution';

/**
 * Whether a pod's nodeSelector and required node affinity admit a node (component-helpers
 * scheduling/corev1/nodeaffinity). Terms are ORed; an empty term, and an empty list of terms, match nothing.
 */
export function matchesNode(
  spec: Selecting,
  node: { readonly name: string; readonly labels: Labels },
): boolean {
  for (const [key, value] of Object.entries(spec.nodeSelector ?? {})) {
    if (labelValue(node.labels, key) !== value) return false;
  }
  const terms = requiredTerms(spec);
  return terms === undefined || terms.some(term => matchesTerm(term, node));
}

/**
 * The nodes that required node affinity leaves to a pod, when each of its terms names its nodes by `metadata.name`;
 * undefined when it does not, empty when the terms contradict themselves. The scheduler then looks at these nodes only
 * (PreFilter of the NodeAffinity plugin), save that an empty term, which matches nothing and is ignored here, makes it
 * search all nodes to the same end.
 */
export function pinnedNodes(spec: Selecting): readonly string[] | undefined {
  const terms = requiredTerms(spec);
  if (terms === undefined) return undefined;
  const names = new Set<string>();
  for (const term of terms) {
    if (isEmptyTerm(term)) continue;
    const ofTerm = namedNodes(term);
    if (ofTerm === undefined) return undefined;
    for (const name of ofTerm) names.add(name);
  }
  return [...names];
}

/** Whether a pod has required terms of which none can ever match: the API server takes empty ones. */
export function matchesNoNode(spec: Selecting): boolean {
  return requiredTerms(spec)?.every(isEmptyTerm) ?? false;
}

/**
 * The JSON Patch that pins a gated pod to a node: `metadata.name In [node]` is added to every required term, or as the
 * only term when there is none. No operations when the pod is pinned to that node already.
 *
 * The API server lets a gated pod's terms only grow, never their number, and lets an empty term, which matches nothing,
 * stay only empty (pkg/apis/core/validation validateNodeAffinityMutation). So empty terms are left alone.
 *
 * A `test` of the part that was seen makes the patch fail (422) after a concurrent change. Absence is tested as `null`,
 * which the API server's patch library (evanphx/json-patch) takes for an absent member, though RFC 6902 does not.
 * @throws UnpinnableError when there are terms, all of them empty
 */
export function pinOps(spec: Selecting, nodeName: string): readonly JsonPatchOperation[] {
  const pin: LabelSelectorRequirement = { key: nameField, operator: 'In', values: [nodeName] };
  const terms = requiredTerms(spec);
  if (terms === undefined) return addAffinity(spec, { nodeSelectorTerms: [{ matchFields: [pin] }] });
  if (matchesNoNode(spec)) throw new UnpinnableError(nodeName);
  const path = `/spec/affinity/nodeAffinity/${required}/nodeSelectorTerms`;
  const additions = terms.flatMap((term, index) =>
    isEmptyTerm(term) || admitsOnly(term, nodeName) ? [] : [growTerm(`${path}/${index}`, term, pin)],
  );
  return additions.length === 0 ? [] : [{ op: 'test', path, value: terms }, ...additions];
}

function requiredTerms(spec: Selecting): readonly NodeSelectorTerm[] | undefined {
  const selector = spec.affinity?.nodeAffinity?.[required];
  return selector === undefined ? undefined : (selector.nodeSelectorTerms ?? []);
}

function matchesTerm(
  term: NodeSelectorTerm,
  node: { readonly name: string; readonly labels: Labels },
): boolean {
  if (isEmptyTerm(term)) return false;
  return (
    matchesRequirements(term.matchExpressions ?? [], node.labels) &&
    (term.matchFields ?? []).every(field => matchesField(field, node.name))
  );
}

/** Fields know only `In` and `NotIn`, with exactly one value; a field other than the name is an empty string. */
function matchesField({ key, operator, values }: LabelSelectorRequirement, nodeName: string): boolean {
  const [value] = values ?? [];
  if (value === undefined || values?.length !== 1) return false;
  const actual = key === nameField ? nodeName : '';
  if (operator === 'In') return actual === value;
  return operator === 'NotIn' && actual !== value;
}

function isEmptyTerm(term: NodeSelectorTerm): boolean {
  return (term.matchExpressions?.length ?? 0) === 0 && (term.matchFields?.length ?? 0) === 0;
}

/** The names that all of a term's `metadata.name In` requirements have in common; undefined without any. */
function namedNodes(term: NodeSelectorTerm): readonly string[] | undefined {
  let names: readonly string[] | undefined;
  for (const { key, operator, values = [] } of term.matchFields ?? []) {
    if (key === nameField && operator === 'In')
      names = names?.filter(name => values.includes(name)) ?? values;
  }
  return names;
}

function admitsOnly(term: NodeSelectorTerm, nodeName: string): boolean {
  return namedNodes(term)?.every(name => name === nodeName) ?? false;
}

function growTerm(path: string, term: NodeSelectorTerm, pin: LabelSelectorRequirement): JsonPatchOperation {
  return (term.matchFields?.length ?? 0) > 0
    ? { op: 'add', path: `${path}/matchFields/-`, value: pin }
    : { op: 'add', path: `${path}/matchFields`, value: [pin] };
}

/** Adds required node affinity where there is none, with the parents that are missing. */
function addAffinity(spec: Selecting, selector: unknown): readonly JsonPatchOperation[] {
  const steps = ['/spec/affinity', '/nodeAffinity', `/${required}`];
  const present = spec.affinity === undefined ? 0 : spec.affinity.nodeAffinity === undefined ? 1 : 2;
  const path = steps.slice(0, present + 1).join('');
  const values = [{ nodeAffinity: { [required]: selector } }, { [required]: selector }, selector];
  return [
    { op: 'test', path, value: null },
    { op: 'add', path, value: values[present] },
  ];
}
