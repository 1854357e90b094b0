import fc from 'fast-check';
import t from 'tap';
import type { NodeInfo } from '../../../src/cluster/node-info.ts';
import { NodeList } from '../../../src/cluster/node-list.ts';

function nodeInfo(name: string): NodeInfo {
  const record = {
    name,
    uid: name,
    labels: {},
    taints: [],
    cordoned: false,
    ready: true,
    readyStatus: 'True',
    allocatable: new Map(),
  } as const;
  return { record, free: new Map(), freeOfPods: new Map(), hostPorts: [], untouched: true };
}

const sizes = fc.oneof(fc.constantFrom(0, 1, 63, 64, 65, 128, 200), fc.nat({ max: 300 }));
const changes = fc.array(fc.nat({ max: 320 }), { maxLength: 12 });

t.test(
  'a list with changes is the array with the same changes, and the list before stays as it was',
  async t => {
    fc.assert(
      fc.property(sizes, fc.array(changes, { maxLength: 6 }), (size, rounds) => {
        let array = Array.from({ length: size }, (_, at) => nodeInfo(`n${at}`));
        let list = NodeList.of(array);
        rounds.forEach((indices, round) => {
          const before = { array, list };
          const changed = new Map(indices.map(index => [index, nodeInfo(`n${index}-${round}`)]));
          array = array.map((node, at) => changed.get(at) ?? node);
          list = list.with(changed);
          assertSame(list, array);
          assertSame(before.list, before.array);
        });
      }),
    );
    t.pass();
  },
);

t.test('differences are the indices whose objects differ, ascending', async t => {
  fc.assert(
    fc.property(sizes, changes, changes, (size, first, second) => {
      const base = NodeList.of(Array.from({ length: size }, (_, at) => nodeInfo(`n${at}`)));
      const changed = (indices: readonly number[]) =>
        base.with(new Map(indices.map(index => [index, nodeInfo(`m${index}`)])));
      const [a, b] = [changed(first), changed(second)];
      const expected = [...base].flatMap((_, at) => (a.at(at) === b.at(at) ? [] : [at]));
      assertEqual([...a.differences(b)], expected);
      assertEqual([...b.differences(a)], expected);
      assertEqual([...a.differences(a)], []);
    }),
  );
  t.pass();
});

t.test('lists of different lengths differ at least where only one of them is', async t => {
  const nodes = Array.from({ length: 130 }, (_, at) => nodeInfo(`n${at}`));
  const [short, long] = [NodeList.of(nodes.slice(0, 127)), NodeList.of(nodes)];
  t.same([...short.differences(long)], [127, 128, 129]);
  t.same([...long.differences(short)], [127, 128, 129]);
});

function assertSame(list: NodeList, array: readonly NodeInfo[]): void {
  assertEqual(list.length, array.length);
  assertEqual(
    [...list].every((node, at) => node === array[at]),
    true,
  );
  assertEqual(
    array.every((node, at) => list.at(at) === node),
    true,
  );
  assertEqual(list.at(array.length), undefined);
}

function assertEqual(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected))
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
}
