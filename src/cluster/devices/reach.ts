import type { LabelSelectorRequirement, NodeSelector } from '../../api/kubernetes.ts';
import type { Labels } from '../labels.ts';
import { matchesNode } from '../node-affinity.ts';
import type { Reach } from './device.ts';

export interface ReachingNode {
  readonly name: string;
  readonly labels: Labels;
}

/** Whether a node may use what has this reach. What each device says for itself is not asked here. */
export function reachesNode(reach: Reach | undefined, node: ReachingNode): boolean {
  switch (reach?.kind) {
    case 'node':
      return reach.name === node.name;
    case 'all':
      return true;
    case 'selector': {
      const requiredDuringSchedulingIgnoredDuringExecution = reach.selector;
      return matchesNode(
        { affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution } } },
        node,
      );
    }
    default:
      return false;
  }
}

/**
 * What is wrong with a selector, if anything. One bad requirement makes kube-scheduler fail every pod with claims on
 * every node that looks at it (component-helpers nodeaffinity.NewNodeSelector).
 */
export function selectorProblem({ nodeSelectorTerms }: NodeSelector): string | undefined {
  for (const { matchExpressions = [], matchFields = [] } of nodeSelectorTerms) {
    for (const requirement of matchExpressions) {
      if (!isLabelRequirement(requirement)) return describe(requirement);
    }
    for (const requirement of matchFields) {
      if (!isFieldRequirement(requirement)) return describe(requirement);
    }
  }
  return undefined;
}

function isLabelRequirement({ operator, values = [] }: LabelSelectorRequirement): boolean {
  switch (operator) {
    case 'In':
    case 'NotIn':
      return values.length > 0;
    case 'Exists':
    case 'DoesNotExist':
      return values.length === 0;
    case 'Gt':
    case 'Lt':
      return values.length === 1 && /^\d{1,18}$/.test(values[0] ?? '');
    default:
      return false;
  }
}

function isFieldRequirement({ operator, values = [] }: LabelSelectorRequirement): boolean {
  return (operator === 'In' || operator === 'NotIn') && values.length === 1;
}

function describe({ key, operator, values = [] }: LabelSelectorRequirement): string {
  return `a node selector asks ${key} ${operator} [${values.join(' ')}], which is not valid`;
}
