import t from 'tap';
import { ask } from './oracle.ts';
import { situations } from './situations.ts';
import { kindOf, ourVerdict, theirVerdict } from './verdicts.ts';

interface Difference {
  readonly names: readonly string[];
  readonly ours: RegExp;
  readonly why: string;
}

/** Where Berth says otherwise than kube-scheduler: nothing of it comes past the API server of Kubernetes 1.37. */
const differences: readonly Difference[] = [
  {
    names: ['requests: an expression that does not compile', 'requests: a class that does not compile'],
    ours: /^unknown: /,
    why: 'an expression that Berth cannot read may be one that kube-scheduler can',
  },
  {
    names: [
      'constraints: an attribute of no kind that a selector may look at',
      'constraints: an attribute of no kind under matchAttribute',
      'constraints: an attribute of no kind under distinctAttribute',
    ],
    ours: /^none$/,
    why: 'attributes of a kind that Berth does not know are left out',
  },
];

t.test('situations one by one have the answers of the structured allocator of Kubernetes', async t => {
  const answers = await ask(situations.map(({ question: devices }) => ({ kind: 'devices', devices })));
  const kinds = new Set<string>();
  for (const [at, { name, question }] of situations.entries()) {
    const wanted = theirVerdict(answers[at] ?? {});
    kinds.add(kindOf(wanted));
    const own = ourVerdict(question);
    const known = differences.find(({ names }) => names.includes(name));
    if (known === undefined) {
      t.strictSame(own, wanted, name);
    } else {
      t.match(own, known.ours, `${name}, where ${known.why}`);
      t.notSame(own, wanted, `${name}, which still is a difference`);
    }
  }
  const names = new Set(situations.map(({ name }) => name));
  t.ok(
    differences.every(known => known.names.every(name => names.has(name))),
    'every difference is about a situation that there is',
  );
  t.strictSame(
    [...kinds].sort(),
    [
      'allocated',
      'error: capacity',
      'error: constraint-on-all',
      'error: missing-class',
      'error: node-selector',
      'error: pool-not-usable',
      'error: selector-error',
      'error: too-many-devices',
      'error: unsupported',
      'none',
      'none: invalid pools',
    ],
    'every kind of answer comes up, and no other',
  );
});
