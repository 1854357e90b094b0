import t, { type Test } from 'tap';
import { ask, type Release } from './oracle.ts';
import { situations } from './situations.ts';
import { kindOf, ourVerdict, theirVerdict } from './verdicts.ts';

t.setTimeout(900_000);

interface Difference {
  readonly why: string;
  readonly names: readonly string[];
}

/** Nothing of it comes past the API server of Kubernetes 1.37. */
const differences: readonly Difference[] = [
  {
    why: 'Berth does not know whether kube-scheduler can read an expression that it cannot',
    names: ['requests: an expression that does not compile', 'requests: a class that does not compile'],
  },
  {
    why: 'Berth leaves out attributes of a kind that it does not know',
    names: [
      'constraints: an attribute of no kind that a selector may look at',
      'constraints: an attribute of no kind under matchAttribute',
      'constraints: an attribute of no kind under distinctAttribute',
    ],
  },
];

/** Berth knows the rules of 1.37. */
const differencesOf136: readonly Difference[] = [
  ...differences,
  {
    why: 'distinctAttribute remembers one device of each request',
    names: [
      'constraints: distinct values for three devices of one request that has two',
      'constraints: distinct values where the first device of a request has the value of its third',
      'constraints: distinct flags for three devices',
    ],
  },
  {
    why: 'selectors fail on devices with lists',
    names: [
      'constraints: one list alone under matchAttribute',
      'constraints: equal lists under matchAttribute with the gate off',
      'constraints: lists under distinctAttribute with the gate off',
      'constraints: a list, then a text under distinctAttribute',
      'constraints: a list of integers under matchAttribute',
    ],
  },
  {
    why: 'fields of the API are not known',
    names: [
      'alternatives: alternatives with derived attributes',
      'pools: derived attributes with the gate off',
      'pools: compatibility groups with the gate off',
    ],
  },
  {
    why: 'counters of pools of one name are taken for one another',
    names: ['counters: counters of a pool of the same name of another driver'],
  },
  {
    why: 'ranges are of whole numbers',
    names: ['capacity: fractions of a range', 'capacity: a fraction finer than thousandths'],
  },
  {
    why: 'amounts beyond 64 bits wrap around, and those below nothing are not refused',
    names: [
      'capacity: a request above all integers',
      'capacity: a request that leaves the integers when rounded',
      'capacity: a request above all integers among all devices',
      'capacity: a request below nothing',
    ],
  },
  {
    why: 'all devices are those with enough capacity left',
    names: ['capacity: all devices, one of which has too little left'],
  },
  {
    why: 'a share without capacity is forgotten, and its counters are drawn again',
    names: ['capacity: shares that consume nothing of a partition'],
  },
];

const kinds = [
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
];
const own = new Map(situations.map(({ name, question }) => [name, ourVerdict(question)]));

/** @returns the kinds of answers that came up */
async function compare(
  t: Test,
  release: Release,
  known: readonly Difference[],
): Promise<ReadonlySet<string>> {
  const answers = await ask(
    situations.map(({ question: devices }) => ({ kind: 'devices', devices })),
    release,
  );
  const reasons = new Map(known.flatMap(({ names, why }) => names.map(name => [name, why] as const)));
  for (const name of reasons.keys()) t.ok(own.has(name), `${name} is a situation`);
  const found = answers.map(theirVerdict);
  for (const [at, { name }] of situations.entries()) {
    const why = reasons.get(name);
    if (why === undefined) t.strictSame(own.get(name), found[at], name);
    else t.notSame(own.get(name), found[at], `${name}, otherwise for ${why}`);
  }
  return new Set(found.map(kindOf));
}

t.test('situations one by one have the answers of the structured allocator of Kubernetes', async t => {
  const found = await compare(t, '1.37', differences);
  t.strictSame([...found].sort(), kinds, 'every kind of answer comes up, and no other');
  for (const name of differences.flatMap(({ names }) => names))
    t.match(own.get(name), /^none$|^unknown: /, `${name} is never said to fit`);
});

t.test('that of 1.36 answers otherwise in few situations, all of them known', async t => {
  await compare(t, '1.36', differencesOf136);
});
