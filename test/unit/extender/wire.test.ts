import fc from 'fast-check';
import t from 'tap';
import { isInvalidRequest } from '../../../src/extender/invalid-request.ts';
import { NodeNames } from '../../../src/extender/node-names.ts';
import {
  cutNodeArgs,
  filterAnswer,
  parseNodeArgs,
  preemptionAnswer,
  type RawNodeArgs,
  readNodeArgs,
  readPreemptionArgs,
} from '../../../src/extender/wire.ts';
import { gpuName, podOf } from '../../builders/pods.ts';

const pod = podOf({ name: 'p', gpu: 1, pinnedTo: 'a' });

/** A body with the keys in Go's order, and its whitespace: none. */
function bodyOf(names: unknown, about: unknown = pod, nodes: unknown = null): Buffer {
  return Buffer.from(JSON.stringify({ Pod: about, Nodes: nodes, NodeNames: names }));
}

function plain(args: RawNodeArgs | undefined) {
  return args && { pod: args.pod, nodes: args.nodes, names: args.names === null ? null : args.names.list };
}

function messageOf(value: object): string {
  return isInvalidRequest(value) ? value.message : `no error: ${JSON.stringify(value)}`;
}

const hostile = fc.constantFrom(
  ',"Nodes":null,"NodeNames":["x"]}',
  '"NodeNames":[',
  ']}',
  '\\',
  '"',
  '\\"',
  '","',
  '\u2028 \u00e4 \ud83d\ude00',
  '\ud800',
  '\u0000\n',
  '{"Pod":',
);
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  hostile,
  fc.tuple(hostile, hostile).map(pair => pair.join('')),
);
const nodeName = fc.stringMatching(/^[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?$/);
const json = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, 0, -1.5e300),
    text,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(text, fc.constantFrom('Pod', 'Nodes', 'NodeNames')), tie('value'), { maxKeys: 4 }),
  ),
})).value;

t.test('the byte path reads what a JSON parser reads, whatever stands in the pod', async t => {
  fc.assert(
    fc.property(json, fc.array(nodeName, { maxLength: 8 }), (about, names) => {
      const body = bodyOf(names, about);
      const cut = cutNodeArgs(body);
      const { Pod, Nodes, NodeNames } = JSON.parse(body.toString());
      t.same(plain(cut), { pod: Pod, nodes: Nodes, names: NodeNames }, { diagnostic: false });
      t.same(cut?.names?.json.toString(), JSON.stringify(names));
    }),
    { numRuns: 500 },
  );
});

t.test('any body is read by its bytes as a parser reads it, or left to the parser', async t => {
  const plainNames = fc.array(nodeName, { maxLength: 5 });
  const oddNames = fc.array(fc.oneof(nodeName, text), { maxLength: 5 });
  const names = fc.oneof({ arbitrary: plainNames, weight: 4 }, oddNames, json);
  const key = fc.constantFrom('Pod', 'Nodes', 'NodeNames', 'More');
  const members = fc.array(fc.tuple(key, fc.oneof(json, names, fc.constant(null))), { maxLength: 5 });
  const ordered = fc.tuple(json, names).map(goOrder);
  const mostly = (usual: string, ...others: readonly string[]) =>
    fc.oneof({ arbitrary: fc.constant(usual), weight: 6 }, fc.constantFrom(...others));
  const built = fc
    .tuple(
      fc.oneof(members, { arbitrary: ordered, weight: 3 }),
      mostly('', ' ', '\n'),
      mostly('', ' '),
      mostly('', '}', 'x', '\n', ',"NodeNames":["x"]}'),
    )
    .map(([list, before, between, end]) => {
      const entries = list.map(
        ([name, value]) => `${before}${JSON.stringify(name)}:${JSON.stringify(value)}`,
      );
      return Buffer.from(`{${entries.join(`${between},`)}}${end}`);
    });
  let cuts = 0;
  fc.assert(
    fc.property(
      fc.oneof(
        built,
        fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes)),
      ),
      body => {
        const cut = cutNodeArgs(body);
        if (cut === undefined) return;
        cuts++;
        const parsed = parseNodeArgs(body);
        if (isInvalidRequest(parsed)) throw new Error(`cut what cannot be parsed: ${body}`);
        t.same(plain(cut), plain(parsed));
      },
    ),
    { numRuns: 3000 },
  );
  t.ok(cuts > 300, `${cuts} bodies were cut`);
});

function goOrder([about, names]: readonly [unknown, unknown]): [string, unknown][] {
  return [
    ['Pod', about],
    ['Nodes', null],
    ['NodeNames', names],
  ];
}

t.test('what is not as Go writes it is left to the parser, which reads it alike', async t => {
  const names = '["a","b"]';
  const about = JSON.stringify(pod);
  const bodies: readonly (readonly [string, string])[] = [
    ['another order of keys', `{"NodeNames":${names},"Nodes":null,"Pod":${about}}`],
    ['whitespace', `{"Pod": ${about}, "Nodes": null, "NodeNames": ${names}}`],
    ['whitespace between names', `{"Pod":${about},"Nodes":null,"NodeNames":["a", "b"]}`],
    ['whitespace at the end', `{"Pod":${about},"Nodes":null,"NodeNames":${names}}\n`],
    ['escapes in names', `{"Pod":${about},"Nodes":null,"NodeNames":["\\u0061","b"]}`],
    ['a key given twice', `{"Pod":1,"NodeNames":["x"],"Pod":${about},"Nodes":null,"NodeNames":${names}}`],
    ['more keys', `{"Pod":${about},"Nodes":null,"NodeNames":${names},"More":[1]}`],
    ['no Nodes', `{"Pod":${about},"NodeNames":${names}}`],
  ];
  for (const [name, body] of bodies) {
    t.equal(cutNodeArgs(Buffer.from(body)), undefined, name);
    const args = readNodeArgs(Buffer.from(body));
    t.match(args, { kind: 'names', pod: { uid: 'uid-serving-p' } }, name);
    if ('kind' in args && args.kind === 'names') t.same(args.names.list, ['a', 'b'], name);
  }
});

t.test('names that are no names of nodes are still names', async t => {
  for (const names of [['ä', ',', '"', '\\', ''], ['a"b'], ['a,b', ']']]) {
    const args = readNodeArgs(bodyOf(names));
    if (!('kind' in args) || args.kind !== 'names') throw new Error(messageOf(args));
    t.same(args.names.list, names);
    t.same(JSON.parse(args.names.json.toString()), names);
    t.same(
      names.map(name => args.names.has(name)),
      names.map(() => true),
    );
    t.equal(args.names.has('b'), false);
  }
});

t.test('a pod is read as far as answers depend on it', async t => {
  const args = readNodeArgs(bodyOf(['a']));
  if (!('kind' in args) || args.kind !== 'names') throw new Error(messageOf(args));
  t.match(args.pod, { uid: 'uid-serving-p', namespace: 'serving', pinnedTo: 'a', takesAccelerator: true });
  t.equal(args.pod.requests.get(gpuName), 1);
});

t.test('null lists mean that there is nothing, whole nodes that the scheduler is set up wrongly', async t => {
  const nothing = readNodeArgs(bodyOf(null));
  if (!('kind' in nothing) || nothing.kind !== 'names') throw new Error(messageOf(nothing));
  t.same(nothing.names.list, []);
  const nodes = { metadata: {}, items: [{ metadata: { name: 'a' } }] };
  t.same(readNodeArgs(bodyOf(null, pod, nodes)), { kind: 'nodes' });
  t.match(readNodeArgs(bodyOf(['a'], pod, nodes)), { kind: 'names' }, 'names are enough where both came');
});

t.test('what kube-scheduler would never send is refused by the name of the field', async t => {
  const spec = (more: object) => ({ ...pod, spec: { ...pod.spec, ...more } });
  const metadata = (more: object) => ({ ...pod, metadata: { ...pod.metadata, ...more } });
  const container = (resources: unknown) => spec({ containers: [{ name: 'main', resources }] });
  const cases: readonly (readonly [Buffer, string])[] = [
    [Buffer.from(''), 'the body is not JSON'],
    [Buffer.from('{"Pod":'), 'the body is not JSON'],
    [Buffer.from('[]'), 'the body must be a JSON object'],
    [Buffer.from('null'), 'the body must be a JSON object'],
    [Buffer.from('{}'), 'NodeNames must be a list of names, or null'],
    [bodyOf('a'), 'NodeNames must be a list of names, or null'],
    [bodyOf(['a', 1]), 'NodeNames[1] must be a string'],
    [bodyOf(['a'], null), 'Pod must be an object'],
    [bodyOf(['a'], []), 'Pod must be an object'],
    [bodyOf(['a'], {}), 'Pod.metadata must be an object'],
    [bodyOf(['a'], metadata({ uid: '' })), 'Pod.metadata.uid must be a non-empty string'],
    [bodyOf(['a'], metadata({ namespace: 1 })), 'Pod.metadata.namespace must be a non-empty string'],
    [bodyOf(['a'], metadata({ labels: { x: 1 } })), 'Pod.metadata.labels[x] must be a string'],
    [bodyOf(['a'], metadata({ annotations: null })), 'Pod.metadata.annotations must be an object'],
    [
      bodyOf(['a'], metadata({ ownerReferences: [{}] })),
      'Pod.metadata.ownerReferences[0].kind must be a string',
    ],
    [bodyOf(['a'], { ...pod, spec: 1 }), 'Pod.spec must be an object'],
    [bodyOf(['a'], spec({ containers: {} })), 'Pod.spec.containers must be a list'],
    [bodyOf(['a'], spec({ schedulingGates: ['x'] })), 'Pod.spec.schedulingGates[0] must be an object'],
    [
      bodyOf(['a'], container({ requests: { cpu: true } })),
      'Pod.spec.containers[0].resources.requests[cpu] must be a quantity',
    ],
    [
      bodyOf(['a'], container({ requests: { cpu: '-1' } })),
      'Pod.spec.containers[0].resources.requests[cpu] holds "-1", which must not be negative',
    ],
    [
      bodyOf(
        ['a'],
        spec({ affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: 1 } } }),
      ),
      'Pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution must be an object',
    ],
  ];
  for (const [body, want] of cases)
    t.equal(messageOf(readNodeArgs(body)), want, body.toString().slice(0, 60));
});

t.test('a filter answer has the fields of ExtenderFilterResult', async t => {
  const kept = NodeNames.fromList(['a']);
  const answer = filterAnswer({ kept, refused: ['b', '__proto__', '7', 'q"'], sentence: 'why "so"' });
  t.equal(
    answer.toString(),
    '{"Nodes":null,"NodeNames":["a"],"FailedNodes":null,"FailedAndUnresolvableNodes":' +
      '{"b":"why \\"so\\"","__proto__":"why \\"so\\"","7":"why \\"so\\"","q\\"":"why \\"so\\""},"Error":""}',
  );
});

t.test('victims come as UIDs or as whole pods, and go as UIDs', async t => {
  const metaVictims = { a: { Pods: [{ UID: 'u1' }, { UID: 'u2' }], NumPDBViolations: 1 } };
  const victims = { a: { Pods: [podOf({ name: 'v', uid: 'u1' })], NumPDBViolations: 0 }, b: { Pods: null } };
  const read = (args: object) => {
    const result = readPreemptionArgs(Buffer.from(JSON.stringify({ Pod: pod, ...args })));
    return isInvalidRequest(result) ? result.message : [...result.victimsByNode];
  };
  t.same(read({ NodeNameToVictims: null, NodeNameToMetaVictims: metaVictims }), [
    ['a', { uids: ['u1', 'u2'], numPdbViolations: 1 }],
  ]);
  t.same(read({ NodeNameToVictims: victims, NodeNameToMetaVictims: null }), [
    ['a', { uids: ['u1'], numPdbViolations: 0 }],
    ['b', { uids: [], numPdbViolations: 0 }],
  ]);
  t.same(read({ NodeNameToVictims: null, NodeNameToMetaVictims: null }), []);
  t.same(
    JSON.parse(preemptionAnswer(new Map([['a', { uids: ['u1', 'u2'], numPdbViolations: 1 }]])).toString()),
    { NodeNameToMetaVictims: metaVictims },
  );
  t.equal(preemptionAnswer(new Map()).toString(), '{"NodeNameToMetaVictims":{}}');
  const meta = (value: unknown) => read({ NodeNameToMetaVictims: value });
  t.equal(meta([]), 'NodeNameToMetaVictims must be an object, or null');
  t.equal(meta({ a: null }), 'NodeNameToMetaVictims[a] must be an object');
  t.equal(meta({ a: { Pods: {} } }), 'NodeNameToMetaVictims[a].Pods must be a list, or null');
  t.equal(meta({ a: { Pods: [{}] } }), 'NodeNameToMetaVictims[a].Pods[0].UID must be a non-empty string');
  t.equal(
    meta({ a: { Pods: [], NumPDBViolations: 'x' } }),
    'NodeNameToMetaVictims[a].NumPDBViolations must be a whole number',
  );
  t.equal(
    read({ NodeNameToVictims: { a: { Pods: [{ metadata: {} }] } } }),
    'NodeNameToVictims[a].Pods[0].metadata.uid must be a non-empty string',
  );
});
