import t from 'tap';
import { matchesLabelSelector } from '../../../src/cluster/labels.ts';
import { matchesNode } from '../../../src/cluster/node-affinity.ts';
import { podRequests } from '../../../src/cluster/pod-requests.ts';
import {
  milliValue,
  parseQuantity,
  type Quantity,
  QuantityError,
  wholeValue,
} from '../../../src/cluster/quantity.ts';
import { untoleratedTaint } from '../../../src/cluster/taints.ts';
import { type Case, generateCases } from './generate.ts';
import { type Answer, ask } from './oracle.ts';

const caseCount = 40_000;
/** A sign, a dot or a suffix alone, which apimachinery reads as zero. */
const hasNoNumber = /^[+-]?\.?(?![.\d])/;

// The first run compiles Kubernetes' libraries.
t.setTimeout(900_000);

t.test('Kubernetes itself answers every generated question the same way', async t => {
  const cases = generateCases(20261123, caseCount);
  const answers = await ask(cases);
  t.equal(answers.length, cases.length, 'the oracle answers every question');
  const counts = new Map<string, number>();
  const differences: unknown[] = [];
  for (const [index, question] of cases.entries()) {
    const theirs = answers[index] ?? {};
    counts.set(question.kind, (counts.get(question.kind) ?? 0) + 1);
    const difference = compare(question, theirs);
    if (difference !== undefined) differences.push({ question, theirs, ours: difference });
  }
  t.strictSame(differences.slice(0, 5), [], `${differences.length} of ${cases.length} answers differ`);
  t.comment(JSON.stringify(Object.fromEntries(counts)));
});

/** Our own answer when it is another one, else undefined. */
function compare(question: Case, theirs: Answer): unknown {
  if (question.kind === 'quantity') return compareQuantity(question.text, theirs);
  const ours = answer(question);
  return JSON.stringify(ours) === JSON.stringify(theirs) ? undefined : ours;
}

function answer(question: Exclude<Case, { kind: 'quantity' }>): Answer {
  switch (question.kind) {
    case 'requests':
      return {
        requests: Object.fromEntries([...podRequests(question.pod)].sort(([a], [b]) => (a < b ? -1 : 1))),
      };
    case 'nodeAffinity': {
      const { name = '', labels = {} } = question.node.metadata;
      return { matches: matchesNode(question.pod.spec, { name, labels }) };
    }
    case 'taints': {
      const taint = untoleratedTaint(question.node.spec?.taints ?? [], question.pod.spec.tolerations);
      return { taint: taint === undefined ? null : `${taint.key}=${taint.value}:${taint.effect}` };
    }
    case 'labelSelector':
      return { matches: matchesLabelSelector(question.selector, question.labels) };
  }
}

/**
 * Three differences are meant: a mere suffix is no quantity, what is beyond 10^60 nano units is refused, and what cannot
 * be counted exactly is an error. Negative values are compared unrounded only: Kubernetes rounds them in either
 * direction, and wrongly (an int64 overflow) for some texts, and no pod or node can have them.
 */
function compareQuantity(text: string, theirs: Answer): unknown {
  const quantity = attempt(() => parseQuantity(text));
  const nano = theirs['nano'];
  if (quantity === undefined) {
    const beyond = typeof nano === 'string' && nano.length > 60;
    return 'error' in theirs || beyond || hasNoNumber.test(text) ? undefined : 'refused';
  }
  if (nano !== String(quantity)) return String(quantity);
  if (quantity < 0n) return undefined;
  const milli = attempt(() => milliValue(quantity));
  const whole = attempt(() => wholeValue(quantity));
  const same =
    isSame(milli, theirs['milli'], quantity, 1_000_000n) &&
    isSame(whole, theirs['whole'], quantity, 10n ** 9n);
  return same ? undefined : { milli, whole };
}

/** A value may be refused only when it cannot be counted exactly. */
function isSame(value: number | undefined, theirs: unknown, quantity: Quantity, unit: bigint): boolean {
  return value === undefined ? quantity / unit >= BigInt(Number.MAX_SAFE_INTEGER) : String(value) === theirs;
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof QuantityError) return undefined;
    throw error;
  }
}
