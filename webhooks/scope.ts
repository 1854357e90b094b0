import type { Pod } from '../src/api/kubernetes.ts';
import {
  berth,
  foreignTopologyAnnotations,
  foreignTopologyGates,
  foreignTopologyLabels,
  k8s,
} from '../src/api/names.ts';
import { matchesNoNode, pinnedNodes } from '../src/cluster/node-affinity.ts';
import type { PlacementMode } from '../src/group/owner.ts';

/** Why a pod is counted but never touched. */
export type ScopeReason =
  | 'namespace-observed'
  | 'pod-observed'
  | 'bound'
  | 'owned-by-node'
  | 'mirror'
  | 'foreign-scheduler'
  | 'pinned-by-name'
  | 'foreign-topology';

export interface MatchCondition {
  readonly name: string;
  /** CEL over `object`, true for the pods that are reviewed. */
  readonly expression: string;
}

/**
 * One reason not to touch a pod, said twice: for the process, and in CEL for the webhook configuration, so that the API
 * server need not call for such pods at all. Optional access throughout: an expression that fails counts as failed.
 */
interface ScopeRule {
  readonly reason: ScopeReason;
  readonly excludes: (pod: Pod) => boolean;
  readonly included: string;
}

const labelsCel = 'object.metadata.?labels.orValue({})';
const annotationsCel = 'object.metadata.?annotations.orValue({})';
const termsCel =
  'object.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms.orValue([])';
const nodeOwnerKinds: readonly string[] = ['DaemonSet', 'Node'];

const podRules: readonly ScopeRule[] = [
  {
    reason: 'pod-observed',
    excludes: pod => pod.metadata.annotations?.[berth.mode] === 'observe',
    included: `${annotationsCel}[?'${berth.mode}'].orValue('') != 'observe'`,
  },
  {
    reason: 'bound',
    excludes: pod => (pod.spec.nodeName ?? '') !== '',
    included: `object.spec.?nodeName.orValue('') == ''`,
  },
  {
    reason: 'owned-by-node',
    excludes: pod =>
      pod.metadata.ownerReferences?.some(owner => nodeOwnerKinds.includes(owner.kind)) ?? false,
    included: `!object.metadata.?ownerReferences.orValue([]).exists(owner, owner.kind in ${celList(nodeOwnerKinds)})`,
  },
  {
    reason: 'mirror',
    excludes: pod => pod.metadata.annotations?.[k8s.mirrorPod] !== undefined,
    included: `!('${k8s.mirrorPod}' in ${annotationsCel})`,
  },
  {
    reason: 'foreign-scheduler',
    excludes: pod => !['', k8s.defaultScheduler].includes(pod.spec.schedulerName ?? ''),
    included: `object.spec.?schedulerName.orValue('') in ['', '${k8s.defaultScheduler}']`,
  },
  {
    reason: 'pinned-by-name',
    // Terms of which none matches any node pin nothing: such pods come, and are told so.
    excludes: pod => pinnedNodes(pod.spec) !== undefined && !matchesNoNode(pod.spec),
    included:
      `!(size(${termsCel}) > 0 && ${termsCel}.all(term, ` +
      `term.?matchFields.orValue([]).exists(field, field.key == 'metadata.name' && field.operator == 'In')))`,
  },
  {
    reason: 'foreign-topology',
    excludes: isPlacedByOthers,
    included: [
      `!object.spec.?schedulingGates.orValue([]).exists(gate, gate.name in ${celList(foreignTopologyGates)})`,
      `!${celList(foreignTopologyLabels)}.exists(key, key in ${labelsCel})`,
      `!${celList(foreignTopologyAnnotations)}.exists(key, key in ${annotationsCel})`,
    ].join(' && '),
  },
];

/**
 * The conditions of every pod webhook, the single source for deploy/. The namespace's own mode is left to the
 * namespaceSelector, for matchConditions see no namespace.
 */
export const matchConditions: readonly MatchCondition[] = podRules.map(rule => ({
  name: `not-${rule.reason}`,
  expression: rule.included,
}));

/** The first reason to leave a pod alone, or undefined when it is Berth's to place. */
export function whyNotOurs(
  pod: Pod,
  { namespaceMode }: { readonly namespaceMode: PlacementMode | undefined },
): ScopeReason | undefined {
  if (namespaceMode === undefined || namespaceMode === 'observe') return 'namespace-observed';
  return podRules.find(rule => rule.excludes(pod))?.reason;
}

function isPlacedByOthers(pod: Pod): boolean {
  const { labels = {}, annotations = {} } = pod.metadata;
  return (
    (pod.spec.schedulingGates ?? []).some(gate => foreignTopologyGates.includes(gate.name)) ||
    foreignTopologyLabels.some(key => key in labels) ||
    foreignTopologyAnnotations.some(key => key in annotations)
  );
}

function celList(values: readonly string[]): string {
  return `[${values.map(value => `'${value}'`).join(', ')}]`;
}
