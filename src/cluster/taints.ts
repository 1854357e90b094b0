import type { Taint, Toleration } from '../api/kubernetes.ts';

const int64Limit = 2n ** 63n;

/**
 * The first taint that keeps a pod off a node, if any: the TaintToleration plugin's filter, which looks at `NoSchedule`
 * and `NoExecute` only. A cordon is no taint until the node controller has added one: see NodeRecord.cordoned.
 */
export function untoleratedTaint(
  taints: readonly Taint[],
  tolerations: readonly Toleration[] | undefined,
): Taint | undefined {
  return taints.find(
    taint =>
      (taint.effect === 'NoSchedule' || taint.effect === 'NoExecute') &&
      !(tolerations ?? []).some(toleration => tolerates(toleration, taint)),
  );
}

/** k8s.io/api core/v1 Toleration.ToleratesTaint. */
export function tolerates(toleration: Toleration, taint: Taint): boolean {
  const { key = '', operator = '', effect = '', value = '' } = toleration;
  if (effect !== '' && effect !== taint.effect) return false;
  if (key !== '' && key !== taint.key) return false;
  const taintValue = taint.value ?? '';
  switch (operator) {
    case '':
    case 'Equal':
      return value === taintValue;
    case 'Exists':
      return true;
    // Behind the gate TaintTolerationComparisonOperators (alpha in 1.35 to 1.37). Without it the API server refuses
    // such a toleration, so a pod that has one is in a cluster where it counts.
    case 'Lt':
      return compares(taintValue, value, (taintInt, bound) => taintInt < bound);
    case 'Gt':
      return compares(taintValue, value, (taintInt, bound) => taintInt > bound);
    default:
      return false;
  }
}

function compares(
  taintValue: string,
  bound: string,
  holds: (taintInt: bigint, bound: bigint) => boolean,
): boolean {
  const taintInt = canonicalInt64(taintValue);
  const boundInt = canonicalInt64(bound);
  return taintInt !== undefined && boundInt !== undefined && holds(taintInt, boundInt);
}

/** An int64 without a plus sign or leading zeros; anything else does not compare. */
function canonicalInt64(text: string): bigint | undefined {
  if (!/^(0|-?[1-9]\d*)$/.test(text)) return undefined;
  const value = BigInt(text);
  return value < int64Limit && value >= -int64Limit ? value : undefined;
}
