import fc from 'fast-check';
import jsonpatch from 'fast-json-patch';
import t from 'tap';
import type {
  LabelSelector,
  LabelSelectorRequirement,
  NodeSelectorTerm,
  PodSpec,
  Toleration,
} from '../../../src/api/kubernetes.ts';
import { hostPortsConflict, hostPortsOf } from '../../../src/cluster/host-ports.ts';
import { matchesLabelSelector, matchesRequirements } from '../../../src/cluster/labels.ts';
import {
  type JsonPatchOperation,
  matchesNode,
  pinnedNodes,
  pinOps,
} from '../../../src/cluster/node-affinity.ts';
import { untoleratedTaint } from '../../../src/cluster/taints.ts';

const required = 'requiredDuringSchedulingIgnoredDuringExecution';
const rule = (key: string, operator: string, ...values: string[]): LabelSelectorRequirement => ({
  key,
  operator,
  values,
});
const named = (...values: string[]) => rule('metadata.name', 'In', ...values);
const termsSpec = (...nodeSelectorTerms: NodeSelectorTerm[]): PodSpec => ({
  containers: [],
  affinity: { nodeAffinity: { [required]: { nodeSelectorTerms } } },
});

t.test('label selectors', async t => {
  const labels = { app: 'llm', tier: 'gold', empty: '' };
  const cases: readonly [string, LabelSelector | undefined, boolean][] = [
    ['an absent one selects nothing', undefined, false],
    ['an empty one selects everything', {}, true],
    ['empty lists select everything', { matchLabels: {}, matchExpressions: [] }, true],
    ['a label that is equal', { matchLabels: { app: 'llm' } }, true],
    ['all of several labels', { matchLabels: { app: 'llm', tier: 'silver' } }, false],
    ['an empty value is a value', { matchLabels: { empty: '' } }, true],
    ['an absent label has no value', { matchLabels: { other: '' } }, false],
    [
      'labels and expressions both',
      { matchLabels: { app: 'llm' }, matchExpressions: [rule('tier', 'Exists')] },
      true,
    ],
    ['In', { matchExpressions: [rule('tier', 'In', 'silver', 'gold')] }, true],
    ['In for an absent label', { matchExpressions: [rule('other', 'In', 'gold')] }, false],
    ['NotIn', { matchExpressions: [rule('tier', 'NotIn', 'gold')] }, false],
    ['NotIn for an absent label', { matchExpressions: [rule('other', 'NotIn', 'gold')] }, true],
    ['Exists', { matchExpressions: [rule('other', 'Exists')] }, false],
    ['DoesNotExist', { matchExpressions: [rule('other', 'DoesNotExist')] }, true],
    ['no comparisons here', { matchExpressions: [rule('tier', 'Gt', '1')] }, false],
    ['an unknown operator spoils the selector', { matchExpressions: [rule('tier', 'in', 'gold')] }, false],
    ['In without values is malformed', { matchExpressions: [rule('tier', 'In')] }, false],
    ['NotIn without values is malformed', { matchExpressions: [rule('tier', 'NotIn')] }, false],
    ['Exists with values is malformed', { matchExpressions: [rule('tier', 'Exists', 'gold')] }, false],
    ['a key that every object has', { matchExpressions: [rule('constructor', 'Exists')] }, false],
  ];
  for (const [name, selector, expected] of cases)
    t.equal(matchesLabelSelector(selector, labels), expected, name);
});

t.test('node requirements compare integers', async t => {
  const holds = (operator: string, actual: string, ...bounds: string[]) =>
    matchesRequirements([rule('gpus', operator, ...bounds)], { gpus: actual });
  t.ok(holds('Gt', '9', '8'));
  t.notOk(holds('Gt', '8', '8'));
  t.ok(holds('Lt', '10', '11'), 'by value, not by text');
  t.ok(holds('Lt', '007', '8'), 'leading zeros are allowed');
  t.notOk(holds('Gt', 'many', '8'));
  t.notOk(holds('Gt', '9', 'few'));
  t.notOk(holds('Lt', '-3', '-1'), 'a bound is a label value too, so it has no sign');
  t.notOk(holds('Gt', '9223372036854775808', '1'), 'beyond int64');
  t.notOk(holds('Gt', '9', '7', '8'), 'one bound only');
  t.notOk(matchesRequirements([rule('other', 'Lt', '8')], { gpus: '1' }), 'the label must be there');
  t.ok(matchesRequirements([], {}), 'no requirement is no obstacle');
});

t.test('a node must match the selector and one term of the affinity', async t => {
  const node = { name: 'n1', labels: { zone: 'a', gpus: '8' } };
  const zoneA = rule('zone', 'In', 'a');
  const zoneB = rule('zone', 'In', 'b');
  const cases: readonly [string, Pick<PodSpec, 'nodeSelector' | 'affinity'>, boolean][] = [
    ['nothing asked', {}, true],
    ['an empty affinity', { affinity: { nodeAffinity: {} } }, true],
    ['nodeSelector', { nodeSelector: { zone: 'a' } }, true],
    ['nodeSelector that differs', { nodeSelector: { zone: 'a', gpus: '4' } }, false],
    ['one of the terms', termsSpec({ matchExpressions: [zoneB] }, { matchExpressions: [zoneA] }), true],
    ['all of a term', termsSpec({ matchExpressions: [zoneA, rule('gpus', 'Gt', '8')] }), false],
    [
      'selector and affinity',
      { nodeSelector: { zone: 'b' }, ...termsSpec({ matchExpressions: [zoneA] }) },
      false,
    ],
    ['no terms match nothing', termsSpec(), false],
    ['an empty term matches nothing', termsSpec({}), false],
    [
      'an empty term beside another',
      termsSpec({ matchExpressions: [] }, { matchExpressions: [zoneA] }),
      true,
    ],
    [
      'a malformed term beside another',
      termsSpec({ matchExpressions: [rule('zone', 'is', 'a')] }, { matchFields: [named('n1')] }),
      true,
    ],
    ['by name', termsSpec({ matchFields: [named('n1')] }), true],
    ['by another name', termsSpec({ matchFields: [named('n2')] }), false],
    ['not by name', termsSpec({ matchFields: [rule('metadata.name', 'NotIn', 'n2')] }), true],
    ['fields take one value', termsSpec({ matchFields: [named('n1', 'n2')] }), false],
    ['fields know In and NotIn', termsSpec({ matchFields: [rule('metadata.name', 'Exists')] }), false],
    [
      'labels and fields of a term both',
      termsSpec({ matchExpressions: [zoneB], matchFields: [named('n1')] }),
      false,
    ],
  ];
  for (const [name, spec, expected] of cases) t.equal(matchesNode(spec, node), expected, name);
});

t.test('a pod is pinned when every term names its nodes', async t => {
  t.equal(pinnedNodes({}), undefined);
  t.strictSame(pinnedNodes(termsSpec()), [], 'no terms leave no node');
  t.strictSame(
    pinnedNodes(termsSpec({}, { matchFields: [named('n1')] })),
    ['n1'],
    'an empty term adds nothing',
  );
  t.strictSame(pinnedNodes(termsSpec({ matchFields: [named('n1')] })), ['n1']);
  t.strictSame(pinnedNodes(termsSpec({ matchFields: [named('n1')] }, { matchFields: [named('n2')] })), [
    'n1',
    'n2',
  ]);
  t.equal(
    pinnedNodes(termsSpec({ matchFields: [named('n1')] }, { matchExpressions: [rule('a', 'Exists')] })),
    undefined,
  );
  t.strictSame(
    pinnedNodes(termsSpec({ matchFields: [named('n1'), named('n2')] })),
    [],
    'contradicting itself',
  );
  t.equal(pinnedNodes(termsSpec({ matchFields: [rule('metadata.name', 'NotIn', 'n1')] })), undefined);
});

const pin = named('n1');
const terms = `/spec/affinity/nodeAffinity/${required}/nodeSelectorTerms`;

t.test('pinning creates exactly the parents that are missing', async t => {
  const newTerms = { nodeSelectorTerms: [{ matchFields: [pin] }] };
  t.strictSame(pinOps({}, 'n1'), [
    { op: 'test', path: '/spec/affinity', value: null },
    { op: 'add', path: '/spec/affinity', value: { nodeAffinity: { [required]: newTerms } } },
  ]);
  t.strictSame(pinOps({ affinity: { podAffinity: {} } }, 'n1'), [
    { op: 'test', path: '/spec/affinity/nodeAffinity', value: null },
    { op: 'add', path: '/spec/affinity/nodeAffinity', value: { [required]: newTerms } },
  ]);
  t.strictSame(pinOps({ affinity: { nodeAffinity: {} } }, 'n1'), [
    { op: 'test', path: `/spec/affinity/nodeAffinity/${required}`, value: null },
    { op: 'add', path: `/spec/affinity/nodeAffinity/${required}`, value: newTerms },
  ]);
});

t.test('pinning grows every term that is there, and only if nobody changed them meanwhile', async t => {
  const before = [
    { matchExpressions: [rule('zone', 'In', 'a')] },
    {},
    { matchFields: [rule('metadata.name', 'NotIn', 'n3')] },
  ];
  t.strictSame(pinOps(termsSpec(...before), 'n1'), [
    { op: 'test', path: terms, value: before },
    { op: 'add', path: `${terms}/0/matchFields`, value: [pin] },
    { op: 'add', path: `${terms}/2/matchFields/-`, value: pin },
  ]);
  t.strictSame(pinOps(termsSpec({ matchFields: [pin] }), 'n1'), [], 'pinned there already');
  t.strictSame(
    pinOps(termsSpec({ matchFields: [pin] }, { matchFields: [named('n2'), pin] }), 'n1'),
    [],
    'the other term is dead',
  );
  t.equal(pinOps(termsSpec({ matchFields: [pin] }), 'n2').length, 2, 'pinned elsewhere');
  t.throws(() => pinOps(termsSpec(), 'n1'), { code: 'Unpinnable', nodeName: 'n1' });
  t.throws(() => pinOps(termsSpec({}, {}), 'n1'), { code: 'Unpinnable' });
});

/** The API server's library takes a test of `null` as a test of absence, which fast-json-patch does not. */
function applyOps(spec: PodSpec, operations: readonly JsonPatchOperation[]): PodSpec {
  const absent = operations.filter(operation => operation.op === 'test' && operation.value === null);
  for (const { path } of absent) {
    if (jsonpatch.getValueByPointer({ spec }, path) !== undefined) throw new Error(`${path} is there`);
  }
  const others = operations.filter(operation => !absent.includes(operation));
  return jsonpatch.applyPatch(structuredClone({ spec }), structuredClone(others) as never, true).newDocument
    .spec;
}

t.test('a pinned pod matches its node alone, if it matched it before, and needs no second pin', async t => {
  const nodes = ['n1', 'n2', 'n3'].map((name, index) => ({
    name,
    labels: { zone: index === 0 ? 'a' : 'b' },
  }));
  const expression = fc.constantFrom(
    rule('zone', 'In', 'a'),
    rule('zone', 'NotIn', 'a'),
    rule('x', 'DoesNotExist'),
  );
  const field = fc.constantFrom(named('n1'), named('n2'), rule('metadata.name', 'NotIn', 'n2'));
  const term = fc.record(
    {
      matchExpressions: fc.array(expression, { maxLength: 2 }),
      matchFields: fc.array(field, { maxLength: 2 }),
    },
    { requiredKeys: [] },
  );
  const isEmpty = (t: NodeSelectorTerm) => !t.matchExpressions?.length && !t.matchFields?.length;
  const spec = fc.oneof(
    fc.constantFrom<PodSpec>(
      { containers: [] },
      { containers: [], affinity: {} },
      { containers: [], affinity: { nodeAffinity: {} } },
    ),
    fc
      .array(term, { minLength: 1, maxLength: 3 })
      .filter(list => !list.every(isEmpty))
      .map(list => termsSpec(...list)),
  );
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(spec, fc.constantFrom('n1', 'n2'), (spec, target) => {
        const pinned = applyOps(spec, pinOps(spec, target));
        const right = nodes.every(
          node => matchesNode(pinned, node) === (node.name === target && matchesNode(spec, node)),
        );
        const names = pinnedNodes(pinned) ?? ['any'];
        return right && pinOps(pinned, target).length === 0 && names.every(name => name === target);
      }),
    ),
  );
});

t.test('taints keep off who does not tolerate them', async t => {
  const taint = (effect: string, value?: string) => ({
    key: 'gpu',
    effect,
    ...(value !== undefined && { value }),
  });
  const cases: readonly [string, ReturnType<typeof taint>, Toleration | undefined, boolean][] = [
    ['no toleration', taint('NoSchedule'), undefined, false],
    ['NoExecute keeps off too', taint('NoExecute'), undefined, false],
    ['PreferNoSchedule keeps nobody off', taint('PreferNoSchedule'), undefined, true],
    ['Exists', taint('NoSchedule', 'yes'), { key: 'gpu', operator: 'Exists' }, true],
    ['Exists for another key', taint('NoSchedule'), { key: 'tpu', operator: 'Exists' }, false],
    ['Exists without a key tolerates everything', taint('NoExecute', 'yes'), { operator: 'Exists' }, true],
    ['another effect', taint('NoSchedule'), { key: 'gpu', operator: 'Exists', effect: 'NoExecute' }, false],
    ['Equal', taint('NoSchedule', 'yes'), { key: 'gpu', operator: 'Equal', value: 'yes' }, true],
    ['Equal is the default', taint('NoSchedule', 'yes'), { key: 'gpu', value: 'yes' }, true],
    ['Equal to another value', taint('NoSchedule', 'yes'), { key: 'gpu', value: 'no' }, false],
    ['an absent value is an empty one', taint('NoSchedule'), { key: 'gpu', value: '' }, true],
    ['an unknown operator', taint('NoSchedule', 'yes'), { key: 'gpu', operator: 'In', value: 'yes' }, false],
    ['Gt', taint('NoSchedule', '950'), { key: 'gpu', operator: 'Gt', value: '900' }, true],
    ['Gt not', taint('NoSchedule', '900'), { key: 'gpu', operator: 'Gt', value: '900' }, false],
    ['Lt', taint('NoSchedule', '-5'), { key: 'gpu', operator: 'Lt', value: '0' }, true],
    [
      'only canonical integers compare',
      taint('NoSchedule', '007'),
      { key: 'gpu', operator: 'Lt', value: '8' },
      false,
    ],
  ];
  for (const [name, one, toleration, tolerated] of cases) {
    t.equal(untoleratedTaint([one], toleration && [toleration]), tolerated ? undefined : one, name);
  }
  const other = { key: 'maintenance', effect: 'NoSchedule' };
  t.equal(
    untoleratedTaint([taint('NoSchedule'), other], [{ key: 'gpu', operator: 'Exists' }]),
    other,
    'the first that is not tolerated',
  );
});

t.test('host ports are those of containers and sidecars', async t => {
  const ports = [
    { containerPort: 80, hostPort: 8080, protocol: 'UDP', hostIP: '10.0.0.1' },
    { containerPort: 81 },
  ];
  t.strictSame(hostPortsOf({ containers: [{ name: 'a', ports }] }), [
    { ip: '10.0.0.1', protocol: 'UDP', port: 8080 },
  ]);
  t.strictSame(
    hostPortsOf({ hostNetwork: true, containers: [{ name: 'a', ports }] }),
    [
      { ip: '10.0.0.1', protocol: 'UDP', port: 8080 },
      { ip: '0.0.0.0', protocol: 'TCP', port: 81 },
    ],
    'on the host network every port is one of the host',
  );
  const initContainers = [
    { name: 'once', ports: [{ hostPort: 1 }] },
    { name: 'sidecar', restartPolicy: 'Always', ports: [{ hostPort: 2, hostIP: '' }] },
  ];
  t.strictSame(hostPortsOf({ initContainers, containers: [] }), [
    { ip: '0.0.0.0', protocol: 'TCP', port: 2 },
  ]);
  t.strictSame(hostPortsOf({ hostNetwork: true, containers: [{ name: 'a' }] }), []);
});

t.test('host ports conflict per protocol, and 0.0.0.0 is every address', async t => {
  const port = (ip: string, protocol = 'TCP', number = 80) => ({ ip, protocol, port: number });
  t.ok(hostPortsConflict(port('0.0.0.0'), port('10.0.0.1')));
  t.ok(hostPortsConflict(port('10.0.0.1'), port('0.0.0.0')));
  t.ok(hostPortsConflict(port('10.0.0.1'), port('10.0.0.1')));
  t.notOk(hostPortsConflict(port('10.0.0.1'), port('10.0.0.2')));
  t.notOk(hostPortsConflict(port('0.0.0.0'), port('0.0.0.0', 'UDP')));
  t.notOk(hostPortsConflict(port('0.0.0.0'), port('0.0.0.0', 'TCP', 81)));
});
