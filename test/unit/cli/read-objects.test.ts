import t from 'tap';
import { sortObjects } from '../../../src/cli/cluster-objects.ts';
import { InputError } from '../../../src/cli/input-error.ts';
import { parseObjects } from '../../../src/cli/read-objects.ts';

const node = (name: string) => ({ kind: 'Node', metadata: { name } });

function namesIn(text: string): readonly string[] {
  return parseObjects(text, 'f').map(({ kind, value }) => `${kind} ${JSON.stringify(value['metadata'])}`);
}

t.test('the same objects come out of every way to write them', async t => {
  const [a, b] = [node('a'), node('b')];
  const want = ['Node {"name":"a"}', 'Node {"name":"b"}'];
  const texts = {
    'JSON list': JSON.stringify({ kind: 'List', items: [a, b] }),
    'JSON list over several lines': JSON.stringify({ kind: 'List', items: [a, b] }, null, 2),
    'list of one kind, whose items name none': JSON.stringify({
      kind: 'NodeList',
      items: [{ metadata: a.metadata }, { metadata: b.metadata }],
    }),
    array: JSON.stringify([a, b]),
    'JSON lines': `${JSON.stringify(a)}\n\n${JSON.stringify(b)}\n`,
    'YAML documents': '---\nkind: Node\nmetadata: {name: a}\n---\n---\nkind: Node\nmetadata:\n  name: b\n',
    'YAML list':
      'kind: List\nitems:\n- kind: Node\n  metadata: {name: a}\n- kind: Node\n  metadata: {name: b}\n',
    'YAML in JSON braces':
      '{kind: List, items: [{kind: Node, metadata: {name: a}}, {kind: Node, metadata: {name: b}}]}',
    'a list in a list': JSON.stringify({ kind: 'List', items: [{ kind: 'NodeList', items: [a] }, b] }),
  };
  for (const [about, text] of Object.entries(texts)) t.same(namesIn(text), want, about);
  t.same(namesIn(''), []);
  t.same(namesIn('# nothing\n'), []);
  t.same(namesIn(JSON.stringify({ kind: 'List', items: [] })), []);
});

t.test('objects of DRA are sorted by kind, those of other groups with the same words are not', t => {
  const kinds = ['ResourceSlice', 'DeviceClass', 'ResourceClaim', 'ResourceClaimTemplate', 'DeviceTaintRule'];
  const specs: Readonly<Record<string, object>> = {
    ResourceSlice: { driver: 'd', pool: { name: 'p', resourceSliceCount: 1 } },
    ResourceClaimTemplate: { spec: {} },
    DeviceTaintRule: { taint: { key: 'k', effect: 'None' } },
  };
  const objects = kinds.map(kind => ({
    apiVersion: 'resource.k8s.io/v1',
    kind,
    metadata: { name: 'a', ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: 'n' }] },
    spec: specs[kind] ?? {},
  }));
  const foreign = { apiVersion: 'example.com/v1', kind: 'DeviceClass', metadata: { name: 'b' } };
  const list = { apiVersion: 'v1', kind: 'List', items: [...objects, foreign] };
  const sorted = sortObjects(parseObjects(JSON.stringify(list), 'f'));
  const { resourceSlices, deviceClasses, resourceClaims, resourceClaimTemplates, deviceTaintRules } = sorted;
  for (const found of [
    resourceSlices,
    deviceClasses,
    resourceClaims,
    resourceClaimTemplates,
    deviceTaintRules,
  ])
    t.match(found, [{ metadata: { name: 'a' } }]);
  t.same([...sorted.ignored], [['DeviceClass', 1]]);
  t.end();
});

t.test('every field has its line', async t => {
  const [yaml] = parseObjects('# a fleet\nkind: List\nitems:\n- kind: Node\n  metadata:\n    name: a\n', 'f');
  t.equal(yaml?.placeOf([]), 'f:4');
  t.equal(yaml?.placeOf(['metadata', 'name']), 'f:6');
  t.equal(yaml?.placeOf(['metadata', 'labels', 'x']), 'f:5', 'the nearest parent where it is not there');
  const [json] = parseObjects(JSON.stringify(node('a'), null, 2), 'f');
  t.equal(json?.placeOf(['metadata', 'name']), 'f:4');
  const lines = parseObjects(`${JSON.stringify(node('a'))}\n\n${JSON.stringify(node('b'))}\n`, 'f');
  t.equal(lines[1]?.placeOf(['metadata', 'name']), 'f:3');
});

t.test('what cannot be read is told with its line', async t => {
  const wrong: readonly [string, string, RegExp][] = [
    ['a cut JSON text', '{"kind": "Node",\n "metadata": ', /^f:\d/],
    ['a line among JSON lines', '{"kind":"Node"}\n{"kind":\n', /^f:2: the line is no JSON/],
    ['YAML that is none', 'kind: Node\nmetadata: {name: a\n', /^f:[23]: /],
    ['a key twice', 'kind: Node\nkind: Pod\n', /^f:2: Map keys must be unique/],
    ['an alias of nothing', 'kind: Node\nmetadata: *nobody\n', /^f:\d: .*nobody/],
    ['an object without kind', '---\nkind: Node\n---\nname: a\n', /^f:4: is no Kubernetes object/],
    ['a plain word', 'hello\n', /^f:1: is no Kubernetes object/],
    ['an item that is none', 'kind: List\nitems:\n- kind: Node\n- 7\n', /^f:4: is no Kubernetes object/],
  ];
  for (const [about, text, want] of wrong) {
    const error = t.throws(() => parseObjects(text, 'f'), InputError, about);
    t.match(error instanceof Error ? error.message : '', want, about);
  }
});
