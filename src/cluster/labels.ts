import type { LabelSelector, LabelSelectorRequirement } from '../api/kubernetes.ts';

export type Labels = Readonly<Record<string, string>>;

const setOperators: readonly string[] = ['In', 'NotIn', 'Exists', 'DoesNotExist'];
const int64Limit = 2n ** 63n;

/**
 * Whether a LabelSelector selects the labels (apimachinery metav1.LabelSelectorAsSelector): an absent selector selects
 * nothing, an empty one everything, a malformed one nothing.
 */
export function matchesLabelSelector(selector: LabelSelector | undefined, labels: Labels): boolean {
  if (selector === undefined) return false;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labelValue(labels, key) !== value) return false;
  }
  const requirements = selector.matchExpressions ?? [];
  return (
    requirements.every(({ operator }) => setOperators.includes(operator)) &&
    matchesRequirements(requirements, labels)
  );
}

/**
 * Whether labels satisfy every requirement of a node selector term; that includes the integer comparisons `Gt` and
 * `Lt`. A malformed requirement is satisfied by nothing (apimachinery labels.NewRequirement refuses it, and the
 * scheduler then takes the term as unmatched).
 */
export function matchesRequirements(
  requirements: readonly LabelSelectorRequirement[],
  labels: Labels,
): boolean {
  return requirements.every(requirement =>
    matchesRequirement(requirement, labelValue(labels, requirement.key)),
  );
}

/** A label's value; never something that every JavaScript object has, like `constructor`. */
export function labelValue(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function matchesRequirement(requirement: LabelSelectorRequirement, value: string | undefined): boolean {
  const values = requirement.values ?? [];
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return values.length > 0 && (value === undefined || !values.includes(value));
    case 'Exists':
      return values.length === 0 && value !== undefined;
    case 'DoesNotExist':
      return values.length === 0 && value === undefined;
    case 'Gt':
      return compares(value, values, (actual, bound) => actual > bound);
    case 'Lt':
      return compares(value, values, (actual, bound) => actual < bound);
    default:
      return false;
  }
}

function compares(
  value: string | undefined,
  values: readonly string[],
  holds: (actual: bigint, bound: bigint) => boolean,
): boolean {
  const [bound] = values;
  // The bound must be a valid label value as well as an integer, which leaves no place for a sign.
  if (value === undefined || bound === undefined || values.length !== 1 || !/^\d{1,63}$/.test(bound))
    return false;
  const actualInt = parseInt64(value);
  const boundInt = parseInt64(bound);
  return actualInt !== undefined && boundInt !== undefined && holds(actualInt, boundInt);
}

function parseInt64(text: string): bigint | undefined {
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  const value = BigInt(text.startsWith('+') ? text.slice(1) : text);
  return value < int64Limit && value >= -int64Limit ? value : undefined;
}
